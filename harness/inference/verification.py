"""What a method declares, held against what the model was seen doing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..contracts.outputs import Scored
from ..contracts.record import Measured
from ..errors import MeasurementError
from .proof import Asked, allowed, prove
from .stopping import end_token_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..contracts.outputs import Decoding, Generation
    from ..models.model import LanguageModel
    from .meter import Meter


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
    if seen is not None and abs(seen - declared) > allowed(declared):
        verb = "compressed" if seen > declared else "kept"
        raise MeasurementError(
            f"the method says it {verb} {given} prompt tokens {'to' if seen > declared else 'as'} "
            f"{declared} KV entries, but the model was seen holding {seen} when the answer began; "
            "the run is not to be believed"
        )
    kept = declared if seen is None else seen
    return Measured(kept, seen is not None, (given - 1) / kept if kept > 0 else None)


def asked_of(
    model: LanguageModel,
    prompt: Sequence[int],
    decoding: Decoding,
    row: int = 0,
    answers: Sequence[Generation | Scored] = (),
) -> Asked:
    """What `proved` has to know of a sample: its prompt's token ids, how it was to be answered, and its batch."""
    import torch

    eps = float(torch.finfo(getattr(torch, model.dtype)).eps)
    ends = [a.kv_tokens + max(x.tokens for x in a.likelihoods) for a in answers if isinstance(a, Scored)]
    return Asked(int(prompt[-1]), decoding, end_token_ids(model, decoding), eps, row, max(ends, default=None))


def proved(
    generation: Generation | Scored, meter: Meter, row: int, prompt_tokens: int, asked: Asked
) -> tuple[Measured, list[str]]:
    """`check`, and whether the answer is what the model chose from so many entries, token by token.

    Parameters
    ----------
    asked
        See `asked_of`; the others are those of `check`.

    Returns
    -------
    Measured
        ``verified`` only if the answer is proved.
    list of str
        What could not be seen, or is worth knowing, in words.

    Raises
    ------
    MeasurementError
        If what was seen speaks against what is declared.
    """
    measured = check(generation, meter, row, prompt_tokens)
    proof = prove(generation, meter, asked)
    return replace(measured, verified=measured.verified and proof.holds), proof.doubts
