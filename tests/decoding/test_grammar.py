"""Arguments under a schema: whatever tokens are drawn among the allowed ones, the JSON fits the schema."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.decoding import ArgumentGrammar, GrammarTokenizer
from dualtune_mlx.errors import DecodingError, ModelError, ToolError
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import PLAN
from tests import tiny

VOCABULARY = 272
STRING = {"type": "string", "maxLength": 8}
POINT = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}, "required": ["x", "y"]}


def schema(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required}


SCHEMAS = {
    "strings": schema(path=STRING, mode={"type": "string", "minLength": 2, "maxLength": 4}),
    "integers and numbers": schema(n={"type": "integer"}, x={"type": "number"}),
    "bounds": schema(n={"type": "integer", "minimum": -3, "maximum": 12}),
    "booleans and null": schema(flag={"type": "boolean"}, nothing={"type": "null"}),
    "enum": schema(mode={"enum": ["read", "write", "append"]}, level={"enum": [1, 2, None]}),
    "const": schema(kind={"const": "file"}),
    "optional": schema([], a=STRING, b=STRING, c={"type": "boolean"}),
    "some optional": schema(["b"], a=STRING, b=STRING, c=STRING),
    "optional by null": schema(zone={"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]}),
    "several types": schema(value={"type": ["boolean", "null"]}),
    "array": schema(paths={"type": "array", "items": STRING, "maxItems": 3}),
    "nested arrays": schema(
        grid={"type": "array", "items": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}, "maxItems": 2}
    ),
    "array with a minimum": schema(paths={"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4}),
    "nested object": schema(point=POINT, edits={"type": "array", "items": POINT, "maxItems": 2}),
    "$ref and $defs": {**schema(a={"$ref": "#/$defs/Point"}, b={"$ref": "#/$defs/Point"}), "$defs": {"Point": POINT}},
    "recursive $ref": {
        **schema(tree={"$ref": "#/$defs/Tree"}),
        "$defs": {"Tree": schema([], leaf={"type": "boolean"}, child={"$ref": "#/$defs/Tree"})},
    },
    "no properties": {"type": "object", "properties": {}},
    "free object": {"type": "object", "additionalProperties": {"type": "boolean"}},
    "pattern": schema(day={"type": "string", "pattern": "^[0-9]{2}$"}),
    "date": schema(day={"type": "string", "format": "date"}),
    "properties called properties": {
        "type": "object",
        "properties": {"properties": STRING, "type": STRING, "required": {"type": "boolean"}},
    },
    "defaults and titles": schema(a={"type": "boolean", "title": "A", "default": True, "description": "an a"}),
    "names outside ASCII": schema(**{"größe": {"type": "boolean"}, "a b": STRING, 'q"q': {"type": "boolean"}}),
}


@pytest.fixture(scope="module")
def tokenizer() -> GrammarTokenizer:
    return GrammarTokenizer(tiny.tokenizer())


def draw_text(grammar: ArgumentGrammar, generator: random.Random, free: int = 25, limit: int = 600) -> str:
    """Text of random allowed tokens; after ``free`` of them those that close something come first."""
    tokens: list[int] = []
    closing = [token for token in range(VOCABULARY) if text_of(grammar, [token]) in ("}", "]", '"')]
    while True:
        tokens += grammar.append_forced()
        if grammar.complete:
            return text_of(grammar, tokens)
        assert len(tokens) < limit
        mask = grammar.allowed_mask(VOCABULARY)
        allowed = [token for token in range(VOCABULARY) if mask[token]]
        assert allowed
        close = [token for token in closing if mask[token]] if len(tokens) >= free else []
        token = generator.choice(close or allowed)
        grammar.append([token])
        tokens.append(token)


def text_of(grammar: ArgumentGrammar, tokens: list[int]) -> str:
    return grammar.to_bytes(tokens).decode("utf-8", errors="replace")


@pytest.mark.parametrize("name", SCHEMAS)
def test_random_allowed_tokens_fit_the_schema(tokenizer, name):
    parameters = SCHEMAS[name]
    Draft202012Validator.check_schema(parameters)
    texts = set()
    for seed in range(8):
        text = draw_text(ArgumentGrammar(Tool("t", "", parameters), tokenizer), random.Random(seed))
        value = json.loads(text)
        Draft202012Validator(parameters).validate(value)
        if "additionalProperties" not in parameters:
            assert set(value) <= set(parameters["properties"]), "objects are closed unless the schema opens them"
        assert list(value) == [key for key in parameters.get("properties", value) if key in value]
        texts.add(text)
    assert len(texts) > 1 or name in ("const", "no properties", "booleans and null", "defaults and titles")


def test_a_plan_that_repeats_itself_ends(tokenizer):
    def write(parts):
        ArgumentGrammar(PLAN, tokenizer).append(tiny.tokenizer().encode(json.dumps({"parts": ["ab"] * parts})))

    write(8)
    with pytest.raises(DecodingError):
        write(9)


def test_the_spelling_is_that_of_the_training_data(tokenizer):
    for name, parameters in SCHEMAS.items():
        text = draw_text(ArgumentGrammar(Tool("t", "", parameters), tokenizer), random.Random(1))
        if "\\" not in text and "number" not in name:
            assert text == json.dumps(json.loads(text), ensure_ascii=False)


def test_nested_objects_are_closed_too(tokenizer):
    parameters = schema(edit=POINT, either={"anyOf": [POINT, {"type": "null"}]})
    for seed in range(10):
        value = json.loads(draw_text(ArgumentGrammar(Tool("t", "", parameters), tokenizer), random.Random(seed)))
        assert set(value["edit"]) == {"x", "y"}
        assert value["either"] is None or set(value["either"]) == {"x", "y"}


A, B = ({"properties": {name: {"type": "boolean"}}, "required": [name]} for name in "ab")


@pytest.mark.parametrize("defs", [False, True])
def test_what_all_of_puts_together_can_be_written(tokenizer, defs):
    parts = [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}] if defs else [A, B]
    parameters = {**schema(both={"allOf": parts}), "$defs": {"A": A, "B": B}}
    grammar = ArgumentGrammar(Tool("t", "", parameters), tokenizer)
    grammar.append(tiny.tokenizer().encode('{"both": {"a": true, "b": false}}', add_special_tokens=False))
    assert grammar.complete


def test_an_object_that_says_so_stays_open(tokenizer):
    grammar = ArgumentGrammar(Tool("t", "", {**schema([], a=STRING), "additionalProperties": True}), tokenizer)
    grammar.append(tiny.tokenizer().encode('{"zz": 1}', add_special_tokens=False))
    assert grammar.complete


def test_a_draft_is_cut_at_the_first_token_that_may_not_come(tokenizer):
    grammar = ArgumentGrammar(Tool("t", "", schema(n={"type": "integer"})), tokenizer)
    draft = tiny.tokenizer().encode('{"n": 12x3}', add_special_tokens=False)
    for _ in range(2):  # looking changes nothing
        assert text_of(grammar, grammar.valid_prefix(draft)) == '{"n": 12'
    assert grammar.valid_prefix([]) == []
    grammar.append(draft[:7])
    assert text_of(grammar, grammar.valid_prefix(draft[7:])) == "2"


def test_what_must_come_is_forced_without_asking(tokenizer):
    grammar = ArgumentGrammar(Tool("t", "", schema(path={"const": "a"})), tokenizer)
    assert text_of(grammar, grammar.append_forced()) == '{"path": "a"}'
    assert grammar.complete
    assert grammar.append_forced() == []


def test_a_frame_is_written_around_the_arguments_and_is_none_of_them(tokenizer):
    grammar = ArgumentGrammar(Tool("t", "", schema(path=STRING)), tokenizer, (" ", '}"\n'))
    forced = grammar.append_forced()
    assert text_of(grammar, forced) == ' {"path": "'
    chosen = tiny.tokenizer().encode('a}"}', add_special_tokens=False)
    grammar.append(chosen)
    assert not grammar.complete
    last = grammar.append_forced()
    assert text_of(grammar, last) == '}"\n'
    assert grammar.complete
    assert grammar.parse([*forced, *chosen, *last]) == {"path": "a}"}


def test_allowed_covers_the_model_s_vocabulary_whatever_its_size(tokenizer):
    grammar = ArgumentGrammar(Tool("t", "", schema(n={"type": "integer"})), tokenizer)
    for size in (250, 272, 320):
        mask = grammar.allowed_mask(size)
        assert mask.shape == (size,)
        assert not mask[272:].any()


def test_no_control_token_is_ever_allowed_inside_a_string(tokenizer):
    grammar = ArgumentGrammar(Tool("t", "", schema(path=STRING)), tokenizer)
    assert text_of(grammar, grammar.append_forced()) == '{"path": "'
    special = {token for token, entry in tiny.tokenizer().added_tokens_decoder.items() if entry.special}
    assert len(special) == len(tiny.SPECIAL)
    mask = grammar.allowed_mask(VOCABULARY)
    assert mask.any()
    assert not mask[sorted(special)].any()


def test_a_token_that_does_not_fit_is_refused(tokenizer):
    grammar = ArgumentGrammar(Tool("odd", "", schema(n={"type": "integer"})), tokenizer)
    with pytest.raises(DecodingError, match="refused a token(?s:.*)tool 'odd'"):
        grammar.append(tiny.tokenizer().encode("[", add_special_tokens=False))


@pytest.mark.parametrize(
    "inner",
    [
        {"type": "string", "not": {"type": "string"}},
        {"type": "array", "uniqueItems": True},
        {"type": "string", "if": {"type": "string"}, "then": {"maxLength": 1}},
        {"type": "string", "$ref": "#/$defs/Nowhere"},
        {"type": "string", "$ref": "https://example.org/schema.json"},
        {"type": "string", "pattern": "(?=x)"},
    ],
    ids=lambda inner: list(inner)[1],
)
def test_what_cannot_be_enforced_is_refused_with_the_tool(tokenizer, inner):
    parameters = schema(a=inner)
    with pytest.raises(ToolError, match="cannot be enforced(?s:.*)tool 'odd'(?s:.*)fix: "):
        ArgumentGrammar(Tool("odd", "", parameters), tokenizer)


@pytest.mark.parametrize("parameters", [{"type": "array"}, {"type": "object", "properties": {"a": {"type": "strin"}}}])
def test_what_is_no_schema_is_refused_with_the_tool(tokenizer, parameters):
    with pytest.raises(ToolError, match="tool 'odd'"):
        ArgumentGrammar(Tool("odd", "", parameters), tokenizer)


def test_a_tokenizer_that_cannot_be_used_is_refused():
    with pytest.raises(ModelError, match="constrained decoding"):
        GrammarTokenizer(object())


@pytest.mark.parametrize("max_tokens", [1, 3, 20])
def test_arguments_that_do_not_end_in_time_say_so(max_tokens):
    base = tiny.model()
    dualtune = DualTune(base, PromptRenderer(Template("chatml"), base.tokenizer))
    tool = Tool("write", "", schema(text={"type": "string", "minLength": 100}))
    with pytest.raises(DecodingError) as caught:
        dualtune.arguments("write it", tool, max_tokens=max_tokens)
    assert caught.value.where == "tool 'write'"
    assert caught.value.expected == f"at most {max_tokens}"
    assert "max_tokens" in caught.value.fix
