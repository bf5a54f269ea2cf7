"""A cache for training: a batch over one shared prefix, with gradients through the new tokens only."""

from __future__ import annotations

import mlx.core as mx


class BatchOverPrefix:
    """One layer's cache for a batch whose rows continue the same prefix, each after a context of its own.

    Keys and values so far: ``prefix`` (1, kv heads, prefix, width), shared, then ``context``
    (batch, kv heads, context, width), left-padded by ``padding`` tokens a row. A forward pass appends
    its tokens for its own duration; nothing is kept.
    """

    def __init__(
        self,
        prefix: tuple[mx.array, mx.array] | None,
        context: tuple[mx.array, mx.array] | None,
        padding: mx.array,
        offset: mx.array | int,
    ) -> None:
        self.parts = [part for part in (prefix, context) if part is not None]
        self.padding = padding
        self.prefix_length = prefix[0].shape[2] if prefix else 0
        self.offset = offset
        self.appended: tuple[mx.array, mx.array] | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.appended = keys, values
        return self._joined(0, keys), self._joined(1, values)

    def make_mask(self, length: int, return_array: bool = True, window_size: int | None = None) -> mx.array:
        """True where a row's new token (axis 2) may look: (batch or 1, 1, length, total)."""
        del return_array, window_size
        past = sum(part[0].shape[2] for part in self.parts)
        columns = mx.arange(past + length)
        mask = columns[None, :] <= mx.arange(past, past + length)[:, None]
        hidden = (columns >= self.prefix_length) & (columns < self.prefix_length + self.padding[:, None])
        # A padding token still sees itself: a row that sees nothing would be NaN, and 0 * NaN is NaN.
        itself = columns[None, :] == mx.arange(past, past + length)[:, None]
        return mask[None, None] & (~hidden[:, None, None] | itself)

    def _joined(self, which: int, new: mx.array) -> mx.array:
        past = [mx.broadcast_to(p[which], (new.shape[0], *p[which].shape[1:])).astype(new.dtype) for p in self.parts]
        return mx.concatenate([*past, new], axis=2) if past else new
