"""A template is data: it may neither take all memory nor all time, and what it does otherwise is what Jinja does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts import Template, template

BLOCKS = "".join(f"{{% block {name} %}}{{% endblock %}}" for name in ("user", "assistant", "tool", "call"))


def render(folder: Path, body: str, **values: object) -> str:
    path = folder / "t.jinja"
    path.write_text(f"{{% block system %}}{body}{{% endblock %}}{BLOCKS}", encoding="utf-8")
    return "".join(piece.value for piece in Template(str(path)).render("system", **values))


@pytest.mark.parametrize(
    "body",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
        "{% macro m() %}{% for i in range(99999) %}{{ m() }}{% endfor %}{% endmacro %}{{ m() }}",
    ],
)
def test_loops_in_loops_come_to_an_end(body, tmp_path, monkeypatch):
    monkeypatch.setattr(template, "LONGEST_RENDERING", 0.2)
    began = time.thread_time()
    with pytest.raises(PromptError, match="cannot be rendered"):
        render(tmp_path, body)
    assert time.thread_time() - began < 5


@pytest.mark.parametrize(
    "body",
    [
        "{{ 'a' * 8000000000 }}",
        "{{ 8000000000 * 'a' }}",
        "{{ ['a'] * 8000000000 }}",
        "{{ ('a' * 9999) * 99999 }}",
        "{{ 9 ** 99999999 }}",
        "{{ 9 ** 9999 ** 9 }}",
        "{{ 'a'.ljust(8000000000) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '%999999999d'|format(1) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 999999999) }}",
        "{{ 'a'|center(999999999) }}",
        "{{ 'a'|indent(999999999, true) }}",
        "{{ ['a']|batch(999999999, 'a')|list }}",
        "{{ [1]|tojson(indent=999999999) }}",
        "{{ 5 .to_bytes(999999999) }}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}",
        "{% set ns = namespace(x=9) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{{ 'a'|replace('a', 'a' * 9999)|replace('a', 'a' * 9999) }}",
        "{{ lipsum(n=99999) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ content.nothing.nothing }}",
    ],
)
def test_what_grows_without_measure_is_refused(body, tmp_path):
    with pytest.raises(PromptError, match="cannot be rendered"):
        render(tmp_path, body, content="c")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{{ 'a' ~ 1 ~ none ~ missing }}", "a1None"),
        ("{{ 'ab' * 3 }}{{ 2 ** 10 }}{{ 'a' + 'b' }}{{ 7 % 4 }}{{ '%s-%03d' % ('x', 5) }}", "ababab1024ab3x-005"),
        ("{% for i in range(3) %}{{ loop.index }}{% else %}none{% endfor %}", "123"),
        ("{% for i in [] %}{{ i }}{% else %}none{% endfor %}", "none"),
        ("{% for i in [3, 1, 2]|sort if i > 1 %}{{ i }}{{ ',' if not loop.last }}{% endfor %}", "2,3"),
        (
            "{{ 1700000000 }}{{ 1700000000|string }}{{ [1700000000]|tojson }}",
            "17000000001700000000[1700000000]",
        ),
        ("{{ '{:>4}|{}'.format(1, 1700000000) }}{{ '%s'|format(1700000000) }}", "   1|17000000001700000000"),
        ("{% set ns = namespace(x=1700000000) %}{{ ns.x }}{{ dict(a=1700000000).a }}", "17000000001700000000"),
        ("{{ 'a'|center(5) }}{{ 'ab'.ljust(4) }}{{ {'a': 1}|tojson(indent=1) }}", '  a  ab  {\n "a": 1\n}'),
        ("{{ content|default('x')|upper }}{{ 'a'|default(1700000000) }}", "Ca"),
    ],
)
def test_other_values_are_what_jinja_makes_of_them(body, text, tmp_path):
    assert render(tmp_path, body, content="c") == text


@pytest.mark.parametrize("body", ["{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", f"{{{{ {'1' * 5_000} }}}}", "{{ 'a"])
def test_what_jinja_cannot_compile_is_an_error_of_ours(body, tmp_path):
    with pytest.raises(PromptError):
        render(tmp_path, body)
