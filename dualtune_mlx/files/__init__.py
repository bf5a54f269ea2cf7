"""Files: users' own are read as UTF-8 and strict JSON, ours are written whole or not at all."""

from dualtune_mlx.files.leftovers import remove_leftovers
from dualtune_mlx.files.locks import lock_folder, try_lock_folder
from dualtune_mlx.files.reading import load_json, parse_json, read_text, require_file
from dualtune_mlx.files.writing import (
    NO_ROOM,
    atomic_file,
    atomic_files,
    atomic_folder,
    remove_folder,
    require_no_links,
    require_writable,
    whole_folder,
    write_error,
    write_json,
    write_text,
)

__all__ = [
    "NO_ROOM",
    "atomic_file",
    "atomic_files",
    "atomic_folder",
    "load_json",
    "lock_folder",
    "parse_json",
    "read_text",
    "remove_folder",
    "remove_leftovers",
    "require_file",
    "require_no_links",
    "require_writable",
    "try_lock_folder",
    "whole_folder",
    "write_error",
    "write_json",
    "write_text",
]
