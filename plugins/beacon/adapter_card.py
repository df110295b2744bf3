"""What can be said of beacon weights without loading any."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from harness import UsageError
from harness.models import adapters

Kind = Literal["beacon", "lora_experts"]

EXPERT_RATIOS = tuple(2**n for n in range(1, 11))
"""The ratios the paper trains an expert for: 2, 4 ... 1024."""

LORA_RANK = 32
"""The paper gives none; with 32 the ten experts of Llama-2-7B come to its "few hundred million" parameters."""


def trained_ratios(kind: Kind, folder: Path) -> tuple[int, ...] | None:
    """Ratios an adapter can condense by, from its card alone; None: any.

    Raises
    ------
    UsageError
        If the card of an adapter of experts names none.
    """
    if kind == "beacon":
        return None
    experts = adapters.read_card(folder).get("experts")
    if not isinstance(experts, list) or not all(isinstance(r, int) for r in experts) or not experts:
        raise UsageError(f"--adapter {folder}: its card names no experts")
    return tuple(sorted(experts))
