"""What descriptions of parameters give away."""

from __future__ import annotations

from math import inf

import pytest

from dualtune_mlx.synthesis.descriptions import describe, find_bounds, find_default, list_choices, list_examples
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import Parameter, list_parameters


def new_parameter(description: str, **schema: object) -> Parameter:
    own = {"type": "string", "description": description, **schema}
    return Parameter("it", own, (own,), False)


@pytest.mark.parametrize(
    ("description", "choices"),
    [
        ("The state (one of: new, acknowledged, resolved)", ("new", "acknowledged", "resolved")),
        ("Either 'range' or 'instant'.", ("range", "instant")),
        ("'before' or 'after'", ("before", "after")),
        ("proxy or direct", ("proxy", "direct")),
        ("'bullet' for bullets or 'number' for numbers", ("bullet", "number")),
        ("name or id", ()),
        ("The text to write", ()),
    ],
)
def test_choices(description: str, choices: tuple[str, ...]) -> None:
    assert list_choices(new_parameter(description)) == choices


def test_a_schema_says_more_than_its_description() -> None:
    assert list_choices(new_parameter("one of: a, b", enum=["x", None, "y"])) == ("x", "y")
    assert list_choices(new_parameter("one of: aa, bb", type="integer")) == ()


@pytest.mark.parametrize(
    ("description", "examples"),
    [
        ("Range, e.g. 'A1:B5'", ("A1:B5",)),
        ("Step (e.g., '5m', \"1h\")", ("5m", "1h")),
        ("Size (e.g. 50, 90, 95)", ("50", "90", "95")),
        ("A key, such as `ArrowLeft` or `a`", ("ArrowLeft", "a")),
        ("Example: 'graph TD; A-->B;'", ("graph TD; A-->B;",)),
        ("A title", ()),
    ],
)
def test_examples(description: str, examples: tuple[str, ...]) -> None:
    assert list_examples(new_parameter(description)) == examples


def test_examples_of_the_schema_come_first() -> None:
    assert list_examples(new_parameter("e.g. 'b'", examples=["a"])) == ("a", "b")


@pytest.mark.parametrize(
    ("description", "bounds"),
    [
        ("Number of results (1-20, default 10)", (1, 20)),
        ("between 0 and 9", (0, 9)),
        ("Offset (max 9)", (-inf, 9)),
        ("At least 3 of them", (3, inf)),
        ("How many", (-inf, inf)),
        ("since 2024-01-02", (-inf, inf)),
    ],
)
def test_bounds(description: str, bounds: tuple[float, float]) -> None:
    assert find_bounds(new_parameter(description)) == bounds


@pytest.mark.parametrize(
    ("description", "default"),
    [("(1-20, default 10)", "10"), ("default: 'bullet'", "bullet"), ("Defaults to true", "true"), ("How many", "")],
)
def test_defaults(description: str, default: str) -> None:
    assert find_default(new_parameter(description)) == default


def test_what_a_tools_description_says_of_a_parameter() -> None:
    text = "Add a list. Args: position ('before' or 'after'), style (str, optional)\n  unit: px or pt\n"
    properties = {name: {"type": "string"} for name in ("position", "style", "unit", "other")}
    tool = Tool("add", text, {"type": "object", "properties": properties})
    described = {one.path: describe(tool, one).description for one in list_parameters(tool)}
    assert described == {"position": "'before' or 'after'", "style": "", "unit": "px or pt", "other": ""}
