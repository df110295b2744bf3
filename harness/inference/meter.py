"""Measurement: what the model was seen doing, independent of what a method says about itself.

While a method works, a hook on the model's forward pass notes how many KV entries each sequence holds and
how many bytes they occupy. What a method declares is held against that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..contracts.phases import PHASES, heard_by
from ..errors import NotFiniteError
from ..models import placement
from ..models.attention import shapes
from .memory import peaks, reset_peaks, wait
from .witness import Witness, witnessed

_current: ContextVar[Meter | None] = ContextVar("meter", default=None)


@dataclass(frozen=True)
class Rows:
    """Entries each row of a cache holds, the padding of shorter rows excluded; the device is asked only for `entries`.

    Attributes
    ----------
    length, batch
        Entries of the longest row, and rows.
    seen
        How many the mask lets each row's newest position see ``[batch | 1]``; None: all.
    minus
        How many of them are new tokens, which the mask covers and the cache does not hold yet.
    layers
        For each row the entries of each layer, where layers differ; None: they do not.
    """

    length: int
    batch: int
    seen: Any
    minus: int
    layers: tuple[tuple[int, ...], ...] | None = None

    @cached_property
    def entries(self) -> list[int]:
        """By how much a row is shorter than the longest one is what the mask says.

        It does not say more: entries that are merely hidden from every row take as much memory as any other, so they
        count.
        """
        if self.layers is not None:
            return [round(sum(row) / len(row)) for row in self.layers]
        if self.seen is None:
            return [self.length] * self.batch
        seen = [int(n) - self.minus for n in self.seen.expand(self.batch).tolist()]
        hidden = self.length - max(seen)
        return [n + hidden for n in seen]


@dataclass
class Meter:
    """What was observed during one call of a method.

    An answer begins before a forward pass of a single token: the first one of a ``decode`` phase, or, where
    a method marks none, any that follows a longer pass. A method that answers a batch one by one begins as
    often as there are samples.

    Attributes
    ----------
    device
        Where the model is, as torch writes it.
    batch
        Samples the method was given; None: as many as were seen.
    devices
        GPUs that the model is spread over; empty: `device`.
    seconds
        Wall-clock time of each of `PHASES`, nested phases counted once, for the innermost.
    forwards
        Forward passes of the base model.
    positions
        Token positions those passes computed, padding included: the work that was done.
    peak_bytes
        Peak memory of the device, or the sum of several, during the call (of the process, on a CPU); None if not to
        be had.
    witness
        What the passes read and would choose; None: nobody looked.
    """

    device: str = "cpu"
    batch: int | None = None
    devices: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    forwards: int = 0
    positions: int = 0
    peak_bytes: int | None = None
    witness: Witness | None = None
    _logits: Any = None
    _marked: list[tuple[Rows, int]] = field(default_factory=list)
    _unmarked: list[tuple[Rows, int]] = field(default_factory=list)
    _last: Rows | None = None
    _entered: bool = False
    _settled: bool = False
    _read: dict[bool, bool] = field(default_factory=lambda: {True: True, False: True})
    _stack: list[str] = field(default_factory=list)
    _since: float = 0.0

    @property
    def started(self) -> list[int] | None:
        """KV entries of each sample when its answer began; None if that was not seen of every sample."""
        return self._begun()[0]

    @property
    def by_layer(self) -> list[tuple[int, ...]] | None:
        """For each sample the entries of each layer when its answer began; None if layers do not differ."""
        begun = [rows.layers for rows, _ in self._marked or self._unmarked]
        found = [row for layers in begun if layers is not None for row in layers]
        return found if found and self.batch in (None, len(found)) and None not in begun else None

    @property
    def kv_bytes(self) -> int | None:
        """Bytes of the KV cache of the whole batch when its answers began; None if that was not seen."""
        return self._begun()[1]

    def _begun(self) -> tuple[list[int] | None, int | None]:
        begun = [(rows.entries, size) for rows, size in self._marked or self._unmarked]
        one_by_one = [entries for rows, _ in begun for entries in rows]
        if begun and self.batch in (None, len(one_by_one)):
            return one_by_one, sum(size for _, size in begun)
        if begun and len(begun[-1][0]) == self.batch:
            return begun[-1]
        if not begun and self.resident is not None and self.batch in (None, len(self.resident)):
            return self.resident, None  # an answer of one token: no pass followed the one that gave it
        return None, None

    @property
    def phase(self) -> str | None:
        """The innermost phase there is now; None outside of all."""
        return self._stack[-1] if self._stack else None

    def enter(self, name: str) -> None:
        """A phase begins; its time is booked on it alone, not on the phase it lies in."""
        self._switch()
        self._entered = self._entered or name == "decode"
        self._stack.append(name)

    def leave(self) -> None:
        """The innermost phase is over."""
        self._switch()
        self._stack.pop()

    def _switch(self) -> None:
        """Book the time since the last switch on the innermost phase."""
        wait(self.devices or (self.device,))
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def before(self, kwargs: dict[str, Any]) -> None:
        """Note the cache an answer begins from."""
        if self._settled:
            return
        if _width(kwargs) != 1:
            self._read = {True: True, False: True}
            return
        marked = bool(self._stack) and self._stack[-1] == "decode"
        # Not twice in a phase (reading may go on while answering), and not twice for one reading (a method
        # may mark each token). Unmarked passes do not count against marked ones: they may be probes.
        if not self._read[marked] or (marked and not self._entered):
            return
        self._read[marked] = False
        if marked:
            self._entered = False
        cache = kwargs.get("past_key_values")
        rows = _rows(kwargs, 0 if cache is None else _entries(cache), cache, minus=1)
        (self._marked if marked else self._unmarked).append((rows, _nbytes(cache)))

    @property
    def resident(self) -> list[int] | None:
        """KV entries of each row after the last forward pass (padding excluded); None if none was seen."""
        return None if self._last is None else self._last.entries

    def after(self, kwargs: dict[str, Any], output: Any) -> None:
        """Note what a forward pass left behind."""
        cache = kwargs.get("past_key_values")
        if cache is None:  # the model made one of its own
            cache = getattr(output, "past_key_values", None)
        self.forwards += 1
        self.positions += _width(kwargs) * _batch(kwargs)
        if cache is not None:
            self._last = _rows(kwargs, _entries(cache), cache, minus=0)

    def chosen(self, logits: Any) -> None:
        """Note logits that tokens may be chosen from; the device is asked only once, by `finite`."""
        import torch

        # A sum is not finite if any term is not, and sixteen bits would overflow where the terms do not.
        total = logits.detach().sum(dtype=torch.float32)
        self._logits = total if self._logits is None else self._logits + total

    @property
    def finite(self) -> bool:
        """Whether all logits seen so far were numbers."""
        return self._logits is None or bool(self._logits.isfinite())


def _tokens(kwargs: dict[str, Any]) -> Any:
    ids = kwargs.get("input_ids")
    return ids if ids is not None else kwargs["inputs_embeds"]


def _width(kwargs: dict[str, Any]) -> int:
    return int(_tokens(kwargs).shape[1])


def _batch(kwargs: dict[str, Any]) -> int:
    return int(_tokens(kwargs).shape[0])


def _rows(kwargs: dict[str, Any], length: int, cache: Any, *, minus: int) -> Rows:
    """What a pass's mask says of the rows of a cache of `length`; `minus` of what it covers are new tokens."""
    if (own := shapes()) is not None:
        layers = own.entries(int(cache.get_seq_length()))
        return Rows(length, len(layers), None, minus, tuple(map(tuple, layers)))
    held = tuple(_length(layer) for layer in getattr(cache, "layers", ()))
    fewer = bool(held) and held[0] < int(cache.get_seq_length())
    if (len(set(held)) > 1 or fewer) and _batch(
        kwargs
    ) == 1:  # a method that attends by a function of its own
        return Rows(length, 1, None, minus, (held,))
    mask = kwargs.get("attention_mask")
    ndim = getattr(mask, "ndim", 0)
    if mask is None or ndim not in (2, 4):
        return Rows(length, _batch(kwargs), None, minus)
    newest = mask[:, 0, -1] if ndim == 4 else mask  # the newest position's row; all heads see alike
    visible = newest > -1 if newest.dtype.is_floating_point else newest.bool()
    return Rows(length, _batch(kwargs), visible.sum(-1), minus)


def _entries(cache: Any) -> int:
    """KV entries a transformers cache holds of its longest row; their mean where layers hold different numbers."""
    layers = [_length(layer) for layer in getattr(cache, "layers", ())]
    return round(sum(layers) / len(layers)) if layers else int(cache.get_seq_length())


def _length(layer: Any) -> int:
    """Entries of a layer: ``held`` where its places run on although entries were dropped."""
    return int(layer.held if hasattr(layer, "held") else layer.get_seq_length())


def _nbytes(cache: Any) -> int:
    """Bytes of every tensor a transformers cache holds, in whatever form: quantised, with scales, in several parts."""
    return sum(_held(vars(layer)) for layer in getattr(cache, "layers", ()))


def _held(value: Any) -> int:
    """Bytes of the tensors in a value."""
    import torch

    if isinstance(value, torch.Tensor):
        if hasattr(value, "__tensor_flatten__"):  # a tensor made of others
            return sum(_held(getattr(value, name)) for name in value.__tensor_flatten__()[0])
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_held, value.values()))
    return sum(map(_held, value)) if isinstance(value, list | tuple) else 0


def settle() -> None:
    """Where answers begin is known now: what follows in this call repeats them (further continuations)."""
    meter = _current.get()
    if meter is not None:
        meter._settled = True


@contextmanager
def observe(network: Any, device: str, batch: int | None = None) -> Iterator[Meter]:
    """Watch every forward pass of `network`'s base model during the block; nothing is left behind.

    Parameters
    ----------
    network
        A `transformers` causal language model.
    device
        Where it is: decides which memory is measured.
    batch
        Samples the method is given, so that what is seen is never booked on another sample.

    Raises
    ------
    NotFiniteError
        At the end of the block, if the model gave logits that are no numbers: the token of the largest one
        means nothing, yet there always is one.
    """
    witness = Witness(network)
    devices = placement.devices(network, device)
    meter = Meter(device, batch, devices=devices, witness=witness)
    hooks = _watch(network, meter, witness)
    token = _current.set(meter)
    fresh = reset_peaks(devices)
    try:
        with heard_by(meter), witnessed(network, witness):
            yield meter
    finally:
        _current.reset(token)
        for hook in hooks:
            hook.remove()
        meter.peak_bytes = peaks(devices) if fresh else None
    if not meter.finite:
        raise NotFiniteError(
            "the model's logits are not finite (NaN or infinity), so no token can be chosen: weights or adapter "
            "hold such numbers, or a 16-bit type overflowed (try --dtype float32)"
        )


def _watch(network: Any, meter: Meter, witness: Witness) -> list[Any]:
    """Hooks on the base model and the head that tell meter and witness."""

    def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        named = _named(args, kwargs)
        witness.before(named)
        meter.before(named)

    def after(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        witness.after(output)
        meter.after(_named(args, kwargs), output)

    def ahead(module: Any, args: tuple[Any, ...], logits: Any) -> None:
        meter.chosen(logits)
        if not meter._settled:
            witness.chosen(args[0], logits)

    base, head = network.model, getattr(network, "lm_head", None)
    hooks = [
        base.register_forward_pre_hook(before, with_kwargs=True),
        base.register_forward_hook(after, with_kwargs=True),
    ]
    return hooks if head is None else [*hooks, head.register_forward_hook(ahead)]


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """A forward pass's arguments by name; token ids may come as the first positional one."""
    return {"input_ids": args[0], **kwargs} if args else kwargs
