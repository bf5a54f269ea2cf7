"""A cache for training: a batch over one shared prefix, with gradients through the new tokens only."""

from __future__ import annotations

import mlx.core as mx

KeysValues = tuple[mx.array, mx.array]
"""The keys and the values of one layer, each (rows, kv heads, tokens, width)."""


class BatchOverPrefix:
    """One layer's cache for a batch whose rows continue the same prefix, each after a context of its own.

    A forward pass appends its tokens for its own duration. They are placed directly behind each row's context.

    Args:
        prefix: keys and values (1, kv heads, p, width) that all rows share; None where p is 0.
        context: keys and values (rows, kv heads, c, width) that follow the prefix, padded on the right.
        lengths: how many of the c tokens belong to each row (rows,); needed with ``context``.
        keep: whether to keep the keys and values of the new tokens, for ``new_keys_values``.
    """

    def __init__(
        self,
        prefix: KeysValues | None,
        context: KeysValues | None = None,
        lengths: mx.array | None = None,
        keep: bool = False,
    ) -> None:
        self.parts = [part for part in (prefix, context) if part is not None]
        self.prefix_length = prefix[0].shape[2] if prefix else 0
        self.context_length = context[0].shape[2] if context else 0
        self.lengths = lengths if context else None
        self._keep = keep
        self._new: KeysValues | None = None

    @property
    def new_keys_values(self) -> KeysValues:
        """The keys and values (rows, kv heads, tokens, width) of the last forward pass's tokens."""
        assert self._new is not None, "no forward pass was made, or keep is False"
        return self._new

    @property
    def offset(self) -> mx.array | int:
        """The position of the first new token: one for each row (rows,), or one for all."""
        return self.prefix_length if self.lengths is None else self.prefix_length + self.lengths

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> KeysValues:
        """The keys and values that the new tokens look at: prefix, context, and their own."""
        if self._keep:
            self._new = keys, values
        return self._append(0, keys), self._append(1, values)

    def make_mask(self, length: int, return_array: bool = True, window_size: int | None = None) -> mx.array:
        """True where a new token (axis 2) may look: (rows or 1, 1, length, p + c + length)."""
        del return_array
        offset = mx.array(self.offset).reshape(-1, 1)
        new = offset + mx.arange(length)
        past = mx.arange(self.prefix_length + self.context_length)
        # The padding behind a row's context takes a position that no token can look at.
        padding = (past >= offset) & (past >= self.prefix_length)
        unseen = offset + length
        columns = mx.concatenate([mx.where(padding, unseen, past), new], axis=1)
        mask = columns[:, None] <= new[:, :, None]
        if window_size is not None:
            mask = mask & (columns[:, None] > new[:, :, None] - window_size)
        return mask[:, None]

    def _append(self, which: int, new: mx.array) -> mx.array:
        past = [mx.broadcast_to(p[which], (new.shape[0], *p[which].shape[1:])).astype(new.dtype) for p in self.parts]
        return mx.concatenate([*past, new], axis=2) if past else new
