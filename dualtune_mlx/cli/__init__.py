"""The command ``dualtune``: parse, call, print; no logic."""

from dualtune_mlx.cli.main import main

__all__ = ["main"]
