"""KV caches: snapshots of a model's keys and values, shared by every stage and kept on disk."""

from dualtune_mlx.kv.batch import BatchOverPrefix
from dualtune_mlx.kv.prefix import PrefixCache
from dualtune_mlx.kv.snapshot import Snapshot
from dualtune_mlx.kv.store import PrefixStore, PrefixWarning, kv_fingerprint

__all__ = ["BatchOverPrefix", "PrefixCache", "PrefixStore", "PrefixWarning", "Snapshot", "kv_fingerprint"]
