"""KV caches: base-model snapshots shared by every stage."""

from dualtune_mlx.kv.batch import BatchOverPrefix
from dualtune_mlx.kv.prefix import PrefixCache
from dualtune_mlx.kv.snapshot import Snapshot

__all__ = ["BatchOverPrefix", "PrefixCache", "Snapshot"]
