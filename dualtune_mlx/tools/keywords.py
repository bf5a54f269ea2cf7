"""Where a schema's keywords have schemas, and where data."""

DATA = frozenset(("enum", "const", "default", "examples"))
"""Keywords whose values are no schemas: a ``$ref`` in them refers to nothing."""
NAMED = frozenset(("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"))
"""Keywords whose values are schemas by names, which may be those of keywords."""
