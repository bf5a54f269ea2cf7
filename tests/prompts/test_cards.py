"""Tool cards, and the names tools have in the prompt."""

from __future__ import annotations

import json

import pytest

from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.prompts.cards import tool_card
from dualtune_mlx.tools import RESPOND, Tool, ToolCall
from tests import tiny

SCHEMA = {"type": "object", "properties": {"src": {}, "dst": {}, "force": {}}, "required": ["src", "dst"]}
MOVE = Tool("move", "Move a file. Fails when the destination exists.", SCHEMA)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("name", "move"),
        ("signature", "move(src, dst, force?): Move a file."),
        (
            "schema",
            json.dumps({"name": "move", "description": MOVE.description, "parameters": SCHEMA}),
        ),
    ],
)
def test_a_card_of_each_kind(kind, text):
    assert tool_card(MOVE, "move", kind) == text


@pytest.mark.parametrize(
    ("description", "shown"),
    [
        ("", "t()"),
        ("One line\nand more", "t(): One line"),
        ("Is it? Yes.", "t(): Is it?"),
        ("Reads v1.2 files", "t(): Reads v1.2 files"),
        ("word " * 30, "t(): " + " ".join(["word"] * 16) + "…"),
        ("x" * 200, "t(): " + "x" * 80 + "…"),
    ],
)
def test_a_signature_shows_the_first_sentence(description, shown):
    assert tool_card(Tool("t", description), "t", "signature") == shown


def test_a_server_is_no_function_and_has_no_schema():
    assert tool_card(Tool("git", "Tools: git_log.", {}), "git", "schema") == "git(): Tools: git_log."


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(PromptError, match="long(?s:.*)name, signature, typed, schema"):
        tool_card(MOVE, "move", "long")


def test_the_prompt_lists_every_tool_and_respond_once():
    tools = [Tool("read", server="a"), Tool("read", server="b"), MOVE, Tool("respond", server="a")]
    renderer = PromptRenderer(Template("chatml"), tiny.tokenizer(), "name")
    text = renderer.encoder.decode(list(renderer.render_call(ToolCall("read", {}, "b"), tools).span_tokens("selector")))
    assert text == "b/read\n"
    from dualtune_mlx.tools import as_messages

    prefix = renderer.encoder.decode(list(renderer.render_conversation(as_messages("hi"), tools).span_tokens("prefix")))
    for line in ("a/read", "b/read", "move", "a/respond", RESPOND.name):
        assert prefix.splitlines().count(line) == 1
