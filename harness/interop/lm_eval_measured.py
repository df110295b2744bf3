"""What was seen of the answers given through lm-eval's door, for the results it writes."""

from __future__ import annotations

import logging
from typing import Any

from ..contracts.outputs import Generation, Scored
from ..inference.meter import Meter
from ..inference.proof import Asked
from ..inference.verification import proved

log = logging.getLogger("harness")


class Measured:
    """What was seen of the answers of one `HarnessLM`: sums, and what had to be said."""

    def __init__(self) -> None:
        self.asked = self.truncated = self.prompts = self.prompt_tokens = self.kv_tokens = 0
        self.verified = True
        self.notes: list[str] = []

    def say(self, note: str) -> None:
        """Log a note the first time something of its kind happens; all of its kind share their last words."""
        if not any(n[-30:] == note[-30:] for n in self.notes):
            self.notes.append(note)
            log.warning(note)

    def add(
        self, answer: Generation | Scored, meter: Meter, row: int, prompt_tokens: int, asked: Asked
    ) -> None:
        """Hold one answer against what was observed, token by token; raises MeasurementError if it does not hold."""
        seen, doubts = proved(answer, meter, row, prompt_tokens, asked)
        for doubt in doubts:
            self.say(f"not proved of some answers: {doubt}")
        self.prompts += 1
        self.prompt_tokens += prompt_tokens
        self.kv_tokens += seen.kv_tokens
        self.verified = self.verified and seen.verified

    def facts(self) -> dict[str, Any]:
        """JSON-ready. ``compression`` is prompt tokens for each KV entry that stood for them."""
        several = self.prompts > 0
        return {
            "requests": self.asked,
            "truncated": self.truncated,
            "prompts": self.prompts,
            "prompt_tokens": self.prompt_tokens / self.prompts if several else None,
            "kv_tokens": self.kv_tokens / self.prompts if several else None,
            "compression": (self.prompt_tokens - self.prompts) / self.kv_tokens if self.kv_tokens else None,
            "verified": self.verified if several else None,
            "notes": self.notes,
        }
