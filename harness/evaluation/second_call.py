"""A task's second question, asked after an answer in a call of its own (`harness.Task.follow_up`)."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ..contracts.outputs import Generation
from ..contracts.record import Cost
from .generate import MeasuredOutput, generate
from .samples import prepare_sample

if TYPE_CHECKING:
    from .plan import RunPlan
    from .samples import PreparedSample

ADDED = ("seconds", "compress_seconds", "prefill_seconds", "decode_seconds", "forwards", "positions")
"""What two calls cost together; of the rest of `Cost` the record has the first call's, and the highest memory."""


def followed_up(plan: RunPlan, prepared: PreparedSample, output: MeasuredOutput) -> MeasuredOutput:
    """`output`, or, where the task asks on, the last answer with what both calls cost and the first was measured at.

    ``details["earlier_answers"]`` has the answers that came before.
    """
    given = output.generation
    if not isinstance(given, Generation):
        return output
    task = prepared.task
    asked = task.follow_up(prepared.sample, given.text)
    if asked is None:
        return output
    [second] = generate(plan.method, [prepare_sample(task, asked, plan.method, plan.settings)])
    answer = second.generation
    if not isinstance(answer, Generation):
        raise TypeError(f"task {task.name} asks for choices after an answer, which no run can do")
    details = {**given.details, "earlier_answers": [given.text]}
    last = replace(
        given, text=answer.text, token_ids=answer.token_ids, stop_reason=answer.stop_reason, details=details
    )
    return replace(
        output,
        generation=last,
        cost=_together(output.cost, second.cost),
        doubts=[*output.doubts, *second.doubts],
    )


def _together(first: Cost, second: Cost) -> Cost:
    """What two calls cost."""
    added: dict[str, Any] = {}
    for name in (field.name for field in fields(Cost) if field.name in ADDED):
        values = [value for cost in (first, second) if (value := getattr(cost, name)) is not None]
        added[name] = sum(values) if values else None
    peaks = [cost.peak_bytes for cost in (first, second) if cost.peak_bytes is not None]
    return replace(first, **added, peak_bytes=max(peaks, default=None))
