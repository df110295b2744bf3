"""Asking a method: preparing it for a task, and the records of a batch, whatever goes wrong with a sample."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager

from ..contracts.method import Method
from ..contracts.outputs import Decoding
from ..contracts.prompt import TokenizedPrompt
from ..contracts.record import Key, SampleRecord
from ..contracts.task import Task
from ..errors import MeasurementError
from .apart import apart
from .batches import SampleBatch
from .collecting import writable
from .generate import MeasuredOutput, SharedContext, compress_once, generate, generate_from, prepared_for
from .plan import RunPlan
from .questions import Answers, answer_questions, several_answered
from .sample_record import answered, failed, record_head
from .samples import PreparedSample
from .second_call import followed_up
from .timeouts import limited


def prepare_task(plan: RunPlan, task: Task) -> None:
    """Let the method prepare for all prompts of a task."""
    groups: dict[Decoding, list[TokenizedPrompt]] = {}
    # Where nobody prepares, nobody wants the tokens of all prompts either.
    prepares = type(plan.method).prepare is not Method.prepare
    for prepared in plan.samples:
        if prepares and prepared.task is task:
            for asked in prepared.each:
                groups.setdefault(asked.decoding, []).append(asked.tokenized(plan.model))
    for decoding, prompts in groups.items():
        apart(plan.method.prepare, prepared_for(plan.method, prompts), decoding)


def run_batch(plan: RunPlan, batch: SampleBatch, skip: Mapping[Key, SampleRecord]) -> Iterator[SampleRecord]:
    """Records of a batch's or a group's unfinished samples, as they are answered."""
    if batch.samples[0].questions:
        yield _run_questions(plan, batch.samples[0])
        return
    shared: SharedContext | None = None
    if batch.shared:
        # What goes wrong here each sample, asked alone, says itself. Of a run that goes on, each question has the share
        # that it would have had: of all of them, answered before or not.
        with contextlib.suppress(Exception), _in_time(plan, len(batch.samples)):
            shared = compress_once(plan.method, batch.samples)
        if shared is None:
            _release(plan)
    waiting = batch.samples
    while waiting:
        size = plan.batches.rows(max(p.tokens for p in waiting))
        chunk, waiting = waiting[:size], waiting[size:]
        if any(p.key not in skip for p in chunk):
            yield from _together(plan, chunk, skip, shared)


def _run_questions(plan: RunPlan, prepared: PreparedSample) -> SampleRecord:
    """The record of a sample with several questions; one that fails is the failure of the sample.

    The others keep their answers: a run that goes on asks only what failed, and so does this one, each alone.
    """
    head = record_head(plan, prepared)
    found = Answers.begun(prepared, plan.folder.half_answered.get(prepared.key))
    for alone in (False, True):
        try:
            with _in_time(plan, len(prepared.questions)):
                answer_questions(plan, prepared, found, alone)
                record = several_answered(head, prepared, found)
            writable(record.to_json())
        except MeasurementError:
            raise
        except Exception as error:
            failure = failed(head, error)
        else:
            return record
        _release(plan)
        if failure.status == "timeout" or prepared.sample.turns == "own":
            break
    return found.half(failure)


def _together(
    plan: RunPlan,
    batch: list[PreparedSample],
    skip: Mapping[Key, SampleRecord],
    shared: SharedContext | None = None,
) -> list[SampleRecord]:
    """Records of a batch's unfinished samples. What fails is tried again sample by sample, sharing nothing.

    A batch of a size of the harness's own choice that was too large for the memory is tried again in halves.
    """
    try:
        with _in_time(plan, len(batch)):
            outputs = (
                generate(plan.method, batch) if shared is None else generate_from(plan.method, shared, batch)
            )
    except MeasurementError:
        raise
    except Exception as error:
        failure = failed(record_head(plan, batch[0]), error)
    else:
        return [_record(plan, p, output) for p, output in zip(batch, outputs) if p.key not in skip]
    # Only out here is the error gone, and with it the frames that hold what had filled the memory.
    if len(batch) == 1 and shared is None:
        return [failure]
    _release(plan)
    parts = [[prepared] for prepared in batch if prepared.key not in skip]
    if plan.batches.automatic and failure.status == "oom" and len(batch) > 1:
        plan.batches.failed(len(batch), max(p.tokens for p in batch))
        half = len(batch) // 2
        parts = [part for part in (batch[:half], batch[half:]) if any(p.key not in skip for p in part)]
    else:
        shared = None
    return [record for part in parts for record in _together(plan, part, skip, shared)]


def _record(plan: RunPlan, prepared: PreparedSample, output: MeasuredOutput) -> SampleRecord:
    """The record of an answered sample. What cannot be scored or written down is a failure of that sample."""
    head = record_head(plan, prepared)
    try:
        with _in_time(plan, 1):  # a second call or a score may hang as well
            record = answered(head, prepared, followed_up(plan, prepared, output))
        writable(record.to_json())
    except MeasurementError:
        raise
    except Exception as error:
        return failed(head, error)
    return record


def _in_time(plan: RunPlan, samples: int) -> AbstractContextManager[None]:
    """The time that so many samples have together, if it is limited."""
    seconds = plan.settings.sample_timeout
    return limited(seconds and seconds * samples, None if plan.method.remote else plan.model.network)


def _release(plan: RunPlan) -> None:
    """Give cached device memory back before a sample is tried again alone."""
    if plan.model.device.startswith("cuda"):
        import torch

        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
