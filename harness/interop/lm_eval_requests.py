"""Requests of lm-eval as prompts of ours: tokenised as its ``hf`` model does, cut to fit, run in measured batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..contracts.method import Method
from ..contracts.outputs import Decoding, Generation, Scored
from ..contracts.prompt import Prompt, TokenizedPrompt
from ..errors import HarnessError, MeasurementError, UsageError
from ..evaluation.apart import apart
from ..evaluation.generate import prepared_for, watching
from ..inference.verification import asked_of
from ..prompts.rendering import by_last_line, tokenize
from ..prompts.tokenization import continuation_ids, trailing_blanks
from .lm_eval_measured import Measured

A = TypeVar("A", Generation, Scored)


@dataclass
class Question:
    """A prompt and what is wanted of it.

    Attributes
    ----------
    prompt, decoding
        What the method is given.
    continuations
        Token ids whose likelihood is wanted; empty: an answer is.
    places
        Which requests of lm-eval this serves.
    """

    prompt: TokenizedPrompt
    continuations: tuple[tuple[int, ...], ...]
    places: list[int]
    decoding: Decoding


class Requests:
    """What stands between lm-eval's strings and a method.

    Parameters
    ----------
    method
        The method, on its model.
    truncate
        ``"left"`` keeps the last tokens of a prompt that is too long, ``"none"`` refuses it.
    batch_size
        Requests run together.
    measured
        Told of everything that is cut, and of every answer.
    most
        Tokens a prompt may have; None: as many as the method reads.
    """

    def __init__(
        self,
        method: Method,
        truncate: str,
        batch_size: int,
        measured: Measured,
        most: int | None = None,
    ) -> None:
        self.method = method
        self.model = method.model
        self.truncate = truncate
        self.batch_size = batch_size
        self.measured = measured
        self.most = most

    def encode(self, context: str, continuation: str, prefix: int) -> tuple[TokenizedPrompt, tuple[int, ...]]:
        """Tokens of a pair exactly as lm-eval's ``hf`` model has them; `prefix` stands for an empty context."""
        tokenizer = self.model.tokenizer
        if context == "":
            ids = tokenizer(continuation, add_special_tokens=False)["input_ids"]
            begin, rest = ([prefix], ids) if not ids or ids[0] != prefix else (ids[:1], ids[1:])
            prompt = TokenizedPrompt(Prompt("", "", ""), tuple(begin), 0, 0)
        else:
            blanks = trailing_blanks(context)
            bare = context[: len(context) - blanks]
            special = not bare.startswith(tokenizer.decode(prefix))
            rest = continuation_ids(tokenizer, bare, context[len(bare) :] + continuation, special)
            prompt = tokenize(by_last_line(bare), self.model)
        if not rest:
            raise UsageError(f"the continuation {continuation!r} has no token of its own after its context")
        return prompt, tuple(rest)

    def fitted(self, prompt: TokenizedPrompt, answer: int) -> TokenizedPrompt:
        """The prompt, cut by the rule if it and an answer of so many tokens are more than the method reads."""
        limits = (self.method.prompt_limit(), self.most)
        most = [limit + answer for limit in limits if limit is not None]
        room = min((n for n in (self.method.context_limit(), *most) if n is not None), default=None)
        self.measured.asked += 1
        if room is None or len(prompt) + answer <= room:
            return prompt
        arithmetic = f"{len(prompt)} prompt + {answer} answer tokens are over the {room} that can be read"
        if self.truncate == "none" or room - answer < 1:
            raise UsageError(f"{arithmetic}; choose another method or truncate=left")
        self.measured.truncated += 1
        self.measured.say(f"{arithmetic}: such prompts keep their last tokens (truncate=left)")
        cut = len(prompt) - (room - answer)
        return TokenizedPrompt(
            prompt.prompt,
            prompt.ids[cut:],
            max(0, prompt.context_start - cut),
            max(0, prompt.context_end - cut),
        )

    def run(
        self,
        questions: list[Question],
        answer: Callable[[Sequence[Question]], list[A]],
        keep: Callable[[Question, A], None],
        silent: bool,
    ) -> None:
        """Run in batches of one decoding, the longest prompts first; every answer is measured."""
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        kinds: dict[Decoding, list[Question]] = {}
        for question in sorted(questions, key=lambda q: -len(q.prompt)):
            kinds.setdefault(question.decoding, []).append(question)
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=silent or not console.is_terminal) as bar:
            row = bar.add_task(f"running {type(self.method).__name__}", total=len(questions))
            for decoding, mine in kinds.items():
                apart(self.method.prepare, prepared_for(self.method, [q.prompt for q in mine]), decoding)
                for start in range(0, len(mine), self.batch_size):
                    batch = mine[start : start + self.batch_size]
                    for question, given in zip(batch, self._batch(batch, answer)):
                        keep(question, given)
                    bar.advance(row, len(batch))

    def _batch(self, batch: Sequence[Question], answer: Callable[[Sequence[Question]], list[A]]) -> list[A]:
        """Answers of a batch, measured; one that cannot be run as a batch is run one by one."""
        try:
            with watching(self.method, len(batch)) as meter:
                answers = apart(answer, batch)
        except (UsageError, MeasurementError):
            raise
        except HarnessError:
            if len(batch) == 1:
                raise
            self.measured.say("some requests could not be run in a batch, and were run one by one")
            return [each for question in batch for each in self._batch([question], answer)]
        for row, (question, given) in enumerate(zip(batch, answers, strict=True)):
            asked = asked_of(self.model, question.prompt.ids, question.decoding, row, answers)
            self.measured.add(given, meter, row, len(question.prompt), asked)
        return answers
