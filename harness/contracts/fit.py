"""What `Method.fit` receives and returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..errors import UsageError


@dataclass(frozen=True)
class Example:
    """One sequence to learn from.

    Attributes
    ----------
    input_ids
        Token ids, special tokens included, in reading order.
    labels
        As long as `input_ids` and unshifted: at each place the token's own id if it is to be predicted, -100
        where nothing is.
    source
        Which of the data's sources it came from, counted from 0 in the order they were given.
    """

    input_ids: list[int]
    labels: list[int]
    source: int = 0


class TrainingData(Protocol):
    """Token sequences to learn from, in the order of one epoch; any may be had by its index.

    Attributes
    ----------
    lengths
        Tokens of each example, so that batches can be planned without reading any.
    facts
        JSON-ready: what the data is made of.
    """

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each example."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """JSON-ready facts of the data, for the adapter's card."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example:
        """The example at `index`, from 0. Raises IndexError beyond the last, so that `for` ends there."""
        ...


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train, and where; the defaults are Activation Beacon's.

    Attributes
    ----------
    folder
        Where checkpoints and logs go. A fit that finds its own checkpoints there goes on from the last.
    batch_size
        Sequences of an optimiser step, over all processes together.
    micro_batch
        Sequences that a process reads in one pass: faster on a GPU, at the price of memory.
    learning_rate
        Of the first step after the warm-up; it falls linearly to nothing.
    warmup_steps
        Steps over which it rises to that first.
    epochs, max_steps
        How often the data is read; `max_steps`, if given, decides instead.
    save_every
        Steps between checkpoints; the last two are kept.
    seed
        Of the data's order and of every draw while training.
    trainer
        More arguments of `transformers.TrainingArguments` (``bf16``, ``optim``, ``max_grad_norm`` …); those that
        are said here otherwise are refused.
    settle
        Called where processes wait for each other, before they do: with a base model split among them, who waits has
        to give the others its share. None: each has all it needs.
    observer
        Who is told how it goes; None: nobody.
    """

    folder: Path
    batch_size: int = 8
    learning_rate: float = 5e-5
    warmup_steps: int = 0
    epochs: float = 1.0
    max_steps: int | None = None
    save_every: int = 100
    seed: int = 42
    micro_batch: int = 1
    trainer: Mapping[str, Any] = field(default_factory=dict)
    settle: Callable[[], None] | None = None
    observer: FitObserver | None = None

    def passes(self, processes: int = 1) -> int:
        """Passes that each of so many processes makes for a step. Raises UsageError if they do not come out even."""
        own, uneven = divmod(self.batch_size, processes)
        if uneven:
            raise UsageError(
                f"--batch-size {self.batch_size} cannot be shared evenly by {processes} processes"
            )
        if own % self.micro_batch:
            raise UsageError(
                f"--batch-size {self.batch_size} is no multiple of --micro-batch {self.micro_batch}"
                + (f" on {processes} processes" if processes > 1 else "")
            )
        return own // self.micro_batch


class FitObserver(Protocol):
    """Who is told how a training goes; called on the first process only."""

    def start(self, total: int, done: int) -> None:
        """Training begins: `total` optimiser steps, of which `done` are there from before."""
        ...

    def step(self, step: int, loss: float, tokens: int, seconds: float) -> None:
        """One more optimiser step: its mean loss (nats per token), tokens read, seconds it took."""
        ...


@dataclass
class FitReport:
    """What a fit did.

    Attributes
    ----------
    steps
        Optimiser steps, those of an earlier, interrupted call included; 0 for a calibration.
    loss
        Mean loss of the last tenth of the steps, nats per token; None if nothing was trained.
    curve
        A row for each step: ``step, loss, learning_rate, grad_norm, tokens, seconds``.
    parameters
        A row for each group of trained parameters: ``name, parameters``.
    facts
        JSON-ready, for the card.
    """

    steps: int
    loss: float | None
    curve: list[dict[str, float]] = field(default_factory=list)
    parameters: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
