"""KV caches: keys and values that all stages share, in memory and on disk, and caches for batches."""

from dualtune_mlx.kv.batch import BatchOverPrefix, KeysValues
from dualtune_mlx.kv.prefix import PrefixCache
from dualtune_mlx.kv.snapshot import Snapshot
from dualtune_mlx.kv.store import PREFIX_FOLDER, PrefixFile, PrefixStore, PrefixWarning, kv_fingerprint
from dualtune_mlx.kv.tree import TokenTree, TreeNode, TreePaths

__all__ = [
    "PREFIX_FOLDER",
    "BatchOverPrefix",
    "KeysValues",
    "PrefixCache",
    "PrefixFile",
    "PrefixStore",
    "PrefixWarning",
    "Snapshot",
    "TokenTree",
    "TreeNode",
    "TreePaths",
    "kv_fingerprint",
]
