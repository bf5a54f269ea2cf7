"""Data of other programs as data files of ours."""

from dualtune_mlx.data.importing.run import FORMATS, Imported, import_data, recognize

__all__ = ["FORMATS", "Imported", "import_data", "recognize"]
