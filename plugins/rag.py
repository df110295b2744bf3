"""`rag`: retrieval of chunks. The model reads the parts of the text that share most with the question.

The usual baseline of long-context papers (for instance Xu et al., "Retrieval meets Long Context Large Language Models",
https://arxiv.org/abs/2310.03025, which keeps chunks in the order of their rank; ours keep that of the text unless told
otherwise). The rest of the text is never read: memory is really saved, and so is time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness import Decoding, Generation, Method, Options, UsageError

from ._budget import Condensed, answer, pieces, room

if TYPE_CHECKING:
    from harness import TokenizedPrompt
    from harness.models import LanguageModel
    from harness.models.embeddings import Embedder


class RagOptions(Options):
    """Options of `Rag`."""

    chunk: int = Field(256, ge=1, description="tokens of a chunk")
    top: int | None = Field(
        None, ge=1, description="best chunks that are read; default: as many as --budget holds, or the window"
    )
    retriever: Literal["bm25", "dense"] = Field(
        "bm25", description="by what chunks are ranked: words (BM25), or embeddings of a model"
    )
    embedder: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="of --retriever dense, a model of sentence-transformers: a name on the Hub, or a folder",
    )
    order: Literal["text", "rank"] = Field(
        "text", description="chunks as they stand in the text, or the best first"
    )
    edges: bool = Field(False, description="read the first and the last chunk besides")


class Rag(Method):
    """Retrieve chunks by the question, and read only those.

    A text within ``--budget`` (without one: the window) is read whole. Of a longer one chunks of ``chunk`` tokens are
    ranked by BM25, or by the cosine of embeddings (of the question alone, where the task has one; else of all that
    follows the text) and taken, best first, until ``top`` or the budget is reached; equal ones in the order of the
    text. A record says which chunks were read, with the relevance of each, and notes a relevance that is the same for
    all.
    """

    Options = RagOptions
    options: RagOptions
    sees_question = True
    aims = True

    def __init__(self, model: LanguageModel, options: Any) -> None:
        super().__init__(model, options)
        self._check_chunk("the window", model.context_length)

    def aim(self, entries: int) -> None:
        """Chunks are read as long as they fit beside instruction and question."""
        self._check_chunk("--budget", entries)
        super().aim(entries)

    def _check_chunk(self, what: str, most: int) -> None:
        twice = " twice (--edges)" if self.options.edges else ""
        if self.options.chunk * (2 if self.options.edges else 1) > most:
            raise UsageError(
                f"method rag: --chunk {self.options.chunk}{twice} is more than {what} of {most} tokens; lower --chunk"
            )

    def identity(self) -> dict[str, Any]:
        """What decides the ranking besides the options: rules of words, or the model that embeds."""
        from harness._util.words import VERSION
        from harness.models import embeddings

        if self.options.retriever == "bm25":
            return {"words": VERSION}
        return embeddings.facts(self.options.embedder, "--retriever dense")

    @cached_property
    def _embedder(self) -> Embedder:
        from harness.models.embeddings import Embedder

        return Embedder(self.options.embedder, "--embedder")

    def prepare(self, prompts: Sequence[TokenizedPrompt], decoding: Decoding) -> None:
        """Load the model that embeds: one that is missing is refused once, not by every sample."""
        if self.options.retriever == "dense":
            _ = self._embedder

    def _relevance(self, texts: Sequence[str], question: str) -> list[float]:
        """How much each text has of what is asked."""
        from .two_pass.relevance import bm25

        if self.options.retriever == "bm25":
            return bm25(texts, question)
        *rows, asked = self._embedder.encode([*texts, question])
        return [float(row @ asked) for row in rows]

    def context_limit(self) -> None:
        """Any number of tokens: what is not retrieved is not read."""

    def tokens_to_process(self, tokens: int, decoding: Decoding) -> int:
        """What is read of a prompt."""
        budget = self.budget or self.model.context_length
        most = budget if self.options.top is None else min(budget, self.options.top * self.options.chunk)
        return min(tokens, most)

    def compress_and_generate(
        self, prompts: Sequence[TokenizedPrompt], decoding: Decoding
    ) -> list[Generation]:
        """Choose, read and answer."""
        import torch

        from harness.contracts import phase
        from harness.inference import KVCache, feed

        with phase("compress"):
            chosen = [self._choose(prompt, decoding) for prompt in prompts]
        with phase("prefill"), torch.no_grad():
            heads = [[*prompt.head_ids.prefix_ids, *ids] for prompt, (ids, _) in zip(prompts, chosen)]
            caches = [KVCache()] * len(heads)
            filled = [i for i, head in enumerate(heads) if head]
            if filled:
                fed, _ = feed(self.model.network, [KVCache()] * len(filled), [heads[i] for i in filled])
                for i, cache in zip(filled, fed):
                    caches[i] = cache
        states = [
            Condensed(cache, len(prompt.head_ids), details)
            for cache, prompt, (_, details) in zip(caches, prompts, chosen)
        ]
        return answer(self.model, states, [prompt.suffix_ids for prompt in prompts], decoding)

    def _choose(self, prompt: TokenizedPrompt, decoding: Decoding) -> tuple[list[int], dict[str, Any]]:
        """Token ids of the chunks that are read, and what the record says of them."""
        from .two_pass.relevance import says_nothing

        head, tail, options = prompt.head_ids, prompt.suffix_ids, self.options
        around = len(head.prefix_ids) + len(tail)
        limit = room("rag", self.model, self.budget, around, decoding)
        if len(head.context_ids) <= limit:
            return list(head.context_ids), {}
        chunks = pieces(head.context_ids, options.chunk)
        texts = [self.model.tokenizer.decode(chunk, skip_special_tokens=True) for chunk in chunks]
        relevance = self._relevance(texts, tail.question or tail.suffix)
        ranked = sorted(range(len(chunks)), key=lambda i: -relevance[i])
        ends = [0, len(chunks) - 1] if options.edges else []
        taken: list[int] = []
        for i in [*ends, *[i for i in ranked if i not in ends][: options.top]]:
            if sum(len(chunks[j]) for j in taken) + len(chunks[i]) <= limit:
                taken.append(i)
        if not taken:
            raise UsageError(
                f"method rag: no chunk of {options.chunk} tokens fits beside the {around} of instruction and question; "
                "lower --chunk or raise --budget"
            )
        note = says_nothing(options.retriever, relevance, relevance)
        details = {"chunks": len(chunks), "read": taken, "relevance": [round(r, 4) for r in relevance]}
        ordered = taken if options.order == "rank" else sorted(taken)
        return [token for i in ordered for token in chunks[i]], {
            **details,
            **({"notes": [note]} if note else {}),
        }
