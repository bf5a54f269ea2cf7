"""Messages as other people write them: legacy calls, weights, parts of content."""

from __future__ import annotations

import pytest

from dualtune_mlx.errors import DataError
from dualtune_mlx.tools import Message, ToolCall

CALL = {"name": "read", "arguments": '{"path": "a"}'}
READ = ToolCall("read", {"path": "a"})


def test_a_call_of_the_older_form_is_a_call() -> None:
    assert Message.from_dict({"role": "assistant", "content": None, "function_call": CALL}) == Message(
        "assistant", "", (READ,)
    )


def test_a_result_of_the_older_form_is_a_result() -> None:
    assert Message.from_dict({"role": "function", "name": "read", "content": "x"}) == Message("tool", "x")


def test_both_forms_in_one_message_are_refused() -> None:
    with pytest.raises(DataError, match="both tool_calls and function_call"):
        Message.from_dict({"role": "assistant", "function_call": CALL, "tool_calls": [{"function": CALL}]})


@pytest.mark.parametrize(("given", "weight"), [({}, 1), (None, 1), (0, 0), (1, 1), (0.0, 0), (1.0, 1)])
def test_a_weight_is_kept(given, weight) -> None:
    value = {"role": "assistant", "content": "x"} | ({} if given == {} else {"weight": given})
    message = Message.from_dict(value)
    assert (message.weight, type(message.weight)) == (weight, int)
    assert Message.from_dict(message.to_dict()) == message
    assert message.to_dict().get("weight") == (0 if weight == 0 else None)


@pytest.mark.parametrize("weight", [0.5, 2, -1, "0", True, False, [0], {}])
def test_another_weight_is_refused(weight) -> None:
    with pytest.raises(DataError, match=r"neither 0 nor 1(?s:.*)got: (?s:.*)fix: "):
        Message.from_dict({"role": "assistant", "content": "x", "weight": weight})


@pytest.mark.parametrize(
    ("part", "got"),
    [
        ({"type": "tool_use", "text": "x", "name": "read", "input": {}}, "a part of type 'tool_use'"),
        ({"type": "text", "text": 5}, "a part of type 'text'"),
        ({"type": "image_url"}, "a part of type 'image_url'"),
        ("x", "str"),
        (None, "NoneType"),
    ],
)
def test_content_that_is_not_text_is_refused_by_its_type(part, got) -> None:
    with pytest.raises(DataError, match="content that is not text") as caught:
        Message.from_dict({"role": "assistant", "content": [{"type": "text", "text": "a"}, part]})
    assert (caught.value.got, bool(caught.value.fix)) == (got, True)


@pytest.mark.parametrize("role", ["user", "system", "tool"])
def test_only_the_assistant_calls(role) -> None:
    with pytest.raises(DataError, match="call stands at the wrong message"):
        Message.from_dict({"role": role, "content": "x", "tool_calls": [{"function": CALL}]})
