"""A causal language model with its tokenizer, loaded when it is first needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .._util import hashing
from ..errors import UsageError
from . import chat_template, device_map, hub, tokenizer_file, window
from .window import native_length

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

    from .device_map import Places
    from .sharding import Shards


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
        Tokens the model was made for (see `harness.models.window`).
    context_length
        Tokens it may read here: `native_length`, or less if the user said so.
    dtype
        ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    device
        As torch writes it: ``"cpu"``, ``"cuda"``, ``"cuda:1"``. Of a model that is spread, where its tokens go.
    device_map
        How it is spread over devices, as the user said it; None: it is not.
    places
        Where its parts lie, known once loaded if accelerate chooses them. None: it is not spread.
    unused_weights
        Names of weights in its files that the model does not use: none, unless that was allowed. Known once loaded.
    shards
        This process's part of the weights, if they were loaded sharded; else None.
    """

    def __init__(
        self,
        name: str,
        source: hub.Source,
        config: PretrainedConfig,
        *,
        context_length: int | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        device_map: str | None = None,
        places: Places | None = None,
        chat: str = "auto",
        trust_remote_code: bool = False,
        allow_unused_weights: bool = False,
    ) -> None:
        self.name = name
        self.folder = source.folder
        self.config = config
        self.native_length = native_length(config)
        self.context_length = min(self.native_length, context_length or self.native_length)
        self.dtype = dtype
        self.device = device
        self.device_map = device_map
        self.places = places
        self._source = source
        self._chat = chat
        self._trust_remote_code = trust_remote_code
        self._allow_unused_weights = allow_unused_weights
        self.unused_weights: tuple[str, ...] = ()
        self._lender: LanguageModel | None = None
        self.shards: Shards | None = None
        self._sharded = False

    def shard(self) -> None:
        """Load the weights sharded among the processes that were started together (see `harness.models.sharding`)."""
        self._sharded = True

    def settle(self) -> None:
        """Give other processes their shares of sharded weights until none needs any; all of them call it alike."""
        if self.shards is not None:
            self.shards.settle()

    def borrow(self, lender: LanguageModel) -> None:
        """Use the weights of `lender` (of the same files, dtype and device); nothing is loaded twice."""
        self._lender = lender

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The fast tokenizer. Raises UsageError if the folder has none."""
        if not any(self.folder.glob("*token*")) and not any(self.folder.glob("vocab*")):
            raise UsageError(f"model {self.name}: {self.folder} has no tokenizer")
        tokenizer = tokenizer_file.load(self.folder, self.name, self._trust_remote_code)
        if not tokenizer.is_fast:
            raise UsageError(
                f"model {self.name}: its tokenizer gives no character offsets; save it as tokenizer.json"
            )
        return tokenizer

    @cached_property
    def network(self) -> PreTrainedModel:
        """The weights, loaded on first use: `dtype`, on `device`, evaluation mode, no gradients; sharded if asked for.

        Raises
        ------
        UsageError
            If the files are damaged or lack weights the architecture has (transformers would draw them at
            random and only warn), or the device has too little memory.
        """
        if self._lender is not None:
            network: PreTrainedModel = self._lender.network
            self.unused_weights, self.places = self._lender.unused_weights, self._lender.places
            return network
        from . import network_files

        found = network_files.read(
            self,
            sharded=self._sharded,
            places=self._placed(),
            trust_remote_code=self._trust_remote_code,
            allow_unused_weights=self._allow_unused_weights,
        )
        self.unused_weights, self.shards = found.unused, found.shards
        return found.network

    def _placed(self) -> Places | None:
        """Where parts are to lie; None: all on `device`."""
        if self.device_map is not None and self.places is None:
            self.places = device_map.computed(
                self.device_map, self.config, self.dtype, self.device, remote_code=self._trust_remote_code
            )
        return self.places

    @cached_property
    def chat(self) -> str:
        """How a user's turn is wrapped: ``"template"`` (the tokenizer's), ``"llama2"`` or ``"never"``."""
        if self._chat == "never":
            return "never"
        if chat_template.is_llama2_chat(self.config, self.tokenizer.chat_template):
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
        return (
            chat_template.llama2(text)
            if self.chat == "llama2"
            else chat_template.render_template(self.tokenizer, text, self.name)
        )

    def render_messages(self, turns: Sequence[tuple[str, str]]) -> str:
        """Turns (role, words) as the model expects to read them, up to where the next answer begins.

        Raises
        ------
        UsageError
            If the template takes no such turns (no system turn, two of one role in a row), or there is none.
        """
        if self.chat == "template":
            return chat_template.render_messages(self.tokenizer, turns, self.name)
        if self.chat == "llama2" and [r for r, _ in turns] == [
            *("user", "assistant") * (len(turns) // 2),
            "user",
        ]:
            return chat_template.llama2_turns([words for _, words in turns])
        raise UsageError(
            f"model {self.name}: no chat template for turns by {', '.join(r for r, _ in turns[:3])} ..."
        )

    @cached_property
    def chat_frame(self) -> chat_template.Frame:
        """What stands around the turns of a dialogue.

        Raises
        ------
        UsageError
            If the model has no chat template, or it leaves earlier turns out.
        """
        if self.chat == "never":
            raise UsageError(f"model {self.name} has no chat template, or was told not to use it")
        if self.chat == "llama2":
            found = chat_template.frame(chat_template.llama2_turns)
        else:
            found = chat_template.frame(lambda turns: chat_template.render_turns(self.tokenizer, turns))
        if found is None:
            raise UsageError(f"model {self.name}: its chat template does not keep the turns of a dialogue")
        return found

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Every token that ends an answer, ascending; never empty. Sources: see `chat_template.end_ids`."""
        found = chat_template.end_ids(
            self.tokenizer, self.config, self.folder, self.name, chat=self.chat == "template"
        )
        if not found:
            raise UsageError(f"model {self.name}: no end token in its configuration or tokenizer")
        return found

    @property
    def pad_id(self) -> int:
        """Token to fill batches with: the tokenizer's padding token, else an end token."""
        pad = self.tokenizer.pad_token_id
        if pad is None:
            pad = self.tokenizer.eos_token_id
        usable = pad is not None and int(pad) < self.config.vocab_size  # else a row that the embedding lacks
        return int(pad) if usable else self.end_ids[0]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) over configuration and weights: which model exactly answered."""
        return hashing.content_hash(self.folder, hub.weight_files(self.folder))

    @cached_property
    def _rules(self) -> dict[str, bool]:
        """Which rules, besides its files, decided how this model is spoken to."""
        template = self.chat == "template"
        return {
            "thought_closed": template and self.render_chat("Hi").endswith(chat_template.CLOSED),
            "date_fixed": template and chat_template.asks_the_date(self.tokenizer.chat_template),
            "end_token_dropped": bool(tokenizer_file.around(self.tokenizer)[1]),
        }

    @cached_property
    def tokenizer_hash(self) -> str:
        """SHA-256 (hex) over all that turns text into tokens and back: vocabulary, template, end tokens."""
        parts = [
            self._token_rules(),
            self.chat,
            self.tokenizer.chat_template,
            self.end_ids,
            self.tokenizer.bos_token,
        ]
        # What changes answers for some models only is added for those: the hashes of all others stay.
        if self.tokenizer.clean_up_tokenization_spaces:
            parts.append("clean_up_tokenization_spaces")
        if any(self._rules.values()):
            parts.append(self._rules)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def token_hash(self) -> str:
        """SHA-256 (hex) over what turns text into tokens: what weights were trained for, whatever the template."""
        return hashlib.sha256(json.dumps(self._token_rules(), sort_keys=True).encode()).hexdigest()

    def _token_rules(self) -> dict[str, Any]:
        rules: dict[str, Any] = json.loads(self.tokenizer.backend_tokenizer.to_str())
        rules.pop("padding", None)  # left behind by the last call, not a property of the tokenizer
        rules.pop("truncation", None)
        return rules

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
            **device_map.facts(self.device_map, self.places),
            "chat": self.chat,
            "reading": {
                "native_length": window.source(self.config),
                "tokenizer": type(self.tokenizer).__name__,
                "end_tokens": {str(i): self.tokenizer.convert_ids_to_tokens(i) for i in self.end_ids},
                "special_tokens_in_data": "read as text",
                **self._rules,
            },
            **({"unused_weights": list(self.unused_weights)} if self.unused_weights else {}),
            "parameters": sum(p.numel() for p in self.network.parameters()) if loaded else None,
        }
