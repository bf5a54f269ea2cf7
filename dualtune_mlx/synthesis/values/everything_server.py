"""Slots for MCP's sample server ``everything``: numbers, URLs, archives, cities with weather, topics, sayings."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from urllib.parse import quote

from dualtune_mlx.synthesis.values.paths import tracked
from dualtune_mlx.synthesis.values.sampling import Sampler
from dualtune_mlx.synthesis.values.slot import Slot


def _one_of(surfaces: Mapping[str, tuple[str, ...]]) -> Callable[[Sampler], Slot]:
    """A slot for one of a few values, all equally likely; ``surfaces`` are the ways people write each value."""

    def choice(sampler: Sampler) -> Slot:
        value = sampler.rng.choice(tuple(surfaces))
        return Slot(sampler.rng.choice(surfaces[value]), value)

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


def _quantity(sampler: Sampler, most: int) -> float:
    if sampler.chance(0.3):
        return sampler.rng.randint(1, 9999) / sampler.rng.choice((10, 100))
    return sampler.rng.randint(0, most)


def quantity(sampler: Sampler) -> Slot:
    """A price, a distance or a count: whole, or with one or two decimals; never negative."""
    value = _quantity(sampler, sampler.rng.choice((20, 100, 1000)))
    return Slot(str(value), value)


def term(sampler: Sampler) -> Slot:
    """A number to add: small or large, sometimes negative."""
    value = _quantity(sampler, sampler.rng.choice((20, 100, 1000, 10_000, 1_000_000)))
    value = -value if sampler.chance(0.15) else value
    return Slot(str(value), value)


def url(sampler: Sampler) -> Slot:
    """The address of a file or a page on the web."""
    name = sampler.invent() if sampler.chance(0.4) else sampler.word("nouns", "tech", "adjectives")
    if sampler.chance(0.4):
        name += f"-{sampler.word('nouns', 'tech')}"
    host = sampler.rng.choice(("", "", "", "www.", "docs.", "cdn.", "files.")) + name
    host += f".{sampler.word('top_domains')}"
    if sampler.chance(0.2):
        local, raw = f"localhost:{sampler.digits(3000, 9999)}", f"raw.githubusercontent.com/{name}/{name}/main"
        host = sampler.rng.choice(("example.com", local, raw))
    scheme = "http" if sampler.chance(0.15) else "https"
    query = f"?{sampler.word('nouns')}={sampler.digits(1, 999)}" if sampler.chance(0.06) else ""
    return Slot.verbatim(f"{scheme}://{host}/{tracked(sampler).surface}{query}")


def data_uri(sampler: Sampler) -> Slot:
    """A few words as a data URI, plain or in base64."""
    text = sampler.phrase("name")
    if sampler.chance(0.5):
        return Slot.verbatim(f"data:text/plain,{quote(text)}")
    kind = sampler.rng.choice(("text/plain", "text/plain", "text/csv", "text/html", "application/json"))
    return Slot.verbatim(f"data:{kind};base64,{b64encode(text.encode()).decode()}")


def archive(sampler: Sampler) -> Slot:
    """The name of a gzip file, with or without the extension of the file inside."""
    name = tracked(sampler).surface.rpartition("/")[2]
    stem = name.partition(".")[0] or sampler.invent()
    return Slot.verbatim(sampler.rng.choice((f"{name}.gz", f"{name}.gz", f"{stem}.gz", f"{stem}.gz", f"{stem}.gzip")))


def saying(sampler: Sampler) -> Slot:
    """A text to echo: mostly prose, sometimes a name, a value or a line of code."""
    kinds = ("sentence", "sentence", "sentence", "saying", "saying", "saying", "name", "code", "data")
    return Slot.verbatim(sampler.phrase(sampler.rng.choice(kinds)))


def theme(sampler: Sampler) -> Slot:
    """A subject for a piece of research."""
    return Slot.verbatim(sampler.phrase("theme"))
