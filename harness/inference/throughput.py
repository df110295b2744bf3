"""How fast a model reads and writes here and now: measured by a short probe, for estimates."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..models import placement
from . import memory

if TYPE_CHECKING:
    from ..models.model import LanguageModel

READ, CHUNK, WRITE = 1024, 256, 8
"""Tokens the probe reads, in pieces of, and writes."""


@dataclass(frozen=True)
class Speed:
    """Tokens a second: `prefill` of a prompt read in pieces, `decode` of one answer."""

    prefill: float
    decode: float

    def seconds(self, read: int, written: int) -> float:
        """What reading and writing so many tokens takes."""
        return read / self.prefill + written / self.decode

    def __str__(self) -> str:
        return f"{self.prefill:,.0f} tokens/s read, {self.decode:,.1f} tokens/s written"


def probe(model: LanguageModel) -> Speed:
    """Read a text of no interest in pieces, then write a few tokens; the model is left as it was."""
    import torch

    from .forward import feed
    from .kvcache import KVCache

    size = max(2, min(READ, model.context_length - WRITE - 1))
    chunk = min(CHUNK, size)
    ids = [i % 200 + 10 for i in range(size)]
    with torch.no_grad():
        feed(model.network, [KVCache()], [ids[:chunk]])  # the first pass pays for what is set up once
        caches = [KVCache()]
        began = _now(model)
        for start in range(0, size, chunk):
            caches, _ = feed(model.network, caches, [ids[start : start + chunk]])
        read = _now(model)
        for _ in range(WRITE):
            caches, _ = feed(model.network, caches, [[10]])
        written = _now(model)
    return Speed(size / max(read - began, 1e-6), WRITE / max(written - read, 1e-6))


def _now(model: LanguageModel) -> float:
    memory.wait(placement.devices(model.network, model.device))
    return time.perf_counter()
