"""The filter of near duplicates: requests that say nearly the same as one that was kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dualtune_mlx.errors import UsageError
from dualtune_mlx.synthesis.worded_requests import WordedRequest

if TYPE_CHECKING:
    from datasketch import MinHash

SHINGLE = 4
"""Characters of a shingle."""
CLOSEST = 0.8
"""The share of common shingles (Jaccard's) from which on two requests of the same calls are near duplicates."""
PERMUTATIONS = 128
"""Hash functions of a MinHash."""
CANDIDATE = 0.65
"""The share from which on the index is built to find a request; the exact share is counted then."""
_WORD = re.compile(r"[\w./:@#+-]*\w")


class NearDuplicates:
    """The requests that were kept, in an index of MinHashes.

    Raises:
        UsageError: when the package datasketch is not installed.
    """

    def __init__(self) -> None:
        try:
            from datasketch import MinHashLSH
        except ImportError as error:
            raise UsageError(
                "near duplicates cannot be found without the package datasketch",
                fix="pip install 'dualtune-mlx[synth]'",
            ) from error
        self._index = MinHashLSH(threshold=CANDIDATE, num_perm=PERMUTATIONS)
        self._kept: list[WordedRequest] = []

    def keep(self, request: WordedRequest) -> str:
        """Keep a request, unless it nearly is one that was kept.

        Returns:
            The words of that one, in a phrase; "" where the request is kept.
        """
        shingles = to_shingles(request.text)
        sketch = _sketch(shingles)
        for number in sorted(self._index.query(sketch)):
            other = self._kept[number]
            share = similarity(shingles, to_shingles(other.text))
            if share == 1 or (share >= CLOSEST and other.calls == request.calls):
                return f"{share:.0%} alike: {other.text!r}"
        self._index.insert(len(self._kept), sketch)
        self._kept.append(request)
        return ""


def to_shingles(text: str) -> frozenset[str]:
    """All runs of ``SHINGLE`` characters, without regard to case, punctuation and spaces."""
    plain = f" {' '.join(_WORD.findall(text.casefold()))} "
    return frozenset(plain[start : start + SHINGLE] for start in range(max(1, len(plain) - SHINGLE + 1)))


def similarity(some: frozenset[str], others: frozenset[str]) -> float:
    """The share of shingles that two texts have in common, 0 to 1 (Jaccard's)."""
    return len(some & others) / len(some | others)


def _sketch(shingles: frozenset[str]) -> MinHash:
    from datasketch import MinHash

    sketch = MinHash(PERMUTATIONS)
    sketch.update_batch([shingle.encode() for shingle in shingles])
    return sketch
