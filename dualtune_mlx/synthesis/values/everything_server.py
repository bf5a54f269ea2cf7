"""Slots for a server of samples: numbers to add, addresses and archives, cities with weather, topics, things to say."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from urllib.parse import quote

from dualtune_mlx.synthesis.values.paths import tracked
from dualtune_mlx.synthesis.values.sampling import Draw, Slot, copied


def _one_of(surfaces: Mapping[str, tuple[str, ...]]) -> Callable[[Draw], Slot]:
    """A slot for one of a few values, each as often, in the ways people write it."""

    def choice(draw: Draw) -> Slot:
        value = draw.rng.choice(tuple(surfaces))
        return Slot(draw.rng.choice(surfaces[value]), value)

    return choice


town = _one_of(
    {
        "New York": ("New York", "New York", "New York", "New York City", "NYC", "new york"),
        "Chicago": ("Chicago", "Chicago", "Chicago", "chicago"),
        "Los Angeles": ("Los Angeles", "Los Angeles", "Los Angeles", "LA", "los angeles"),
    }
)
severity = _one_of({kind: (kind, kind, kind, kind.upper()) for kind in ("error", "success", "debug")})
resource_kind = _one_of({"Text": ("text", "text", "Text", "plain text"), "Blob": ("blob", "blob", "Blob", "binary")})


def _quantity(draw: Draw, most: int) -> float:
    if draw.chance(0.3):
        return draw.rng.randint(1, 9999) / draw.rng.choice((10, 100))
    return draw.rng.randint(0, most)


def quantity(draw: Draw) -> Slot:
    """A price, a distance, a count: whole or with one or two decimals, never negative."""
    value = _quantity(draw, draw.rng.choice((20, 100, 1000)))
    return Slot(str(value), value)


def term(draw: Draw) -> Slot:
    """Any number to add, large ones and now and then a negative one among them."""
    value = _quantity(draw, draw.rng.choice((20, 100, 1000, 10_000, 1_000_000)))
    value = -value if draw.chance(0.15) else value
    return Slot(str(value), value)


def url(draw: Draw) -> Slot:
    """The address of a file or a page on the web."""
    name = draw.invented() if draw.chance(0.4) else draw.word("nouns", "tech", "adjectives")
    if draw.chance(0.4):
        name += f"-{draw.word('nouns', 'tech')}"
    place = draw.rng.choice(("", "", "", "www.", "docs.", "cdn.", "files.")) + f"{name}.{draw.word('top_domains')}"
    if draw.chance(0.2):
        hosts = ("example.com", f"localhost:{draw.digits(3000, 9999)}", f"raw.githubusercontent.com/{name}/{name}/main")
        place = draw.rng.choice(hosts)
    scheme = "http" if draw.chance(0.15) else "https"
    query = f"?{draw.word('nouns')}={draw.digits(1, 999)}" if draw.chance(0.06) else ""
    return copied(f"{scheme}://{place}/{tracked(draw).surface}{query}")


def data_uri(draw: Draw) -> Slot:
    """A few words as a data URI, plain or in base64."""
    text = draw.phrase("name")
    if draw.chance(0.5):
        return copied(f"data:text/plain,{quote(text)}")
    kind = draw.rng.choice(("text/plain", "text/plain", "text/csv", "text/html", "application/json"))
    return copied(f"data:{kind};base64,{b64encode(text.encode()).decode()}")


def archive(draw: Draw) -> Slot:
    """The name of a gzip file, with or without the extension of what is in it."""
    name = tracked(draw).surface.rpartition("/")[2]
    stem = name.partition(".")[0] or draw.invented()
    return copied(draw.rng.choice((f"{name}.gz", f"{name}.gz", f"{stem}.gz", f"{stem}.gz", f"{stem}.gzip")))


def saying(draw: Draw) -> Slot:
    """Something to be said again: mostly prose, sometimes a name, a value or a line of code."""
    kinds = ("sentence", "sentence", "sentence", "saying", "saying", "saying", "name", "code", "data")
    return copied(draw.phrase(draw.rng.choice(kinds)))


def theme(draw: Draw) -> Slot:
    """What someone would like to know more about."""
    return copied(draw.phrase("theme"))
