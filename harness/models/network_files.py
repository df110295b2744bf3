"""The network in a model's files, read onto its devices and ready to answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import attention, gguf, hub, placement, weights
from .reading import reading

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from .device_map import Places
    from .sharding import Shards


class Described(Protocol):
    """What a `LanguageModel` knows of itself before its weights are read."""

    name: str
    folder: Path
    config: PretrainedConfig
    dtype: str
    device: str


@dataclass(frozen=True)
class Read:
    """A network, the names of weights in its files that it does not use, and what this process has if it is sharded."""

    network: PreTrainedModel
    unused: tuple[str, ...]
    shards: Shards | None = None


def read(
    model: Described,
    *,
    sharded: bool,
    places: Places | None,
    trust_remote_code: bool,
    allow_unused_weights: bool,
) -> Read:
    """The weights in the model's type, on its device, where `places` has them, or `sharded`; no gradients.

    Raises
    ------
    UsageError
        As `LanguageModel.network` says.
    """
    from . import feed_forward

    def whole() -> Read:
        return _loaded(model, places, trust_remote_code, allow_unused_weights)

    with placement.fitting(model.name, model.device, model.dtype):
        if sharded:
            from .sharding import in_turn

            with in_turn(model.device) as shard:
                found = whole()
                return replace(found, shards=shard(found.network))
        found = whole()
        network = found.network
        if places is None:
            network = network.to(model.device)
        else:
            network = placement.spread(network, places, hub.weight_files(model.folder))
        found = replace(found, network=network)
    feed_forward.write_over(found.network)
    return found


def _loaded(
    model: Described, places: Places | None, trust_remote_code: bool, allow_unused_weights: bool
) -> Read:
    """The network with every weight of its files accounted for: on the CPU, or where transformers puts it."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    attention.register()
    spread: dict[str, Any] = {} if places is None else {"device_map": places.for_loading()}
    with reading(model.name, str(model.folder)):
        weights.check_types(model.name, hub.weight_files(model.folder))
        network, info = AutoModelForCausalLM.from_pretrained(
            model.folder,
            config=model.config,
            dtype=getattr(torch, model.dtype),
            attn_implementation=attention.ATTENTION,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name: transformers would point to its log
            **spread,
        )
    gguf.check_complete(model.name, info)
    left = weights.unused(info)
    weights.check_used(model.name, left, allow_unused_weights)
    # What a model's publisher suggests for sampling (penalties, suppressed tokens) is no part of any
    # method; end tokens come from `end_ids`. `generate` would fill every gap of its settings from here.
    network.generation_config = GenerationConfig(use_cache=True)
    return Read(network.eval().requires_grad_(False), tuple(left))
