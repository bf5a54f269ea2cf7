"""What an error says: short, printable, with its place."""

from __future__ import annotations

import pytest

from dualtune_mlx.errors import DataError, DualTuneError, ToolError, UsageError, count_of, escape, inside


def test_a_message_has_what_is_known():
    error = DataError("it is wrong", where="f:1", got=5, expected="6", fix="write 6")
    assert str(error).splitlines() == ["it is wrong", "  where: f:1", "  got: 5", "  expected: 6", "  fix: write 6"]
    assert str(DataError("it is wrong")) == "it is wrong"


def test_what_was_found_is_repeated_in_part():
    text = str(DataError("it is wrong", got="x" * 20_000_000))
    assert len(text) < 2100
    assert text.endswith("… (20,000,000 characters)")


@pytest.mark.parametrize("text", ["\x1b[31mred", "\u202eback", "\ud800", "\r", "\x9b2J"])
def test_what_a_file_says_cannot_control_the_terminal(text):
    said = str(ToolError(f"what {text}", where=text, got=text, expected=text, fix=text))
    assert said.replace("\n", "").isprintable()
    assert said.count(escape(text)) == 5
    said.encode()


def test_an_error_names_the_places_that_it_is_inside():
    with pytest.raises(UsageError) as caught, inside("f:3"), inside("message 2"):
        raise UsageError("it is wrong", got=1, fix="mend it")
    assert (caught.value.where, caught.value.got, caught.value.fix) == ("f:3, message 2", 1, "mend it")
    with pytest.raises(ValueError, match="other"), inside("f:3"):
        raise ValueError("other")


@pytest.mark.parametrize(
    ("number", "says"), [(0, "0 calls"), (1, "1 call"), (2, "2 calls"), (12345, "12,345 calls"), (-1, "-1 calls")]
)
def test_a_number_stands_with_its_noun(number, says):
    assert count_of(number, "call") == says


def test_what_cannot_be_spelled_is_named_by_its_kind() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert "got: list" in str(DualTuneError("odd", got=nested, fix="mend it"))
    assert "got: int" in str(DualTuneError("odd", got=10**5_000, fix="mend it"))
