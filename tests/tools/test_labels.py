from __future__ import annotations

import pytest

from dualtune_mlx.errors import ToolError
from dualtune_mlx.tools import RESPOND, Tool, ToolCall
from dualtune_mlx.tools.labels import label_choices, label_tools


def test_a_tool_has_its_own_name_unless_servers_share_it():
    tools = [Tool("read", server="a"), Tool("read", server="b"), Tool("list", server="a")]
    assert label_tools(tools) == {"a/read": tools[0], "b/read": tools[1], "list": tools[2]}


def test_a_server_s_tool_may_be_called_as_the_answer_in_words():
    tools = [Tool("respond", server="a"), Tool("list", server="a")]
    assert label_choices(tools) == {"a/respond": tools[0], "list": tools[1], "respond": RESPOND}
    assert label_choices(tools)["respond"] is RESPOND
    assert ToolCall("respond").is_respond and not ToolCall("respond", server="a").is_respond


@pytest.mark.parametrize(
    ("tools", "what"),
    [
        ([Tool("read", server="a"), Tool("read", server="a")], "same name(?s:.*)server 'a'(?s:.*)a/read"),
        ([Tool("a/x"), Tool("x", server="a"), Tool("x", server="b")], "same name(?s:.*)a/x"),
        ([Tool("list"), Tool("respond")], "without a server(?s:.*)tool 'respond'(?s:.*)\"server\""),
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(tools, what):
    with pytest.raises(ToolError, match=what):
        label_tools(tools)
