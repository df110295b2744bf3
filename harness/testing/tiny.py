"""A model and a tokenizer small enough to be made on the spot: nothing is downloaded, nothing is kept."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._util.quiet import hush_libraries

if TYPE_CHECKING:
    from ..models.model import LanguageModel

WINDOW = 2048
"""Tokens the model of `tiny_model` reads unless told otherwise: room for intervals of 1,024."""

WINDOWS = (1536, WINDOW, 4096, 8192)
"""Windows tried for a method, until its options fit one: the smaller, the faster."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The simplest of templates: no system prompt, nothing trimmed."""

_SENTENCES = [
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.",
    "The passkey is 12345. Remember it. 67890 is the passkey. What is the passkey?",
    "Answer the question with one word, based on the given passages. Question: Answer:",
    "def add(first, second):\n    return first + second\n\n",
    "Café, naïve, 北京, emoji \N{SLIGHTLY SMILING FACE} and\ttabs\n\nnewlines.",
]

_kept: list[tempfile.TemporaryDirectory[str]] = []
"""Folders of this process's models; deleted as it ends."""


def make_tokenizer(chat_template: str | None = CHAT_TEMPLATE, **special: str) -> Any:
    """A byte-level BPE tokenizer of 512 tokens, trained here, that puts a BOS before text.

    Parameters
    ----------
    chat_template
        Jinja; None: none.
    special
        More special tokens, by the names of `transformers`: ``pad_token="</s>"``.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_SENTENCES, trainer)
    bos = backend.token_to_id("<s>")
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    names = {"bos_token": "<s>", "eos_token": "</s>", **special}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names)
    tokenizer.chat_template = chat_template
    return tokenizer


def make_model(folder: Path, family: str = "llama", tokenizer: Any = None, **changes: object) -> Path:
    """Save a random model of a family (two layers, four heads, two KV heads) and a tokenizer to `folder`.

    Parameters
    ----------
    family
        A model type of `transformers`: ``"llama"``, ``"mistral"``, ``"qwen2"``, ``"qwen3"``.
    tokenizer
        None: that of `make_tokenizer`.
    changes
        Fields of the configuration; by default the window is 256 tokens.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    hush_libraries()
    tokenizer = tokenizer or make_tokenizer()
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": True,
        # Large enough that attention is not uniform and greedy answers differ between prompts.
        "initializer_range": 0.2,
        **changes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def tiny_folder(window: int = WINDOW) -> Path:
    """The folder of a tiny Llama with that window, made once a process and deleted as it ends."""
    held = tempfile.TemporaryDirectory(prefix="harness-tiny-")
    _kept.append(held)
    return make_model(Path(held.name) / "tiny", max_position_embeddings=window)


def tiny_model(window: int = WINDOW) -> LanguageModel:
    """A Llama of about 100,000 random parameters on the CPU; each call gives one of its own."""
    from ..models import loading

    return loading.load(str(tiny_folder(window)), device="cpu", offline=True)
