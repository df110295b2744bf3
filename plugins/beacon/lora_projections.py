"""One low-rank adapter per condensing ratio, at beacon positions only.

Source: Li et al., "Long Context Understanding using Self-Generated Synthetic Data", section 2.2: instead of
a copy of q, k, v and o (`MultiHeadBeacon`), each ratio has its own LoRA on them and its own embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from harness import UsageError

from ..low_rank import LowRank
from .form import PAPERS_START, Start
from .projections import first_embedding

EMBEDDING = "beacon_embedding"


class Expert(LowRank):
    """The LoRA of one ratio: an embedding, and for each projection W the sum ``W x + (alpha / rank) B A x``.

    Parameters
    ----------
    network
        The base model.
    rank, alpha
        Of the decomposition; alpha / rank scales what it adds.
    tensors
        ``beacon_embedding`` ``[hidden]`` and the tensors of `LowRank`. None: before training (A random, B zero,
        the embedding of that start), which adds nothing.
    start
        What the beacons are fed: it decides what their embedding is before training.

    Raises
    ------
    UsageError
        If a tensor is missing, has no place in the model, or another shape than the place.
    """

    def __init__(
        self,
        network: Any,
        rank: int,
        alpha: float,
        tensors: Mapping[str, Tensor] | None = None,
        start: Start = PAPERS_START,
    ) -> None:
        embedding = first_embedding(network, start) if tensors is None else tensors.get(EMBEDDING)
        if embedding is None or embedding.shape != (network.config.hidden_size,):
            raise UsageError(f"the expert's {EMBEDDING} is missing or of another width than the model's")
        low = None if tensors is None else {n: t for n, t in tensors.items() if n != EMBEDDING}
        super().__init__(network, rank, alpha, low, "the expert")
        self.beacon_embedding = Parameter(embedding.detach().to(network.device, torch.float32).clone())

    def tensors(self) -> dict[str, Tensor]:
        """Everything by the names the constructor takes."""
        return {EMBEDDING: self.beacon_embedding, **super().tensors()}

    def scaled(self, network: Any, scale: float, start: Start) -> Expert:
        """An expert that adds so much of what this one has learned (see `BeaconWeights.scaled`)."""
        tensors = self.tensors()
        begun = first_embedding(network, start).to(tensors[EMBEDDING])
        tensors[EMBEDDING] = begun.lerp(tensors[EMBEDDING], scale)
        return Expert(network, self.rank, self.alpha * scale, tensors)


class LoraExperts(torch.nn.Module):
    """A battery of experts, one a ratio; a ratio without one is refused.

    Parameters
    ----------
    experts
        By ratio.
    """

    def __init__(self, experts: Mapping[int, Expert]) -> None:
        super().__init__()
        self.experts = torch.nn.ModuleDict({str(r): e for r, e in sorted(experts.items())})
        self.shared: int | None = None  # while set, this ratio's expert serves every ratio

    def add(self, ratio: int, expert: Expert) -> None:
        """One more expert, in the place its ratio has among the others."""
        experts = {int(r): e for r, e in self.experts.items()} | {ratio: expert}
        self.experts = torch.nn.ModuleDict({str(r): e for r, e in sorted(experts.items())})

    @property
    def ratios(self) -> tuple[int, ...]:
        """Ratios that have an expert, ascending."""
        return tuple(int(r) for r in self.experts)

    def expert(self, ratio: int) -> Expert:
        """The expert for `ratio`. Raises UsageError, naming those there are, if it has none."""
        found = str(ratio if self.shared is None else self.shared)
        if found not in self.experts:
            raise UsageError(
                f"there is no LoRA expert for ratio {ratio}; the adapter has {', '.join(self.experts)}"
            )
        expert = self.experts[found]
        assert isinstance(expert, Expert)
        return expert

    def embedding(self, ratio: int) -> Tensor:
        return self.expert(ratio).beacon_embedding

    def scaled(self, network: Any, scale: float, start: Start) -> LoraExperts:
        return LoraExperts(
            {r: self.expert(r).scaled(network, scale, start) for r in self.ratios}
        ).requires_grad_(False)

    def run(self, body: Any, ratio: int, **inputs: Any) -> Any:
        return self.expert(ratio).run(body, **inputs)

    @contextmanager
    def beside(self, body: Any, parts: Sequence[tuple[int, slice]]) -> Iterator[None]:
        with ExitStack() as added:
            for ratio, part in parts:
                added.enter_context(self.expert(ratio).added(body, part))
            yield

    def part_ways(self) -> None:
        """End the shared phase: every ratio goes on from what the shared expert has learned."""
        assert self.shared is not None
        learned = self.expert(self.shared).state_dict()
        self.shared = None
        for expert in self.experts.values():
            expert.load_state_dict(learned)
