"""Language models by name: found, checked, described, and only then, on first use, loaded.

A `LanguageModel` costs little until its `network` is touched, so that everything that can be refused is
refused before any weights are read. Neither torch nor transformers is imported with this module.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _chat, _fetch, _gguf
from ._util import hashing
from ._util.quiet import hush_libraries
from .errors import UsageError, unknown_name

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

DTYPES = ("float32", "bfloat16", "float16")
CHATS = ("auto", "never")
SIZES = ("hidden_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "vocab_size")

log = logging.getLogger("harness")


def native_length(config: PretrainedConfig) -> int:
    """Tokens a model reads with full attention: its positions, or its sliding window if that is smaller.

    Within the sliding window a sliding-window model is an ordinary one; beyond it a token no longer sees
    the whole prompt, so that no cache could be what it claims to be.
    """
    positions = int(config.max_position_embeddings)
    window = getattr(config, "sliding_window", None)
    if window is None or not getattr(config, "use_sliding_window", True):
        return positions
    return min(positions, int(window))


class LanguageModel:
    """A causal language model of the Llama, Mistral, Qwen2 or Qwen3 family. Made by `load`.

    Attributes
    ----------
    name
        As the user asked for it.
    folder
        Local folder with configuration, tokenizer and safetensors.
    config
        The transformers configuration.
    native_length
        Tokens the model was made for (see the function `native_length`).
    context_length
        Tokens it may read here: `native_length`, or less if the user said so.
    dtype
        ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    device
        As torch writes it: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    """

    def __init__(
        self,
        name: str,
        source: _fetch.Source,
        config: PretrainedConfig,
        *,
        context_length: int | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        chat: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        self.name = name
        self.folder = source.folder
        self.config = config
        self.native_length = native_length(config)
        self.context_length = min(self.native_length, context_length or self.native_length)
        self.dtype = dtype
        self.device = device
        self._source = source
        self._chat = chat
        self._trust_remote_code = trust_remote_code
        self._lender: LanguageModel | None = None

    def borrow(self, lender: LanguageModel) -> None:
        """Use the weights of `lender`, which must be of the same files, dtype and device; nothing is loaded twice."""
        self._lender = lender

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The fast tokenizer. Raises UsageError if the folder has none."""
        from transformers import AutoTokenizer

        if not any(self.folder.glob("*token*")) and not any(self.folder.glob("vocab*")):
            raise UsageError(f"model {self.name}: {self.folder} has no tokenizer")
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                self.folder, local_files_only=True, trust_remote_code=self._trust_remote_code
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise UsageError(f"model {self.name}: its tokenizer cannot be loaded: {_line(error)}") from error
        if not tokenizer.is_fast:
            raise UsageError(
                f"model {self.name}: its tokenizer gives no character offsets; save it as tokenizer.json"
            )
        return tokenizer

    @cached_property
    def network(self) -> PreTrainedModel:
        """The weights, loaded on first use: `dtype`, on `device`, evaluation mode, no gradients.

        Raises
        ------
        UsageError
            If the files are damaged or lack weights the architecture has (transformers would draw them at
            random and only warn), or the device has too little memory.
        """
        if self._lender is not None:
            return self._lender.network
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, GenerationConfig

        from . import attention

        attention.register()
        try:
            network, info = AutoModelForCausalLM.from_pretrained(
                self.folder,
                config=self.config,
                dtype=getattr(torch, self.dtype),
                attn_implementation=attention.ATTENTION,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=self._trust_remote_code,
                output_loading_info=True,
            )
        except (SafetensorError, OSError, RuntimeError, ValueError, ImportError) as error:
            raise UsageError(f"model {self.name}: {self.folder} cannot be loaded: {_line(error)}") from error
        _gguf.check_complete(self.name, info)
        # What a model's publisher suggests for sampling (penalties, suppressed tokens) is no part of any
        # method; end tokens come from `end_ids`. `generate` would fill every gap of its settings from here.
        network.generation_config = GenerationConfig(use_cache=True)
        try:
            network = network.to(self.device)
        except torch.OutOfMemoryError as error:
            raise UsageError(f"model {self.name} does not fit on {self.device} in {self.dtype}") from error
        return network.eval().requires_grad_(False)

    @cached_property
    def chat(self) -> str:
        """How a user's turn is wrapped: ``"template"`` (the tokenizer's), ``"llama2"`` or ``"never"``."""
        if self._chat == "never":
            return "never"
        if _chat.is_llama2_chat(self.config.model_type, f"{Path(self.name).name} {self.folder.name}"):
            return "llama2"
        return "template" if self.tokenizer.chat_template else "never"

    @property
    def has_chat_template(self) -> bool:
        """Whether `render_chat` works."""
        return self.chat != "never"

    def render_chat(self, text: str) -> str:
        """One user turn as the model expects to read it, up to where its answer begins; text, not tokens.

        Raises
        ------
        UsageError
            If the model has no chat template or was loaded with ``chat="never"``.
        """
        if self.chat == "never":
            raise UsageError(f"model {self.name} has no chat template, or was told not to use it")
        return _chat.llama2(text) if self.chat == "llama2" else _chat.render_template(self.tokenizer, text)

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Every token that ends an answer, ascending; never empty. Sources: see ``_chat.end_ids``."""
        found = _chat.end_ids(self.tokenizer, self.config, self.folder)
        if not found:
            raise UsageError(f"model {self.name}: no end token in its configuration or tokenizer")
        return found

    @property
    def pad_id(self) -> int:
        """Token to fill batches with: the tokenizer's padding token, else an end token."""
        pad = self.tokenizer.pad_token_id
        if pad is None:
            pad = self.tokenizer.eos_token_id
        return int(pad) if pad is not None else self.end_ids[0]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) over configuration and weights: which model exactly answered."""
        return hashing.content_hash(self.folder, _fetch.weight_files(self.folder))

    @cached_property
    def tokenizer_hash(self) -> str:
        """SHA-256 (hex) over all that turns text into tokens and back: vocabulary, template, end tokens."""
        rules = json.loads(self.tokenizer.backend_tokenizer.to_str())
        rules.pop("padding", None)  # left behind by the last call, not a property of the tokenizer
        rules.pop("truncation", None)
        parts = [rules, self.chat, self.tokenizer.chat_template, self.end_ids, self.tokenizer.bos_token]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """JSON-ready description for ``run.json``; `parameters` is None as long as nothing was loaded."""
        loaded = "network" in self.__dict__
        return {
            "name": self.name,
            "source": self._source.origin,
            "revision": self._source.revision,
            "content_hash": self.content_hash,
            "tokenizer_hash": self.tokenizer_hash,
            "architecture": self.config.model_type,
            "native_length": self.native_length,
            "context_length": self.context_length,
            "dtype": self.dtype,
            "device": self.device,
            "chat": self.chat,
            "parameters": sum(p.numel() for p in self.network.parameters()) if loaded else None,
        }


def load(
    name: str,
    *,
    context_length: int | None = None,
    dtype: str = "auto",
    device: str = "auto",
    offline: bool = False,
    chat: str = "auto",
    trust_remote_code: bool = False,
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
        One of `DTYPES`; ``"auto"``: float32 on a CPU, bfloat16 elsewhere.
    device
        As torch writes it; ``"auto"``: CUDA if there is any.
    offline
        If true, nothing is fetched.
    chat
        ``"auto"``: use the chat template if there is one. ``"never"``: do not.
    trust_remote_code
        Whether Python code that came with the model may run.
    notify
        Told, in one line, of anything that takes more than a moment. None: the log of ``harness``.

    Raises
    ------
    UsageError
        One line: the name is unknown, cannot be fetched, or is of another family; its weights are pickled
        or quantised; an option is out of range; the cache cannot be written.
    """
    if chat not in CHATS:
        raise unknown_name("value of --chat", chat, CHATS)
    if dtype not in ("auto", *DTYPES):
        raise unknown_name("value of --dtype", dtype, ("auto", *DTYPES))
    if context_length is not None and context_length < 1:
        raise UsageError(f"--context-length {context_length}: must be at least 1")
    device = _device(device)
    import transformers  # noqa: F401  (imported first, so that it can be told to be quiet)

    hush_libraries()
    source = _find(name, offline, trust_remote_code, notify or log.info)
    config = _config(source.folder, name, trust_remote_code)
    native = int(config.max_position_embeddings)
    if context_length is not None and context_length > native:
        raise UsageError(
            f"--context-length {context_length}: {name} was made for {native} tokens; "
            "the length can only be made smaller"
        )
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    return LanguageModel(
        name,
        source,
        config,
        context_length=context_length,
        dtype=dtype,
        device=device,
        chat=chat,
        trust_remote_code=trust_remote_code,
    )


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
            cached=_gguf.converted_folder(_fetch.SMOLLM2_GGUF_SHA256).is_dir(),
        )
    ]


def _find(name: str, offline: bool, trust_remote_code: bool, notify: Callable[[str], None]) -> _fetch.Source:
    if name == "smollm2":
        return _fetch.smollm2(offline, notify)
    path = Path(name).expanduser()
    if path.suffix.lower() == ".gguf":
        return _fetch.gguf_file(path, notify)
    if path.is_dir():
        return _fetch.local_folder(path)
    if _fetch.is_hub_id(name) and not name.startswith("."):
        return _fetch.hub_repo(name, offline, trust_remote_code, notify)
    if "/" in name:
        raise UsageError(f"model {name}: no such folder")
    raise unknown_name("model", name, [model.name for model in known_models()])


def _config(folder: Path, name: str, trust_remote_code: bool) -> PretrainedConfig:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise UsageError(f"model {name}: its config.json is not accepted: {_line(error)}") from error
    for size in SIZES:  # transformers 5.2 takes anything
        if not isinstance(getattr(config, size, None), int):
            found = getattr(config, size, None)
            raise UsageError(
                f"model {name}: its config.json is not accepted: {size} is {found!r}, not a number"
            )
    return config


def _device(device: str) -> str:
    """The device to use, checked; ``"auto"`` resolved."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind, index = torch.device(device).type, torch.device(device).index
    except RuntimeError as error:
        raise UsageError(f"--device {device}: not a device; for example cpu, cuda, cuda:1") from error
    if kind == "cuda" and (index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {device}: not available here: {_line(error)}") from error
    return device


def _line(error: Exception) -> str:
    """The first line of a library's error: the user is told one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
