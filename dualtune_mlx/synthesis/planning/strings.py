"""Strings for a parameter: by its kind, its examples, its pattern and its length."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import rstr

from dualtune_mlx.errors import ToolError
from dualtune_mlx.synthesis.conversions.texts import list_stems, read_words, stem
from dualtune_mlx.synthesis.descriptions import list_examples
from dualtune_mlx.synthesis.planning import moments, names
from dualtune_mlx.synthesis.planning.kind_values import DRAWN
from dualtune_mlx.synthesis.planning.kinds import find_kind
from dualtune_mlx.synthesis.values.sampling import Sampler
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import Parameter
from dualtune_mlx.tools.patterns import TOKEN, compile_pattern, find_pattern

FORMED = frozenset(read_words("date moment clock timezone currency language country uuid"))
"""Kinds whose examples have no more to say than the kind itself."""
SORTS = {"word": "docx", "excel": "xlsx", "workbook": "xlsx", "spreadsheet": "xlsx", "powerpoint": "pptx"}
SORTS |= {"presentation": "pptx", "slide": "pptx", "screenshot": "png", "markdown": "md", "notebook": "ipynb"}
SORTS |= {"image": "png jpg webp", "picture": "png jpg", "photo": "jpg png", "video": "mp4 mov mkv", "audio": "mp3 wav"}
SORTS |= {one: one for one in read_words("docx xlsx pptx pdf csv json yaml html svg drawio epub")}
"""Endings of files by the words that name their sort."""
TRIES = 30
LONGEST = 100_000
"""Characters that are drawn at most."""
_ENDING = re.compile(
    r"\.(docx|xlsx|pptx|pdf|csv|md|png|jpe?g|svg|gif|txt|json|drawio|ya?ml|html|mp4|mp3|wav|zip|ipynb|sql|db)\b"
)
_RUNS = re.compile(r"\d+|[A-Z]{2,}|[A-Z]?[a-z]{3,}")


def draw_string(sampler: Sampler, tool: Tool, parameter: Parameter, schema: Mapping[str, Any], today: str) -> str:
    """A string that fits the schema; where that is not found, one that does not."""
    text = ""
    for number in range(TRIES):
        pattern = schema.get("pattern")
        if pattern and number >= TRIES // 3:
            text = _draw_form(sampler, parameter, pattern, tool.name, today)
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
        varied = vary(sampler, example)
        if varied == example and draw < (0.1 if kind or " " in example else 0.7):
            return example
        if varied != example and draw < (0.5 if kind else 0.8):
            return varied if draw > 0.08 else example
    if kind == "date":
        return moments.draw_date(sampler, parameter, today, tool.name)
    if kind == "moment":
        return moments.draw_moment(sampler, parameter, today, tool.name)
    endings = find_endings(tool, parameter) if kind in ("file", "path") else []
    if kind == "file" or endings:
        return names.file(sampler, endings)
    return DRAWN[kind](sampler)


def find_endings(tool: Tool, parameter: Parameter) -> list[str]:
    """The endings of files that a parameter, else its tool, speaks of; mostly a server has files of one sort."""
    texts = (f"{parameter.path} {parameter.description}", f"{tool.name} {tool.description}", tool.server)
    for text in texts:
        stems = list_stems(text)
        named = [ending for word, endings in SORTS.items() if stem(word) in stems for ending in endings.split()]
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


def _draw_form(sampler: Sampler, parameter: Parameter, pattern: str, tool_name: str, today: str) -> str:
    """A date or a time of a pattern's form, if it is one for them; else any text of this form."""
    day, clock = moments.draw_date(sampler, parameter, today, tool_name), moments.draw_clock(sampler)
    times = (clock, f"{clock}:00", f"{clock}:00Z", f"{clock}Z")
    forms = (day, *times, *(f"{day}{sign}{time}" for sign in "T " for time in times), day[:7], day.replace("-", ""))
    fitting = (one for one in forms if find_pattern(f"^(?:{pattern})$", one))
    return next(fitting, "") or draw_pattern(sampler, pattern)


def draw_pattern(sampler: Sampler, pattern: str) -> str:
    """A short string of a pattern's form, of letters, digits and common signs where there is one; "" where ``rstr``,
    which reads patterns as Python does, finds none."""
    generator = rstr.Rstr(sampler.rng)
    short = "".join(_shorten(token[0]) for token in TOKEN.finditer(pattern))
    found = ""
    with suppress(ToolError, re.error, ValueError, OverflowError):
        compile_pattern(pattern)  # whose size is measured
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
    return "pattern" not in schema or find_pattern(schema["pattern"], text)


def _fit_length(text: str, schema: Mapping[str, Any]) -> str:
    """The text, cut or filled to the length that is asked for; not where it has a form."""
    if "pattern" in schema:
        return text
    least, most = min(schema.get("minLength", 0), LONGEST), schema.get("maxLength", len(text))
    return (text * (1 + least // max(len(text), 1)) if len(text) < least else text)[: max(most, least)].strip()
