"""A cache layer that new tokens are written into, where transformers' own copies all entries for each of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer

ROOM = 128
"""New tokens for which room is made at once."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """`DynamicLayer` with room behind its entries. Nothing learns from what is written: there are no gradients.

    What `update` returned stays as it was, unless the layer was cropped since: only places behind it are written to.
    """

    @classmethod
    def of(cls, layer: DynamicLayer) -> GrowingLayer:
        """A layer of the same entries, which it shares until it is extended."""
        made = cls()
        made.__dict__.update(layer.__dict__)
        return made

    def __init__(self) -> None:
        super().__init__()
        self._rooms: dict[str, Tensor] = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """All keys and values ``[batch, kv_heads, entries, head_dim]``, with those of new tokens last."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._with("keys", key_states)
        self.values = self._with("values", value_states)
        return self.keys, self.values

    def _with(self, side: str, new: Tensor) -> Tensor:
        held, room = getattr(self, side), self._rooms.get(side)
        before, after = (held.shape[2] if held.ndim == 4 else 0), new.shape[2]
        after += before
        if room is None or held.data_ptr() != room.data_ptr() or room[:, :, :before].shape != held.shape:
            room = None  # what is held was put there by others
        if room is None or room.shape[2] < after:
            room = self._rooms[side] = new.new_empty(*new.shape[:2], after + ROOM, new.shape[3])
            if before:
                room[:, :, :before] = held
        room[:, :, before:after] = new
        return room[:, :, :after]
