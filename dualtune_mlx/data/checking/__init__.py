"""The check of data: every line by itself, and all lines against each other."""

from dualtune_mlx.data.checking.check import CheckReport, check_data, find_files
from dualtune_mlx.data.checking.kinds import KINDS, Finding, Kind
from dualtune_mlx.data.checking.run import Length

__all__ = ["KINDS", "CheckReport", "Finding", "Kind", "Length", "check_data", "find_files"]
