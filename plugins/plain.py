"""`plain`: the model as it is; what does not fit its window is truncated by the declared rule."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from harness import Decoding, Generation, Method

if TYPE_CHECKING:
    from harness.inference import KVCache

LLAMA2_PROMPT_TOKENS = 3500
"""LongBench's limit for Llama-2 chat models (4,096 positions)."""


class Plain(Method):
    """Full attention over the (truncated) prompt: the baseline every other method is compared with.

    For Llama-2 (a Llama of 4,096 positions and 32,000 token types) prompts are truncated to 3,500 tokens, as
    LongBench does; for others to what fits.
    """

    aims = True

    def prompt_limit(self) -> int | None:
        """With ``--budget`` the prompt is cut to it, by the task's rule."""
        return self.budget

    def default_max_context(self) -> int | None:
        config: Any = self.model.config
        llama2 = config.model_type == "llama" and (self.model.native_length, config.vocab_size) == (
            4096,
            32000,
        )
        return LLAMA2_PROMPT_TOKENS if llama2 and self.model.context_length == 4096 else None

    def share_key(self, context: int, reserve: int, decoding: Decoding) -> Hashable:
        """Nothing but the context decides what its full cache holds."""
        return None

    def compress(
        self, contexts: Sequence[Sequence[int]], reserve: Sequence[int], decoding: Decoding
    ) -> list[KVCache]:
        """Nothing is compressed: the states are the full caches of the contexts, and the time is that of reading."""
        import torch

        from harness.contracts import phase
        from harness.inference import KVCache, feed

        states = [KVCache()] * len(contexts)
        rows = [i for i, c in enumerate(contexts) if len(c)]
        if rows:
            with phase("prefill"), torch.no_grad():
                read, _ = feed(self.model.network, [states[i] for i in rows], [contexts[i] for i in rows])
            for i, state in zip(rows, read):
                states[i] = state
        return states

    def generate(
        self, states: Sequence[KVCache], questions: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[Generation]:
        import torch

        from harness.contracts import phase
        from harness.inference import decode, feed, stop_reason

        caches = list(states)
        rows = [i for i, q in enumerate(questions) if len(q) > 1]
        with phase("prefill"), torch.no_grad():
            if rows:
                read, _ = feed(
                    self.model.network, [caches[i] for i in rows], [questions[i][:-1] for i in rows]
                )
                for i, cache in zip(rows, read):
                    caches[i] = cache
        with phase("decode"):
            _, answers = decode(self.model, caches, [q[-1] for q in questions], decoding)
        return [
            Generation(
                text=self.model.tokenizer.decode(tokens, skip_special_tokens=True),
                token_ids=tokens,
                stop_reason=stop_reason(self.model, decoding, tokens),
                prompt_tokens=len(cache) + 1,
                kv_tokens=len(cache),
            )
            for cache, tokens in zip(caches, answers)
        ]
