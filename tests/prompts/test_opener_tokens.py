"""The tokens that open a call or a user's message, as every stream has them."""

from __future__ import annotations

import pytest

from dualtune_mlx.adapters import invocation_start
from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts import TEMPLATES, PromptRenderer, Template
from dualtune_mlx.tools import Message, Tool, ToolCall
from tests import tiny

TOOL = Tool("now", "The time.", server="clock")
CALL = ToolCall("now", {}, "clock")
REQUEST = Message("user", "what time?")


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("activation", ["invocation", "turn"])
@pytest.mark.parametrize(
    "messages",
    [
        [REQUEST],
        [Message("system", "be brief"), REQUEST],
        [REQUEST, Message("assistant", "Noon."), Message("user", "and now?")],
    ],
    ids=["one", "system", "two turns"],
)
def test_their_last_place_is_where_the_activation_begins(template, activation, messages):
    renderer = PromptRenderer(Template(template), tiny.tokenizer())
    stream = renderer.render(messages, [TOOL], CALL)
    assert invocation_start(stream.tokens, renderer.opener_tokens(activation)) == stream.activation_start(activation)


def test_no_opener_begins_everywhere():
    with pytest.raises(PromptError, match="no tokens open(?s:.*)all"):
        PromptRenderer(Template("chatml"), tiny.tokenizer()).opener_tokens("all")
