"""How text is split before the merges of a GGUF file's vocabulary apply.

A file names the rule (``tokenizer.ggml.pre``) and does not hold it. Transformers knows some names, other versions of it
none, and what it does not know it splits as GPT-2 does: other tokens, above all of numbers and line breaks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import UsageError

_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

PATTERNS = {"llama-bpe": rf"{_ENDINGS}\p{{N}}{{1,3}}{_REST}", "qwen2": rf"{_ENDINGS}\p{{N}}{_REST}"}
"""Rules by regular expression, as the ``tokenizer.json`` of Llama 3 and of Qwen2 have them."""

NAMES = {
    "gpt-2": "gpt-2",
    "phi-2": "gpt-2",
    "smollm": "smollm",
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"), "llama-bpe"),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), "qwen2"),
}
"""Names of rules as llama.cpp writes them, and the rule that each is."""


def named_rule(gguf: Path) -> str | None:
    """The rule that a file with merges of bytes names; None for a file with pieces, which are not split.

    Raises
    ------
    UsageError
        If it names none, or one that is not known here.
    """
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    kind, name = (
        str(fields[key].contents()) if key in fields else ""
        for key in ("tokenizer.ggml.model", "tokenizer.ggml.pre")
    )
    if kind != "gpt2":
        return None
    if name not in NAMES:
        said = (
            f"by {name!r}, which is not known here" if name not in ("", "default") else "by no rule it names"
        )
        raise UsageError(
            f"{gguf}: its text is split {said} (tokenizer.ggml.pre), and other rules give other tokens; give the "
            "model as a folder of safetensors"
        )
    return NAMES[name]


def split_by(rule: str, backend: Any) -> None:
    """Make a tokenizer of the tokenizers package split text, merge and put it together again by a rule of `NAMES`.

    All of it is set, not only what splits: versions of transformers convert the same file to other settings, of
    which most change no token, but all change the hash that runs and adapters are known by.
    """
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

    held = json.loads(backend.to_str())["model"]
    backend.model = models.BPE(
        vocab=held["vocab"],
        merges=[tuple(pair) for pair in held["merges"]],
        continuing_subword_prefix="",
        end_of_word_suffix="",
        ignore_merges=rule == "llama-bpe",  # a word that is in the vocabulary is one token, however merges go
    )
    backend.decoder = decoders.ByteLevel()
    backend.normalizer = normalizers.NFC() if rule == "qwen2" else None
    if rule == "gpt-2":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    elif rule == "smollm":
        first: Any = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [first, pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    else:
        split = pre_tokenizers.Split(Regex(PATTERNS[rule]), behavior="isolated")
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
