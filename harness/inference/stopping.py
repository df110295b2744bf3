"""Which tokens end an answer, and why an answer ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..contracts.outputs import Decoding
    from ..models.model import LanguageModel


def end_token_ids(model: LanguageModel, decoding: Decoding) -> list[int]:
    """Every token that ends an answer, each once."""
    return list(dict.fromkeys((*model.end_ids, *decoding.stop_ids)))


def stop_reason(model: LanguageModel, decoding: Decoding, tokens: Sequence[int]) -> str:
    """Why an answer ended: ``"eos"``, ``"stop"`` or ``"length"``."""
    if tokens and tokens[-1] in model.end_ids:
        return "eos"
    return "stop" if tokens and tokens[-1] in decoding.stop_ids else "length"
