"""Condensing ratios: which there are, what they leave of an interval, and how much then fits a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness import UsageError

if TYPE_CHECKING:
    from harness.models import LanguageModel

RAW = 0
"""The ratio that stands for "not condensed": the interval's raw entries stay as they are."""

RATIOS = (RAW, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def parse_ratio(text: str) -> int:
    """``"raw"`` or a number, as a ratio. Raises ValueError for one that is not in `RATIOS`."""
    text = text.strip()
    ratio = RAW if text == "raw" else int(text) if text.isdecimal() else -1
    if ratio not in RATIOS:
        raise ValueError(f"{text!r} is no ratio; choose from raw, {', '.join(map(str, RATIOS[1:]))}")
    return ratio


def usable(interval: int) -> tuple[int, ...]:
    """Ratios that divide `interval`, ratio 1 left out: it costs what raw entries cost and loses more."""
    return tuple(r for r in RATIOS if r == RAW or (r != 1 and interval % r == 0))


def check_interval(model: LanguageModel, interval: int, ratios: Sequence[int], sinks: int = 0) -> None:
    """Refuse an interval that the window cannot hold, sinks included, or that a ratio does not divide."""
    if interval + sinks >= model.context_length:
        and_sinks = f" and --sinks {sinks} together" if sinks else ""
        raise UsageError(
            f"--interval {interval}{and_sinks} must be smaller than the window of {model.context_length} tokens"
        )
    for ratio in ratios:
        if ratio != RAW and interval % ratio:
            raise UsageError(f"--ratio {ratio} does not divide the interval of {interval} tokens")


def entries(ratio: int, interval: int) -> int:
    """Memory entries an interval leaves when condensed by `ratio`."""
    return interval if ratio == RAW else interval // ratio


def capacity(ratios: int | Sequence[int], window: int, interval: int, sinks: int = 0) -> int:
    """Tokens that fit a model of `window` positions, every full interval after the sinks condensed.

    One interval of positions is kept for the raw tokens of the open interval; for one ratio r and no sinks
    this is the paper's ``(window - interval) * r + interval``, in whole intervals. With all intervals raw it is
    the window itself. Of a sequence of ratios the last is repeated.
    """
    listed = [ratios] if isinstance(ratios, int) else list(ratios)
    if not any(listed):
        return window
    budget, last = window - sinks - interval, entries(listed[-1], interval)
    spent = 0
    for number, ratio in enumerate(listed):
        spent += entries(ratio, interval)
        if spent > budget:
            return sinks + (number + 1) * interval
    return sinks + (len(listed) + (budget - spent) // last + 1) * interval


def held(ratio: int, tokens: int, interval: int, sinks: int = 0) -> int:
    """Entries that are left of so many `tokens` read: sinks, beacons, and the raw tokens of the open interval."""
    closed, raw = divmod(max(0, tokens - sinks), interval)
    return min(tokens, sinks) + closed * entries(ratio, interval) + raw


def smallest_ratio(tokens: int, window: int, interval: int, ratios: Sequence[int], sinks: int = 0) -> int:
    """The lowest of `ratios` under which `tokens` fit (raw being lowest); the highest if none does."""
    for ratio in sorted(ratios):
        if capacity(ratio, window, interval, sinks) >= tokens:
            return ratio
    return max(ratios)
