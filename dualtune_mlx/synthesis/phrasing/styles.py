"""What stands around a request in its style: courtesies, small talk, punctuation."""

from __future__ import annotations

import random
import re
from dataclasses import replace

from dualtune_mlx.synthesis.phrasing.cores import Core
from dualtune_mlx.synthesis.phrasing.english import capitalize
from dualtune_mlx.synthesis.phrasing.tables import read_table

FORMS = {
    "imperative": ("say",),
    "question": ("ask", "ask", "ask", "say"),
    "terse": ("note", "note", "say"),
    "polite": ("say", "say", "ask", "need"),
    "indirect": ("need", "need", "need", "say"),
    "chatty": ("say", "ask", "need", "need", "note"),
}
"""How requests of a style ask, each as often as it stands here."""
WORD_FIRST = re.compile(r"(?!I\b)[A-Z][a-z]*\b(?!\.\w)")
"""A capital letter that is there because a sentence begins."""


def dress(core: Core, style: str, rng: random.Random) -> str:
    """The request in its style, with what stands before it."""
    if core.front and style == "chatty":
        core = replace(core, text=core.front + core.text, front="")
    text = _dress(core, style, rng)
    if not core.front:
        return text
    text = core.front + _lower_first(text)
    return text if style == "terse" else capitalize(text)


def _dress(core: Core, style: str, rng: random.Random) -> str:
    frames = read_table("frames")
    if style == "terse":
        return _shorten(core.text, rng)
    if style == "chatty":
        return _chat(core, rng)
    if style == "polite":
        return _frame(rng.choice(frames["polite_orders" if core.form == "say" else "polite_others"]), core)
    if style == "question" and core.form == "say":
        for_me = re.search(r"\b(me|us)\b", core.text)
        return _frame(rng.choice([one for one in frames["question_orders"] if not (for_me and " we " in one)]), core)
    if style == "indirect" and core.form == "say":
        mine = not re.search(r"\b(me|you)\b", core.text) and rng.random() < 0.6
        return _frame(rng.choice(frames["my_orders" if mine else "indirect_orders"]), core)
    return end_sentence(core, rng.choice((".", ".", ".", "", "!")))


def _shorten(text: str, rng: random.Random) -> str:
    frames, draw = read_table("frames"), rng.random()
    if draw < 0.15:
        text = f"{text} {rng.choice(frames['terse_after'])}"
    elif draw < 0.22:
        text = f"{rng.choice(frames['terse_before'])} {text}"
    return capitalize(text) if rng.random() < 0.25 else text


def _chat(core: Core, rng: random.Random) -> str:
    frames = read_table("frames")
    body = end_sentence(core, ".")
    after = rng.choice(frames["chatty_after"]) if rng.random() < 0.4 else ""
    if after and rng.random() < 0.25:
        return f"{body} {after}"
    before = rng.choice(frames["chatty_before"])
    body = body if before[-1] in ".!?" else _lower_first(body)
    return f"{before} {body} {after}".rstrip()


def _frame(frame: str, core: Core) -> str:
    if core.text[-1] in ".?!":
        frame = re.sub(r"(?<=\{[xc]\})[.?!]", "", frame)
    text = frame.replace("{x}", core.text).replace("{c}", core.text)
    return capitalize(text if text[-1] in ".?!" else text + ("?" if core.form == "ask" else "."))


def end_sentence(core: Core, mark: str) -> str:
    """The words with a capital letter and a mark at the end; a question's mark is its own."""
    mark = "" if core.text[-1] in ".?!" else "?" if core.form == "ask" else mark
    return capitalize(core.text) + mark


def _lower_first(text: str) -> str:
    return text[0].lower() + text[1:] if WORD_FIRST.match(text) else text
