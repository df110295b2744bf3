"""What a pass over many intervals is made of: pieces of windows, a row's entries, and those it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from harness.inference import KVCache


@dataclass(frozen=True)
class Known:
    """Entries of a window that need not be computed.

    Attributes
    ----------
    count
        How many there are.
    layer
        Keys and values ``[2, kv_heads, count, head_dim]`` of a layer, at the positions they get.
    """

    count: int
    layer: Callable[[int], Tensor]

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True)
class Piece:
    """Raw tokens of one window that are read in one pass, or the entries they are known to leave.

    Attributes
    ----------
    row
        Whose they are.
    ids, seen
        Token ids to read (none where `known`); and those of the whole window, if it closes.
    offset
        Their place among the row's new tokens.
    begin, base
        Entries the row holds before them, and those of them that are memory once the window closes.
    ratio
        By which the window closes; None: it stays open.
    beacons
        Entries that are then computed to stand for it; 0 where what is there stays.
    known
        Entries that take the place of reading `ids`.
    """

    row: int
    ids: Sequence[int]
    seen: Sequence[int]
    offset: int
    begin: int
    base: int
    ratio: int | None
    beacons: int
    known: Known | None = None

    @property
    def end(self) -> int:
        """Entries the row holds after them, before a window closes."""
        return self.begin + len(self.ids if self.known is None else self.known)

    @property
    def size(self) -> int:
        """Tokens by which passes are filled: raw ones, or beacons where those are all that is computed."""
        return len(self.ids) if self.known is None else self.beacons


class Store:
    """The entries of one row while it is read: memory and open raw entries in front, written in place.

    Parameters
    ----------
    begun
        The row's cache; it is copied.
    room
        Most entries there will be at any time.
    """

    def __init__(self, begun: KVCache, room: int) -> None:
        self.begun, self.room = begun, room
        self.layers: dict[int, Tensor] = {}

    def layer(self, index: int, like: Tensor) -> Tensor:
        """Keys and values of a layer ``[2, kv_heads, room, head_dim]``; `like` is a key or value ``[…, head_dim]``."""
        if index not in self.layers:
            made = like.new_empty(2, like.shape[1], self.room, like.shape[3])
            if held := len(self.begun):
                made[0, :, :held], made[1, :, :held] = self.begun.keys[index], self.begun.values[index]
            self.layers[index] = made
        return self.layers[index]

    def cache(self, held: int) -> KVCache:
        """The first entries, as a cache of their own size."""
        kept = [self.layers[i][:, :, :held].clone() for i in sorted(self.layers)]
        return KVCache(tuple(both[0] for both in kept), tuple(both[1] for both in kept))


class Kept:
    """Raw entries of one row's windows, which its cache loses as they are condensed: for each layer, in order.

    They are parts of what the pass computed: keeping them copies nothing. A token takes as many bytes as it would in
    the cache of the whole text.
    """

    def __init__(self) -> None:
        self._layers: dict[int, list[Tensor]] = {}

    def add(self, layer: int, entries: Tensor) -> None:
        """One more window ``[2, kv_heads, entries, head_dim]``; the first one has the sinks before it."""
        self._layers.setdefault(layer, []).append(entries)

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(self._layers[0]) if self._layers else 0

    def window(self, number: int, interval: int, layer: int) -> Tensor:
        """Keys and values ``[2, kv_heads, interval, head_dim]``, keys at the positions of the pass that kept them."""
        return self._layers[layer][number][:, :, -interval:]

    def first(self, entries: int) -> KVCache:
        """So many first entries of the row: its sinks."""
        if not entries:
            return KVCache()
        found = [self._layers[i][0][:, :, :entries] for i in sorted(self._layers)]
        return KVCache(tuple(both[0] for both in found), tuple(both[1] for both in found))
