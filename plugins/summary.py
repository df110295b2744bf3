"""`summary`: the model says in its own words what each part of the text holds, and answers from that.

Recursive summarising as in Wu et al., "Recursively Summarizing Books with Human Feedback",
https://arxiv.org/abs/2109.10862, without training and without the question.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness import Decoding, Generation, Method, Options, UsageError

from ._budget import Condensed, answer, pieces, room

if TYPE_CHECKING:
    from harness.contracts import Head
    from harness.models import LanguageModel

REQUEST = ("Text:\n\n", "\n\nSay in a few sentences what this text says. Keep names, numbers and facts.")
"""What stands around each part. Ours: the paper's models were trained to summarise."""

TOGETHER = 8
"""Parts that are condensed in one batch."""


class SummaryOptions(Options):
    """Options of `Summary`."""

    chunk: int = Field(1024, ge=16, description="tokens of a part that is condensed at once")
    length: int = Field(96, ge=4, description="tokens of the summary of a part at most")


class Summary(Method):
    """Let the model condense the text part by part, again and again, until it fits; then answer from the summaries.

    A text within ``--budget`` (without one: the window) is read as it is. A longer one is cut into parts of ``chunk``
    tokens, each is put to the model with a request to say what it says (in at most ``length`` tokens, without the
    question), and the summaries, a line each, take the text's place; that is repeated until they fit. What is written
    costs time, which is booked as compression; memory is really saved.
    """

    Options = SummaryOptions
    options: SummaryOptions
    aims = True

    def __init__(self, model: LanguageModel, options: Any) -> None:
        super().__init__(model, options)
        chunk, length = self.options.chunk, self.options.length
        if chunk < 2 * length:
            raise UsageError(
                f"method summary: --length {length} is more than half of --chunk {chunk}: the text would hardly get "
                "shorter; lower --length"
            )
        if chunk + length > model.context_length:
            raise UsageError(
                f"method summary: --chunk {chunk} and --length {length} are more than the window of "
                f"{model.context_length} tokens of {model.name}; lower --chunk"
            )

    def context_limit(self) -> None:
        """Any number of tokens: no part is longer than ``chunk``."""

    def tokens_to_process(self, tokens: int, decoding: Decoding) -> int:
        """A first round over the text, with what it writes, and what is left of it."""
        kept = self.budget or self.model.context_length
        if tokens <= kept:
            return tokens
        return tokens + tokens // self.options.chunk * self.options.length + kept

    def share_key(self, context: int, reserve: int, decoding: Decoding) -> Hashable:
        """How much room there is for summaries depends on the question's length, and on the answer's."""
        return (reserve, decoding.max_new_tokens)

    def compress(
        self, contexts: Sequence[Head], reserve: Sequence[int], decoding: Decoding
    ) -> list[Condensed]:
        """The cache of each instruction and what stands for its context; it does not depend on the question."""
        import torch

        from harness.inference import KVCache, feed

        found = []
        for head, question in zip(contexts, reserve):
            limit = room("summary", self.model, self.budget, len(head.prefix_ids) + question, decoding)
            kept, rounds, notes = list(head.context_ids), [], []
            while len(kept) > limit:
                shorter = self._round(kept)
                if len(shorter) >= len(kept):
                    notes = [f"summaries do not get shorter: the first {limit} tokens of them were read"]
                    kept = kept[:limit]
                    break
                kept = shorter
                rounds.append(len(kept))
            ids, cache = [*head.prefix_ids, *kept], KVCache()
            if ids:
                with torch.no_grad():
                    [cache], _ = feed(self.model.network, [cache], [ids])
            details = {"rounds": rounds, **({"notes": notes} if notes else {})} if rounds or notes else {}
            found.append(Condensed(cache, len(head), details))
        return found

    def generate(
        self, states: Sequence[Condensed], questions: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[Generation]:
        return answer(self.model, states, questions, decoding)

    def _round(self, ids: Sequence[int]) -> list[int]:
        """Summaries of the parts of `ids`, a line each."""
        from harness.inference import write

        tokenizer = self.model.tokenizer
        line = tokenizer("\n", add_special_tokens=False)["input_ids"]
        asked = [self._request(part) for part in pieces(ids, self.options.chunk)]
        if (most := max(map(len, asked)) + self.options.length) > self.model.context_length:
            raise UsageError(
                f"method summary: a part of {self.options.chunk} tokens with its request and summary takes {most}, "
                f"more than the window of {self.model.context_length} of {self.model.name}; lower --chunk"
            )
        found: list[int] = []
        for batch in pieces(range(len(asked)), TOGETHER):
            for summary in write(self.model, [asked[i] for i in batch], self.options.length):
                text = tokenizer.decode(summary, skip_special_tokens=True).strip()
                found += [
                    *tokenizer(text, add_special_tokens=False)["input_ids"][: self.options.length],
                    *line,
                ]
        return found

    def _request(self, part: Sequence[int]) -> Sequence[int]:
        from harness.contracts import Prompt
        from harness.prompts import render, tokenize

        text = self.model.tokenizer.decode(part, skip_special_tokens=True)
        asked = Prompt(REQUEST[0], text, REQUEST[1])
        return tokenize(render(asked, self.model, chat=True), self.model).ids
