"""Slots for text: file contents, old and new text of an edit, commit messages."""

from __future__ import annotations

import re

from dualtune_mlx.synthesis.values.sampling import WORDS, Draw, Slot, copied


def _kind(draw: Draw) -> str:
    """The kind of text that suits the example's file."""
    path = draw.slots.get("file") or draw.slots.get("tracked")
    extension = str(path.value).rpartition(".")[2] if path else ""
    if draw.chance(0.25):
        return draw.rng.choice(("sentence", "code", "data"))
    if extension in WORDS["code_extensions"]:
        return "code"
    return "data" if extension in WORDS["data_extensions"] else "sentence"


def content(draw: Draw) -> Slot:
    """The text of a file: mostly one line, sometimes two sentences or a short list."""
    kind = _kind(draw)
    text = draw.phrase(kind)
    if kind == "sentence" and draw.chance(0.2):
        text = f"{text} {draw.phrase(kind)}"
    return copied(draw.phrase("list") if draw.chance(0.06) else text)


def note(draw: Draw) -> Slot:
    """Prose that someone would jot down."""
    return copied(draw.phrase("sentence"))


def insight(draw: Draw) -> Slot:
    """A finding about a business."""
    return copied(draw.phrase("insight"))


def message(draw: Draw) -> Slot:
    """A commit message."""
    text = draw.phrase("commit")
    if draw.chance(0.3):
        text = text[0].upper() + text[1:]
    return copied(f"{text} and {draw.phrase('commit').lower()}" if draw.chance(0.1) else text)


def old(draw: Draw) -> Slot:
    """Text to be replaced: a word or two, a value, or a line."""
    if draw.chance(0.35):
        return copied(draw.phrase("name"))
    return copied(draw.phrase(_kind(draw)))


def new(draw: Draw) -> Slot:
    """The replacement of ``{old}``: a small change of it, or something of the same size."""
    before = str(draw.slots["old"].value)
    number = re.search(r"\d+", before)
    if number:
        return copied(before.replace(number[0], draw.digits(0, 9999), 1))
    words = before.split(" ")
    if len(words) > 1 and draw.chance(0.6):
        words[draw.rng.randrange(len(words))] = draw.word("nouns", "adjectives", "tech")
        return copied(" ".join(words))
    return copied(draw.phrase(_kind(draw)) if len(words) > 2 else draw.phrase("name"))
