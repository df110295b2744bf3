"""A frozen model's weights split among processes, a layer's whole on each of them only while it computes.

The idea is that of ZeRO-3 (Rajbhandari et al., arXiv 1910.02054) and FSDP (Zhao et al., arXiv 2304.11277), for weights
that nothing learns. torch's FSDP expects every process to run the same modules in the same order. Here the number of
passes follows from a text's length and from ratios drawn for it, attention projections are swapped for a pass, and some
layers are reached by their keys and values alone. So processes agree before anything is gathered: each says which unit
it is at, all give their share of it, and who is at none helps the others until none of them is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from math import prod
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Embedding, Linear, Parameter

IDLE = -1
"""What a process says that needs no unit."""

ALIGNED = 256
"""Bytes: each weight begins at a multiple, as it would in memory of its own."""

PATIENCE = timedelta(hours=12)
"""How long processes wait for one of them to say where it is: others may be reading a long text, or a model."""


class Shards:
    """This process's part of a network's weights, and how the others' are had.

    A unit are the linear layers of one decoder layer, the input embeddings, or the output layer; what is small (norms,
    biases) stays whole. A weight that was split reads NaN everywhere, at its old shape, type and device, so that
    whoever computes with it other than by calling its module finds out; `whole` has its values.

    Parameters
    ----------
    network
        With all its weights, frozen. It is changed: afterwards it has its shares, on `device`, and nothing else.
    device
        Where this process computes.
    agreeing, gathering
        Process groups, of the same processes: one on the CPU, one for tensors on `device`.

    Attributes
    ----------
    held, total
        Bytes of what was split: this process's, and of all processes together.
    """

    def __init__(self, network: Any, device: str, agreeing: Any, gathering: Any) -> None:
        self._agreeing, self._gathering = agreeing, gathering
        self._processes = dist.get_world_size(agreeing)
        self._said = torch.empty(self._processes, dtype=torch.long)
        self._resident: tuple[int, Tensor] | None = None
        self._units: list[Tensor] = []
        self.total = 0
        for modules in _grouped(network):
            self._shard(modules, device)
        self.held = sum(len(unit) for unit in self._units)
        for parameter in network.parameters():
            if not hasattr(parameter, "share"):
                # Copied: a view would keep the file it was read from in memory.
                parameter.data = parameter.data.to(device, copy=True)
        network.to(device)

    def facts(self) -> dict[str, int]:
        """For an adapter's card: bytes that were split, and how many of them a process holds."""
        return {"bytes": self.total, "bytes_of_each_process": self.held}

    def settle(self) -> None:
        """Give the other processes their shares until none needs any; all of them call this equally often."""
        self._resident = None
        while self._round(IDLE):
            pass

    def unit(self, number: int) -> Tensor:
        """Bytes of a unit, gathered if it is not the one that was asked for last."""
        while self._resident is None or self._resident[0] != number:
            self._resident = None  # before the next: there may be room for one
            self._round(number)
        return self._resident[1]

    def _round(self, wanted: int) -> bool:
        """All processes say what they need, and get it; whether any of them needed anything."""
        with torch.no_grad():
            _gather(self._said, torch.tensor([wanted]), group=self._agreeing)
            asked = sorted(set(self._said.tolist()) - {IDLE})
            for number in asked:
                own = self._units[number]
                found = own.new_empty(self._processes * len(own))
                _gather(found, own, group=self._gathering)
                if number == wanted:
                    self._resident = number, found
                del found  # of two that others asked for only one is here at a time
        return bool(asked)

    def _shard(self, modules: Sequence[Linear | Embedding], device: str) -> None:
        """Make a unit of the weights of modules, of which some may be the same."""
        number, parts, places, size = len(self._units), [], {}, 0
        for module in modules:
            if module.weight not in places:
                parts.append(_bytes(module.weight))
                weight = _unread(module.weight, device)
                weight.share = Share(self, number, size, module.weight)  # type: ignore[attr-defined]
                places[module.weight] = weight
                size += len(parts[-1])
            module.weight = places[module.weight]
            module.forward = partial(_forward_of(module), module)  # type: ignore[method-assign]
        own = -(-size // self._processes)
        own += -own % ALIGNED
        flat = torch.cat([*parts, torch.zeros(own * self._processes - size, dtype=torch.uint8)])
        rank = dist.get_rank(self._agreeing)
        self._units.append(flat[rank * own : (rank + 1) * own].clone().to(device))
        self.total += own * self._processes


def _gather(found: Tensor, own: Tensor, *, group: Any) -> None:
    gather = (
        getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    )  # its name before torch 2.13
    gather(found, own, group=group)


class Share:
    """Where a weight that was split can be had."""

    def __init__(self, shards: Shards, unit: int, start: int, like: Tensor) -> None:
        self._shards, self._unit = shards, unit
        self._dtype, self._shape = like.dtype, like.shape
        self._bytes = slice(start, start + prod(like.shape) * like.element_size())

    def whole(self) -> Tensor:
        """The weight, in memory that is the next unit's once that is gathered and nobody holds this any more."""
        return self._shards.unit(self._unit)[self._bytes].view(self._dtype).view(self._shape)


def whole(weight: Tensor) -> Tensor:
    """A weight's values: a copy of one that was split, any other as it is. All processes ask alike."""
    share: Share | None = getattr(weight, "share", None)
    return weight if share is None else share.whole().clone()


def row(weight: Tensor, number: int) -> Tensor:
    """A row of a weight's values, as `whole` has them."""
    share: Share | None = getattr(weight, "share", None)
    return weight[number] if share is None else share.whole()[number].clone()


@contextmanager
def in_turn(device: str) -> Iterator[Callable[[Any], Shards]]:
    """One process after another reads a network on the CPU in the block, and lets it be sharded; all leave together.

    So a machine needs memory for one whole network beside the shares, and a device never holds more than its share.

    Raises
    ------
    torch.OutOfMemoryError
        If the share does not fit on the device.
    """
    from accelerate import PartialState

    PartialState(cpu=device == "cpu")  # what the trainer will ask for too
    agreeing = dist.new_group(backend="gloo", timeout=PATIENCE)
    gathering = dist.new_group()
    rank, processes = dist.get_rank(agreeing), dist.get_world_size(agreeing)
    for _ in range(rank):
        dist.barrier(agreeing)
    yield lambda network: Shards(network, device, agreeing, gathering)
    for _ in range(rank, processes):
        dist.barrier(agreeing)


def _grouped(network: Any) -> list[list[Linear | Embedding]]:
    """Modules whose weights are gathered together: those of a layer; elsewhere those of one weight."""
    inside = {id(m): i for i, layer in enumerate(network.model.layers) for m in layer.modules()}
    found: dict[Any, list[Linear | Embedding]] = {}
    for module in network.modules():
        if type(module) in (Linear, Embedding):
            key = ("layer", inside[id(module)]) if id(module) in inside else ("weight", id(module.weight))
            found.setdefault(key, []).append(module)
    return list(found.values())


def _bytes(weight: Tensor) -> Tensor:
    flat = weight.detach().contiguous().flatten().view(torch.uint8)
    return F.pad(flat, (0, -len(flat) % ALIGNED))


def _unread(weight: Tensor, device: str) -> Parameter:
    """A weight of that shape and type, on `device`, that takes no room and reads NaN."""
    nothing = torch.full((), torch.nan, dtype=weight.dtype, device=device)
    return Parameter(nothing.expand(weight.shape), requires_grad=False)


class _Linear(torch.autograd.Function):
    """A linear layer that keeps no weight for its gradient, but gathers it anew."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: Share, bias: Tensor | None) -> Tensor:
        ctx.share, ctx.dtype = share, x.dtype
        return F.linear(x, share.whole(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return (gradient @ ctx.share.whole().to(gradient.dtype)).to(ctx.dtype), None, None


def _linear(module: Linear, x: Tensor) -> Tensor:
    share: Share | None = getattr(module.weight, "share", None)
    if share is None:  # another weight was put in its place
        return F.linear(x, module.weight, module.bias)
    found: Tensor = _Linear.apply(x, share, module.bias)  # type: ignore[no-untyped-call]
    return found


def _embedding(module: Embedding, ids: Tensor) -> Tensor:
    share: Share | None = getattr(module.weight, "share", None)
    table = module.weight if share is None else share.whole()
    return F.embedding(ids, table, module.padding_idx)


def _forward_of(module: Linear | Embedding) -> Callable[..., Tensor]:
    return _linear if isinstance(module, Linear) else _embedding
