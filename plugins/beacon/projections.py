"""The weights of beacon tokens: their embedding, and projections of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from harness import UsageError
from harness.models.sharding import row, whole

from ..low_rank import PROJECTIONS
from .form import PAPERS_START, Start

EMBEDDING = "model.beacon_embed_tokens.weight"


class BeaconWeights(Protocol):
    """What turns a token position into a beacon: an embedding, and other attention projections."""

    def embedding(self, ratio: int) -> Tensor:
        """The beacon embedding ``[hidden]`` for that ratio."""
        ...

    def scaled(self, network: Any, scale: float, start: Start) -> BeaconWeights:
        """Weights that add so much (0 to 1) of what these have learned since they began from `start`.

        Source: weights between a model and what it was fine-tuned to, Wortsman et al., "Robust fine-tuning of zero-shot
        models" (arXiv 2109.01903).
        """
        ...

    def run(self, body: Any, ratio: int, **inputs: Any) -> Any:
        """One forward pass of the model's `body`, its attention projecting as beacons of that ratio do.

        Whatever is changed for it is put back before it returns.
        """
        ...

    def beside(self, body: Any, parts: Sequence[tuple[int, slice]]) -> AbstractContextManager[None]:
        """While it lasts, positions ``slice`` of a pass project as beacons of that ratio, all others as the model's.

        For passes that nothing learns from.
        """
        ...


class MultiHeadBeacon(torch.nn.Module):
    """MHA^b: one beacon embedding and one copy of q, k, v, o, for all ratios.

    Parameters
    ----------
    network
        The base model.
    tensors
        By the official checkpoint's names (``model.beacon_embed_tokens.weight``,
        ``model.layers.0.self_attn.beacon_q_proj.weight`` …). None: the state before training, which is the
        embedding of that start and the base model's own projections; that copies nothing.
    learn
        Make everything a float32 parameter that can be trained, whatever the base model's type.
    start
        What the beacons are fed: it decides what their embedding is before training.

    Raises
    ------
    UsageError
        If a tensor has no place in the model, or another shape than the place.
    """

    def __init__(
        self,
        network: Any,
        tensors: Mapping[str, Tensor] | None = None,
        *,
        learn: bool = False,
        start: Start = PAPERS_START,
    ) -> None:
        super().__init__()
        self.trained = tensors is not None
        self._projections: dict[str, Tensor] = {}
        # In a dictionary: as an attribute a parameter would be registered, and saved, a second time.
        self._embedding = {EMBEDDING: first_embedding(network, start)}
        self._like: Tensor = network.model.embed_tokens.weight.new_empty(0)
        places = {name: p.shape for name, p in network.model.named_parameters()}
        for name, tensor in (tensors or {}).items():
            value = tensor.to(self._like)
            if name == EMBEDDING and value.shape == (1, network.config.hidden_size):
                self._embedding[EMBEDDING] = value[0]
                continue
            place = name.removeprefix("model.").replace("beacon_", "")
            if places.get(place) != value.shape:
                raise UsageError(f"the adapter's {name} {tuple(value.shape)} has no place in this model")
            self._projections[place] = value
        if learn:
            self._learn(network)

    def _learn(self, network: Any) -> None:
        for name, tensor in self.tensors(network).items():
            value = torch.nn.Parameter(tensor.detach().float().clone())
            self.register_parameter(name.replace(".", "/"), value)
            if name == EMBEDDING:
                self._embedding[EMBEDDING] = value
            else:
                self._projections[name.removeprefix("model.").replace("beacon_", "")] = value

    def embedding(self, ratio: int) -> Tensor:
        return self._embedding[EMBEDDING].reshape(-1)

    def scaled(self, network: Any, scale: float, start: Start) -> MultiHeadBeacon:
        begun = MultiHeadBeacon(network, start=start).tensors(network)
        between = {
            name: begun[name].float().lerp(own.float(), scale) for name, own in self.tensors(network).items()
        }
        return MultiHeadBeacon(network, between, start=start)

    def run(self, body: Any, ratio: int, **inputs: Any) -> Any:
        swapped = {name: p.to(self._like) for name, p in self._projections.items()}
        return functional_call(body, swapped, kwargs=inputs)

    @contextmanager
    def beside(self, body: Any, parts: Sequence[tuple[int, slice]]) -> Iterator[None]:
        places = sorted({name.rpartition(".")[0] for name in self._projections}) if parts else []
        with ExitStack() as hooks:
            for place in places:
                module = body.get_submodule(place)
                weight, bias = (self._like_base(module, place, name) for name in ("weight", "bias"))

                def swap(
                    _: Any, args: tuple[Tensor, ...], out: Tensor, weight: Any = weight, bias: Any = bias
                ) -> None:
                    for _ratio, part in parts:
                        out[:, part] = F.linear(args[0][:, part], weight, bias)

                hooks.callback(module.register_forward_hook(swap).remove)
            yield

    def _like_base(self, module: Any, place: str, name: str) -> Tensor | None:
        """A projection's tensor as beacons have it, in the base model's type."""
        own = self._projections.get(f"{place}.{name}")
        base: Tensor | None = getattr(module, name)
        return base if own is None else own.to(self._like)

    def tensors(self, network: Any) -> dict[str, Tensor]:
        """Everything by the official names; the base model's own values where nothing was learned."""
        found = {EMBEDDING: self.embedding(0)[None]}
        for name, parameter in attention_parameters(network):
            official = f"model.{name.replace('self_attn.', 'self_attn.beacon_')}"
            own = self._projections.get(name)
            found[official] = whole(parameter) if own is None else own
        return found


def first_embedding(network: Any, start: Start) -> Tensor:
    """A beacon's learned embedding ``[hidden]`` before training: the end token's, or zero beside the last token's."""
    if start == "last":
        zero: Tensor = network.model.embed_tokens.weight.new_zeros(network.config.hidden_size)
        return zero
    eos = network.config.eos_token_id
    return row(network.model.embed_tokens.weight, eos[0] if isinstance(eos, list) else eos or 0)


def attention_parameters(network: Any) -> Iterator[tuple[str, Tensor]]:
    """Name in ``network.model`` and value of every q, k, v and o projection parameter (biases included)."""
    for name, parameter in network.model.named_parameters():
        owner, projection, _ = name.rsplit(".", 2) if name.count(".") >= 2 else ("", "", "")
        if projection in PROJECTIONS and owner.endswith("self_attn"):
            yield name, parameter
