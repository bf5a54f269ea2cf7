"""An extension of griffe, which reads the package for the pages of Python without importing it.

It puts a folder that lies beside the package where it is imported from. It describes the fields whose help is in their
metadata, in a table, and shows their defaults.
"""

from __future__ import annotations

from dataclasses import fields
from pkgutil import resolve_name

import griffe

PACKAGE, BESIDE = "dualtune_mlx", "conversion"
NAMED_AS_THEIR_MODULE = ("conversion.peft.from_peft", "conversion.peft.to_peft")
"""Functions that a package imports from modules of the same names; griffe takes the modules."""
WITH_HELP = ("decoding.options.Decoding", "training.options.TrainOptions")
"""The classes whose fields have their help in their metadata."""


class Package(griffe.Extension):
    """Completes what griffe has read of the package."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: object) -> None:
        """Called by griffe with each package that it has read."""
        if pkg.path == PACKAGE:
            pkg.set_member(BESIDE, loader.load(BESIDE))
            for path in NAMED_AS_THEIR_MODULE:
                name, parent = pkg[path].name, pkg[path].parent
                parent.members[name] = griffe.Alias(name, pkg[path][name], parent=parent)
            for path in WITH_HELP:
                describe(pkg[path])


def describe(cls: griffe.Class) -> None:
    """Add the help of a dataclass's fields to its docstring, and their defaults to its signature."""
    assert cls.docstring is not None
    rows = []
    for field in fields(resolve_name(cls.path)):
        cls[field.name].value = repr(field.default)
        rows.append(f"    {field.name}: {field.metadata['help']}")
    cls.docstring.value += "\n\nAttributes:\n" + "\n".join(rows)
