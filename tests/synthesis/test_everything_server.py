"""Slots of the server of samples: open vocabulary, and numbers and addresses that read back as what they are."""

from __future__ import annotations

import json
import random
from base64 import b64decode
from collections.abc import Callable
from urllib.parse import unquote, urlparse

import pytest

from dualtune_mlx.synthesis.values import everything_server
from dualtune_mlx.synthesis.values.sampling import Sampler
from dualtune_mlx.synthesis.values.slot import Slot


def drawn(slot: Callable[[Sampler], Slot], count: int = 500) -> list[Slot]:
    rng = random.Random(5)
    return [slot(Sampler(rng, {})) for _ in range(count)]


@pytest.mark.parametrize("slot", [everything_server.term, everything_server.quantity])
def test_a_number_is_written_as_json_writes_it(slot: Callable[[Sampler], Slot]) -> None:
    assert all(json.dumps(number.value) == number.surface for number in drawn(slot))


def test_terms_are_whole_decimal_and_negative_and_quantities_never_negative() -> None:
    values = [number.value for number in drawn(everything_server.term)]
    assert {type(value) for value in values} == {int, float}
    assert 0.05 < sum(value < 0 for value in values) / len(values) < 0.25
    assert min(number.value for number in drawn(everything_server.quantity)) >= 0


def test_an_address_has_a_host_and_a_path_and_no_blanks() -> None:
    for slot in drawn(everything_server.url):
        parts = urlparse(slot.value)
        assert parts.scheme in ("http", "https")
        assert parts.hostname
        assert len(parts.path) > 1
        assert " " not in slot.surface


def test_a_data_uri_holds_a_few_words() -> None:
    for slot in drawn(everything_server.data_uri):
        kind, data = slot.value.removeprefix("data:").split(",", 1)
        text = b64decode(data, validate=True).decode() if kind.endswith(";base64") else unquote(data)
        assert text.strip() == text != ""


def test_an_archive_is_a_file_name() -> None:
    for slot in drawn(everything_server.archive):
        assert slot.value.endswith((".gz", ".gzip"))
        assert slot.value not in (".gz", ".gzip")
        assert "/" not in slot.value


@pytest.mark.parametrize(
    ("slot", "values"),
    [
        (everything_server.town, {"New York", "Chicago", "Los Angeles"}),
        (everything_server.severity, {"error", "success", "debug"}),
        (everything_server.resource_kind, {"Text", "Blob"}),
    ],
)
def test_every_choice_is_drawn_as_often_and_in_more_than_one_way(
    slot: Callable[[Sampler], Slot], values: set[str]
) -> None:
    found = drawn(slot)
    for value in values:
        surfaces = [choice.surface for choice in found if choice.value == value]
        assert abs(len(surfaces) / len(found) - 1 / len(values)) < 0.1
        assert len(set(surfaces)) > 1
    assert {choice.value for choice in found} == values


@pytest.mark.parametrize(
    "slot",
    [
        everything_server.url,
        everything_server.data_uri,
        everything_server.archive,
        everything_server.saying,
        everything_server.theme,
    ],
    ids=lambda slot: slot.__name__,
)
def test_what_is_copied_is_open_vocabulary(slot: Callable[[Sampler], Slot]) -> None:
    assert len({choice.value for choice in drawn(slot)}) > 400
