"""What a request says is proposed; what it does not say is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dualtune_mlx.errors import DecodingError
from dualtune_mlx.learning.filling import fill_with, find_arguments
from dualtune_mlx.tools import Tool

TEXT = {"type": "string"}


def find(request: str, *required: str, values: Any = None, **properties: Any) -> dict[str, Any]:
    tool = Tool("t", "", {"type": "object", "properties": properties, "required": [*required]}, "s")
    return find_arguments(tool, request, "2026-11-30", values)


@pytest.mark.parametrize(
    ("request_", "properties", "found"),
    [
        ("show docs/a.txt", {"path": TEXT}, {"path": "docs/a.txt"}),
        ("move a.txt to b.txt", {"source": TEXT, "destination": TEXT}, {"source": "a.txt", "destination": "b.txt"}),
        ('commit it as "Mend the gate"', {"message": TEXT}, {"message": "Mend the gate"}),
        ("the last 3 commits", {"max_count": {"type": "integer"}}, {"max_count": 3}),
        ("the last three commits", {"max_count": {"type": "integer"}}, {"max_count": 3}),
        ("what is due tomorrow", {"due": {"type": "string", "format": "date"}}, {"due": "2026-12-01"}),
        ("show what is in progress", {"state": {"enum": ["done", "in_progress"]}}, {"state": "in_progress"}),
        ("stage a.txt and b.txt", {"files": {"type": "array", "items": TEXT}}, {"files": ["a.txt", "b.txt"]}),
        ("weight 3", {"size": {"type": "integer"}, "weight": {"type": "integer"}}, {"weight": 3}),
        ("show it", {"path": TEXT, "head": {"type": "integer"}, "sort": {"enum": ["name", "size"]}}, {}),
    ],
)
def test_what_is_said_is_found(request_, properties, found):
    assert find(request_, **properties) == found


def test_values_that_are_known_are_found_as_plain_words():
    assert find("who works in the garden project", project=TEXT) == {}
    assert find("who works in the garden project", project=TEXT, values={"project": ["sky", "garden"]}) == {
        "project": "garden"
    }


def test_values_of_a_list_are_known_by_its_items():
    names = {"type": "array", "items": TEXT}
    values = {"s/t/names[]": ["Ada", "Charles"]}
    assert find("tell me about Ada and x.txt", names=names, values=values) == {"names": ["Ada", "x.txt"]}


def test_a_bundle_adds_what_the_request_says():
    tool = Tool("t", "", {"type": "object", "properties": {"a": TEXT, "b": TEXT, "c": TEXT}})
    engine = SimpleNamespace(tells_date=False, arguments=lambda *_, **__: {"a": "garden", "b": "sky"})
    assert fill_with(engine, [tool], "2026-11-30")(tool, "the garden of x.txt") == {"a": "garden"} | {}

    def fail(*_: Any, **__: Any) -> None:
        raise DecodingError("no end")

    engine.arguments = fail
    assert fill_with(engine, [tool], "2026-11-30")(tool, "show x.txt") == {"a": "x.txt"}
