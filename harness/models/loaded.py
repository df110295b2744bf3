"""A model that is in memory already, with its tokenizer: nothing is read again, and nothing of it changes."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import tempfile
import weakref
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._util import hashing
from .._util.quiet import hush_libraries
from ..errors import UsageError
from . import attention, hub, window
from .loading import CHATS, check_fields
from .model import LanguageModel
from .precision import DTYPES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PASSING = (
    "_name_or_path",
    "_attn_implementation",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
)
"""Entries of a configuration that say nothing of what a model computes."""


class LoadedModel(LanguageModel):
    """A model over the weights of a network in memory, as `load` would make it from files.

    The weights are shared, not copied; the network itself, its configuration, its gradients and its attention stay
    as they are. Where the weights and the configuration are those of the files that the network came from, this is
    the model of those files: the same runs, the same adapters. Else it is known by its weights.

    Parameters
    ----------
    network
        A causal language model of transformers, on one device and in one of `DTYPES`.
    tokenizer
        Its tokenizer.
    context_length, chat
        As `harness.models.loading.load` has them.

    Raises
    ------
    UsageError
        If it is no such model, or carries what its class does not say: hooks, adapters, quantised weights.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: Any,
        *,
        context_length: int | None = None,
        chat: str = "auto",
    ) -> None:
        hush_libraries()
        config = network.config
        short = Path(str(getattr(config, "_name_or_path", "") or config.model_type)).name
        name = f"loaded-{short}"
        _check(network, name)
        if chat not in CHATS:
            raise UsageError(f"chat={chat!r}: choose from {', '.join(CHATS)}")
        folder = Path(tempfile.mkdtemp(prefix="harness-loaded-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        try:
            config.to_json_file(folder / "config.json")
            tokenizer.save_pretrained(folder)
            if network.generation_config is not None:
                network.generation_config.save_pretrained(folder)
        except Exception as error:
            raise UsageError(
                f"model {name}: its tokenizer or settings cannot be written down: {error}"
            ) from None
        check_fields(config, name)
        self._given = network
        self._files = _files(network)
        origin = "in memory" if self._files is None else f"in memory, equal to {self._files}"
        super().__init__(
            str(config._name_or_path) if self._files else name,
            hub.Source(folder, origin),
            config,
            context_length=context_length,
            dtype=_dtype(network),
            device=str(network.device),
            chat=chat,
        )
        window.check_asked(config, self.name, context_length)

    def shard(self) -> None:
        """Refused: the weights are in memory, whole. Raises UsageError."""
        raise UsageError(
            f"model {self.name} is in memory already, whole; give its name or folder to shard it"
        )

    @cached_property
    def network(self) -> PreTrainedModel:
        """Another network over the same weights: evaluation mode, no gradients, the harness's attention."""
        import torch
        from transformers import GenerationConfig

        from . import feed_forward

        attention.register()
        given = self._given
        config = copy.deepcopy(given.config)
        with torch.device("meta"):
            twin: PreTrainedModel = type(given)._from_config(
                config, attn_implementation=attention.ATTENTION, dtype=getattr(torch, self.dtype)
            )
        twin.load_state_dict(given.state_dict(), strict=True, assign=True)
        theirs = dict(given.named_modules())
        for place, module in twin.named_modules():  # what is in no state: tables of rotary positions
            for key in module._non_persistent_buffers_set:
                module._buffers[key] = theirs[place]._buffers[key]
        twin.tie_weights()
        twin.generation_config = GenerationConfig(use_cache=True)
        twin = twin.eval().requires_grad_(False)
        feed_forward.write_over(twin)
        return twin

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) over configuration and weights."""
        if self._files is not None:
            return hashing.content_hash(self._files, hub.weight_files(self._files))
        digest = hashlib.sha256(json.dumps(_said(self.config), sort_keys=True, default=str).encode())
        for name, tensor in sorted(self._given.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
        return digest.hexdigest()


def _bytes(tensor: Any) -> memoryview:
    import torch

    flat = tensor.detach().to("cpu").contiguous().flatten()
    return memoryview(flat.view(torch.uint8).numpy())


def _said(config: Any) -> dict[str, Any]:
    return {k: v for k, v in config.to_dict().items() if k not in PASSING}


def _dtype(network: PreTrainedModel) -> str:
    return str(network.dtype).removeprefix("torch.")


def _check(network: PreTrainedModel, name: str) -> None:
    """Refuse what another network over the same weights would not compute."""
    if not hasattr(network, "lm_head") and network.get_output_embeddings() is None:
        raise UsageError(f"model {name}: {type(network).__name__} is no causal language model")
    if _dtype(network) not in DTYPES:
        raise UsageError(f"model {name} is in {_dtype(network)}; load it in one of {', '.join(DTYPES)}")
    if hasattr(network, "peft_config") or getattr(network.config, "quantization_config", None):
        raise UsageError(
            f"model {name} carries an adapter or quantised weights; merge or load it without, and give that"
        )
    if len({str(p.device) for p in network.parameters()}) > 1:
        raise UsageError(f"model {name} lies on several devices; a run uses one")
    for place, module in network.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module.__dict__.get("forward"))
        if any(hooks):
            raise UsageError(
                f"model {name}: {place or type(module).__name__} carries a hook or another forward, which a run "
                "would not have; remove it"
            )


def _files(network: PreTrainedModel) -> Path | None:
    """The folder that the network came from, if its weights and configuration are still those."""
    folder = _folder(str(getattr(network.config, "_name_or_path", "") or ""))
    if folder is None:
        return None
    from transformers import AutoConfig

    try:
        hub.check_folder(folder)
        told = AutoConfig.from_pretrained(folder, local_files_only=True)
        return folder if _said(told) == _said(network.config) and _same(network, folder) else None
    except (UsageError, OSError, ValueError):  # not a folder that could be run
        return None


def _folder(name: str) -> Path | None:
    """A folder by its own path, or as the hub's client has kept it."""
    if not name:
        return None
    if Path(name).is_dir():
        return Path(name).resolve()
    if not hub.is_hub_id(name):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def _same(network: PreTrainedModel, folder: Path) -> bool:
    """Whether all weights in the files are those of the network, in its type."""
    import torch
    from safetensors import safe_open

    state = network.state_dict()
    for path in hub.weight_files(folder):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                held = state.get(name)
                if held is None or not torch.equal(held.cpu(), file.get_tensor(name).to(held.dtype)):
                    return False
    return True
