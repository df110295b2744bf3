"""`kvpress:FinchPress`: what is kept of a context is what the question looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness import Decoding, Generation, Method, UsageError

from .placing import shortened
from .press_method import PressMethod

if TYPE_CHECKING:
    from harness.contracts import TokenizedPrompt


class Asked(tuple[int, ...]):
    """Token ids of a context and of the question after it, whose `window` last ones are the question's."""

    window: int

    def __new__(cls, context: Sequence[int], question: Sequence[int]) -> Asked:
        made = super().__new__(cls, (*context, *question))
        made.window = len(question)
        return made


class AskingPressMethod(PressMethod):
    """A press of kvpress that scores a context by the question's attention, and keeps the question.

    kvpress marks where the question begins with a token that it adds to model and tokenizer, and takes out of the
    embeddings again. Here the press is told the number of the question's tokens instead: all that follows the context
    but the last token, from which the answer starts. Nothing is added to the model.
    """

    sees_question = True
    NO_TOKEN = -1
    """In place of the id of kvpress's marking token: it is in no text."""

    # A context is not compressed apart from its question: there are no two halves.
    compress = Method.compress  # type: ignore[assignment]
    generate = Method.generate  # type: ignore[assignment]

    def compress_and_generate(
        self, prompts: Sequence[TokenizedPrompt], decoding: Decoding
    ) -> list[Generation]:
        """Read each context with its question under the press, and answer from what is left."""
        from harness.contracts import phase

        answers = []
        for prompt in prompts:
            with phase("compress"):
                state = self._press(self._asked(prompt, len(prompt.head_ids)), 1)
            answers.append(self._answer(state, prompt.suffix_ids[-1:], decoding))
        return answers

    def _asked(self, prompt: TokenizedPrompt, tokens: int) -> Asked:
        question = prompt.suffix_ids[:-1]
        if not question:
            raise UsageError(
                f"kvpress:{self.press.__name__} keeps what the question looks at, and nothing is asked after a context"
            )
        return Asked(shortened(prompt.head_ids, tokens), question)

    def _try(self, prompt: TokenizedPrompt, tokens: int) -> None:
        self._press(self._asked(prompt, tokens), 1)

    def _ready(self, press: Any, context: Sequence[int]) -> None:
        assert isinstance(context, Asked)
        kept = int(len(context) * (1 - press.compression_ratio))
        if kept <= context.window:
            raise UsageError(
                f"kvpress:{self.press.__name__}: of {len(context)} tokens {kept} would be kept, no more than the "
                f"{context.window} of the question; lower --compression-ratio or raise --budget"
            )
        press.window_size, press.delimiter_token_id = context.window, self.NO_TOKEN
