"""Requests that none of the visible tools serves: small talk, questions of general knowledge, and near misses."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from dualtune_mlx.synthesis.phrasing.english import pluralize, singularize, with_article
from dualtune_mlx.synthesis.phrasing.names import split_name
from dualtune_mlx.synthesis.phrasing.slips import add_slips
from dualtune_mlx.synthesis.phrasing.tables import actions, read_table, synonyms, word_set
from dualtune_mlx.synthesis.phrasing.tool_sense import ToolSense
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import Tool


class Unserved:
    """Draws requests that no tool of these serves."""

    def __init__(self, tools: Sequence[Tool], senses: Mapping[str, ToolSense]) -> None:
        self._table = read_table("unserved")
        self._senses = senses
        words = [
            word
            for tool in tools
            for word in [*split_name(tool.name), *re.findall(r"\w+", tool.description[:300].lower())]
        ]
        self._words = {singularize(word) for word in words}
        self._open = not word_set("serve_anything").isdisjoint(word for tool in tools for word in split_name(tool.name))
        self._near = self._list_near()

    def _list_near(self) -> list[tuple[str, str]]:
        """Families and nouns of which no tool does the one to the other."""
        done: dict[str, set[str]] = {}
        for sense in self._senses.values():
            for thing in sense.things[:1]:
                done.setdefault(thing.noun, set()).update(sense.actions)
        related = {
            noun: {noun, noun.split()[-1], *synonyms().get(noun, ()), *synonyms().get(noun.split()[-1], ())}
            for noun in done
        }
        found = []
        for noun in done:
            doing = {family for other in done if related[other] & related[noun] for family in done[other]}
            free = [
                family
                for family in sorted(word_set("near_actions"))
                if family not in doing and not self._words & set(actions()[family].names)
            ]
            found += [(family, noun) for family in free] if doing.isdisjoint(word_set("any_action")) else []
        return found

    def draw(self, rng: random.Random) -> WordedRequest:
        """A request with the answer that there is no tool for it."""
        kind = rng.choice(("smalltalk", "general", "others", "near", "near", "others"))
        if kind == "general" and self._open:
            kind = "smalltalk"
        text, family = getattr(self, f"_draw_{kind}")(rng)
        return WordedRequest(_dress(text, rng), (), "generator", "none", family)

    def _draw_smalltalk(self, rng: random.Random) -> tuple[str, str]:
        return self._same(rng.choice(self._table["smalltalk"]), "smalltalk")

    def _draw_general(self, rng: random.Random) -> tuple[str, str]:
        return self._same(rng.choice(self._table["general"]), "general")

    def _same(self, text: str, kind: str) -> tuple[str, str]:
        return text, f"{kind}: {text}"

    def _draw_others(self, rng: random.Random) -> tuple[str, str]:
        listed = [one for one in self._table["others"].values() if self._words.isdisjoint(one["served"].split())]
        if not listed:
            return self._draw_smalltalk(rng)
        return self._same(rng.choice(rng.choice(listed)["requests"]), "others")

    def _draw_near(self, rng: random.Random) -> tuple[str, str]:
        nouns = [sense.things[0].noun for sense in self._senses.values()]
        if self._near and rng.random() < 0.6:
            family, noun = rng.choice(self._near)
            action = actions()[family]
            form = rng.choice(("say", "say", "ask", "need"))
            template = rng.choice(getattr(action, form))
            text = (
                template.replace("{o}", f"the {noun}")
                .replace("{ns}", pluralize(noun))
                .replace("{n}", noun)
                .replace("{in}", "")
            )
            mark = "?" if form == "ask" else "."
            return text[0].upper() + text[1:] + mark, f"near: {family}: {template}"
        noun = rng.choice(nouns)
        wish = rng.choice(self._table["near"]["wishes"])
        text = (
            wish.replace("{the}", f"the {noun}")
            .replace("{a}", with_article(noun))
            .replace("{all}", f"all {pluralize(noun)}")
        )
        return text.replace("{ns}", pluralize(noun)).replace("{n}", noun), f"near: {wish}"


def _dress(text: str, rng: random.Random) -> str:
    """The request in a style of its own, as those have that a tool serves."""
    frames, draw = read_table("frames"), rng.random()
    if draw < 0.15:
        return add_slips(text, (), rng)
    if draw < 0.3:
        return text[0].lower() + text[1:].rstrip(".")
    if draw < 0.55:
        before = rng.choice([one for one in frames["chatty_before"] if one[-1] in ".!?"])
        return f"{before} {text}"
    return f"{text} {rng.choice(frames['chatty_after'])}" if draw < 0.62 else text
