"""Passkey retrieval: a five-digit number hidden in a long text of no interest."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from harness.contracts import Prompt, Sample, ScoredSample, Task, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

from ._grid import checked_depths, checked_lengths, in_turns, part_means, plain
from ._similarity import edit_ratio

FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
BEYOND_WINDOW = 1.125
"""Without `lengths`, prompts are this many times the model's window: where methods are needed."""


class PasskeyOptions(Options):
    """Options of `Passkey`: the wording and the grid of lengths and depths."""

    preset: Literal["thesis", "beacon"] = Field(
        "thesis",
        description="wording: the thesis's, with the model's chat template; or Activation Beacon's, without",
    )
    lengths: list[int] | None = Field(
        None,
        description="total lengths in the model's tokens, chat template and new tokens included; "
        "by default one length, 1.125 times the model's window",
    )
    depths: list[float] = Field(
        [0, 50, 100], description="places of the needle, in percent of the filler that goes before it"
    )
    trials: int = Field(
        1, ge=1, le=10**6, description="samples with another passkey for each length and depth"
    )

    _lengths = field_validator("lengths")(checked_lengths)
    _depths = field_validator("depths")(checked_depths)


@dataclass(frozen=True)
class Wording:
    """The words of a preset. The context is filler units and the needle, joined by `separator`."""

    instruction: str
    separator: str
    needle: str
    question: str
    answer_prefix: str
    chat: bool
    new_tokens: int = 10

    def prompt(self, key: str, units: int, depth: float) -> tuple[Prompt, int]:
        """The prompt with `units` filler units, the needle after `depth` percent of them (rounded down).

        Returns
        -------
        tuple
            The prompt, and the needle's place: characters of the context before it.
        """
        before = int(units * depth / 100)
        needle = self.needle.format(key=key)
        parts = [FILLER] * before + [needle] + [FILLER] * (units - before)
        position = before * len(FILLER + self.separator)
        query = self.question.strip().splitlines()[0]
        return Prompt(self.instruction, self.separator.join(parts), self.question, query), position


PRESETS = {
    "thesis": Wording(
        instruction="A passkey is hidden in the following text. Remember it. I will ask you for it.\n\n",
        separator=" ",
        needle="The passkey is {key}.",
        question="\n\nWhat is the passkey?\n",
        answer_prefix="The passkey is ",
        chat=True,
    ),
    "beacon": Wording(
        instruction="There is an important info hidden inside a lot of irrelevant text. Find it and memorize "
        "them. I will quiz you about the important information there.\n",
        separator="",
        needle="\nThe pass key is {key}. Remember it. {key} is the pass key.\n",
        question="\nWhat is the pass key? The pass key is",
        answer_prefix="",
        chat=False,
    ),
}


class Passkey(Task):
    """Find a five-digit passkey at given depths of texts of given lengths.

    Two presets. ``thesis``: the phrase "The passkey is 12345" in distracting text, as in section 4.3.2 of
    the two-pass thesis; its filler and question are not printed there, so ours are. ``beacon``: the strings
    of Activation Beacon's ``eval_passkey.py`` (v1, no chat template). There the place was drawn at random
    and the filler cut anywhere; here the needle stands at fixed depths between whole filler units.

    A sample is as long as it can be: prompt as the model reads it (chat template, special tokens and answer
    prefix included) plus new tokens come within one filler unit of the length asked for, never above.

    Scores: ``accuracy``, whether the answer's first run of digits is the passkey; ``fuzzy``, how similar
    the two are (`edit_ratio` / 100), which shows what is left of a passkey that was partly forgotten.
    """

    Options = PasskeyOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = ("1: first version",)
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "fuzzy")
    options: PasskeyOptions

    def __init__(self, options: PasskeyOptions, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.wording = PRESETS[self.options.preset]
        self.preset = f"passkey-{self.options.preset}@1"

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the grid, length by length, then depth by depth; keys depend on seed, length, depth, trial.

        A limit takes lengths and depths in turns (see `in_turns`).

        Raises
        ------
        UsageError
            If a length has no room for the instruction, the needle, the question and the answer.
        """
        return self._grid(env)

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """``accuracy`` 0 or 1 and ``fuzzy`` 0..1 of the first run of digits; without digits both are 0."""
        found = re.search(r"\d+", prediction)
        answer = found[0] if found else ""
        fuzzy = max((edit_ratio(answer, key) for key in sample.references), default=0) / 100
        return {"accuracy": float(answer in sample.references), "fuzzy": fuzzy}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """Mean accuracy of each length and of each depth, where there are several."""
        return part_means(scored, "accuracy", ("length", "depth"))

    def _grid(self, env: TaskEnvironment) -> Iterator[Sample]:
        lengths = self.options.lengths or [int(BEYOND_WINDOW * env.context_length)]
        unit = self._unit_tokens(env)
        depths, trials = self.options.depths, self.options.trials
        taken = in_turns(lengths, depths, trials, env.limit)
        for length, depth, trial in product(lengths, depths, range(trials)):
            if (length, depth, trial) not in taken:
                continue
            cell = f"len{length}-depth{plain(depth)}-t{trial}"
            key = str(random.Random(f"{env.seed}-{cell}").randint(10_000, 99_999))
            units = self._most_units(env, key, length, depth, unit)
            prompt, position = self.wording.prompt(key, units, depth)
            yield Sample(
                id=cell,
                prompt=prompt,
                references=(key,),
                new_tokens=self.wording.new_tokens,
                chat=self.wording.chat,
                answer_prefix=self.wording.answer_prefix,
                metadata={
                    "length": length,
                    "depth": depth,
                    "trial": trial,
                    "key": key,
                    "needle_position": position,
                },
            )

    def _tokens(self, env: TaskEnvironment, key: str, units: int, depth: float) -> int:
        prompt, _ = self.wording.prompt(key, units, depth)
        return env.count(prompt, self.wording.chat, self.wording.answer_prefix) + self.wording.new_tokens

    def _unit_tokens(self, env: TaskEnvironment) -> float:
        """Tokens that one more filler unit costs, about."""
        return (self._tokens(env, "12345", 9, 0) - self._tokens(env, "12345", 1, 0)) / 8

    def _most_units(self, env: TaskEnvironment, key: str, length: int, depth: float, unit: float) -> int:
        empty = self._tokens(env, key, 0, depth)
        if empty > length:
            raise UsageError(
                f"passkey: length {length} is too short: instruction, needle, question, template and "
                f"{self.wording.new_tokens} new tokens alone take {empty}"
            )
        return most_that_fit(lambda units: self._tokens(env, key, units, depth), length, empty, unit)


def most_that_fit(tokens: Callable[[int], int], budget: int, empty: int, unit: float) -> int:
    """The largest n with ``tokens(n) <= budget`` and ``tokens(n + 1) > budget``.

    Each call of `tokens` tokenises a long text. Units cost almost the same each, so a guess from the last
    count is off by one at most in practice, and two calls are enough; the bracket makes any other case end.

    Parameters
    ----------
    tokens
        Counts n units (and all around them); grows with n.
    budget
        Most tokens allowed.
    empty
        ``tokens(0)``, at most `budget`.
    unit
        About what one unit costs, positive.
    """
    fits, too_many = 0, None
    units, used = 0, empty
    while too_many is None or too_many - fits > 1:
        if used <= budget:
            units += max(1, int((budget - used) / unit))
        else:
            units -= max(1, int((used - budget) / unit))
        if too_many is not None:
            units = min(max(units, fits + 1), too_many - 1)
        used = tokens(units)
        if used <= budget:
            fits = max(fits, units)
        else:
            too_many = units if too_many is None else min(too_many, units)
    return fits
