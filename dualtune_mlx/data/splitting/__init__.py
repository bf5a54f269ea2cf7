"""Data divided into training, validation and test, so that what measures has wordings of its own."""

from dualtune_mlx.data.splitting.run import BY, Divided, split_data

__all__ = ["BY", "Divided", "split_data"]
