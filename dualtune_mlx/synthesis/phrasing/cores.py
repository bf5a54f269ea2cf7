"""What is asked for, in words: an action, its object, and the arguments; without what stands around it in a style."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dualtune_mlx.synthesis.phrasing.calculations import find_calculation, word_calculation
from dualtune_mlx.synthesis.phrasing.clauses import (
    Roles,
    fill,
    join_clauses,
    say_manner,
    say_object,
    say_part,
    say_rest,
    share_out,
)
from dualtune_mlx.synthesis.phrasing.english import mend_articles, participle, pluralize, with_article
from dualtune_mlx.synthesis.phrasing.parts import Part
from dualtune_mlx.synthesis.phrasing.tables import (
    Action,
    actions,
    families,
    find_idioms,
    read_table,
    synonyms,
    value_ways,
)
from dualtune_mlx.synthesis.phrasing.tool_sense import Thing, ToolSense

IDIOM_SHARE = 0.45
"""The share of what people say for this action on this thing, where there is such a thing."""
VALUE_SHARE = 0.35
"""The share of what people say with a value in one phrase with the object, where there is such a value."""
VALUES = tuple(read_table("words")["main_values"].split())
"""Kinds of parameters, those that count most first."""
CALCULATION_SHARE = 0.85
"""The share of what people say for a calculation, where the tool is one."""
OWN_SHARE = 0.6
"""The share of templates of the action's own, beside those that any verb fits into."""
PLAIN_SHARE = 0.5
"""How often a verb that is to be chosen is the one of the tool's name."""
DESCRIBED_SHARE = 0.2
"""The share of orders in the words of the tool's description."""
DIRECT_SHARE = 0.45
"""How often a value is itself the object, where the action allows it."""

TOPIC_SHARE = 0.2
"""How often a request is about one of the topics that the description lists."""
GAP = re.compile(r"\{\w+\}")
ABOUT = frozenset(("read", "list", "search", "query", "check"))
"""Actions that ask for what a description lists."""


@dataclass(frozen=True)
class Core:
    """What is asked for, without what stands around it."""

    text: str
    template: str
    """What it is made from."""
    form: str
    """How it asks: ``say``, ``ask``, ``need``, ``note`` or ``shell``."""
    front: str = ""
    """What stands before the whole request: ``in x.docx, ``."""


@dataclass(frozen=True)
class Wish:
    """What the words are chosen for."""

    action: Action
    verb: str
    """The verb to use."""
    thing: Thing
    noun: str
    """What the thing is called."""
    roles: Roles
    short: bool
    """Whether few words are wanted."""
    owner: str = ""
    """What the thing is a part of, where it is a topic of the tool and not what the tool acts on."""

    @property
    def plural(self) -> str:
        """What several of the thing are called."""
        return pluralize(self.noun)


def word_core(parts: Sequence[Part], sense: ToolSense, form: str, rng: random.Random) -> Core:
    """The words for what is to be done and with what.

    Args:
        parts: the arguments of the call.
        sense: what is understood of its tool.
        form: ``say`` for an order, ``ask`` for a question, ``need`` for a statement, ``note`` for a few words.
        rng: draws the words.
    """
    if (ways := find_calculation(sense.name_words, parts, form)) and rng.random() < CALCULATION_SHARE:
        text, way = word_calculation(ways, parts, rng)
        return Core(text, f"calculation: {way}", form)
    action, verb = _pick_action(parts, sense, rng)
    if form == "say" and sense.orders and not verb and rng.random() < DESCRIBED_SHARE:
        return _describe(parts, sense, rng)
    thing = _pick_thing(action, sense, rng)
    roles = share_out(parts, thing, action.object)
    template = _pick_template(action, thing, roles, sense, form, rng)
    plain = sense.verb if families().get(sense.verb) == action.family and rng.random() < PLAIN_SHARE else ""
    wish = Wish(
        action,
        verb or plain or rng.choice(action.verbs),
        thing,
        name_thing(thing, sense, rng),
        roles,
        short=form == "note",
        owner=sense.things[0].noun if thing in sense.topics else "",
    )
    text, front = _fill(template.removesuffix("?"), wish, sense, rng)
    return Core(text, f"{action.family}: {template}", "ask" if template.endswith("?") else form, front)


def _pick_thing(action: Action, sense: ToolSense, rng: random.Random) -> Thing:
    if sense.topics and action.family in ABOUT and rng.random() < TOPIC_SHARE:
        return rng.choice(sense.topics)
    return sense.things[0] if rng.random() < 0.6 else rng.choice(sense.things)


def _pick_template(action: Action, thing: Thing, roles: Roles, sense: ToolSense, form: str, rng: random.Random) -> str:
    ways = value_ways().get((action.family, form), ())
    if not sense.alone:  # the object has to be named
        ways = tuple(way for way in ways if re.search(r"\{(o|ns?)\}", way))
    if ways and _main_value(roles.rest) and rng.random() < VALUE_SHARE:
        return rng.choice(ways)
    found = find_idioms(action.family, thing.head, form)
    if found and rng.random() < IDIOM_SHARE:
        return rng.choice(found)
    own: tuple[str, ...] = getattr(action, form)
    return rng.choice(own if rng.random() < OWN_SHARE else read_table("frames")["any_verb"][form])


def _main_value(rest: Sequence[Part]) -> Part | None:
    """The value that counts most of those that say neither which object nor where."""
    known = [part for part in rest if part.kind.name in VALUES and not isinstance(part.value, list | dict)]
    return min(known, key=lambda part: VALUES.index(part.kind.name), default=None)


def _pick_action(parts: Sequence[Part], sense: ToolSense, rng: random.Random) -> tuple[Action, str]:
    """The family of actions, and the verb where an argument says it."""
    for part in parts:
        first = part.words.split(" ", 1)[0].lower()
        if part.kind.role == "mode" and first in families():
            return actions()[families()[first]], first
    return actions()[sense.actions[0] if rng.random() < 0.7 else rng.choice(sense.actions)], ""


def name_thing(thing: Thing, sense: ToolSense, rng: random.Random) -> str:
    """A noun for the thing: its own, or another word for it."""
    draw = rng.random()
    if draw < 0.4 and thing.noun in synonyms():
        return rng.choice(synonyms()[thing.noun])
    if draw < 0.35 and thing.head in synonyms():
        return " ".join([*thing.words[:-1], rng.choice(synonyms()[thing.head])])
    if draw > 0.85 and not sense.rivals:
        return thing.head
    if draw > 0.75 and len(thing.words) == 2 and not thing.plural and thing.noun.islower():
        return f"{thing.head} of the {thing.words[0]}"
    return thing.noun


def _fill(template: str, wish: Wish, sense: ToolSense, rng: random.Random) -> tuple[str, str]:
    """The template with the object and all arguments, and what stands before it."""
    main = _main_value(wish.roles.rest) if "{v}" in template else None
    wish = replace(wish, roles=replace(wish.roles, rest=tuple(part for part in wish.roles.rest if part is not main)))
    before, rest = _put_before(wish.roles.rest, rng)
    if before:
        wish = replace(wish, noun=f"{before} {wish.noun}")
    manner, said = _pick_manner(sense, wish.roles, rng)
    rest = [part for part in rest if part is not said]
    front, where = _say_places([part for part in wish.roles.places if part is not said], wish.short, rng)
    if wish.owner and wish.roles.ids:
        where = f" of {say_object(wish.owner, wish.roles.ids, rng)}{where}"
        wish = replace(wish, roles=replace(wish.roles, ids=()))
    if "{o}" in template:
        chosen, rest = _say_wished(wish, rest, rng)
    else:
        chosen, rest = "", [*wish.roles.ids, *rest]
    if "{in}" not in template:
        template = template.replace("{o}", "{o}{in}") if "{o}" in template else template + "{in}"
    words = {"{ns}": wish.plural, "{n}": wish.noun, "{verb}": wish.verb, "{done}": participle(wish.verb)}
    values = {"{in}": where, "{o}": chosen, "{v}": main.quoted(rng) if main else ""}
    text = GAP.sub(lambda gap: values[gap[0]], mend_articles(GAP.sub(lambda gap: words.get(gap[0], gap[0]), template)))
    return text + (f" {manner}" if manner else "") + join_clauses(say_rest(rest, rng, wish.short), rng), front


def _put_before(rest: Sequence[Part], rng: random.Random) -> tuple[str, list[Part]]:
    """What stands before the noun, such as a state (``open`` issues), and the parts that are left."""
    for part in rest:
        if part.kind.before and re.fullmatch(r"[a-z]+|\d+", part.words) and rng.random() < 0.4:
            return fill(rng.choice(part.kind.before), part, rng), [other for other in rest if other is not part]
    return "", list(rest)


def _pick_manner(sense: ToolSense, roles: Roles, rng: random.Random) -> tuple[str, Part | None]:
    """The manner of the tool's name in words, and the part that it says; now and then nothing."""
    if not sense.manner or rng.random() < 0.15:
        return "", None
    manner, said = say_manner(sense.manner, [*roles.ids, *roles.rest, *roles.places], rng)
    return ("", None) if said in roles.ids else (manner, said)


def _say_places(places: Sequence[Part], short: bool, rng: random.Random) -> tuple[str, str]:
    """What says where: before the whole request, and behind the object; one of the two is empty."""
    said = [say_part(part, rng, short) for part in places]
    if said and rng.random() < (0.4 if short else 0.2):
        front = re.sub("^(of|the) ", "in ", join_clauses(said, rng).strip(" :,"))
        return front + (": " if short else ", "), ""
    return "", join_clauses(said, rng)


def _say_wished(wish: Wish, rest: list[Part], rng: random.Random) -> tuple[str, list[Part]]:
    """The object in the form that the action wants, and the parts that it does not say."""
    direct = next((part for part in rest if part.kind.name in wish.action.direct), None)
    if direct and rng.random() < DIRECT_SHARE:
        return direct.quoted(rng), [*wish.roles.ids, *(part for part in rest if part is not direct)]
    if wish.action.object == "many":
        ways = ("all {ns}", "the {ns}", "the {ns}", "{ns}", "all the {ns}", "every {n}", "our {ns}")
        way = "{ns}" if wish.short else rng.choice(ways)
        return way.replace("{ns}", wish.plural).replace("{n}", wish.noun), rest
    if wish.action.object == "one":
        noun = wish.plural if wish.thing.plural else wish.noun
        return say_object(noun, wish.roles.ids, rng, the=not wish.short), rest
    noun = wish.plural if wish.thing.plural else rng.choice((wish.noun, wish.noun, f"new {wish.noun}"))
    noun = noun if wish.short else with_article(noun)
    named = next((part for part in rest if part.kind.name in ("title", "content", "name")), None)
    if named and len(named.words) < 60 and rng.random() < 0.35:
        return f"{noun} {named.quoted(rng)}", [part for part in rest if part is not named]
    return noun, rest


def _describe(parts: Sequence[Part], sense: ToolSense, rng: random.Random) -> Core:
    """An order in words of the description: its "a paragraph" is "paragraph 4" where an argument says which."""
    order = rng.choice(sense.orders)
    text, left = order, list(parts)
    for part in parts:
        noun = re.escape(part.short_label.lower()) if part.kind.name != "path" else r"(?:[A-Z]\w+ )?(?:file|document)"
        if found := re.search(rf"\b(?:an?|the|this|its) (?P<noun>{noun})\b", text):
            text = text[: found.start()] + found["noun"] + " " + part.words + text[found.end() :]
            left.remove(part)
    text += join_clauses(say_rest(left, rng), rng)
    return Core(text, f"described: {order}", "say")
