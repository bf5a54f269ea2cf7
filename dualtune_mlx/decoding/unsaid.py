"""Arguments that nobody said: strings that stand nowhere in the conversation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dualtune_mlx.decoding.places import list_types
from dualtune_mlx.decoding.spans import find_strings, is_span
from dualtune_mlx.tools import Message, Tool
from dualtune_mlx.tools.parameters import list_parameters

FORMS = frozenset(("format", "pattern"))


def find_unsaid(
    arguments: Mapping[str, Any], tool: Tool, messages: Sequence[Message], formed: bool = True
) -> tuple[str, ...]:
    """The paths of the strings that do not stand in the conversation word for word, but for the system message.

    A value that the tool's schema lists is left out: nobody needs to say it.

    Args:
        arguments: the arguments of a call.
        tool: the tool that is called.
        messages: the conversation before the call.
        formed: whether strings of which the schema asks a form, such as dates, are looked at too.

    Raises:
        ToolError: when the tool's schema is not a valid JSON Schema.
    """
    schemas: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for parameter in list_parameters(tool):
        schemas[parameter.path] += parameter.alternatives
    unsaid = (
        path
        for path, value in find_strings(arguments)
        if not is_span(value, messages)
        and not any(value in _listed(one) for one in schemas[path])
        and (formed or not _has_form(schemas[path]))
    )
    return tuple(dict.fromkeys(unsaid))


def _listed(schema: Mapping[str, Any]) -> Iterator[Any]:
    """The values that a schema lists."""
    yield from schema.get("enum", ())
    if "const" in schema:
        yield schema["const"]


def _has_form(schemas: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every string that is allowed has a form."""
    strings = [one for one in schemas if "string" in list_types(one)]
    return bool(strings) and not any(FORMS.isdisjoint(one) for one in strings)
