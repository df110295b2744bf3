"""What a model, and the process around it, look like: taken before and after, and held against each other."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from ..models.model import LanguageModel

SEED = 3_141_592_653
"""For `unusual_random_state`."""

PLAIN = (bool, int, float, str, type(None))


def weights(network: Any) -> dict[str, str]:
    """A digest of each parameter and buffer, with what it needs of gradients; by name."""
    found = {}
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        facts = (
            f"{tuple(tensor.shape)} {tensor.dtype} gradients {tensor.requires_grad} {tensor.grad is not None}"
        )
        found[name] = f"{digest(tensor)} {facts}"
    return found


def digest(tensor: torch.Tensor) -> str:
    """Sixteen hex digits over a tensor's bytes."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.blake2b(flat.view(torch.uint8).numpy().tobytes(), digest_size=8).hexdigest()


def modules(model: LanguageModel) -> dict[str, Any]:
    """All that can be left on a model besides its weights: hooks, attributes, modes, settings; by place."""
    network: Any = model.network
    found: dict[str, Any] = {}
    for name, module in network.named_modules():
        place = name or "the model"
        found[f"{place}: class"] = id(type(module))
        for key, value in vars(module).items():
            if key in ("_parameters", "_buffers", "_modules"):
                found[f"{place}: names in {key}"] = list(value)
            elif key.endswith("_hooks") or "_hooks_" in key:
                found[f"{place}: {key}"] = list(value) if isinstance(value, Mapping) else repr(value)
            else:
                found[f"{place}: attribute {key}"] = value if isinstance(value, PLAIN) else id(value)
    classes = dict.fromkeys(type(module) for module in network.modules())
    found |= _functions([*classes, *dict.fromkeys(sys.modules[cls.__module__] for cls in classes)])
    found["the model: config"] = as_text(network.config.to_dict())
    found["the model: attention implementation"] = network.config._attn_implementation
    found["the model: generation_config"] = as_text(network.generation_config.to_dict())
    tokenizer: Any = model.tokenizer
    for key in ("padding_side", "truncation_side", "chat_template", "special_tokens_map"):
        found[f"the tokenizer: {key}"] = as_text(getattr(tokenizer, key))
    found["the tokenizer: size"] = len(tokenizer)
    found["the harness's model: attributes"] = sorted(key for key in vars(model) if key not in LAZY)
    return found


class Code(int):
    """What stands for a function or a state: differences are shown without it."""


LAZY = ("tokenizer", "network", "chat", "end_ids", "content_hash", "tokenizer_hash", "_rules")
"""What a `LanguageModel` keeps once it was asked for."""


def settings() -> dict[str, Any]:
    """`process`, but for the random generators."""
    return {name: value for name, value in process().items() if "random generator" not in name}


def process() -> dict[str, Any]:
    """Settings of torch, transformers, numpy and Python that everything in the process shares; by name."""
    import numpy as np
    import torch
    from torch.nn.modules import module as hooks
    from transformers import AttentionInterface, GenerationMixin, cache_utils

    attention = AttentionInterface()
    return {
        "torch's default dtype": str(torch.get_default_dtype()),
        "torch's default device": str(torch.get_default_device()),
        "torch's number of threads": torch.get_num_threads(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's inference mode": torch.is_inference_mode_enabled(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's matmul precision": torch.get_float32_matmul_precision(),
        "torch's attention kernels": [
            getattr(torch.backends.cuda, f"{kind}_sdp_enabled")()
            for kind in ("flash", "mem_efficient", "math", "cudnn")
        ],
        "torch's use of TF32": [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32],
        "torch's use of cuDNN": [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic],
        **_functions(
            [torch.nn.functional, torch.Tensor, torch.nn.Module, GenerationMixin, cache_utils]
            + [value for value in vars(cache_utils).values() if isinstance(value, type)]
        ),
        "environment variables": dict(os.environ),
        "working directory": str(Path.cwd()),
        "numpy's handling of errors": np.geterr(),
        "torch's random generator": Code(digest(torch.get_rng_state()), 16),
        "torch's global hooks": sum(
            len(getattr(hooks, name))
            for name in dir(hooks)
            if name.startswith("_global_") and "hooks" in name
        ),
        "numpy's random generator": Code(hash(repr(np.random.get_state(legacy=False)))),
        "Python's random generator": Code(hash(random.getstate())),
        **{f"transformers' attention function {name}": Code(id(attention[name])) for name in attention},
    }


def _functions(holders: Iterable[Any]) -> dict[str, Any]:
    """What stands for each function in modules and classes: it changes if one is replaced."""
    return {
        f"{holder.__name__}.{key}": Code(id(value))
        for holder in holders
        for key, value in vars(holder).items()
        if callable(value)
    }


@contextmanager
def unusual_random_state() -> Iterator[None]:
    """Random generators in states nobody would set, so that whoever seeds them shows; as before afterwards."""
    import numpy as np
    import torch

    python, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(SEED)
            np.random.seed(SEED)
            torch.manual_seed(SEED)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)


def as_text(value: Any) -> str:
    """Anything, JSON-like or not, as text to compare."""
    return json.dumps(value, sort_keys=True, default=str)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names under which something appeared, went, or is not what it was."""
    found = [f"{name} (new)" for name in after if name not in before]
    for name, value in before.items():
        if name not in after:
            found.append(f"{name} (gone)")
        elif after[name] != value:
            shown = (
                isinstance(value, PLAIN) and len(f"{value}{after[name]}") < 60 and not isinstance(value, Code)
            )
            ids = isinstance(value, int) and not isinstance(value, bool) and value > 1 << 20
            found.append(
                f"{name} ({value} became {after[name]})" if shown and not ids else f"{name} (changed)"
            )
    return found


def tensors(value: Any, path: str = "state", _seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """Every tensor, number and text in a nested state, with its place: containers, dataclasses, any object."""
    import torch

    seen = set() if _seen is None else _seen
    if isinstance(value, (*PLAIN, torch.Tensor)):
        yield path, value
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        inner = [(f"[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = [(f"[{i}]", part) for i, part in enumerate(value)]
    elif is_dataclass(value) and not isinstance(value, type):
        inner = [(f".{f.name}", getattr(value, f.name)) for f in fields(value)]
    elif hasattr(value, "__dict__") and not isinstance(value, type | torch.nn.Module) and not callable(value):
        inner = [(f".{key}", part) for key, part in vars(value).items()]
    for step, part in inner:
        yield from tensors(part, f"{path}{step}", seen)


def frozen(value: Any) -> dict[str, str]:
    """A nested state as digests by place, to be compared later."""
    import torch

    return {
        path: f"{tuple(v.shape)} {digest(v)}" if isinstance(v, torch.Tensor) else repr(v)
        for path, v in tensors(value)
    }


@contextmanager
def new_tensors() -> Iterator[Callable[[], int]]:
    """Gives a function that counts the bytes of all tensors made since that Python can still reach.

    Storages are counted once. What was there before is hidden from the garbage collector meanwhile, which
    also keeps the counting fast.
    """
    import torch

    def alive() -> int:
        gc.collect()
        storages: dict[int, int] = {}
        for thing in gc.get_objects():
            if issubclass(type(thing), torch.Tensor):  # isinstance would wake lazily loaded modules
                try:
                    storage = thing.untyped_storage()
                    storages[storage.data_ptr()] = storage.nbytes()
                except (RuntimeError, NotImplementedError):  # a tensor without memory of its own
                    continue
        return sum(storages.values())

    gc.collect()
    gc.freeze()
    try:
        yield alive
    finally:
        gc.unfreeze()
