"""What a tool does, from its name and its description: an action and the thing it is done to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dualtune_mlx.synthesis.phrasing import descriptions
from dualtune_mlx.synthesis.phrasing.english import is_plural, singularize
from dualtune_mlx.synthesis.phrasing.names import readable, shared_prefix, split_name, tool_words
from dualtune_mlx.synthesis.phrasing.tables import families, synonyms, word_set
from dualtune_mlx.tools import Tool

ENDS = frozenset(("and", "or", "that", "which", "is", "are"))
"""Words behind a thing in descriptions."""
HTTP_VERBS = frozenset(["post", "put", "patch", "get"])


@dataclass(frozen=True)
class Thing:
    """What a tool acts on: a noun with the words before it."""

    words: tuple[str, ...]
    """Words in the singular, the noun last: ``table cell``."""
    plural: bool = False
    """Whether the tool means several."""

    @property
    def noun(self) -> str:
        """All words."""
        return " ".join(self.words)

    @property
    def head(self) -> str:
        """The noun itself."""
        return self.words[-1]


@dataclass(frozen=True)
class ToolSense:
    """What is understood of a tool."""

    actions: tuple[str, ...]
    """Families of actions, the likeliest first."""
    things: tuple[Thing, ...]
    """What it acts on, in the words of its name and of its description; the first is the name's."""
    verb: str = ""
    """The verb of its name, as it stands there; "" for none."""
    manner: str = ""
    """How, in words of the name: ``vertical``, ``after text``."""
    orders: tuple[str, ...] = ()
    """What it does, in the words of its description: ``add a footnote after text``."""
    topics: tuple[Thing, ...] = ()
    """What it is about, in words that its description lists: ``restaurant``."""
    name_words: frozenset[str] = frozenset()
    """The words of its name."""
    alone: bool = True
    """Whether no other tool does the same to anything: the action alone then says which tool is meant."""
    rivals: tuple[str, ...] = ()
    """Names of tools that do something alike to things alike."""


def understand(tools: Sequence[Tool]) -> dict[str, ToolSense]:
    """What each of the tools does, by name. Tools of one server are looked at together: their names share its name."""
    by_server: dict[str, list[Tool]] = {}
    for tool in tools:
        by_server.setdefault(tool.server, []).append(tool)
    senses: dict[str, ToolSense] = {}
    for group in by_server.values():
        prefix = shared_prefix([tool.name for tool in group])
        senses |= {tool.name: understand_tool(tool, prefix) for tool in group}
    often = Counter(sense.actions[0] for sense in senses.values())
    return {
        name: replace(sense, alone=often[sense.actions[0]] == 1, rivals=_rivals(name, sense, senses))
        for name, sense in senses.items()
    }


def understand_tool(tool: Tool, prefix: Sequence[str] = ()) -> ToolSense:
    """What one tool does; ``prefix`` are words of its name that say nothing."""
    words = tool_words(tool.name, prefix)
    found_actions, verb, rest = _find_actions(words)
    told = descriptions.orders(tool.description)
    told_action = [families()[told[0].split(" ", 1)[0]]] if told else []
    unsure = bool(verb) and " " not in verb and verb not in (words[0], words[-1])
    if not found_actions or unsure or (told_action and words[0] in HTTP_VERBS - {"get"}):
        found_actions = told_action + found_actions
    thing, manner = _parse_thing(rest)
    if thing and thing.plural and found_actions[:1] == ["read"]:
        found_actions = ["list", *found_actions]
    told_things = [one for one in (_described_thing(text.split(" ", 1)[1], verb) for text in told[:1]) if one]
    things = ([thing] if thing else []) + [one for one in told_things if one != thing]
    if thing and len(thing.words) > 1 and verb in words[1:-1]:  # jira_get_issue: what stands before is where
        things.insert(0, replace(thing, words=thing.words[1:]))
    fallback = Thing((readable(words),))
    return ToolSense(
        tuple(dict.fromkeys(found_actions)) or ("read",),
        tuple(things) or (fallback,),
        verb,
        manner,
        tuple(told),
        tuple(_thing(topic.split()) for topic in descriptions.listed_things(tool.description)),
        frozenset(split_name(tool.name)),
    )


def _find_actions(words: list[str]) -> tuple[list[str], str, list[str]]:
    """The families of the verbs of a name, its verb, and its other words.

    The verb stands first, else last, else anywhere.
    """
    known = families()
    middle = [at for at in (len(words) - 1, *range(1, len(words) - 1)) if words[at] not in word_set("nouns_too")]
    order = [0, *((1,) if len(words) > 2 else ()), *middle]
    place = next((at for at in order if words[at] in known), None)
    if place is None:
        return _find_searching(words)
    both = "-".join(words[place : place + 2])
    found = [known.get(both, known[words[place]])]
    particle = both in known and words[place + 1 : place + 2] != [] and words[place + 1] in word_set("particles")
    rest = words[:place] + words[place + 1 + particle :]
    if place == 0 and len(rest) > 1 and rest[0] in {"or", "and"} and rest[1] in known:
        second = known[rest[1]]
        found, rest = ([second] if rest[0] == "and" else [found[0], second]), rest[2:]
    verb = " ".join(words[place : place + 1 + particle])
    return found, "" if verb in HTTP_VERBS - {"get"} else verb, rest


def _find_searching(words: list[str]) -> tuple[list[str], str, list[str]]:
    """As ``_find_actions``, for a name without a verb: ``web_search`` is to search."""
    if words[-1] == "search":
        ways = word_set("ways_of_searching") - {"web"}
        return ["search"], "search", [word for word in words[:-1] if word not in ways]
    return [], "", words


def _parse_thing(words: list[str]) -> tuple[Thing | None, str]:
    """The thing that the words of a name begin with, and the manner that they end with."""
    at = next((n for n, word in enumerate(words) if word in word_set("prepositions")), len(words))
    noun, manner = words[:at], words[at:]
    while noun and noun[-1] in word_set("adverbs") | word_set("qualifiers"):
        manner = [noun[-1], *manner]
        noun = noun[:-1]
    while len(noun) > 1 and noun[0] in word_set("qualifiers") | word_set("articles"):
        noun = noun[1:]
    return (_thing(readable(noun).split()) if noun else None), readable(manner)


def _described_thing(text: str, verb: str) -> Thing | None:
    """The noun that a phrase begins with: ``element`` of "a click on an element" where the verb is to click."""
    words: list[str] = []
    for word in (one.strip(".,;:'\"/") for one in text.replace("'s ", " ").split()):
        small = word.lower()
        empty = not words or words == verb.split()[-1:] or (small == "of" and words[-1] in word_set("amounts"))
        if small in word_set("prepositions") and empty:
            words = []
        elif small in word_set("prepositions") | ENDS or (words and small.endswith("ed")):
            break
        elif words or small not in word_set("articles") | word_set("qualifiers"):
            words.append(word)
    sound = words and all(word[:1].isalpha() for word in words) and not words[-1].endswith("ed")
    return _thing(words) if sound and len(words) <= 4 else None


def _thing(words: Sequence[str]) -> Thing:
    return Thing(tuple(singularize(word) for word in words), is_plural(words[-1].lower()))


def same_thing(one: Thing, other: Thing) -> bool:
    """Whether two things can go by one word."""
    heads = {one.head, *synonyms().get(one.head, ())}
    return not heads.isdisjoint((other.head, *synonyms().get(other.head, ())))


def _rivals(name: str, sense: ToolSense, senses: Mapping[str, ToolSense]) -> tuple[str, ...]:
    return tuple(
        other for other, theirs in senses.items() if other != name and same_thing(sense.things[0], theirs.things[0])
    )
