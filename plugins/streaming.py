"""`streaming`: StreamingLLM, the first and the latest KV entries of however long a text.

Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks", https://arxiv.org/abs/2309.17453.
Entries that leave are dropped: memory is really saved, and bounded.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from harness import Decoding, Generation, Method, Options, UsageError

from ._budget import noted

if TYPE_CHECKING:
    from harness.inference import KVCache


class StreamingOptions(Options):
    """Options of `Streaming`."""

    sinks: int = Field(4, ge=0, description="first KV entries, which stay for good")
    recent: int = Field(
        1020, ge=1, description="latest KV entries, which stay until newer ones push them out"
    )
    chunk: int = Field(
        256,
        ge=1,
        description="tokens read, or answered, before older ones are dropped; 1 is the paper's, and slow",
    )


@dataclass(frozen=True)
class Stream:
    """What is left of a context: its kept KV entries, and how many tokens were read."""

    cache: KVCache
    read: int


class Streaming(Method):
    """Attention sinks and a recent window (StreamingLLM): memory stays the same, whatever the length.

    Tokens are read ``chunk`` at a time. A token attends to what was kept before its chunk, which is at most the
    first ``sinks`` and the latest ``recent`` entries, and to its chunk up to itself; then all other entries are
    dropped and the keys of the recent ones turned to their new ranks, so that positions count places in the
    cache, as in the paper. The question is read like the context. While answering, too, entries are dropped after
    every ``chunk`` new tokens, so the cache never holds more than sinks + recent + chunk. With ``chunk`` 1 this is
    the paper's rule, token by token; each token's own entry is written from what it saw then, so a dropped token
    still echoes in those that read it.
    """

    Options = StreamingOptions
    aims = True
    options: StreamingOptions

    def aim(self, entries: int) -> None:
        """The sinks stay, and as many of the latest entries as the budget has beside them."""
        if "recent" in self.options.model_fields_set:
            raise UsageError("method streaming: --recent and --budget both say how much stays; give one")
        sinks, chunk, window = self.options.sinks, self.options.chunk, self.model.context_length
        if not sinks < entries <= window - chunk:
            raise UsageError(
                f"method streaming: --budget of {entries} entries must be more than --sinks {sinks}, and with --chunk "
                f"{chunk} at most the window of {window} tokens of {self.model.name}"
            )
        super().aim(entries)

    @property
    def recent(self) -> int:
        """Latest entries that stay."""
        return self.options.recent if self.budget is None else self.budget - self.options.sinks

    def context_limit(self) -> None:
        """Any number of tokens can be read. Raises UsageError if the window does not hold what is kept."""
        held = self.options.sinks + self.recent + self.options.chunk
        if held > self.model.context_length:
            raise UsageError(
                f"method streaming: --sinks {self.options.sinks} + --recent {self.recent} + --chunk "
                f"{self.options.chunk} = {held} entries at a time, more than the window of {self.model.context_length} "
                f"tokens of {self.model.name}; lower --recent"
            )

    def share_key(self, context: int, reserve: int, decoding: Decoding) -> Hashable:
        """What is kept of a context depends on the context alone."""
        return ()

    def compress(
        self, contexts: Sequence[Sequence[int]], reserve: Sequence[int], decoding: Decoding
    ) -> list[Stream]:
        """The kept entries of each context, at most ``sinks + recent``; they do not depend on what follows."""
        from harness.inference import KVCache

        caches = self._read([KVCache()] * len(contexts), contexts)
        return [Stream(cache, len(context)) for cache, context in zip(caches, contexts)]

    def generate(
        self, states: Sequence[Stream], questions: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[Generation]:
        from harness.contracts import phase
        from harness.inference import stop_reason

        with phase("prefill"):
            caches = self._read([s.cache for s in states], [q[:-1] for q in questions])
        with phase("decode"):
            answers = self._answer(caches, [q[-1] for q in questions], decoding)
        return [
            Generation(
                text=self.model.tokenizer.decode(tokens, skip_special_tokens=True),
                token_ids=tokens,
                stop_reason=stop_reason(self.model, decoding, tokens),
                prompt_tokens=state.read + len(question),
                kv_tokens=len(cache),
                details=noted({}, len(cache), state.read + len(question)),
            )
            for state, question, cache, tokens in zip(states, questions, caches, answers)
        ]

    def _read(self, caches: Sequence[KVCache], tokens: Sequence[Sequence[int]]) -> list[KVCache]:
        """Each cache after reading its tokens, chunk by chunk, trimmed."""
        import torch

        from harness.inference import feed

        found, chunk = list(caches), self.options.chunk
        for start in range(0, max(map(len, tokens), default=0), chunk):
            rows = [i for i, t in enumerate(tokens) if len(t) > start]
            with torch.no_grad():
                read, _ = feed(
                    self.model.network,
                    [found[i] for i in rows],
                    [tokens[i][start : start + chunk] for i in rows],
                )
            for i, cache in zip(rows, read):
                found[i] = self._trim(cache)
        return found

    def _answer(self, caches: Sequence[KVCache], last: Sequence[int], decoding: Decoding) -> list[list[int]]:
        """Decode in pieces of `chunk` tokens, trimming between them."""
        from harness.inference import decode, end_token_ids

        ends, chunk = end_token_ids(self.model, decoding), self.options.chunk
        answers: list[list[int]] = [[] for _ in caches]
        held, open_rows = dict(enumerate(caches)), list(range(len(caches)))
        for produced in range(0, decoding.max_new_tokens, chunk):
            newest = [answers[i][-1] if answers[i] else last[i] for i in open_rows]
            read, pieces = decode(
                self.model,
                [held[i] for i in open_rows],
                newest,
                decoding,
                produced=produced,
                at_most=chunk,
            )
            for i, cache, piece in zip(open_rows, read, pieces):
                answers[i] += piece
                held[i] = self._trim(cache)
            open_rows = [i for i in open_rows if answers[i][-1] not in ends]
            if not open_rows:
                break
        return answers

    def _trim(self, cache: KVCache) -> KVCache:
        """The first `sinks` and latest `recent` entries, the latter turned to the places they move to."""
        import torch

        from harness.inference import moved

        sinks, recent = self.options.sinks, self.recent
        dropped = len(cache) - sinks - recent
        if dropped <= 0:
            return cache
        late = cache.slice(sinks + dropped, len(cache))
        late = moved(self.model.network, late, torch.full((recent,), -dropped))
        return cache.slice(0, sinks).append(late)
