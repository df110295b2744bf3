"""What the checks of a method share: a model, prompts longer than its window, and asking as a run asks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts.method import Method
from ..contracts.outputs import Decoding, Generation
from ..contracts.prompt import TokenizedPrompt
from ..evaluation.generate import watching
from ..evaluation.plan import aim
from ..inference.meter import Meter
from ..options import Options
from ._prompts import prompt_from, prompt_of, two_questions
from ._results import Failed
from ._snapshot import differences, modules, process, settings, unusual_random_state, weights
from ._writes import noting_writes

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ..models.model import LanguageModel

NEW_TOKENS = 5
"""Tokens of each answer."""

SHARES = (0.6, 0.75, 0.95)
"""Lengths of the three prompts, as shares of what the method can read (or of `WINDOWS` windows)."""

WINDOWS = 2
"""So many windows are enough to read for a method without limit."""

CLOSE, ROUNDING = 1e-3, 64
"""Logits closer than this, or than so many rounding errors of the model's type, are the same."""

IN_A_ROW = (0, 1, 2, 2, 0, 1, 1, 0, 2, 0)
"""Prompts that one method is asked one after the other: the three, some twice in a row, each after each other."""

LIMIT_WINDOWS = 2.5
"""A method is asked to read what it says it can, up to so many windows."""


@dataclass
class Seen:
    """One answer, and what the model was seen doing while it was made."""

    generation: Generation
    meter: Meter
    logits: list[Tensor] = field(default_factory=list)
    """``[vocabulary]`` of each time the model's head was asked, for the last position it was asked for."""

    @property
    def tokens(self) -> list[int]:
        """The answer."""
        return list(self.generation.token_ids)

    @property
    def entries(self) -> int:
        """KV entries the answer began from: as seen, or as declared if nothing was."""
        started = self.meter.started
        return started[0] if started else self.generation.kv_tokens


@dataclass
class Trial:
    """A method under test.

    Attributes
    ----------
    name, cls, options
        The method, as it will be constructed.
    find
        Makes the model under another `LanguageModel`, weights unread.
    adapter
        Given to `load`, if any.
    fit_options
        How `fit` is to learn; where nothing is said, the method's own `fit_trial` decides.
    folder
        Scratch space, deleted afterwards.
    shared
        What checks made for each other.
    budget
        What ``--budget`` says.
    strict
        Whether an answer of which something was not seen, or of which something must be said, is a failure.
    written
        Files that Python code opened to write while the method prepared and answered.
    process_changed
        Names of what the whole process shares that was changed by `first` or within `odd`.
    """

    name: str
    cls: type[Method]
    options: Options
    find: Callable[[], LanguageModel]
    folder: Path
    adapter: Path | None = None
    fit_options: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, object] = field(default_factory=dict)
    strict: bool = False
    budget: int | str | None = None
    written: list[str] = field(default_factory=list)
    process_changed: list[str] = field(default_factory=list)

    @cached_property
    def tolerance(self) -> float:
        """By how much logits may differ that were computed from the same tokens in another way."""
        import torch

        return max(CLOSE, ROUNDING * torch.finfo(getattr(torch, self.model.dtype)).eps)

    @cached_property
    def model(self) -> LanguageModel:
        """The model every check but those of its own uses; `weights_before` and `modules_before` are its state."""
        from ..inference.decoding import decode
        from ..inference.forward import feed
        from ..inference.kvcache import KVCache

        model = self.find()
        # What transformers sets up on first use is no method's doing.
        [cache], _ = feed(model.network, [KVCache()], [[1, 2, 3]])
        decode(model, [cache], [4], self.decoding)
        self.weights_before = weights(model.network)
        self.modules_before = modules(model)
        return model

    @property
    def decoding(self) -> Decoding:
        """How the checks ask for answers."""
        return Decoding(NEW_TOKENS)

    def fresh(self, prompts: Sequence[TokenizedPrompt] = ()) -> Method:
        """The method, newly made, with its adapter, and prepared for `prompts` as a run would."""
        model = self.model
        method = self.cls(model, self.options)
        if self.adapter is not None:
            method.load(self.adapter)
        if self.budget is not None:
            aim(method, self.budget)
        if prompts:
            with noting_writes(self.written):
                method.prepare(prompts, self.decoding)
        return method

    def ask(
        self, method: Method, prompts: Sequence[TokenizedPrompt], decoding: Decoding | None = None
    ) -> list[Generation]:
        """Answers to a batch. Raises Failed if there are not as many as prompts."""
        with noting_writes(self.written):
            found = method.run(list(prompts), decoding or self.decoding)
        if not isinstance(found, list) or len(found) != len(prompts):
            seen = f"{len(found)} answers" if isinstance(found, list) else f"a {type(found).__name__}"
            raise Failed(
                f"{len(prompts)} prompts came back as {seen}; return a list with one Generation for each prompt"
            )
        return found

    def watch(self, method: Method, prompt: TokenizedPrompt, decoding: Decoding | None = None) -> Seen:
        """The answer to one prompt, asked alone, and what was observed."""
        with watching(method, 1) as meter, heard(None if method.remote else method.model.network) as logits:
            [generation] = self.ask(method, [prompt], decoding)
        return Seen(generation, meter, [step[0] for step in logits])

    def alone(self, prompt: TokenizedPrompt, decoding: Decoding | None = None) -> Seen:
        """What a newly made method answers that has seen nothing else."""
        return self.watch(self.fresh([prompt]), prompt, decoding)

    @cached_property
    def first(self) -> list[Seen]:
        """Each of `prompts`, answered by a newly made method."""
        self.cls(self.model, self.options)  # and what that imports
        before = settings()
        with suppress(Exception):  # a failure belongs to the check that meets it again
            # What a method makes once and keeps on the disk costs least if it is made for all at once.
            self.fresh([*self.prompts, self.longest])
        found = [self.alone(prompt) for prompt in self.prompts]
        # What is set but once is set here. A new name does nobody harm.
        self.process_changed += [name for name in differences(before, settings()) if "(new)" not in name]
        return found

    @cached_property
    def in_a_row(self) -> list[tuple[Seen, Seen]]:
        """Answers of one method to `IN_A_ROW`, `twins`, and the first once more: each beside that given alone."""
        first = [(self.prompts[index], self.first[index]) for index in IN_A_ROW]
        twins = [(twin, self.alone(twin)) for twin in self.twins]
        asked = [*first, *twins, first[0]]
        with self.odd():
            method = self.fresh([*self.prompts, *self.twins])
            return [(seen, self.watch(method, prompt)) for prompt, seen in asked]

    @cached_property
    def together(self) -> list[Seen]:
        """Answers of a newly made method to all prompts as a batch; logits where rows can be told apart."""
        with self.odd():
            method = self.fresh(self.prompts)
            with (
                watching(method, len(self.prompts)) as meter,
                heard(None if method.remote else method.model.network) as logits,
            ):
                found = self.ask(method, self.prompts)
        steps = logits[-max(len(g.token_ids) for g in found) :]
        told = all(len(step) == len(found) for step in steps)
        rows = [[step[row] for step in steps] if told else [] for row in range(len(found))]
        return [Seen(g, meter, row[: len(g.token_ids)]) for g, row in zip(found, rows)]

    @contextmanager
    def odd(self) -> Iterator[None]:
        """Random generators are in odd states; what the whole process shares is noted if it changes."""
        _ = self.first  # whatever libraries set up on first use is there now
        with unusual_random_state():
            before = process()
            yield
            self.process_changed += differences(before, process())

    @cached_property
    def reach(self) -> int:
        """Tokens of the longest prompt tried, the answer left out."""
        limit = self.fresh().context_limit()
        most = WINDOWS * self.model.context_length
        return min(most, most if limit is None else limit) - NEW_TOKENS

    @cached_property
    def prompts(self) -> list[TokenizedPrompt]:
        """Three prompts of different length, none of which is short for the model; the second asks something else."""
        return [
            self.prompt(int(self.reach * share), seed, self.questions[seed % 2])
            for seed, share in enumerate(SHARES)
        ]

    @cached_property
    def longest(self) -> TokenizedPrompt:
        """As long a prompt as the method says it can read, or of `LIMIT_WINDOWS`."""
        limit = self.fresh().context_limit()
        most = int(LIMIT_WINDOWS * self.model.context_length)
        return self.prompt(min(most, most if limit is None else limit) - NEW_TOKENS, 3)

    def prompt(self, tokens: int, seed: int, question: str | None = None) -> TokenizedPrompt:
        """A prompt of nearly (never more than) `tokens` tokens; another `seed` is another text."""
        return prompt_of(self.model, tokens, seed, question or self.questions[0])

    @cached_property
    def twins(self) -> tuple[TokenizedPrompt, TokenizedPrompt]:
        """The first prompt with its sentences in reverse order, and with another question; as many tokens each."""
        first = self.prompts[0].prompt
        text = self.prompts[0].prompt.context
        sentences = re.findall(r"[^.]+\.", text)
        assert "".join(sentences) == text and first.question == self.questions[0]
        return (
            prompt_from(
                self.model, [sentence.strip() for sentence in reversed(sentences)], self.questions[0]
            ),
            prompt_from(self.model, [sentence.strip() for sentence in sentences], self.questions[1]),
        )

    @cached_property
    def questions(self) -> tuple[str, str]:
        """Two questions in different words and of the same number of tokens, at the same place."""
        return two_questions(self.model.tokenizer)

    @cached_property
    def pair(self) -> tuple[TokenizedPrompt, TokenizedPrompt]:
        """Two prompts that differ in their question alone; the text answers each at a place of its own."""
        from ._places import two_places

        return two_places(self.model, len(self.prompts[1]), self.questions)

    @property
    def two_phase(self) -> bool:
        """Whether the method has `compress` and `generate`."""
        return self.cls.compress is not Method.compress and self.cls.generate is not Method.generate


@contextmanager
def heard(network: Any) -> Iterator[list[Tensor]]:
    """Logits ``[rows, vocabulary]`` as the model's head gives them, last position each time."""
    found: list[Tensor] = []
    head = getattr(network, "lm_head", None)
    if head is None:
        yield found
        return
    hook = head.register_forward_hook(
        lambda module, args, logits: found.append(logits.detach()[:, -1].float().clone())
    )
    try:
        yield found
    finally:
        hook.remove()


@contextmanager
def scratch_cache(folder: Path) -> Iterator[None]:
    """Keep whatever a method computes once (calibrations) out of the user's cache."""
    before = os.environ.get("HARNESS_CACHE")
    os.environ["HARNESS_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["HARNESS_CACHE"]
        else:
            os.environ["HARNESS_CACHE"] = before
