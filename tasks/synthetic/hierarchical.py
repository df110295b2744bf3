"""The recipe of He et al., "Scaling Instruction-Tuned LLMs to Million-Token Contexts via Hierarchical Synthetic Data
Generation" (https://arxiv.org/abs/2504.12637), sections 3.1 and 3.2."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from harness.contracts.draft import Dialogue
from harness.contracts.recipe import Items, LengthRange, Recipe, Stage
from harness.errors import UsageError

from .dialogues import Assembly, diverse_needed, hierarchical_needed
from .document_chunks import DocumentChunks
from .hierarchical_options import HierarchicalOptions
from .hierarchical_prompts import WORDS
from .summaries import Summaries
from .walks import DIVERSE, HOPS, LEVELS, Questions


class Hierarchical(Recipe):
    """Documents one after the other in one dialogue, with hierarchical, local and multi-hop questions between them.

    Questions are written from summaries and chunks of two sizes, so that no request is longer than a medium chunk; the
    counts and the order of a dialogue are the paper's (its sections 3.1 and 3.2). Its prompts were not found: ours
    say what they must. The paper describes no filter; ours drop what is empty, cut off, not about its text, or about
    the request itself.
    """

    Options = HierarchicalOptions
    version: ClassVar[str] = "2"
    changelog: ClassVar[tuple[str, ...]] = (
        "1: first version",
        "2: questions and answers about the request itself are dropped",
    )
    tasks: ClassVar[Mapping[str, int]] = {"dialogue": 4080}
    options: HierarchicalOptions

    def __init__(self, options: HierarchicalOptions) -> None:
        super().__init__(options)
        if options.medium < options.small:
            raise UsageError(
                f"recipe hierarchical: medium={options.medium} is less than small={options.small}"
            )
        if options.hierarchical + options.diverse < 1:
            raise UsageError("recipe hierarchical: hierarchical=0 and diverse=0 ask nothing after a document")
        for what, (prompt, answer) in self.requests().items():
            if prompt + answer > options.window:
                raise UsageError(
                    f"recipe hierarchical: {what} takes {prompt:,} tokens and {answer:,} of answer, "
                    f"{prompt + answer:,} in all, more than window={options.window:,}; make small and medium smaller"
                )
        self.chunks = DocumentChunks("hierarchical", options.documents, options.small)
        self._made = 0
        self.walks = -(-hierarchical_needed(options) // len(LEVELS))
        self.each = -(-diverse_needed(options) // len(DIVERSE))

    @cached_property
    def summaries(self) -> Summaries:
        """The summaries of every document."""
        o = self.options
        return Summaries(self.chunks, max(1, o.medium // o.small), o.small, o.summary_tokens, o.window)

    def sources(self) -> dict[str, Any]:
        """The documents, by the SHA-256 of what is in them."""
        return {"documents": self.chunks.documents.sha256}

    def requests(self) -> Mapping[str, tuple[int, int]]:
        """The longest kinds of request."""
        o = self.options
        return {
            "the summary of a medium chunk": (o.medium + WORDS, o.summary_tokens),
            "a question about a medium chunk": (o.medium + WORDS + o.qa_tokens, o.qa_tokens),
            "a multi-hop question": (HOPS * o.small + WORDS, o.qa_tokens),
        }

    def items(self, count: int, nouns: int) -> int:
        """Every document."""
        return len(self.chunks)

    def stages(self, items: int, seed: int) -> list[Stage]:
        """Chunks, their summaries up to one of each document, and questions of five kinds."""
        if items > len(self.chunks):
            raise UsageError(f"--items {items}: there are only {len(self.chunks)} documents")
        self._made = items
        stages = [self.chunks.stage(items), *self.summaries.stages(items)]
        return stages + self._questions(seed).stages(items)

    def draft(self, task: str, pool: Items, rng: random.Random, length: LengthRange | None) -> Dialogue:
        """One dialogue; see `dialogues.Assembly`."""
        return Assembly(self.options, self.chunks, self._questions(0), pool, rng, self._made).make(length)

    def _questions(self, seed: int) -> Questions:
        return Questions(self.summaries, self.walks, self.each, self.options.qa_tokens, seed)
