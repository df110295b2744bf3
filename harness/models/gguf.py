"""GGUF files, de-quantised once and kept in the cache as float32 safetensors.

Transformers reads GGUF slowly (tens of seconds for a small model), and what it has read refuses to be saved
because it still calls itself quantised. So the network is rebuilt from its configuration without that entry.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import struct
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._util.files import cache_dir, cache_writes
from ..errors import UsageError
from .gguf_header import Header
from .gguf_splitting import named_rule, split_by

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Values of ``model_type`` that the harness runs."""

_RECIPE = 4  # part of the folder's name; goes up when a conversion would write something else
_SPLIT_AS = {"b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53": "gpt-2"}
"""Rules of files that are not split by their own, by SHA-256. The default model's text is split as GPT-2's, for the
runs and adapters that there are: its own rule gives other tokens where blanks stand before a digit (0.01 % of the
tokens of essays)."""
_STALE_S = 24 * 3600
_TORN = (ValueError, KeyError, IndexError, RuntimeError, OSError, struct.error)  # what reading one may raise
_DROPPED = ("quantization_config", "_name_or_path", "_model_name_or_path")


def converted_folder(sha256: str) -> Path:
    """Where the conversion of the GGUF file with this SHA-256 (hex) is kept, made or not."""
    return cache_dir() / "models" / f"gguf-{sha256[:24]}-r{_RECIPE}"


def convert(gguf: Path, sha256: str, notify: Callable[[str], None]) -> Path:
    """De-quantise `gguf` into the cache, unless that was done before, and return the folder.

    The folder appears in one step, by renaming, once all of it is on disk: an interrupted conversion leaves
    nothing that would ever be loaded, and of two processes converting at once the slower one yields.

    Raises
    ------
    UsageError
        If the file is no GGUF file of a supported family, or the cache cannot be written.
    """
    final = converted_folder(sha256)
    if final.is_dir():
        return final
    notify(f"converting {gguf.name} to safetensors, once (half a minute for a small model)")
    with cache_writes():
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(final.parent)
        draft = final.parent / f".converting-{uuid.uuid4().hex}"
        draft.mkdir()
        try:
            dequantise(gguf, draft, rule=_SPLIT_AS.get(sha256))
            _flush(draft)
            try:
                draft.rename(final)
            except OSError:
                if not final.is_dir():  # otherwise another process was faster, with the same result
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return final


def dequantise(gguf: Path, folder: Path, *, rule: str | None = None) -> None:
    """Write the model and tokenizer in `gguf` into `folder`, as float32 safetensors and JSON.

    A tied output embedding is stored once. Text is split by `rule`, a value of `gguf_splitting.NAMES`; None: by
    the one that the file names.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

    source: dict[str, Any] = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    header = _checked_header(gguf, source)
    rule = rule or named_rule(gguf)
    try:
        # Not AutoTokenizer: that of transformers 5.2 takes a Llama file's tokenizer for Code Llama's.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(**source)
        _name_ends(tokenizer, gguf)
        # No file asks for it, and transformers up to 5.17 at least did it: blanks before stops went from answers.
        tokenizer.clean_up_tokenization_spaces = False
        if rule is not None:
            split_by(rule, tokenizer.backend_tokenizer)
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no setting turns off
            loaded, info = AutoModelForCausalLM.from_pretrained(
                **source, dtype=torch.float32, output_loading_info=True
            )
    except _TORN as error:
        raise _unreadable(gguf, error) from error
    check_complete(gguf.name, info)
    state = loaded.state_dict()
    header.check_tensors(state, loaded.config.num_hidden_layers)
    entries = _as_the_file_says(loaded.config.to_dict(), header)
    config = type(loaded.config).from_dict({k: v for k, v in entries.items() if k not in _DROPPED})
    _check_room(sum({t.data_ptr(): t.nbytes for t in state.values()}.values()))
    with torch.device("meta"):  # the values come from `state`: none need be drawn at random
        network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    network.load_state_dict(state, assign=True)
    network.tie_weights()
    network.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):  # written private to the user; a cache may be shared
        shutil.copymode(folder / "config.json", file)


def _as_the_file_says(entries: dict[str, Any], header: Header) -> dict[str, Any]:
    """The configuration that transformers made of the file, with what it left out or took from its defaults."""
    theta = float(entries["rope_parameters"]["rope_theta"])
    head_dim = entries.get("head_dim") or entries["hidden_size"] // entries["num_attention_heads"]
    if (rope := header.rope(theta, int(head_dim))) is not None:
        entries["rope_parameters"] = rope
    if (
        entries["model_type"] == "mistral"
    ):  # the class's default is a window of 4,096, which no file asked for
        entries["sliding_window"] = None
    return entries


def check_complete(label: str, info: dict[str, Any]) -> None:
    """Refuse a model some of whose weights were not in its files; `info` is transformers' loading info."""
    for problem in ("missing_keys", "mismatched_keys"):
        if keys := sorted(map(_weight, info.get(problem) or ())):
            raise UsageError(
                f"model {label}: {len(keys)} weights are missing or of another shape, first {keys[0]}; "
                "the configuration and the weight files do not belong together"
            )


def _weight(key: Any) -> str:
    """The name of a weight; of one of another shape also both shapes, which transformers gives beside it."""
    if isinstance(key, str):
        return key
    name, saved, wanted = key
    return f"{name} (saved as {list(saved)}, config.json asks for {list(wanted)})"


def _name_ends(tokenizer: Any, gguf: Path) -> None:
    """Give the tokenizer the file's own first and last token, which some transformers mistake."""
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    for name in ("bos_token", "eos_token"):
        if (found := fields.get(f"tokenizer.ggml.{name}_id")) is not None:
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(int(found.contents())))


def _checked_header(gguf: Path, source: dict[str, Any]) -> Header:
    """What the file says of its model, if it is of a supported family and transformers reads the same."""
    from transformers import AutoConfig

    with gguf.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise UsageError(f"{gguf} is no GGUF file")
    try:
        config = AutoConfig.from_pretrained(**source)
        header = Header(gguf)
    except _TORN as error:
        raise _unreadable(gguf, error) from error
    if config.model_type not in FAMILIES:
        raise UsageError(
            f"{gguf.name} holds a {config.model_type} model; supported families: {', '.join(FAMILIES)}"
        )
    header.check_keys()
    header.check_sizes(config.to_dict())
    return header


def _unreadable(gguf: Path, error: Exception) -> UsageError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UsageError(f"{gguf} cannot be read: {reason}")


def _check_room(needed: int) -> None:
    """Refuse before writing half a file; `needed` is in bytes."""
    free = shutil.disk_usage(cache_dir()).free
    if free < needed:
        raise UsageError(
            f"the converted model takes {needed / 1e6:,.0f} MB but the cache folder {cache_dir()} has "
            f"{free / 1e6:,.0f} MB free; make room or set HARNESS_CACHE to another folder"
        )


def _remove_stale(folder: Path) -> None:
    """Remove what conversions killed long ago left behind; younger drafts may belong to a live process."""
    for draft in folder.glob(".converting-*"):
        if time.time() - draft.stat().st_mtime > _STALE_S:
            shutil.rmtree(draft, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Have every file on disk before the folder gets its name, so that a power cut cannot truncate them."""
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
