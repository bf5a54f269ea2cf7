"""Values that nobody needs to say."""

from __future__ import annotations

from typing import Any

from dualtune_mlx.synthesis.conversions.conversion import Conversion
from dualtune_mlx.synthesis.descriptions import list_choices
from dualtune_mlx.tools.parameters import Parameter


def is_default(parameter: Parameter, value: Any) -> bool:
    """Whether a value is null, empty, or what the parameter is without being said."""
    schemas = (parameter.schema, *parameter.alternatives)
    return value in (None, "", [], {}) or any(
        "default" in one and one["default"] == value and type(one["default"]) is type(value) for one in schemas
    )


def is_only_choice(parameter: Parameter, value: Any) -> bool:
    """Whether a parameter may have no other value."""
    return list_choices(parameter) == (value,)


UNSAID = Conversion(
    "unsaid",
    lambda leaf: (),
    recognize=lambda leaf, _: is_default(leaf.parameter, leaf.value) or is_only_choice(leaf.parameter, leaf.value),
)
"""What is so without being said."""
