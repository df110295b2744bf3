"""What a user gives to ``harness synth`` besides numbers: lengths by range or by name, and nouns."""

from __future__ import annotations

from pathlib import Path

from ..contracts.recipe import LengthRange
from ..errors import UsageError, unknown_name

K, M = 1_000, 1_000_000
BINS = {
    "0-8K": LengthRange(0, 8 * K),
    "8K-16K": LengthRange(8 * K, 16 * K),
    "16K-32K": LengthRange(16 * K, 32 * K),
    "32K-64K": LengthRange(32 * K, 64 * K),
    "64K-128K": LengthRange(64 * K, 128 * K),
    "128K-256K": LengthRange(128 * K, 256 * K),
    "256K-512K": LengthRange(256 * K, 512 * K),
    "512K-1M": LengthRange(512 * K, M),
    "1M-2M": LengthRange(M, 2 * M),
    "2M-4M": LengthRange(2 * M, 4 * M),
    "4M-10M": LengthRange(4 * M, 10 * M),
}
"""The bins that the experts paper releases; K is 1,000 tokens, M is 1,000,000."""


def parse_length(text: str) -> LengthRange:
    """``1000-8000``, or a bin by name (``8K-16K``). Raises UsageError for anything else."""
    if found := {name.lower(): value for name, value in BINS.items()}.get(text.lower()):
        return found
    low, dash, high = text.partition("-")
    if not (dash and low.isascii() and low.isdigit() and high.isascii() and high.isdigit()):
        if any(c.isalpha() for c in text):
            raise unknown_name("length range", text, BINS)
        raise UsageError(f"--length-range {text}: write LOW-HIGH in tokens (1000-8000), or {', '.join(BINS)}")
    if not 0 <= int(low) <= int(high) or int(high) < 1:
        raise UsageError(f"--length-range {text}: the first number must not be above the second")
    return LengthRange(int(low), int(high))


def read_nouns(path: Path | None) -> list[str]:
    """One noun a line, each once, in the file's order; without a file the list of ``wonderwords``, sorted.

    Raises
    ------
    UsageError
        If the file is not there, is no text, or has no noun in it.
    """
    if path is None:
        from wonderwords import RandomWord

        return sorted(set(RandomWord().filter(include_categories=["noun"])))
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"--nouns {path}: cannot be read: {reason}") from None
    nouns = list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not nouns:
        raise UsageError(f"--nouns {path}: no noun in it; write one a line")
    return nouns
