"""What a method's forward passes read and what tokens they would choose, noted where it happens.

Three places are watched: the base model (which tokens a pass is fed), every layer's attention (how many keys it
reads, whatever a cache says of itself), and the head (which tokens have the largest logits). Nothing waits for the
device: what is noted stays there until `Witness.steps` is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..models import attention
from .closed_pass import ClosedPasses, hanging, modules_of
from .tensors import lists, version, visible

if TYPE_CHECKING:
    from torch import Tensor

TOP = 8
"""Tokens of the largest logits that are kept: the choice, what ties with it, and end tokens that were not allowed."""


@dataclass
class _Pass:
    """A forward pass of the base model.

    Attributes
    ----------
    fed
        The last token id of each row ``[batch]``; None: embeddings, or nothing that can be read.
    width, batch
        Positions and rows of it.
    reads
        For each layer the keys it attended to, and which of `masks` hid some of them (-1: none).
    masks
        For each distinct mask: keys each row's last position sees ``[batch | 1]``, and the last one any row sees.
    hidden, version
        What it gave, and how often that was written to; dropped once another pass begins.
    hooked
        Whether hooks or functions hung on the model that were not there when the watch began.
    """

    fed: Any
    width: int
    batch: int
    hooked: bool
    reads: dict[int, tuple[int, int]] = field(default_factory=dict)
    masks: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    known: list[Tensor] = field(default_factory=list)
    hidden: Any = None
    version: int = 0


@dataclass(frozen=True)
class Step:
    """One row of one time the head was asked: what it would choose, and from what.

    Attributes
    ----------
    fed
        The token its pass was fed last; None: not known.
    width
        Tokens of that pass.
    entries
        KV entries the pass read besides its own tokens, the mean of all layers; None if attention was not seen.
    tied
        Whether the head was given what the pass before it gave.
    hooked
        Whether something hung on the model meanwhile.
    tokens, logits
        The `TOP` likeliest tokens.
    row, batch
        Which row of its pass it is of (None: not known), and how many rows that had.
    """

    fed: int | None
    width: int
    entries: int | None
    tied: bool
    hooked: bool
    tokens: list[int]
    logits: list[float]
    row: int | None = None
    batch: int = 0


class Witness:
    """Notes the passes of one call of a method.

    Parameters
    ----------
    network
        A `transformers` causal language model, or anything with a ``model``.
    """

    def __init__(self, network: Any) -> None:
        self._heads: list[tuple[_Pass | None, Any, Any, Any, int | None]] = []
        self._now: _Pass | None = None
        modules = modules_of(network)
        self._own = {id(module) for module in modules}
        self._states = [vars(module) for module in modules]
        self._hung = 0
        self._closed = ClosedPasses(getattr(network, "config", None), modules)
        self._everywhere: Any = None
        self._foreign: dict[str, None] = {}
        self._layers = _attending(network)

    @property
    def foreign(self) -> list[str]:
        """Classes of modules with parameters that ran and are no part of the model."""
        return list(self._foreign)

    def begin(self) -> None:
        """What hangs on the model from now on was not there before."""
        self._hung = hanging(self._states)

    def listen(self, on: bool) -> None:
        """Hear of every module that runs, or no longer."""
        from torch.nn.modules.module import register_module_forward_pre_hook

        if on and self._everywhere is None:
            self._everywhere = register_module_forward_pre_hook(lambda module, args: self.ran(module))
        elif not on and self._everywhere is not None:
            self._everywhere.remove()
            self._everywhere = None

    def before(self, kwargs: dict[str, Any]) -> None:
        """A pass of the base model begins."""
        ids = kwargs.get("input_ids")
        given = kwargs.get("inputs_embeds") if ids is None else ids
        shape = getattr(given, "shape", None)
        if shape is None or len(shape) < 2:
            return
        self.forget()
        width, batch = int(shape[1]), int(shape[0])
        hooked = hanging(self._states) != self._hung
        # A copy: what a method hands over it may change afterwards.
        self._now = _Pass(None if ids is None else ids[:, -1].clone(), width, batch, hooked)
        if not hooked and self._closed.closed(kwargs):
            self.listen(False)  # until the pass is over

    def attended(self, layer: int, key: Tensor, mask: Tensor | None) -> None:
        """A layer attends to `key`."""
        now = self._now
        if now is None:
            return
        place = -1
        if mask is not None and mask.ndim == 4:
            place = next((i for i, known in enumerate(now.known) if known is mask), -1)
            if place < 0:
                now.known.append(mask)
                now.masks.append(visible(mask))
                place = len(now.masks) - 1
        keys = key.shape[2]
        if layer in now.reads:  # whoever attends twice in a layer reads both
            keys, place = keys + now.reads[layer][0], -1
        now.reads[layer] = (keys, place)

    def after(self, output: Any) -> None:
        """The pass is over."""
        if self._now is not None:
            self._now.known.clear()
            self._now.hidden = getattr(output, "last_hidden_state", None)
            self._now.version = version(self._now.hidden)

    def forget(self) -> None:
        """Let go of hidden states: only the newest pass's are needed, and only while a call lasts."""
        if self._now is not None:
            self._now.hidden = None

    def chosen(self, given: Any, logits: Tensor) -> None:
        """The head was asked, for `given` hidden states."""
        last = logits.detach()
        last = last[:, -1] if last.ndim == 3 else last.reshape(-1, last.shape[-1])
        values, tokens = last.topk(min(TOP, last.shape[-1]))
        self._heads.append((self._now, _tied(self._now, given), tokens, values, _row(self._now, given)))

    def ran(self, module: Any) -> None:
        """Any module at all runs; here only those count that are no part of the model."""
        if id(module) in self._own:
            return
        if any(True for _ in module.parameters(recurse=False)):
            self._foreign[type(module).__name__] = None

    @cached_property
    def steps(self) -> list[list[Step]]:
        """For each time the head was asked its rows. Asks the device for what was noted, all at once."""
        tokens = lists([tokens for _, _, tokens, _, _ in self._heads])
        values = lists([values.float() for _, _, _, values, _ in self._heads])
        passes = list({id(p): p for p, *_ in self._heads if p is not None}.values())
        fed = dict(zip(map(id, passes), lists([p.fed for p in passes])))
        masks = [mask for p in passes for mask in p.masks]
        seen = iter(zip(lists([v for v, _ in masks]), lists([r for _, r in masks])))
        known = {id(p): [next(seen) for _ in p.masks] for p in passes}
        found = []
        for number, (passed, tied, _, _, at) in enumerate(self._heads):
            rows = len(tokens[number])
            entries = self._entries(passed, known[id(passed)]) if passed is not None else []
            of = range(rows) if len(entries) == rows else [at] * rows  # which rows of the pass
            read = [
                None
                if not entries or entries[0] is None
                else max(filter(None, entries), default=0)
                if r is None
                else entries[r]
                for r in of
            ]
            ids = fed[id(passed)] if passed is not None else None
            before = [None if ids is None or r is None else ids[r] for r in of]
            batch = passed.batch if passed is not None else 0
            same = tied.tolist() if hasattr(tied, "tolist") else [tied] * rows
            width = passed.width if passed is not None else 0
            hooked = passed is not None and passed.hooked
            found.append(
                [
                    Step(f, width, e, bool(t), hooked, k, v, r, batch)
                    for f, e, t, k, v, r in zip(before, read, same, tokens[number], values[number], of)
                ]
            )
        return found

    def _entries(self, passed: _Pass, masks: Sequence[tuple[Any, Any]]) -> list[int | None]:
        """Entries each row of a pass read, its own tokens excluded."""
        if len(passed.reads) < self._layers:
            return [None] * passed.batch
        totals = [0] * passed.batch
        for keys, place in passed.reads.values():
            seen, reach = masks[place] if place >= 0 else ([keys], keys)
            most, held = max(seen), min(keys, reach)  # places never written to follow the last one seen
            for row in range(passed.batch):
                totals[row] += held - most + seen[row if len(seen) > 1 else 0]
        return [round(total / len(passed.reads)) - passed.width for total in totals]


def _attending(network: Any) -> int:
    """Layers of a model that attend; the others keep no KV entries."""
    config = getattr(network, "config", None)
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return sum("attention" in kind and "linear" not in kind for kind in kinds)
    return int(getattr(config, "num_hidden_layers", 0))


def _tied(passed: _Pass | None, given: Any) -> Any:
    """Whether the head's input is what a pass gave: at once where it is the same memory, else a tensor ``[rows]``."""
    hidden = passed.hidden if passed is not None else None
    if passed is None or hidden is None or version(hidden) != passed.version:
        return False
    if given.untyped_storage().data_ptr() == hidden.untyped_storage().data_ptr():
        return True
    newest = given[:, -1] if given.ndim == 3 else given.reshape(-1, given.shape[-1])
    if newest.shape != hidden[:, -1].shape:
        return False
    return (newest == hidden[:, -1]).all(-1)


def _row(passed: _Pass | None, given: Any) -> int | None:
    """The one row of a pass whose hidden states the head is given, where it is given a part of their memory."""
    hidden = passed.hidden if passed is not None else None
    if hidden is None or given.untyped_storage().data_ptr() != hidden.untyped_storage().data_ptr():
        return None
    size = hidden.stride(0)
    begin = given.storage_offset() - hidden.storage_offset()
    last = begin + sum((n - 1) * step for n, step in zip(given.shape, given.stride()))
    return begin // size if size and begin // size == last // size else None


@contextmanager
def witnessed(network: Any, witness: Witness) -> Iterator[None]:
    """Let `witness` see every layer's attention and every module during the block."""
    witness.listen(True)
    # Also where a pass fails: what runs after it is heard of again.
    over = network.model.register_forward_hook(lambda *_: witness.listen(True), always_call=True)
    witness.begin()
    try:
        with attention.heard_by(witness.attended):
            yield
    finally:
        over.remove()
        witness.listen(False)
        witness.forget()
