"""The network in a model's files, read onto its devices and ready to answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import attention, gguf, hub, placement, weights
from .reading import reading

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from .device_map import Places


class Described(Protocol):
    """What is known of a model before its weights are read; see `LanguageModel`."""

    name: str
    folder: Path
    config: PretrainedConfig
    dtype: str
    device: str


@dataclass(frozen=True)
class Read:
    """A network, and the names of weights in its files that it does not use."""

    network: PreTrainedModel
    unused: tuple[str, ...]


def read(
    model: Described, places: Places | None, *, trust_remote_code: bool, allow_unused_weights: bool
) -> Read:
    """The weights in the model's type, on its device or where `places` has them; evaluation mode, no gradients.

    Raises
    ------
    UsageError
        As `LanguageModel.network` says.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    from . import feed_forward

    attention.register()
    files = hub.weight_files(model.folder)
    spread: dict[str, Any] = {} if places is None else {"device_map": places.for_loading()}
    with placement.fitting(model.name, model.device, model.dtype), reading(model.name, str(model.folder)):
        weights.check_types(model.name, files)
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
    with placement.fitting(model.name, model.device, model.dtype):
        network = network.to(model.device) if places is None else placement.spread(network, places, files)
    network = network.eval().requires_grad_(False)
    feed_forward.write_over(network)
    return Read(network, tuple(left))
