"""Slots for paths: files, folders, media, lists of files, and glob patterns."""

from __future__ import annotations

from collections.abc import Callable

from dualtune_mlx.synthesis.values.sampling import Sampler
from dualtune_mlx.synthesis.values.slot import Slot


def _stem(sampler: Sampler) -> str:
    """One to three words joined as people join them: snake, kebab, camelCase, PascalCase, dots."""
    count = sampler.rng.choice((1, 1, 1, 2, 2, 2, 3))
    words = [sampler.word("nouns", "tech", "adjectives", "verbs") for _ in range(count)]
    if sampler.chance(0.06):
        words[0] = sampler.invent()
    style = sampler.rng.choice(("_", "-", "_", "-", "_", "-", "camel", "Pascal", "."))
    if style == "camel":
        return words[0] + "".join(word.capitalize() for word in words[1:])
    if style == "Pascal":
        return "".join(word.capitalize() for word in words)
    stem = style.join(words)
    return stem.upper() if sampler.chance(0.04) else stem


def _stamp(sampler: Sampler) -> str:
    """A part of a name with digits: a date, a version or a number."""
    year, month, day = (
        sampler.rng.randint(2018, 2029),
        f"{sampler.rng.randint(1, 12):02}",
        f"{sampler.rng.randint(1, 28):02}",
    )
    dates = (f"{year}-{month}-{day}", f"{year}{month}{day}", f"{year}")
    return sampler.rng.choice((*dates, f"v{sampler.digits(1, 9)}", sampler.digits(1, 99)))


def _file_name(sampler: Sampler, extensions: str = "extensions") -> str:
    if extensions == "extensions" and sampler.chance(0.06):
        return sampler.word("special_files")
    stem = _stem(sampler)
    if sampler.chance(0.12):
        separator = sampler.rng.choice("_-")
        stem = f"{_stamp(sampler)}{separator}{stem}" if sampler.chance(0.4) else f"{stem}{separator}{_stamp(sampler)}"
    return f"{stem}.{sampler.word(extensions)}"


def _folders(sampler: Sampler, depth: int) -> str:
    """``depth`` folder names, joined by slashes."""
    return "/".join(sampler.word("folders") if sampler.chance(0.75) else _folder_name(sampler) for _ in range(depth))


def _folder_name(sampler: Sampler) -> str:
    name = f"{_stem(sampler)}-{_stamp(sampler)}" if sampler.chance(0.08) else _stem(sampler)
    return name.capitalize() if sampler.chance(0.1) else name


def _root(sampler: Sampler) -> str:
    """Mostly nothing; sometimes an explicit start such as ``./`` or a home directory."""
    if sampler.chance(0.88):
        return ""
    home = f"/home/{sampler.word('first_names').lower()}/"
    return sampler.rng.choice(("./", "./", "../", "~/", "/tmp/", "/srv/", "/var/log/", home))


def _relative_path(sampler: Sampler, extensions: str = "extensions") -> str:
    depth = sampler.rng.choice((0, 0, 0, 1, 1, 1, 2, 2))
    name = _file_name(sampler, extensions)
    return f"{_folders(sampler, depth)}/{name}" if depth else name


def _file_path(sampler: Sampler, extensions: str = "extensions") -> str:
    return _root(sampler) + _relative_path(sampler, extensions)


def _folder_path(sampler: Sampler) -> str:
    path = _root(sampler) + _folders(sampler, sampler.rng.choice((1, 1, 1, 2, 2, 3)))
    return path + "/" if sampler.chance(0.15) else path


def file(sampler: Sampler) -> Slot:
    return Slot.verbatim(_file_path(sampler))


def tracked(sampler: Sampler) -> Slot:
    """The path of a file in a repository, relative to its root."""
    return Slot.verbatim(_relative_path(sampler))


def media(sampler: Sampler) -> Slot:
    """The path of an image or a sound file."""
    return Slot.verbatim(_file_path(sampler, "media_extensions"))


def image(sampler: Sampler) -> Slot:
    return Slot.verbatim(_file_path(sampler, "image_extensions"))


def audio(sampler: Sampler) -> Slot:
    return Slot.verbatim(_file_path(sampler, "audio_extensions"))


def folder(sampler: Sampler) -> Slot:
    return Slot.verbatim(_folder_path(sampler))


def path(sampler: Sampler) -> Slot:
    """A file or a folder."""
    return file(sampler) if sampler.chance(0.7) else folder(sampler)


def destination(sampler: Sampler) -> Slot:
    """The new path of ``{file}``: another folder, another name, or both."""
    head, _, name = str(sampler.slots["file"].value).rpartition("/")
    kind = sampler.rng.choice(("moved", "renamed", "both"))
    if kind == "moved":
        return Slot.verbatim(f"{_folders(sampler, sampler.rng.randint(1, 2))}/{name}")
    if kind == "renamed":
        return Slot.verbatim(f"{head}/{_file_name(sampler)}" if head else _file_name(sampler))
    return Slot.verbatim(_file_path(sampler))


def enumeration(sampler: Sampler, items: list[str]) -> Slot:
    """A list of items, written as people enumerate them."""
    last = sampler.rng.choice((" and ", " and ", ", ", " ", " & " if len(items) == 2 else ", and "))
    inner = " " if last == " " else ", "
    return Slot(inner.join(items[:-1]) + last + items[-1] if len(items) > 1 else items[0], items)


def _several(sampler: Sampler, one: Callable[[Sampler], str]) -> Slot:
    """An enumeration of two to four different items."""
    wanted = sampler.rng.choice((2, 2, 2, 2, 3, 3, 4))
    found: dict[str, None] = {}
    while len(found) < wanted:
        found[one(sampler)] = None
    return enumeration(sampler, list(found))


def files(sampler: Sampler) -> Slot:
    return _several(sampler, _file_path)


def tracked_files(sampler: Sampler) -> Slot:
    return _several(sampler, _relative_path)


def _glob(sampler: Sampler) -> str:
    extension, stem = sampler.word("extensions"), _stem(sampler)
    part = stem[: sampler.rng.randint(3, 8)].rstrip("._-")
    return sampler.rng.choice(
        (
            f"*.{extension}",
            f"**/*.{extension}",
            f"{part}*",
            f"*{part}*",
            f"**/{stem}.{extension}",
            f"*_{stem}.{extension}",
            f"**/{stem}*.{extension}",
            f"{stem}.*",
            f"**/*.test.{extension}",
            f"{sampler.word('folders')}/**/*.{extension}",
            f"*-{_stamp(sampler)}.{extension}",
        )
    )


def glob(sampler: Sampler) -> Slot:
    """One glob pattern."""
    return Slot.verbatim(_glob(sampler))


def _excluded(sampler: Sampler) -> str:
    if sampler.chance(0.4):
        return _glob(sampler)
    return sampler.word("ignored") if sampler.chance(0.5) else _folder_name(sampler)


def excluded(sampler: Sampler) -> Slot:
    """One to three patterns of files to leave out."""
    found = dict.fromkeys(_excluded(sampler) for _ in range(sampler.rng.choice((1, 1, 2, 2, 3))))
    return enumeration(sampler, list(found))
