"""Grounded arguments: what is learned from data, which spans there are, and that decoding is held to them."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dualtune_mlx import DualTune, Tool, ToolCall
from dualtune_mlx.data.decisions import Decision
from dualtune_mlx.decoding import ArgumentGrammar, GrammarTokenizer, ground_schema, grounding, learn_grounding
from dualtune_mlx.decoding.copies import MAX_CONSTANTS, MIN_EXAMPLES
from dualtune_mlx.decoding.grounding import MAX_CHARACTERS
from dualtune_mlx.decoding.spans import find_spans, is_span
from dualtune_mlx.errors import DataError, ToolError
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Message, as_messages
from dualtune_mlx.tools.schemas import check_arguments
from tests import tiny

STRING = {"type": "string"}


def tool_with(**properties: Any) -> Tool:
    return Tool("t", "", {"type": "object", "properties": properties, "required": list(properties)}, "s")


READ = tool_with(path=STRING)
GROUNDING = {"s/t": {"path": (".",)}}


@pytest.fixture(scope="module")
def tokenizer() -> GrammarTokenizer:
    return GrammarTokenizer(tiny.tokenizer())


def make_decision(request: str, arguments: dict[str, Any], tool: Tool = READ, *more: Message) -> Decision:
    return Decision((Message("user", request), *more), (tool,), ToolCall(tool.name, arguments))


def copies(count: int, **constants: int) -> list[Decision]:
    """Decisions whose path is a word of the request, and some whose path is a constant (``dot=2``)."""
    found = [make_decision(f"show file{i}.txt", {"path": f"file{i}.txt"}) for i in range(count)]
    return found + [
        make_decision("show it", {"path": f"<{name}>"}) for name, times in constants.items() for _ in range(times)
    ]


@pytest.mark.parametrize(
    ("decisions", "learned"),
    [
        (copies(MIN_EXAMPLES), ()),
        (copies(MIN_EXAMPLES - 1), None),
        (copies(MIN_EXAMPLES, b=2, a=5), ("<a>", "<b>")),
        (copies(MIN_EXAMPLES, a=1), None),
        (copies(MIN_EXAMPLES, a=2, b=1), None),
        (copies(99, a=1), None),
        (copies(100, a=1), ()),
        (copies(200, a=1, b=1, c=2), ("<c>",)),
        (copies(200, a=1, b=1, c=1), None),
        (copies(MIN_EXAMPLES, **{f"c{i}": 2 for i in range(MAX_CONSTANTS)}), ("<c0>", "<c1>", "<c2>")),
        (copies(MIN_EXAMPLES, **{f"c{i}": 2 for i in range(MAX_CONSTANTS + 1)}), None),
        (copies(0, a=50), None),
        ([], None),
        ([Decision((Message("user", "hi"),), (READ,), ToolCall("respond"))] * 20, None),
    ],
)
def test_a_parameter_is_grounded_when_it_is_copied_or_one_of_few_constants(decisions, learned):
    assert learn_grounding(decisions) == ({} if learned is None else {"s/t": {"path": learned}})


def test_values_inside_lists_and_objects_have_paths_of_their_own():
    decisions = [
        make_decision(
            f"put a{i} and b{i} for c{i} into d{i}",
            {"paths": [f"a{i}", f"b{i}"], "edits": [{"old": f"c{i}", "new": f"x{i}"}], "to": {"name": f"d{i}"}, "n": 3},
        )
        for i in range(MIN_EXAMPLES)
    ]
    assert learn_grounding(decisions) == {"s/t": {"paths[]": (), "edits[].old": (), "to.name": ()}}


def test_each_server_s_tool_learns_for_itself():
    tools = (Tool("t", server="a"), Tool("t", server="b"))
    message = (Message("user", "show it"),)
    decisions = [Decision(message, tools, ToolCall("t", {"x": "it"}, "a"))] * MIN_EXAMPLES
    decisions += [Decision(message, tools, ToolCall("t", {"x": str(i)}, "b")) for i in range(MIN_EXAMPLES)]
    assert learn_grounding(decisions) == {"a/t": {"x": ()}}
    with pytest.raises(DataError, match="several"):
        learn_grounding([Decision(message, tools, ToolCall("t", {"x": "it"}))])


BORDERS = {
    "quotes": ('show "a b.txt" now', "a b.txt"),
    "single quotes": ("show 'a b.txt' now", "a b.txt"),
    "backticks": ("show `a.txt` now", "a.txt"),
    "typographic quotes": ("show “a b.txt” now", "a b.txt"),
    "guillemets": ("zeige «a.txt»", "a.txt"),
    "East Asian quotes": ("显示「a.txt」。", "a.txt"),
    "comma": ("a.txt, b.txt", "a.txt"),
    "after a comma": ("a.txt,b.txt", "b.txt"),
    "colon": ("commit: fix it", "fix it"),
    "before a colon": ("main:a.txt", "main"),
    "question mark": ("where is a.txt?", "a.txt"),
    "exclamation mark": ("show a.txt!", "a.txt"),
    "brackets": ("show it (a.txt)", "a.txt"),
    "final period": ("show a.txt.", "a.txt"),
    "period and more": ("Show a.txt. Then go.", "a.txt"),
    "period in quotes": ('Show "a.txt." Then go.', "a.txt"),
    "three periods": ("show a.txt...", "a.txt"),
    "the period too": ("write Done.", "Done."),
    "a leading period": ("show .gitignore", ".gitignore"),
    "a whole text": ("say it: 'so, is it?'", "so, is it?"),
    "the whole message": ("all of it", "all of it"),
    "possessive": ("a.txt's size", "a.txt"),
    "line breaks": ("one\ntwo\r\nthree", "one\ntwo"),
    "tab": ("a\tb", "b"),
    "no ASCII": ("öffne größe/日本.txt bitte", "größe/日本.txt"),
    "emoji": ("say 🎉 twice", "🎉"),
    "regular expression": ("find a.*(b|c)+$ here", "a.*(b|c)+$"),
    "an address": ("load https://a.b/c?d=1&e=2 here", "https://a.b/c?d=1&e=2"),
    "an address in brackets": ("(see https://a.b/c?d=1).", "https://a.b/c?d=1"),
    "in quotes": ('say "call Ann: now" twice', "call Ann: now"),
    "inside of quotes": ('say "call Ann now" twice', "Ann"),
    "around quotes": ('say "call Ann" twice', 'say "call Ann" twice'),
    "inches": ('from 15" to 17" wide', "to 17"),
    "JSON": ('send {"a": {"b": 1}} now', '{"a": {"b": 1}}'),
    "a closed bracket and more": ("name it (old) list", "(old) list"),
    "backslash": (r"show C:\x\y.txt now", r"\x\y.txt"),
}


@pytest.mark.parametrize(("text", "value"), BORDERS.values(), ids=BORDERS.keys())
def test_a_value_between_word_borders_is_a_span(text, value):
    messages = (Message("user", text),)
    assert value in list(find_spans(messages))
    assert is_span(value, messages)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("show a.txt", "a"),  # a period inside a name is no border
        ("show a.txt", "txt"),
        ("show notes/a.txt", "a.txt"),
        ("show a.txt", "how"),
        ("show a.txt", "show "),
        ("show a.txt", " a.txt"),
        ("show a.txt", "b"),
        ("show a.txt", ""),
        ("a,,b", ""),
        ("show a.txt", "show A.txt"),
        ("a\nb", "a b"),
        ("load https://a.b/c?d=1 here", "https://a.b/c"),
        ("load https://a.b/c:8 here", "https"),
        ('send {"a": {"b": 1}} now', '{"a": {"b": 1}'),
        ('send {"a": 1} now', '{"a'),
        ('say "call Ann: now" twice', "call Ann"),
        ('say "call Ann: now" twice', "now"),
        ("say “call Ann” twice", "call"),
        ("dis «call Ann» encore", "Ann"),
        ("", "a"),
    ],
)
def test_anything_else_is_none(text, value):
    messages = (Message("user", text),)
    assert value not in list(find_spans(messages))
    assert not is_span(value, messages)


def test_both_definitions_of_a_span_agree():
    generator = random.Random(0)
    for _ in range(300):
        text = "".join(generator.choice("ab .,\"\n?:/{}“。'") for _ in range(generator.randrange(12)))
        messages, found = (Message("user", text),), set(find_spans([Message("user", text)]))
        every = {text[i:j] for i in range(len(text)) for j in range(i, len(text) + 1)}
        assert {value for value in every if is_span(value, messages)} == found


def test_a_long_text_of_open_brackets_and_addresses_takes_no_time():
    text = "(see [http://a " * 20_000
    assert is_span("see [http://a (see", [Message("user", text)])
    assert not is_span("see [http://b", [Message("user", text)])
    assert next(find_spans([Message("user", text)])) == "(see"


def test_spans_come_from_all_messages_but_the_system_s_and_never_join_two():
    messages = (
        Message("system", "secret"),
        Message("user", "first one"),
        Message("assistant", "said", (ToolCall("t", {"path": "made up.txt", "more": [{"x": "deep"}]}),)),
        Message("tool", "result.txt"),
        Message("user", "second"),
    )
    spans = set(find_spans(messages))
    assert spans >= {"first one", "said", "made up.txt", "deep", "result.txt", "second"}
    assert not any("secret" in span for span in spans)
    assert not any(("one" in span and "said" in span) or ("result" in span and "second" in span) for span in spans)


def enum_at(schema: Any, *keys: Any) -> Any:
    for key in keys:
        schema = schema[key]
    return schema.get("enum")


FREE = {"type": "string", "title": "Path", "description": "where", "default": "x"}


@pytest.mark.parametrize(
    ("schema", "keys", "extra"),
    [
        (FREE, (), []),
        ({"anyOf": [FREE, {"type": "null"}], "default": None}, ("anyOf", 0), []),
        ({"type": ["string", "null"]}, (), [None]),
    ],
    ids=["string", "or null", "several types"],
)
def test_a_free_string_is_held_to_spans_and_constants(schema, keys, extra):
    tool = tool_with(path=schema, other=STRING)
    grounded = ground_schema(tool, as_messages("show a.txt"), GROUNDING)
    assert enum_at(grounded, "properties", "path", *keys) == ["show", "show a.txt", "a.txt", ".", *extra]
    assert enum_at(grounded, "properties", "other") is None
    if "anyOf" in schema:
        assert grounded["properties"]["path"]["anyOf"][1] == {"type": "null"}
        assert "enum" not in grounded["properties"]["path"]
    assert enum_at(tool.parameters, "properties", "path", *keys) is None, "the tool itself is not changed"
    Draft202012Validator.check_schema(grounded)


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": ["a", "b"]},
        {"type": "string", "pattern": "^x$"},
        {"type": "string", "format": "date"},
        {"type": "string", "minLength": 50},
        {"type": "string", "allOf": [{"maxLength": 1}]},
        {"type": ["string", "integer"]},
        {"type": "integer"},
        {"$ref": "#/$defs/Path"},
        {"oneOf": [STRING, {"type": "null"}]},
        {},
        True,
        {"type": [5, {}]},
    ],
)
def test_anything_but_a_free_string_stays_as_it_is(schema):
    tool = tool_with(path=schema)
    assert ground_schema(tool, as_messages("show a.txt"), GROUNDING) == tool.parameters


def test_strings_inside_lists_and_objects_are_held():
    edit = {"type": "object", "properties": {"old": STRING, "new": STRING}}
    tool = tool_with(paths={"type": "array", "items": STRING}, edits={"type": "array", "items": edit}, to=edit)
    grounded = ground_schema(tool, as_messages("go"), {"s/t": {"paths[]": (), "edits[].old": (), "to.new": ("x",)}})
    assert enum_at(grounded, "properties", "paths", "items") == ["go"]
    assert enum_at(grounded, "properties", "edits", "items", "properties", "old") == ["go"]
    assert enum_at(grounded, "properties", "edits", "items", "properties", "new") is None
    assert enum_at(grounded, "properties", "to", "properties", "new") == ["go", "x"]


def object_of(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


THING = object_of("name", name=STRING)
SHARED = {
    "another parameter": (
        object_of("thing", "code", thing=STRING, code={"$ref": "#/properties/thing"}),
        {"thing": ()},
        {"thing": "lamp", "code": "LAMP"},
        {"thing": "LAMP", "code": "LAMP"},
    ),
    "a nested parameter": (
        object_of("item", "code", item=THING, code={"$ref": "#/properties/item/properties/name"}),
        {"item.name": ()},
        {"item": {"name": "lamp"}, "code": "LAMP"},
        {"item": {"name": "LAMP"}, "code": "LAMP"},
    ),
    "an object around the parameter": (
        object_of("item", "other", item=THING, other={"$ref": "#/properties/item"}),
        {"item.name": ()},
        {"item": {"name": "lamp"}, "other": {"name": "LAMP"}},
        {"item": {"name": "LAMP"}, "other": {"name": "LAMP"}},
    ),
    "the whole schema": (
        object_of("name", name=STRING, child={"$ref": "#"}),
        {"name": ()},
        {"name": "lamp", "child": {"name": "LAMP", "child": {"name": "L"}}},
        {"name": "LAMP", "child": {"name": "lamp"}},
    ),
    "one of several types": (
        object_of("a", "b", a={"anyOf": [STRING, {"type": "null"}]}, b={"$ref": "#/properties/a/anyOf/0"}),
        {"a": ()},
        {"a": "lamp", "b": "LAMP"},
        {"a": "LAMP", "b": "LAMP"},
    ),
    "items": (
        object_of("a", "b", a={"type": "array", "items": STRING}, b={"$ref": "#/properties/a/items"}),
        {"a[]": ()},
        {"a": ["lamp"], "b": "LAMP"},
        {"a": ["LAMP"], "b": "LAMP"},
    ),
    "from a definition": (
        {
            **object_of("thing", "code", thing=STRING, code={"$ref": "#/$defs/code"}),
            "$defs": {"code": {"$ref": "#/properties/thing"}, "original-1": {"type": "integer"}},
        },
        {"thing": ()},
        {"thing": "lamp", "code": "LAMP"},
        {"thing": "LAMP", "code": "LAMP"},
    ),
    "by a name of its own": (
        object_of("thing", "code", thing={**STRING, "$anchor": "thing"}, code={"$ref": "#thing"}),
        {"thing": ()},
        {"thing": "lamp", "code": "LAMP"},
        {"thing": "LAMP", "code": "LAMP"},
    ),
    "by the schema's address": (
        {
            "$id": "https://example.org/tool",
            **object_of("t/h", "code", **{"t/h": STRING}, code={"$ref": "https://example.org/tool#/properties/t~1h"}),
        },
        {"t/h": ()},
        {"t/h": "lamp", "code": "LAMP"},
        {"t/h": "LAMP", "code": "LAMP"},
    ),
}


@pytest.mark.parametrize(("schema", "held", "right", "wrong"), SHARED.values(), ids=SHARED.keys())
def test_what_refers_to_a_grounded_parameter_is_not_held_itself(tokenizer, schema, held, right, wrong):
    grounded = ground_schema(Tool("t", "", schema, "s"), as_messages("tag the lamp"), {"s/t": held})
    Draft202012Validator.check_schema(grounded)
    for value, allowed in ((right, True), (wrong, False)):
        tokens = tiny.tokenizer().encode(json.dumps(value), add_special_tokens=False)
        valid = ArgumentGrammar(Tool("t", "", grounded), tokenizer).valid_prefix(tokens)
        assert (len(valid) == len(tokens)) is allowed, value


def test_a_definition_that_two_parameters_share_is_held_in_neither():
    schema = {**object_of("a", "b", a={"$ref": "#/$defs/x"}, b={"$ref": "#/$defs/x"}), "$defs": {"x": STRING}}
    assert ground_schema(Tool("t", "", schema, "s"), as_messages("tag the lamp"), {"s/t": {"a": ()}}) == schema


@pytest.mark.parametrize("broken", [{"properties": {"x": 5}}, {"anyOf": 5}, {"$defs": 5}])
def test_a_broken_schema_with_a_ref_is_refused_by_name(broken):
    tool = tool_with(path=STRING, other={"$ref": "#/properties/path"}, more=broken)
    with pytest.raises(ToolError, match="not a valid JSON Schema"):
        ground_schema(tool, as_messages("show a.txt"), GROUNDING)


def test_a_ref_in_an_example_or_to_nowhere_stays_as_it_is():
    other = {"type": "object", "default": {"$ref": "#/properties/path"}, "properties": {"$ref": STRING}}
    tool = tool_with(path=STRING, other=other, lost={"$ref": "#/$defs/none"})
    grounded = ground_schema(tool, as_messages("show a.txt"), GROUNDING)
    assert grounded["properties"]["other"] == other
    assert grounded["properties"]["lost"] == {"$ref": "#/$defs/none"}


@pytest.mark.parametrize(
    ("messages", "grounding"),
    [
        (as_messages("show a.txt"), {}),
        (as_messages("show a.txt"), {"other/t": {"path": ()}}),
        (as_messages("show a.txt"), {"s/t": {}}),
        (as_messages("show a.txt"), {"s/t": {"elsewhere": ()}}),
        ((Message("user", ""),), GROUNDING),
        ((), GROUNDING),
    ],
)
def test_without_grounding_or_anything_to_copy_the_schema_stays_as_it_is(messages, grounding):
    assert ground_schema(READ, messages, grounding) == READ.parameters


def test_a_conversation_of_too_many_spans_holds_nothing():
    assert ground_schema(READ, as_messages("word " * 80), GROUNDING) != READ.parameters
    assert ground_schema(READ, as_messages("word " * 100_000), GROUNDING) is READ.parameters


def test_the_limit_is_shared_by_a_tool_s_parameters(monkeypatch):
    monkeypatch.setattr(grounding, "MAX_CHARACTERS", 20)
    assert ground_schema(READ, as_messages("show a.txt"), GROUNDING) != READ.parameters  # 4 + 10 + 5 characters
    assert ground_schema(READ, as_messages("show a.txt"), {"s/t": {"path": (), "more": ()}}) is READ.parameters


@pytest.mark.parametrize("letters", ["ab", '"\\', "\x01\x02", "é😀"], ids=["plain", "escaped", "control", "wide"])
@pytest.mark.parametrize("length", [5, 5000])
@pytest.mark.parametrize("parameters", [1, 3])
def test_whatever_is_within_the_limit_can_be_enforced(tokenizer, letters, length, parameters):
    names = [f"p{i}" for i in range(parameters)]
    tool = tool_with(**dict.fromkeys(names, STRING))
    grounding = {"s/t": {name: (name,) for name in names}}
    generator, words, schema = random.Random(0), [], tool.parameters
    while (longer := ground_schema(tool, as_messages("x " + " ".join(words)), grounding)) is not tool.parameters:
        words.append("".join(generator.choice(letters) for _ in range(length)))
        schema = longer
    size = sum(map(len, schema["properties"]["p0"]["enum"]))
    assert size > 0.4 * MAX_CHARACTERS / parameters or letters == '"\\'  # whose characters are borders
    grammar = ArgumentGrammar(Tool("t", "", schema), tokenizer)
    grammar.append_forced()
    assert grammar.allowed_mask(272).any()


@pytest.mark.parametrize(
    "value", ['a "q" b', "C:\\x", "one\ntwo\tthree", "größe/日本.txt", "🎉", "a/b", "\x01 \x02", "</s>"]
)
def test_a_span_is_spelled_as_training_data_is(tokenizer, value):
    schema = ground_schema(READ, as_messages(value), GROUNDING)
    assert value in schema["properties"]["path"]["enum"]
    grammar = ArgumentGrammar(Tool("t", "", schema), tokenizer)
    text = json.dumps({"path": value}, ensure_ascii=False)
    tokens = tiny.tokenizer().encode(text, add_special_tokens=False)
    grammar.append(tokens)
    assert grammar.complete
    assert grammar.parse(tokens) == {"path": value}


def engine(seed: int, grounding: dict[str, Any]) -> DualTune:
    base = tiny.model(seed)
    return DualTune(base, PromptRenderer(Template("chatml"), base.tokenizer), grounding=grounding)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_model_wants_a_grounded_argument_is_a_span_of_the_request(seed):
    edits = {"type": "array", "items": {"type": "object", "properties": {"old": STRING}, "required": ["old"]}}
    tool = tool_with(path=STRING, zone={"anyOf": [STRING, {"type": "null"}]}, edits={**edits, "maxItems": 2})
    request = 'Replace "größe 1" in notes/a.txt, please'
    spans = set(find_spans(as_messages(request)))
    dualtune = engine(seed, {"s/t": {"path": (".",), "zone": (), "edits[].old": ()}})
    arguments = dualtune.arguments(request, tool, max_tokens=400)
    check_arguments(arguments, tool)
    assert arguments["path"] in {*spans, "."}
    assert arguments["zone"] in {*spans, None}
    assert {edit["old"] for edit in arguments["edits"]} <= spans


def test_without_grounding_decoding_is_as_it_was():
    tool = tool_with(path={"type": "string", "maxLength": 6})
    request = "show a.txt"
    plain = engine(0, {}).arguments(request, tool, max_tokens=64)
    assert not is_span(plain["path"], as_messages(request))
    assert engine(0, {"s/other": {"path": ()}}).arguments(request, tool, max_tokens=64) == plain
    base = tiny.model(0)
    assert (
        DualTune(base, PromptRenderer(Template("chatml"), base.tokenizer)).arguments(request, tool, max_tokens=64)
        == plain
    )
