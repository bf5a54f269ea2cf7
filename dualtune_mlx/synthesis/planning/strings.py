"""Strings for a parameter: by its kind, its examples, its pattern and its length."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import rstr

from dualtune_mlx.synthesis.conversions.texts import read_words, split_name
from dualtune_mlx.synthesis.descriptions import list_examples
from dualtune_mlx.synthesis.planning import moments, names, writings
from dualtune_mlx.synthesis.planning.kinds import find_kind
from dualtune_mlx.synthesis.values import everything_server, paths
from dualtune_mlx.synthesis.values.sampling import Sampler
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import Parameter
from dualtune_mlx.tools.patterns import TOKEN, compile_pattern


def _one_of(*texts: str) -> Callable[[Sampler], str]:
    """Draws one of a few texts that are the only ones of their kind."""
    return lambda sampler: sampler.rng.choice(texts)


DRAWN: Mapping[str, Callable[[Sampler], Any]] = {
    "opaque": names.opaque,
    "secret": names.secret,
    "email": names.email,
    "url": names.url,
    "host": names.host,
    "address_ip": names.address_ip,
    "phone": names.phone,
    "uuid": names.uuid,
    "sha": names.sha,
    "version": names.version,
    "branch": names.branch,
    "issue_key": names.issue_key,
    "project_key": names.project_key,
    "image": lambda sampler: paths.image(sampler).value,
    "folder": lambda sampler: paths.folder(sampler).value,
    "path": lambda sampler: paths.path(sampler).value,
    "glob": lambda sampler: paths.glob(sampler).value,
    "regex": writings.regex,
    "range": names.cell_range,
    "cell": names.cell,
    "sheet": names.sheet,
    "formula": writings.formula,
    "sql": writings.sql,
    "promql": writings.promql,
    "logql": writings.logql,
    "json_path": writings.json_path,
    "json": lambda sampler: f'{{"{sampler.word("nouns")}": {sampler.digits(1, 99)}}}',
    "json_pointer": lambda sampler: f"/{sampler.word('nouns')}/{sampler.digits(0, 9)}",
    "script": writings.script,
    "javascript": writings.javascript,
    "css": writings.css,
    "element": lambda sampler: f"e{sampler.digits(2, 99)}" if sampler.chance(0.6) else writings.css(sampler),
    "markup": writings.markup,
    "markdown": writings.markdown,
    "key_press": _one_of("Enter", "Escape", "Tab", "ArrowDown", "Control+S", "PageUp", "F5"),
    "colour": names.colour,
    "font": _one_of(*names.FONTS),
    "timezone": names.timezone,
    "clock": moments.draw_clock,
    "duration": moments.draw_short_duration,
    "iso_duration": moments.draw_iso_duration,
    "ticker": lambda sampler: sampler.rng.choice(names.TICKERS) if sampler.chance(0.5) else names.project_key(sampler),
    "currency": partial(names.code_of, "currencies"),
    "language": partial(names.code_of, "languages"),
    "country": partial(names.code_of, "countries"),
    "place": names.place,
    "town": names.town,
    "channel": names.channel,
    "repo": names.slug,
    "owner": names.handle,
    "person": names.person,
    "company": names.company,
    "sentence": writings.sentence,
    "search": writings.search,
    "title": writings.title,
    "horizontal": _one_of("left", "right", "center", "justify"),
    "vertical": _one_of("top", "middle", "bottom"),
    "position": _one_of("before", "after", "start", "end", "top", "bottom"),
    "status": _one_of("open", "closed", "active", "done", "pending", "in progress", "resolved", "draft", "archived"),
    "severity": _one_of("low", "medium", "high", "critical", "major", "minor"),
    "label": writings.label,
    "database": names.table,
    "table": names.table,
    "column": names.column,
    "metric": names.metric,
    "service": names.slug,
    "command": writings.command,
    "emoji": _one_of(*names.EMOJI),
    "unit": _one_of("px", "pt", "cm", "mm", "kg", "km", "percent", "points"),
    "style": _one_of("Heading 1", "Heading 2", "Normal", "Quote", "Title", "List Bullet"),
    "format": _one_of("json", "csv", "markdown", "txt", "pdf", "html", "xml", "png", "yaml"),
    "http_method": _one_of("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"),
    "like": lambda sampler: sampler.rng.choice(("%{}%", "{}%", "%_{}")).format(sampler.word("nouns", "tech")),
    "mermaid": writings.mermaid,
    "csv": writings.csv,
    "number_words": lambda sampler: sampler.digits(1, 999),
    "id": names.identifier,
    "name": names.name,
    "value": lambda sampler: sampler.digits(1, 999) if sampler.chance(0.3) else writings.label(sampler),
    "saying": lambda sampler: everything_server.saying(sampler).value,
    "": lambda sampler: writings.label(sampler) if sampler.chance(0.4) else writings.title(sampler),
}
"""How the strings of each kind are drawn, but for those that need the parameter."""
FORMED = frozenset(read_words("date moment clock timezone currency language country uuid"))
"""Kinds whose examples have no more to say than the kind itself."""
SORTS = {"word": "docx", "excel": "xlsx", "workbook": "xlsx", "powerpoint": "pptx", "presentation": "pptx"}
SORTS |= {"screenshot": "png", "markdown": "md"}
SORTS |= {one: one for one in read_words("docx xlsx pptx pdf csv json yaml html svg drawio epub")}
"""Endings of files by the words that name their sort."""
TRIES = 30
_ENDING = re.compile(
    r"\.(docx|xlsx|pptx|pdf|csv|md|png|jpe?g|svg|gif|txt|json|drawio|ya?ml|html|mp4|mp3|wav|zip|ipynb|sql|db)\b"
)
_RUNS = re.compile(r"\d+|[A-Z]{2,}|[A-Z]?[a-z]{3,}")


def draw_string(sampler: Sampler, tool: Tool, parameter: Parameter, schema: Mapping[str, Any], today: str) -> str:
    """A string that fits the schema; where that is not found, one that does not."""
    text = ""
    for number in range(TRIES):
        pattern = schema.get("pattern")
        if pattern and number >= TRIES // 2:
            text = draw_pattern(sampler, pattern)
        else:
            text = str(_draw(sampler, tool, parameter, today))
        if _fits(text, schema):
            return text
    return _fit_length(text, schema)


def _draw(sampler: Sampler, tool: Tool, parameter: Parameter, today: str) -> Any:
    kind = find_kind(tool, parameter)
    examples = [one for one in list_examples(parameter) if isinstance(one, str) and one]
    if examples and kind not in FORMED:
        example, draw = sampler.rng.choice(examples), sampler.rng.random()
        if draw < (0.1 if kind or " " in example else 0.7):
            return example
        if draw < 0.5 and (varied := vary(sampler, example)) != example:
            return varied
    if kind == "date":
        return moments.draw_date(sampler, parameter, today, tool.name)
    if kind == "moment":
        return moments.draw_moment(sampler, parameter, today, tool.name)
    if kind == "file":
        return names.file(sampler, find_endings(tool, parameter))
    return DRAWN[kind](sampler)


def find_endings(tool: Tool, parameter: Parameter) -> list[str]:
    """The endings of files that a parameter, else its tool, speaks of; mostly a server has files of one sort."""
    texts = (f"{parameter.path} {parameter.description}", f"{tool.name} {tool.description}", tool.server)
    for text in texts:
        named = [ending for word, ending in SORTS.items() if word in split_name(text)]
        if found := _ENDING.findall(text) or named:
            return found
    return []


def vary(sampler: Sampler, example: str) -> str:
    """A value of the same form as an example: its numbers, capitals and words are others."""
    if " " in example or not re.search(r"[\d_:/.#=-]", example):  # words, or one of few that there are
        return example
    return _RUNS.sub(lambda run: _vary_run(sampler, run[0]), example)


def _vary_run(sampler: Sampler, run: str) -> str:
    if run.isdigit():
        first = sampler.rng.choice("123456789") if run[0] != "0" else "0"
        return first + "".join(sampler.rng.choices(string.digits, k=len(run) - 1))
    if run.isupper():
        return "".join(sampler.rng.choices(names.LETTERS, k=len(run)))
    word = sampler.word("nouns", "tech") if sampler.chance(0.7) else sampler.invent()
    return word.capitalize() if run[0].isupper() else word


def draw_pattern(sampler: Sampler, pattern: str) -> str:
    """A short string of a pattern's form, of letters, digits and common signs where there is one."""
    generator = rstr.Rstr(sampler.rng)
    short = "".join(_shorten(token[0]) for token in TOKEN.finditer(pattern))
    found = ""
    for _ in range(TRIES):
        found = generator.xeger(short)
        if re.fullmatch(r"[\w.:/@#=+-]*", found, re.ASCII):
            break
    return found


def _shorten(token: str) -> str:
    """A quantifier without an end as one with an end."""
    open_end = re.fullmatch(r"\{(\d+),\}", token)
    if open_end:
        return f"{{{open_end[1]},{int(open_end[1]) + 4}}}"
    return {"*": "{0,3}", "+": "{1,5}"}.get(token, token)


def _fits(text: str, schema: Mapping[str, Any]) -> bool:
    if not schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", len(text)):
        return False
    return "pattern" not in schema or bool(compile_pattern(schema["pattern"]).search(text))


def _fit_length(text: str, schema: Mapping[str, Any]) -> str:
    """The text, cut or filled to the length that is asked for; not where it has a form."""
    if "pattern" in schema:
        return text
    least, most = schema.get("minLength", 0), schema.get("maxLength", len(text))
    return (text * (1 + least // max(len(text), 1)) if len(text) < least else text)[: max(most, least)].strip()
