"""Language models by name: found, checked, described, and only then, on first use, loaded.

A `LanguageModel` costs little until its `network` is touched, so that everything that can be refused is
refused before any weights are read. Neither torch nor transformers is imported with this module.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .._util.quiet import hush_libraries
from ..errors import UsageError, unknown_name
from . import default_model, devices, gguf, hub, precision, window
from . import device_map as placing
from .model import LanguageModel
from .precision import DTYPES
from .reading import reading

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CHATS = ("auto", "never")
SIZES = ("hidden_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "vocab_size")

ROPE_NUMBERS = (
    "factor rope_theta original_max_position_embeddings attention_factor beta_fast beta_slow low_freq_factor "
    "high_freq_factor mscale mscale_all_dim partial_rotary_factor"
).split()

log = logging.getLogger("harness")


def load(
    name: str,
    *,
    context_length: int | None = None,
    dtype: str = "auto",
    device: str = "auto",
    device_map: str | None = None,
    offline: bool = False,
    chat: str = "auto",
    trust_remote_code: bool = False,
    allow_unused_weights: bool = False,
    notify: Callable[[str], None] | None = None,
) -> LanguageModel:
    """Find a model, fetch and convert it if need be, and check it; its weights stay unread.

    Parameters
    ----------
    name
        A name of `known_models`, a folder with ``config.json`` and safetensors, a ``.gguf`` file, or a Hub
        id ``org/name``, ``org/name@revision`` for a fixed state.
    context_length
        Tokens the model may read; at most what it was made for. None: all of it.
    dtype
        One of `DTYPES`; ``"auto"``: see `precision.automatic`.
    device
        As torch writes it; ``"auto"``: CUDA if there is any.
    device_map
        For a model larger than a device: one of `harness.models.device_map.COMPUTED`, or a JSON file of places.
    offline
        If true, nothing is fetched.
    chat
        ``"auto"``: use the chat template if there is one. ``"never"``: do not.
    trust_remote_code
        Whether Python code that came with the model may run.
    allow_unused_weights
        Whether a model may leave out weights that its files hold; else that is refused when it is loaded.
    notify
        Told, in one line, of anything that takes more than a moment. None: the log of ``harness``.

    Raises
    ------
    UsageError
        One line: the name is unknown, cannot be fetched, or is of another family; its weights are pickled
        or quantised; an option is out of range; the cache cannot be written.
    """
    _check_flags(chat, dtype, context_length)
    if device_map is not None:
        placing.check(device_map, device)
    wanted, device = device, devices.checked(device)
    import transformers  # noqa: F401  (imported first, so that it can be told to be quiet)

    hush_libraries()
    source = _find(name, offline, trust_remote_code, notify or log.info)
    config = _config(source.folder, name, trust_remote_code)
    window.check_said(source.folder, config, name, context_length)
    window.check_asked(config, name, context_length)
    places = None
    if device_map is not None and device_map not in placing.COMPUTED:
        places = placing.from_file(device_map, config, wanted)
        device = places.main
    if dtype == "auto":
        dtype = precision.automatic(device, config)
    return LanguageModel(
        name,
        source,
        config,
        context_length=context_length,
        dtype=dtype,
        device=device,
        device_map=device_map,
        places=places,
        chat=chat,
        trust_remote_code=trust_remote_code,
        allow_unused_weights=allow_unused_weights,
    )


def _check_flags(chat: str, dtype: str, context_length: int | None) -> None:
    """Refuse words and numbers that no model can have."""
    if chat not in CHATS:
        raise unknown_name("value of --chat", chat, CHATS)
    if dtype not in ("auto", *DTYPES):
        raise unknown_name("value of --dtype", dtype, ("auto", *DTYPES))
    if context_length is not None and context_length < 1:
        raise UsageError(f"--context-length {context_length}: must be at least 1")


@dataclass(frozen=True)
class KnownModel:
    """A row of ``harness list models``; `native_length` is in tokens."""

    name: str
    description: str
    native_length: int
    size: str
    licence: str
    cached: bool


def known_models() -> list[KnownModel]:
    """Models with a name of their own. Any Hub id, folder or GGUF file works besides."""
    return [
        KnownModel(
            name="smollm2",
            description="SmolLM2-135M-Instruct from its pinned Q4_1 GGUF file, de-quantised (a Llama)",
            native_length=8192,
            size="135 M parameters; 93 MB download, 538 MB in the cache",
            licence="Apache-2.0",
            cached=gguf.converted_folder(default_model.SMOLLM2_GGUF_SHA256).is_dir(),
        )
    ]


def _find(name: str, offline: bool, trust_remote_code: bool, notify: Callable[[str], None]) -> hub.Source:
    if name == "smollm2":
        return default_model.smollm2(offline, notify)
    path = Path(name).expanduser()
    if path.suffix.lower() == ".gguf":
        return hub.gguf_file(path, notify)
    if path.is_dir():
        return hub.local_folder(path)
    if hub.is_hub_id(name) and not name.startswith("."):
        return hub.hub_repo(name, offline, trust_remote_code, notify)
    if "/" in name:
        raise UsageError(f"model {name}: no such folder")
    raise unknown_name("model", name, [model.name for model in known_models()])


def _config(folder: Path, name: str, trust_remote_code: bool) -> PretrainedConfig:
    from transformers import AutoConfig

    with reading(name, "config.json"):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    for size in SIZES:  # transformers 5.2 takes anything
        if not isinstance(getattr(config, size, None), int):
            found = getattr(config, size, None)
            raise UsageError(
                f"model {name}: its config.json is not accepted: {size} is {found!r}, not a number"
            )
    check_fields(config, name)
    return config


def check_fields(config: PretrainedConfig, name: str) -> None:
    """Refuse numbers no model can have; torch would only say what it could not compute from them."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    heads, groups = config.num_attention_heads, getattr(config, "num_key_value_heads", None)
    pad, rope = config.pad_token_id, window.rope_of(config).get("rope_type", "default")
    unclear = [
        f"{k} is {v!r}" for k, v in window.rope_of(config).items() if k in ROPE_NUMBERS and not _number(v)
    ]
    for wrong, what in (
        (bool(unclear), f"in rope_parameters (or rope_scaling) {', '.join(unclear)}, not a number"),
        (any(getattr(config, size) < 1 for size in SIZES), f"one of {', '.join(SIZES)} is below 1"),
        (
            groups is not None and (groups < 1 or heads % groups),
            f"num_key_value_heads is {groups}, which does not divide num_attention_heads, {heads}",
        ),
        (
            pad is not None and not -1 <= pad < config.vocab_size,
            f"pad_token_id is {pad}, which is not below vocab_size, {config.vocab_size}",
        ),
        (
            rope not in {"default", *ROPE_INIT_FUNCTIONS},
            f"rope_parameters (or rope_scaling) ask for {rope!r}; known: {', '.join(ROPE_INIT_FUNCTIONS)}",
        ),
    ):
        if wrong:
            raise UsageError(f"model {name}: its config.json is not accepted: {what}")


def _number(value: object) -> bool:
    """Whether it is one, or left out."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
