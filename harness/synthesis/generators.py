"""Who writes synthetic data: the loaded model itself, or an endpoint that speaks OpenAI's protocol.

Recipes ask through `Request` and get an `Answer`; they never see which generator there is.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..contracts.recipe import Answer, Request
from ..errors import UsageError

if TYPE_CHECKING:
    import torch

    from ..models.model import LanguageModel

PROBE_TOKENS = 12
"""New tokens a row that `ModelGenerator.speed` decodes to measure the speed."""


class Generator(Protocol):
    """Whatever answers requests.

    Attributes
    ----------
    batch_size
        How many requests are given to `generate` at once; a pool always groups its items by this number.
    window
        Tokens it can read, prompt and answer together; None: unknown.
    """

    batch_size: int
    window: int | None

    def facts(self) -> dict[str, Any]:
        """JSON-ready: everything that can change an answer. Two pools with other facts are never mixed."""
        ...

    def speed(self) -> float | None:
        """New tokens a second, measured on a moment's work; None if that would cost money or is unknown."""
        ...

    def generate(self, requests: Sequence[Request], seed: int) -> list[Answer]:
        """Answer all requests, in their order."""
        ...


def draw_seed(seed: int, key: str) -> int:
    """A 63-bit seed for one request: the same for the same (seed, key), whatever else is asked with it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:8], "big") >> 1


class ModelGenerator:
    """The loaded model writes, in its chat template: self-extension.

    Each request draws from a random source of its own, so a neighbour in the batch cannot change its draws.
    Padding can still change the last bits of its logits; that is why pools keep batches fixed.

    Parameters
    ----------
    model
        Loaded on first use.
    batch_size
        Requests decoded together; memory grows with it.
    """

    def __init__(self, model: LanguageModel, batch_size: int) -> None:
        self.model = model
        self.batch_size = batch_size
        self.window: int | None = model.context_length

    def facts(self) -> dict[str, Any]:
        """Weights, template and numeric type of the model, and the batch size: all may change an answer."""
        return {
            "kind": "model",
            "content_hash": self.model.content_hash,
            "tokenizer_hash": self.model.tokenizer_hash,
            "dtype": self.model.dtype,
            "batch_size": self.batch_size,
        }

    def speed(self) -> float | None:
        """New tokens a second of a full batch, reading of short prompts included; takes a second or two."""
        prompt = "Write a long story with long paragraphs about a lighthouse."
        probe = [Request(f"probe {n}", prompt, PROBE_TOKENS, 0.7, 50) for n in range(self.batch_size)]
        self.generate(probe[:1], 0)  # loads the weights, and whatever the first pass has to set up
        start = time.perf_counter()
        written = sum(answer.tokens for answer in self.generate(probe, 0))
        return written / (time.perf_counter() - start)

    def generate(self, requests: Sequence[Request], seed: int) -> list[Answer]:
        """Sample all answers together.

        Raises
        ------
        UsageError
            If a prompt leaves less than `max_tokens` of the model's window, or the device's memory is full.
        """
        import torch

        try:
            with torch.no_grad():
                return self._sample(requests, seed)
        except torch.OutOfMemoryError as error:
            raise UsageError(
                f"{self.model.device} has too little memory for batches of {self.batch_size}; "
                "give a smaller --batch-size (and another --out: the batch size may change the texts)"
            ) from error

    def _sample(self, requests: Sequence[Request], seed: int) -> list[Answer]:
        import torch

        sources = [torch.Generator().manual_seed(draw_seed(seed, request.key)) for request in requests]
        written: list[list[int]] = [[] for _ in requests]
        forward = _Forward(self.model, [self._ids(request) for request in requests])
        ends = set(self.model.end_ids)
        rows, live = list(range(len(requests))), set(range(len(requests)))
        while True:
            logits = forward.logits.float().cpu()
            for at, row in enumerate(rows):
                if row in live:
                    token = _draw(logits[at], requests[row], sources[row])
                    written[row].append(token)
                    if token in ends or len(written[row]) >= requests[row].max_tokens:
                        live.remove(row)
            if not live:
                return [self._answer(tokens, ends) for tokens in written]
            # A finished row still costs time, but taking rows out copies the whole cache.
            if len(live) <= len(rows) * 3 // 4:
                forward.keep([at for at, row in enumerate(rows) if row in live])
                rows = [row for row in rows if row in live]
            forward.read([written[row][-1] for row in rows])

    def _ids(self, request: Request) -> list[int]:
        from ..contracts.prompt import Prompt
        from ..prompts.rendering import render, tokenize

        ids = tokenize(render(Prompt("", request.prompt, ""), self.model, chat=True), self.model).ids
        if len(ids) + request.max_tokens > self.model.context_length:
            raise UsageError(
                f"{request.key}: a prompt of {len(ids)} tokens and an answer of up to {request.max_tokens} do "
                f"not fit the {self.model.context_length} tokens of {self.model.name}; ask for shorter texts "
                "(--set, see harness synth --help)"
            )
        return list(ids)

    def _answer(self, tokens: list[int], ends: set[int]) -> Answer:
        ended = bool(tokens) and tokens[-1] in ends
        text = self.model.tokenizer.decode(tokens, skip_special_tokens=True)
        return Answer(str(text), ended, len(tokens))


class _Forward:
    """A batch of sequences that are read token by token, padded on the left.

    Attributes
    ----------
    logits
        Of the newest position of each row: ``[rows, vocabulary]``.
    """

    def __init__(self, model: LanguageModel, prompts: Sequence[Sequence[int]]) -> None:
        import torch
        from transformers import DynamicCache

        self.network: Any = model.network
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), model.pad_id, dtype=torch.long)
        self.mask = torch.zeros(len(prompts), width, dtype=torch.long, device=model.device)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            self.mask[row, width - len(prompt) :] = 1
        self.cache: Any = DynamicCache()
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)
        self.logits = self._pass(ids.to(model.device), positions)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        import torch

        index = torch.tensor(rows, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.mask = self.mask[index]

    def read(self, tokens: Sequence[int]) -> None:
        """Read one more token a row."""
        import torch

        self.mask = torch.cat((self.mask, self.mask.new_ones(len(tokens), 1)), dim=1)
        ids = torch.tensor(tokens, device=self.mask.device)[:, None]
        self.logits = self._pass(ids, self.mask.sum(-1, keepdim=True) - 1)

    def _pass(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        out = self.network(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = out.logits[:, -1]
        return logits


def _draw(logits: torch.Tensor, request: Request, source: torch.Generator) -> int:
    """One token from ``logits [vocabulary]``: top-k, temperature, then one uniform number through the CDF."""
    import torch

    best, tokens = torch.topk(logits, min(request.top_k, logits.shape[-1]))
    cumulative = torch.softmax(best.double() / request.temperature, dim=-1).cumsum(-1)
    place = int(torch.searchsorted(cumulative, torch.rand(1, generator=source, dtype=torch.float64)))
    return int(tokens[min(place, len(tokens) - 1)])
