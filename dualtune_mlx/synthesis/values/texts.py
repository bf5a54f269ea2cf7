"""Slots for text: file contents, old and new text of an edit, commit messages."""

from __future__ import annotations

import re

from dualtune_mlx.synthesis.values.sampling import WORDS, Sampler
from dualtune_mlx.synthesis.values.slot import Slot


def _kind(sampler: Sampler) -> str:
    """The kind of text that suits the file in the same wording."""
    path = sampler.slots.get("file") or sampler.slots.get("tracked")
    extension = str(path.value).rpartition(".")[2] if path else ""
    if sampler.chance(0.25):
        return sampler.rng.choice(("sentence", "code", "data"))
    if extension in WORDS["code_extensions"]:
        return "code"
    return "data" if extension in WORDS["data_extensions"] else "sentence"


def content(sampler: Sampler) -> Slot:
    """The text of a file: mostly one line, sometimes two sentences or a short list."""
    kind = _kind(sampler)
    text = sampler.phrase(kind)
    if kind == "sentence" and sampler.chance(0.2):
        text = f"{text} {sampler.phrase(kind)}"
    return Slot.verbatim(sampler.phrase("list") if sampler.chance(0.06) else text)


def note(sampler: Sampler) -> Slot:
    """A sentence to write down."""
    return Slot.verbatim(sampler.phrase("sentence"))


def insight(sampler: Sampler) -> Slot:
    """A finding about a business."""
    return Slot.verbatim(sampler.phrase("insight"))


def message(sampler: Sampler) -> Slot:
    """A commit message."""
    text = sampler.phrase("commit")
    if sampler.chance(0.3):
        text = text[0].upper() + text[1:]
    return Slot.verbatim(f"{text} and {sampler.phrase('commit').lower()}" if sampler.chance(0.1) else text)


def old(sampler: Sampler) -> Slot:
    """A text to replace: a word or two, a value, or a line."""
    if sampler.chance(0.35):
        return Slot.verbatim(sampler.phrase("name"))
    return Slot.verbatim(sampler.phrase(_kind(sampler)))


def new(sampler: Sampler) -> Slot:
    """The replacement of ``{old}``: a small change of it, or another text of the same size."""
    before = str(sampler.slots["old"].value)
    number = re.search(r"\d+", before)
    if number:
        return Slot.verbatim(before.replace(number[0], sampler.digits(0, 9999), 1))
    words = before.split(" ")
    if len(words) > 1 and sampler.chance(0.6):
        words[sampler.rng.randrange(len(words))] = sampler.word("nouns", "adjectives", "tech")
        return Slot.verbatim(" ".join(words))
    return Slot.verbatim(sampler.phrase(_kind(sampler)) if len(words) > 2 else sampler.phrase("name"))
