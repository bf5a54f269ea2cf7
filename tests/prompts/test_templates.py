"""The user's own templates: what works, and what is refused by name."""

from __future__ import annotations

from importlib.resources import files

import pytest

from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Message, Tool, ToolCall, as_messages
from tests import tiny
from tests.prompts.conversations import TOOLS

CHATML = files("dualtune_mlx.prompts").joinpath("templates", "chatml.jinja").read_text()
SYSTEM = "{% if system %}{{ system }}"


@pytest.fixture
def own(tmp_path):
    """Writes chatml with some text replaced; the new file's name."""

    def write(old: str = "", new: str = "") -> str:
        assert old in CHATML
        path = tmp_path / "own.jinja"
        path.write_text(CHATML.replace(old, new), encoding="utf-8")
        return str(path)

    return write


def text_of(template: Template, system: str = "be brief") -> str:
    renderer = PromptRenderer(template, tiny.tokenizer())
    messages = (Message("system", system), *as_messages("hi"))
    return renderer.encoder.decode(list(renderer.render(messages, TOOLS, ToolCall("read_file", {"path": "a"})).tokens))


def test_a_template_may_be_a_file(own):
    template = Template(own("Choose a tool", "Wähle ein Werkzeug"))
    assert template.hash != Template("chatml").hash
    assert text_of(template) == text_of(Template("chatml")).replace("Choose a tool", "Wähle ein Werkzeug")


def test_a_template_is_known_by_its_content(own):
    assert Template(own()).hash == Template("chatml").hash


def test_a_constant_in_a_template_is_written_as_it_is(own):
    template = Template(own("Choose a tool", "{{ 'Choose' }}{{ ' a ' ~ 'tool' }}"))
    for _ in range(2):
        assert text_of(template) == text_of(Template("chatml"))


def test_a_filter_on_a_value_is_applied(own):
    template = Template(own("{{ system }}", "{{ system|upper }}"))
    assert text_of(template) == text_of(Template("chatml"), "BE BRIEF")


@pytest.mark.parametrize("block", ["system", "user", "assistant", "tool", "call"])
def test_a_missing_block_is_named(own, block):
    name = own(f"{{% block {block} %}}", f"{{% block other_{block} %}}")
    with pytest.raises(PromptError) as caught:
        Template(name)
    assert caught.value.where == name
    assert f"other_{block}" in caught.value.got
    assert block in caught.value.expected.split(", ")


@pytest.mark.parametrize(
    "broken",
    ["{% if %}", "{{ system", "{% span %}x{% endspan %}", '{% span "x" %}', "{% endspan %}", "{% include 'a' %}"],
)
def test_bad_jinja_is_refused_with_the_file(own, broken):
    with pytest.raises(PromptError) as caught:
        text_of(Template(own("Choose a tool", broken)))
    assert "own.jinja" in str(caught.value.where)


@pytest.mark.parametrize("broken", ["{{ nobody.x }}", "{{ 1 // 0 }}", "{{ system + 1 }}", "{{ system.__class__.x() }}"])
def test_what_fails_while_rendering_names_the_file_and_the_block(own, broken):
    template = Template(own("Choose a tool", broken))
    with pytest.raises(PromptError, match="cannot be rendered(?s:.*)own.jinja: block system"):
        text_of(template)


@pytest.mark.parametrize(
    "captured",
    [
        "{% macro m(x) %}({{ x }}){% endmacro %}{% if system %}{{ m(system) }}",
        "{% set s %}{{ system }}{% endset %}{% if system %}{{ s }}",
        "{% if system %}{% filter upper %}{{ system }}{% endfilter %}",
        "{% if system %}{% filter replace('0', 'x') %}{{ system }}{{ system }}{% endfilter %}",
        "{% set s %}{{ system }}{% endset %}{% if system %}",
    ],
    ids=["macro", "set block", "filter", "replace filter", "captured and dropped"],
)
def test_data_that_was_captured_as_text_is_refused(own, captured):
    template = Template(own(SYSTEM, captured))
    with pytest.raises(PromptError, match="template (captures|changes, drops or repeats) (?s:.*)own.jinja(?s:.*)fix: "):
        text_of(template)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["no file", "not text"])
def test_an_unreadable_template_is_refused_with_the_known_ones(tmp_path, content):
    path = tmp_path / "mine.jinja"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PromptError, match="mine.jinja(?s:.*)chatml, hermes, llama3, gemma"):
        Template(str(path))


@pytest.mark.parametrize("name", ["selector", "arguments", "invocation"])
def test_a_template_without_a_span_says_which(own, name):
    renderer = PromptRenderer(Template(own(f'span "{name}"', 'span "odd"')), tiny.tokenizer())
    stream = renderer.render(as_messages("hi"), TOOLS, ToolCall("read_file"))
    with pytest.raises(PromptError, match=f"expected: {name}(?s:.*)endspan"):
        stream.last_span(name)


@pytest.mark.parametrize(
    ("messages", "what"),
    [
        ([], "no user message"),
        ([Message("system", "s")], "no user message"),
        ([Message("assistant", "hi")], "no user message"),
        ([Message("user", "a"), Message("system", "s")], "system message stands inside"),
        ([Message("user", "a"), Message("assistant", "", (ToolCall("rm"),))], "not among the visible tools(?s:.*)rm"),
        (
            [Message("user", "a"), Message("assistant", "", (ToolCall("read_file", {}, "else"),))],
            "not among the visible(?s:.*)else/read_file(?s:.*)read_file, list_dir",
        ),
    ],
)
def test_a_conversation_that_cannot_be_rendered_is_refused(messages, what):
    with pytest.raises(PromptError, match=what):
        PromptRenderer(Template("chatml"), tiny.tokenizer()).render_conversation(messages, TOOLS)


def test_a_past_call_that_two_tools_answer_to_is_refused():
    renderer = PromptRenderer(Template("chatml"), tiny.tokenizer())
    tools = [Tool("read", server=server) for server in ("fs", "git")]
    for server in ("fs", "git"):
        stream = renderer.render_call(ToolCall("read", {}, server), tools)
        assert f"{server}/read" in renderer.encoder.decode(list(stream.tokens))
    with pytest.raises(PromptError, match="several visible tools(?s:.*)fs/read or git/read(?s:.*)fix: "):
        renderer.render_call(ToolCall("read"), tools)


def test_an_empty_system_message_is_no_system_message():
    renderer = PromptRenderer(Template("chatml"), tiny.tokenizer())
    user = as_messages("hi")
    assert renderer.render_conversation((Message("system", ""), *user), TOOLS) == renderer.render_conversation(
        user, TOOLS
    )
