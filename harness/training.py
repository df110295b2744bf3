"""What `Method.fit` receives and returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol


class TrainingData(Protocol):
    """A re-iterable stream of token sequences to learn from."""

    def __iter__(self) -> Iterator[tuple[list[int], list[int]]]:
        """Yield ``(input_ids, labels)``, equally long, labels unshifted, -100 where nothing is predicted."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train; the defaults are Activation Beacon's."""

    batch_size: int = 8
    learning_rate: float = 5e-5
    epochs: float = 1.0
    max_steps: int | None = None
    seed: int = 42


@dataclass
class FitReport:
    """What a fit did: steps taken, last loss (nats per token) and JSON-ready facts for the card."""

    steps: int
    loss: float | None
    facts: dict[str, Any] = field(default_factory=dict)
