"""Thoughts that a model writes before its answer: ``<think>...</think>``."""

from __future__ import annotations

import re

_MARK = re.compile(r"</?think>")


def holds_thought(text: str) -> bool:
    """Whether a text holds a thought, or the end of one that its prompt began."""
    return _MARK.search(text) is not None


def without_thought(text: str) -> str:
    """What follows the last thought, without the blanks before it; empty if the thought does not end."""
    if not holds_thought(text):
        return text
    _, end, after = text.rpartition("</think>")
    if not end or "<think>" in after:
        return ""
    return after.lstrip()
