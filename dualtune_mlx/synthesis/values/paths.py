"""Slots for paths: files, folders, media, lists of files, and glob patterns."""

from __future__ import annotations

from collections.abc import Callable

from dualtune_mlx.synthesis.values.sampling import Draw, Slot, copied


def _stem(draw: Draw) -> str:
    """One to three words joined as people join them: snake, kebab, camelCase, PascalCase, dots."""
    words = [draw.word("nouns", "tech", "adjectives", "verbs") for _ in range(draw.rng.choice((1, 1, 1, 2, 2, 2, 3)))]
    if draw.chance(0.06):
        words[0] = draw.invented()
    style = draw.rng.choice(("_", "-", "_", "-", "_", "-", "camel", "Pascal", "."))
    if style == "camel":
        return words[0] + "".join(word.capitalize() for word in words[1:])
    if style == "Pascal":
        return "".join(word.capitalize() for word in words)
    stem = style.join(words)
    return stem.upper() if draw.chance(0.04) else stem


def _stamp(draw: Draw) -> str:
    """A part that carries digits: a date, a version, a number."""
    year, month, day = draw.rng.randint(2018, 2029), f"{draw.rng.randint(1, 12):02}", f"{draw.rng.randint(1, 28):02}"
    dates = (f"{year}-{month}-{day}", f"{year}{month}{day}", f"{year}")
    return draw.rng.choice((*dates, f"v{draw.digits(1, 9)}", draw.digits(1, 99)))


def _file_name(draw: Draw, extensions: str = "extensions") -> str:
    if extensions == "extensions" and draw.chance(0.06):
        return draw.word("special_files")
    stem = _stem(draw)
    if draw.chance(0.12):
        joint = draw.rng.choice("_-")
        stem = f"{_stamp(draw)}{joint}{stem}" if draw.chance(0.4) else f"{stem}{joint}{_stamp(draw)}"
    return f"{stem}.{draw.word(extensions)}"


def _folders(draw: Draw, depth: int) -> str:
    """``depth`` folder names, joined by slashes."""
    return "/".join(draw.word("folders") if draw.chance(0.75) else _folder_name(draw) for _ in range(depth))


def _folder_name(draw: Draw) -> str:
    name = f"{_stem(draw)}-{_stamp(draw)}" if draw.chance(0.08) else _stem(draw)
    return name.capitalize() if draw.chance(0.1) else name


def _root(draw: Draw) -> str:
    """Mostly nothing; sometimes an explicit start such as ``./`` or a home directory."""
    if draw.chance(0.88):
        return ""
    home = f"/home/{draw.word('first_names').lower()}/"
    return draw.rng.choice(("./", "./", "../", "~/", "/tmp/", "/srv/", "/var/log/", home))


def _relative_path(draw: Draw, extensions: str = "extensions") -> str:
    depth = draw.rng.choice((0, 0, 0, 1, 1, 1, 2, 2))
    name = _file_name(draw, extensions)
    return f"{_folders(draw, depth)}/{name}" if depth else name


def _file_path(draw: Draw, extensions: str = "extensions") -> str:
    return _root(draw) + _relative_path(draw, extensions)


def _folder_path(draw: Draw) -> str:
    path = _root(draw) + _folders(draw, draw.rng.choice((1, 1, 1, 2, 2, 3)))
    return path + "/" if draw.chance(0.15) else path


def file(draw: Draw) -> Slot:
    return copied(_file_path(draw))


def tracked(draw: Draw) -> Slot:
    """A file as git names it: relative to the root of the repository."""
    return copied(_relative_path(draw))


def media(draw: Draw) -> Slot:
    """A path of an image or a sound."""
    return copied(_file_path(draw, "media_extensions"))


def image(draw: Draw) -> Slot:
    return copied(_file_path(draw, "image_extensions"))


def audio(draw: Draw) -> Slot:
    return copied(_file_path(draw, "audio_extensions"))


def folder(draw: Draw) -> Slot:
    return copied(_folder_path(draw))


def path(draw: Draw) -> Slot:
    """A file or a folder."""
    return file(draw) if draw.chance(0.7) else folder(draw)


def destination(draw: Draw) -> Slot:
    """Where ``{file}`` goes: its own name in another folder, a new name in its folder, or both new."""
    head, _, name = str(draw.slots["file"].value).rpartition("/")
    kind = draw.rng.choice(("moved", "renamed", "both"))
    if kind == "moved":
        return copied(f"{_folders(draw, draw.rng.randint(1, 2))}/{name}")
    if kind == "renamed":
        return copied(f"{head}/{_file_name(draw)}" if head else _file_name(draw))
    return copied(_file_path(draw))


def joined(draw: Draw, items: list[str]) -> Slot:
    """Items as a person enumerates them."""
    last = draw.rng.choice((" and ", " and ", ", ", " ", " & " if len(items) == 2 else ", and "))
    inner = " " if last == " " else ", "
    return Slot(inner.join(items[:-1]) + last + items[-1] if len(items) > 1 else items[0], items)


def _several(draw: Draw, one: Callable[[Draw], str]) -> Slot:
    """Two to four different items."""
    wanted = draw.rng.choice((2, 2, 2, 2, 3, 3, 4))
    found: dict[str, None] = {}
    while len(found) < wanted:
        found[one(draw)] = None
    return joined(draw, list(found))


def files(draw: Draw) -> Slot:
    return _several(draw, _file_path)


def tracked_files(draw: Draw) -> Slot:
    return _several(draw, _relative_path)


def _glob(draw: Draw) -> str:
    extension, stem = draw.word("extensions"), _stem(draw)
    part = stem[: draw.rng.randint(3, 8)].rstrip("._-")
    return draw.rng.choice(
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
            f"{draw.word('folders')}/**/*.{extension}",
            f"*-{_stamp(draw)}.{extension}",
        )
    )


def glob(draw: Draw) -> Slot:
    """One glob pattern."""
    return copied(_glob(draw))


def _excluded(draw: Draw) -> str:
    if draw.chance(0.4):
        return _glob(draw)
    return draw.word("ignored") if draw.chance(0.5) else _folder_name(draw)


def excluded(draw: Draw) -> Slot:
    """One to three patterns to leave out."""
    found = dict.fromkeys(_excluded(draw) for _ in range(draw.rng.choice((1, 1, 2, 2, 3))))
    return joined(draw, list(found))
