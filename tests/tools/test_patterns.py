"""Patterns in ECMAScript's syntax: the check and the grammar read them alike."""

from __future__ import annotations

import pytest

from dualtune_mlx import Tool
from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.tools.patterns import compile_pattern
from dualtune_mlx.tools.schemas import check_arguments, read_schema


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        (r"^\p{L}+$", "aé", "1"),
        (r"^\P{Lu}\p{Script=Greek}$", "a\u03b1", "A\u03b1"),
        (r"^(?<year>[0-9]{2})$", "12", "1"),
        (r"^(?P<year>[0-9]{2})$", "12", "1"),  # Python's syntax
        (r"^(?i)abc.$", "ABC1", "ab"),
        (r"\Aabc\Z", "abc", "abc\n"),
        (r"^\u{1F600}\u0041\x42$", "😀AB", "A"),
        (r"^\ud83d\ude00$", "😀", "A"),
        (r"^[😀-\u{1F602}]$", "😁", "e"),
        (r"^\cA\0\t\v$", "\x01\0\t\v", "A"),
        (r"^a[^]b$", "a\nb", "ab"),
        (r"^a[]b$|c", "c", "ab"),
        (r"^\/\<\>\-\@\#\ \%$", "/<>-@# %", "x"),
        (r"^[\w-.]+$", "a-.", "!"),
        (r"^[.-\w]+$", ".-a", "!"),
        (r"^[+--]$", ",", "."),
        (r"^[a-c-e]+$", "b-e", "d"),
        (r"^[[a&&b~~|]+$", "[&~|ab", "!"),
        (r"^[\]\\a]+$", "]\\a", "b"),
        (r"^[^\]]$", "b", "]"),
        (r"^[\b]$", "\b", "b"),
        (r"^[^\W\d]$", "a", "1"),
        (r"^a{,2}{b}]$", "a{,2}{b}]", "aa{b}]"),
        (r"^a{2}b{1,}c{0,1}$", "aabb", "abb"),
        (r"^\d\w$", "1_", "٣é"),
        (r"^\s\S$", "\ufeff\x85", "aa"),
        (r"^.$", "a", "\u2028"),
        (r"^a$", "a", "a\n"),
        (r"é|b", "xé", "e"),
    ],
)
def test_the_check_and_the_grammar_read_a_pattern_alike(pattern, fits, does_not):
    schema = {"type": "object", "properties": {"v": {"type": "string", "pattern": pattern}}, "required": ["v"]}
    tool = Tool("t", "", read_schema(schema, "s/t"))
    check_arguments({"v": fits}, tool)
    assert explain_unwritable(tool, {"v": fits}) == ""
    with pytest.raises(ToolError, match="does not match"):
        check_arguments({"v": does_not}, tool)
    assert explain_unwritable(tool, {"v": does_not}).startswith("$.v: ")


@pytest.mark.parametrize("pattern", ["^(?=x)x$", r"\bfoo\b", r"^(a)\1$"])
def test_what_a_grammar_cannot_hold_is_still_checked(pattern):
    tool = Tool("t", "", {"type": "object", "properties": {"v": {"pattern": pattern}}})
    check_arguments({"v": {"^(?=x)x$": "x", r"\bfoo\b": "a foo", r"^(a)\1$": "aa"}[pattern]}, tool)
    with pytest.raises(ToolError, match="does not match"):
        check_arguments({"v": "none"}, tool)


@pytest.mark.parametrize("pattern", ["(", "[a", "*a", r"\y", r"\x4", r"(?<n>a)\k<n>"])
def test_what_is_no_pattern_is_refused_by_name(pattern):
    with pytest.raises(ToolError) as caught:
        compile_pattern(pattern)
    assert caught.value.where == repr(pattern)
    with pytest.raises(ToolError, match="pattern"):
        check_arguments({"v": "a"}, Tool("t", "", {"type": "object", "properties": {"v": {"pattern": pattern}}}))


def test_names_of_properties_are_matched_alike():
    schema = {"type": "object", "patternProperties": {r"^\p{Lu}$": {"type": "integer"}}, "additionalProperties": False}
    tool = Tool("t", "", schema)
    check_arguments({"Ä": 1}, tool)
    assert explain_unwritable(tool, {"Ä": 1}) == ""
    for wrong in ({"ä": 1}, {"Ä": "1"}):
        assert explain_unwritable(tool, wrong)
        with pytest.raises(ToolError, match="unexpected|not of type"):
            check_arguments(wrong, tool)


def test_a_pattern_is_read_alike_behind_a_reference_to_the_whole_schema():
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"v": {"pattern": r"^\p{L}$"}, "inner": {"$ref": "#"}},
    }
    check_arguments({"inner": {"v": "a"}}, Tool("t", "", schema))
    with pytest.raises(ToolError, match="does not match"):
        check_arguments({"inner": {"v": "1"}}, Tool("t", "", schema))
