"""One low-rank adapter per condensing ratio, at beacon positions only.

Source: Li et al., "Long Context Understanding using Self-Generated Synthetic Data", section 2.2: instead of
a copy of q, k, v and o (`MultiHeadBeacon`), each ratio has its own LoRA on them and its own embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from harness import UsageError

from .form import PAPERS_START, Start
from .projections import PROJECTIONS, first_embedding

EMBEDDING = "beacon_embedding"


def places(network: Any) -> dict[str, tuple[int, int]]:
    """``(inputs, outputs)`` of every q, k, v and o projection, by its name in ``network.model``."""
    return {
        name: (module.in_features, module.out_features)
        for name, module in network.model.named_modules()
        if name.rpartition(".")[2] in PROJECTIONS and isinstance(module, torch.nn.Linear)
    }


class Expert(torch.nn.Module):
    """The LoRA of one ratio: an embedding, and for each projection W the sum ``W x + (alpha / rank) B A x``.

    Parameters
    ----------
    network
        The base model.
    rank, alpha
        Of the decomposition; alpha / rank scales what it adds.
    tensors
        ``beacon_embedding`` ``[hidden]`` and, for each place, ``<place>.lora_A.weight`` ``[rank, inputs]`` and
        ``<place>.lora_B.weight`` ``[outputs, rank]``. None: before training (A random, B zero, the embedding of
        that start), which adds nothing.
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
        super().__init__()
        self.rank, self.alpha = rank, alpha
        device = network.device
        embedding = first_embedding(network, start) if tensors is None else tensors.get(EMBEDDING)
        if embedding is None or embedding.shape != (network.config.hidden_size,):
            raise UsageError(f"the expert's {EMBEDDING} is missing or of another width than the model's")
        self.beacon_embedding = Parameter(embedding.detach().to(device, torch.float32).clone())
        self.a, self.b = torch.nn.ParameterDict(), torch.nn.ParameterDict()
        known = {EMBEDDING}
        for place, (inputs, outputs) in places(network).items():
            first, second = f"{place}.lora_A.weight", f"{place}.lora_B.weight"
            if tensors is None:
                a, b = torch.empty(rank, inputs), torch.zeros(outputs, rank)
                torch.nn.init.kaiming_uniform_(a, a=math.sqrt(5))
            else:
                if first not in tensors or second not in tensors:
                    raise UsageError(f"the expert has no LoRA for {place}")
                a, b = tensors[first], tensors[second]
            if a.shape != (rank, inputs) or b.shape != (outputs, rank):
                raise UsageError(
                    f"the expert's LoRA for {place} has another shape than rank and model ask for"
                )
            key = place.replace(".", "/")
            self.a[key] = Parameter(a.detach().to(device, torch.float32).clone())
            self.b[key] = Parameter(b.detach().to(device, torch.float32).clone())
            known |= {first, second}
        if unknown := sorted(set(tensors or ()) - known):
            raise UsageError(f"the expert's {unknown[0]} has no place in this model")

    def tensors(self) -> dict[str, Tensor]:
        """Everything by the names the constructor takes."""
        found: dict[str, Tensor] = {EMBEDDING: self.beacon_embedding}
        for side, parameters in (("A", self.a), ("B", self.b)):
            found |= {f"{k.replace('/', '.')}.lora_{side}.weight": p for k, p in parameters.items()}
        return found

    def run(self, body: Any, **inputs: Any) -> Any:
        """A forward pass of `body` with the low-rank sums added to its projections' outputs."""
        scale = self.alpha / self.rank
        with ExitStack() as hooks:
            for key in self.a:
                a, b = self.a[key], self.b[key]

                def add(
                    _: Any, args: tuple[Tensor, ...], out: Tensor, a: Tensor = a, b: Tensor = b
                ) -> Tensor:
                    x = args[0]
                    return out + F.linear(F.linear(x, a.to(x.dtype)), b.to(x.dtype)) * scale

                hook = body.get_submodule(key.replace("/", ".")).register_forward_hook(add)
                hooks.callback(hook.remove)
            return body(**inputs)


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

    def run(self, body: Any, ratio: int, **inputs: Any) -> Any:
        return self.expert(ratio).run(body, **inputs)

    def part_ways(self) -> None:
        """End the shared phase: every ratio goes on from what the shared expert has learned."""
        assert self.shared is not None
        learned = self.expert(self.shared).state_dict()
        self.shared = None
        for expert in self.experts.values():
            expert.load_state_dict(learned)
