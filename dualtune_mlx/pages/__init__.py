"""Pages: reports as single HTML files that need no script and no network."""

from dualtune_mlx.pages.rendering import mark_unseen, open_template

__all__ = ["mark_unseen", "open_template"]
