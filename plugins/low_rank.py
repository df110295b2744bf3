"""A LoRA on the attention projections of a model that stays as it is (Hu et al., arXiv 2106.09685)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from harness import UsageError
from harness.inference.tensors import version
from harness.models.placement import home

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


def places(network: Any) -> dict[str, tuple[int, int]]:
    """``(inputs, outputs)`` of every q, k, v and o projection, by its name in ``network.model``."""
    return {
        name: (module.in_features, module.out_features)
        for name, module in network.model.named_modules()
        if name.rpartition(".")[2] in PROJECTIONS and isinstance(module, torch.nn.Linear)
    }


class LowRank(torch.nn.Module):
    """For each projection W the sum ``W x + (alpha / rank) B A x``.

    Parameters
    ----------
    network
        The base model.
    rank, alpha
        Of the decomposition; alpha / rank scales what it adds.
    tensors
        For each place ``<place>.lora_A.weight`` ``[rank, inputs]`` and ``<place>.lora_B.weight`` ``[outputs, rank]``.
        None: before training (A random, B zero), which adds nothing.
    owner
        Whose tensors they are, for what is said of them.

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
        owner: str = "the adapter",
    ) -> None:
        super().__init__()
        self.rank, self.alpha = rank, alpha
        self.a, self.b = torch.nn.ParameterDict(), torch.nn.ParameterDict()
        self._turned: dict[str, tuple[Any, Any]] = {}
        known = set()
        for place, (inputs, outputs) in places(network).items():
            first, second = f"{place}.lora_A.weight", f"{place}.lora_B.weight"
            if tensors is None:
                a, b = torch.empty(rank, inputs), torch.zeros(outputs, rank)
                torch.nn.init.kaiming_uniform_(a, a=math.sqrt(5))
            else:
                if first not in tensors or second not in tensors:
                    raise UsageError(f"{owner} has no LoRA for {place}")
                a, b = tensors[first], tensors[second]
            if a.shape != (rank, inputs) or b.shape != (outputs, rank):
                raise UsageError(f"{owner}'s LoRA for {place} has another shape than rank and model ask for")
            key, device = place.replace(".", "/"), home(network.model.get_submodule(place).weight)
            self.a[key] = Parameter(a.detach().to(device, torch.float32).clone())
            self.b[key] = Parameter(b.detach().to(device, torch.float32).clone())
            known |= {first, second}
        if unknown := sorted(set(tensors or ()) - known):
            raise UsageError(f"{owner}'s {unknown[0]} has no place in this model")

    def tensors(self) -> dict[str, Tensor]:
        """Everything by the names the constructor takes."""
        found: dict[str, Tensor] = {}
        for side, parameters in (("A", self.a), ("B", self.b)):
            found |= {f"{k.replace('/', '.')}.lora_{side}.weight": p for k, p in parameters.items()}
        return found

    def _like(self, key: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A and B of a place in the type they are used in; turned once, unless they may be learning."""
        pair = self.a[key], self.b[key]
        if torch.is_grad_enabled():
            return pair[0].to(dtype), pair[1].to(dtype)
        state = (dtype, *((p.data_ptr(), version(p)) for p in pair))
        if self._turned.get(key, (None,))[0] != state:
            self._turned[key] = (state, (pair[0].to(dtype), pair[1].to(dtype)))
        turned: tuple[Tensor, Tensor] = self._turned[key][1]
        return turned

    @contextmanager
    def added(self, body: Any, part: slice | None = None) -> Iterator[None]:
        """While it lasts, the low-rank sums are added to the outputs of `body`'s projections.

        To those of `part` of the positions only, if it is given; nothing can be learned from that.
        """
        scale = self.alpha / self.rank
        with ExitStack() as hooks:
            for key in self.a:

                def add(_: Any, args: tuple[Tensor, ...], out: Tensor, key: str = key) -> Tensor:
                    a, b = self._like(key, args[0].dtype)
                    x = args[0] if part is None else args[0][:, part]
                    low = F.linear(F.linear(x, a), b)
                    low = low if scale == 1 else low * scale
                    if part is None:
                        return out + low
                    out[:, part] += low
                    return out

                hook = body.get_submodule(key.replace("/", ".")).register_forward_hook(add)
                hooks.callback(hook.remove)
            yield

    def run(self, body: Any, **inputs: Any) -> Any:
        """A forward pass of `body` with the low-rank sums added to its projections' outputs."""
        with self.added(body):
            return body(**inputs)
