"""What a method declares, held against what the model was seen doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..contracts.record import Measured
from ..errors import MeasurementError

if TYPE_CHECKING:
    from ..contracts.outputs import Generation, Scored
    from .meter import Meter


TOLERANCE = 0.01
"""Share by which declared and observed KV entries may differ (and never less than `TOLERANCE_TOKENS`)."""
TOLERANCE_TOKENS = 2


def check(
    generation: Generation | Scored, meter: Meter, row: int, prompt_tokens: int | None = None
) -> Measured:
    """Hold what a method declares for one sample against what the model was seen holding in its cache.

    Parameters
    ----------
    generation
        The method's answer, or its likelihoods.
    meter
        What was observed while it was made.
    row
        The sample's row in the batch.
    prompt_tokens
        Tokens the method was given; None: what it says.

    Returns
    -------
    Measured
        Entries as observed if anything was, else as declared.

    Raises
    ------
    MeasurementError
        If there was more than was declared (it only pretended to compress), or less.
    """
    declared = generation.kv_tokens
    given = generation.prompt_tokens if prompt_tokens is None else prompt_tokens
    started = meter.started
    seen = started[row] if started is not None and row < len(started) else None
    if seen is not None and abs(seen - declared) > max(TOLERANCE_TOKENS, TOLERANCE * declared):
        verb = "compressed" if seen > declared else "kept"
        raise MeasurementError(
            f"the method says it {verb} {given} prompt tokens {'to' if seen > declared else 'as'} "
            f"{declared} KV entries, but the model was seen holding {seen} when the answer began; "
            "the run is not to be believed"
        )
    kept = declared if seen is None else seen
    return Measured(kept, seen is not None, (given - 1) / kept if kept > 0 else None)
