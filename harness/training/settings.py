"""What a user asks of a fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FitSettings:
    """What a user asks for; the flags of ``harness fit`` under the same names."""

    method: str
    out: Path
    data: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    fit_options: dict[str, Any] = field(default_factory=dict)
    model: str = "smollm2"
    adapter: Path | None = None
    min_length: int = 1200
    max_length: int = 8192
    split_documents: bool = False
    chat_prompts: bool = False
    batch_size: int = 8
    micro_batch: int = 1
    learning_rate: float = 5e-5
    warmup_steps: int = 0
    epochs: float = 1.0
    max_steps: int | None = None
    save_every: int = 100
    seed: int = 42
    dtype: str = "auto"
    device: str = "auto"
    offline: bool = False
    trust_remote_code: bool = False
    allow_unused_weights: bool = False
    shard_base: bool = False
    trainer: dict[str, Any] = field(default_factory=dict)
    track: tuple[str, ...] = ()  # trackers, by name
