"""Training data for a fit of seconds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..contracts.fit import Example

if TYPE_CHECKING:
    from ..models.model import LanguageModel

EXAMPLES = 4

SHARE = 1.25
"""Length of an example, in windows: more than any interval the window can hold."""


@dataclass(frozen=True)
class Listed:
    """Examples held in memory, as `harness.contracts.fit.TrainingData`."""

    examples: tuple[Example, ...]

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each."""
        return [len(example.input_ids) for example in self.examples]

    @property
    def facts(self) -> dict[str, Any]:
        """What the data is made of."""
        return {"sources": [], "examples": len(self.examples)}

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


def examples(model: LanguageModel, needed: bool) -> Listed | None:
    """Random tokens to learn from, the same each time; None for a method that has something of its own."""
    if not needed:
        return None
    draw = random.Random(0)
    length, tokens = int(SHARE * model.context_length), len(model.tokenizer)
    drawn = [[draw.randrange(tokens) for _ in range(length + i)] for i in range(EXAMPLES)]
    return Listed(tuple(Example(ids, list(ids)) for ids in drawn))
