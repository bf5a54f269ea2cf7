"""Values that nobody needs to say."""

from __future__ import annotations

from typing import Any

from dualtune_mlx.synthesis.conversions.conversion import Conversion
from dualtune_mlx.synthesis.descriptions import find_default, list_choices
from dualtune_mlx.tools.parameters import Parameter


def is_default(parameter: Parameter, value: Any) -> bool:
    """Whether a value is null, empty, or what the parameter is without being said."""
    schemas = (parameter.schema, *parameter.alternatives)
    given = [one["default"] for one in schemas if "default" in one]
    if value in (None, "", [], {}) or any(one == value and type(one) is type(value) for one in given):
        return True
    return not given and str(value).lower() == find_default(parameter).lower() and not isinstance(value, dict | list)


def is_only_choice(parameter: Parameter, value: Any) -> bool:
    """Whether a parameter may have no other value."""
    return list_choices(parameter) == (value,)


UNSAID = Conversion(
    "unsaid",
    lambda leaf: (),
    recognize=lambda leaf, _: is_default(leaf.parameter, leaf.value) or is_only_choice(leaf.parameter, leaf.value),
)
"""What is so without being said."""
