"""What a user asks of a synthesis, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts.recipe import LengthRange, Recipe, Stage
from .generators import Generator
from .pool import Pool

if TYPE_CHECKING:
    from ..models.model import LanguageModel


@dataclass(frozen=True)
class SynthSettings:
    """What the user asked for; None: the default, as ``harness synth --help`` describes it."""

    recipe: str
    count: int | None
    out: Path
    pool: Path | None = None
    items: int | None = None
    length: str | None = None
    nouns: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str = "smollm2"
    generator: str | None = None
    generator_model: str | None = None
    seed: int = 42
    batch_size: int = 16
    dtype: str = "auto"
    device: str = "auto"
    offline: bool = False
    allow_unused_weights: bool = False


@dataclass
class SynthPlan:
    """A data set that can be made: settings checked against the model and the pool, nothing loaded yet."""

    settings: SynthSettings
    recipe: Recipe
    model: LanguageModel
    generator: Generator
    pool: Pool
    identity: dict[str, Any]
    stages: list[Stage]
    counts: dict[str, int]
    length: LengthRange | None
