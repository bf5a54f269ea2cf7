"""Trajectory files: reading, checking, writing; the decisions in a trajectory."""

from dualtune_mlx.data.reading import SPLITS, read_split, read_tools, read_trajectories
from dualtune_mlx.data.writing import write_split, write_tools

__all__ = ["SPLITS", "read_split", "read_tools", "read_trajectories", "write_split", "write_tools"]
