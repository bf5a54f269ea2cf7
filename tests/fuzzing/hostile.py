"""What other programs and people may write: sound documents, damaged in one to three places."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

MARK = "\ue000{}\ue001"
"""Stands in a document for what no Python value becomes in JSON."""
RAW = (
    *("null", "true", "[]", "{}", '""', "0", "-1", "1.5", "1e308", "9007199254740993", '"x"', '[""]', '{"": {}}'),
    *("NaN", "-Infinity", "1e999", "9" * 5_000, "-" + "9" * 5_000),
    *("[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000, "[" * 900 + "]" * 900),
    *('"\\ud800"', '"\\u0000"', '"a\\nb"', '"\\u202e"', '"' + "x" * 100_000 + '"', '"../../x"', '"{{ 1/0 }}"', "", "{"),
)
"""JSON, and text that is nearly JSON."""
Path = tuple[Any, ...]


def list_paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of all values in a document, the whole first."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from list_paths(part, (*path, key))


@st.composite
def documents(draw: st.DrawFn, sound: Any) -> str:
    """The JSON of a document in which something was replaced, taken out, renamed, or stands there twice."""
    raw: list[str] = []
    value = json.loads(json.dumps(sound))
    for _ in range(draw(st.integers(1, 3))):
        value = _damage(draw, value, raw)
    text = json.dumps(value, ensure_ascii=False)
    for number, part in enumerate(raw):
        text = text.replace(json.dumps(MARK.format(number), ensure_ascii=False), part)
    return text


def _damage(draw: st.DrawFn, value: Any, raw: list[str]) -> Any:
    *above, last = draw(st.sampled_from([(None, *path) for path in list_paths(value)]))
    raw.append(draw(st.sampled_from(RAW)))
    new, whole = MARK.format(len(raw) - 1), {None: value}
    inside: Any = whole
    for key in above:
        inside = inside[key]
    kind = draw(st.sampled_from(("replace", "replace", "wrap", "remove", "rename")))
    if kind == "wrap":
        inside[last] = [inside[last]]
    elif kind == "remove" and above:
        del inside[last]
    elif kind == "rename" and above and isinstance(inside, dict):
        inside[draw(st.sampled_from(("", "x", "$ref", "a\nb", "type")))] = inside.pop(last)
    else:
        inside[last] = new
    return whole[None]


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """Bytes, some of which were changed, cut off, put in, or repeated; more often at the beginning, in headers."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        end = max(1, min(len(data), draw(st.sampled_from((16, 256, len(data))))))
        at, length = draw(st.integers(0, end - 1)), draw(st.sampled_from((1, 4, 8, 64)))
        kind = draw(st.sampled_from(("change", "cut", "put in", "repeat", "remove")))
        if kind == "change":
            data[at : at + length] = draw(st.sampled_from((b"\xff", b"\0", b"\x7f", b"9", b'"'))) * length
        elif kind == "cut":
            del data[at:]
        elif kind == "put in":
            data[at:at] = draw(st.binary(max_size=16))
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        else:
            del data[at : at + length]
        data = data or bytearray(b"\0")
    return bytes(data)
