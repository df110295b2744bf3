"""A run, from a plan to the last line on disk. Read it from top to bottom.

`execute` goes over the planned samples, batch by batch; each is asked, measured, scored and written down. A
sample that fails is recorded and the run goes on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ..contracts.outputs import Decoding
from ..contracts.phases import watched_by
from ..contracts.prompt import TokenizedPrompt
from ..contracts.record import Key, SampleRecord
from ..errors import MeasurementError, UsageError
from ..results.run_folder import RunFolder, earlier_environments
from ..results.shared_run_folder import SharedRunFolder
from ..results.summary import digest, summarise
from .apart import apart
from .batches import SampleBatch, sample_batches
from .cores import share
from .generate import MeasuredOutput, SharedContext, compress_once, generate, generate_from, prepared_for
from .plan import RunPlan, plan_run
from .questions import answer_questions, several_answered
from .run_metadata import dump_prompts, planned_ids, run_content
from .sample_record import answered, failed, record_head
from .samples import PreparedSample, writable
from .second_call import followed_up
from .settings import RunSettings
from .timeouts import limited


class Watcher(Protocol):
    """Whoever shows a run to the user; every call may be ignored."""

    def start(self, totals: dict[str, int], done: dict[str, int]) -> None: ...

    def note(self, text: str) -> None: ...

    def announce(self, what: str) -> AbstractContextManager[Any]: ...

    def sample(self, task: str, record: SampleRecord) -> None: ...


@runtime_checkable
class BatchWatcher(Protocol):
    """A watcher that is also told which samples are asked next."""

    def begin(self, keys: list[Key]) -> None: ...


@dataclass
class RunResult:
    """What a run came to."""

    folder: RunFolder
    summary: dict[str, Any]
    ran: int

    @property
    def failed(self) -> int:
        return int(self.summary["total"]["failed"])


def execute(plan: RunPlan, watcher: Watcher) -> RunResult:
    """Run what is missing, write it down, and summarise.

    Raises
    ------
    MeasurementError
        If the method was caught declaring something else than it did; the run is marked as failed.
    """
    if plan.settings.join:
        order = [p.key for batch in _batches(plan) for p in batch.samples]
        plan.folder = SharedRunFolder(plan.folder.path, order, watcher.sample)
    with plan.folder.open():
        _start_over_if_failed(plan.folder)
        finished = plan.folder.recover()
        _same_samples(plan, finished)
        pending = [b for b in _batches(plan) if any(p.key not in finished for p in b.samples)]
        done = {t.name: sum(p.key in finished for p in plan.samples if p.task is t) for t in plan.tasks}
        watcher.start({t.name: sum(p.task is t for p in plan.samples) for t in plan.tasks}, done)
        if not pending:
            with plan.folder.leaving():
                return _finish(plan, finished)
        content = _begin(plan, finished, watcher)
        with _left_in_order(plan, content, finished):
            ran = _run_pending(plan, pending, finished, watcher)
        return RunResult(plan.folder, _conclude(plan, content, finished), ran)


def _begin(plan: RunPlan, finished: Mapping[Key, SampleRecord], watcher: Watcher) -> dict[str, Any]:
    """Write down what is about to be run; returns the content of `run.json`, all but its end."""
    folder, content = plan.folder, run_content(plan)
    if (finished or folder.shared) and (
        earlier := earlier_environments(folder.read_run() or {}, content["environment"])
    ):
        content["earlier_environments"] = earlier
        watcher.note("part of this run was answered with other versions, hardware or code: see run.json")
    folder.write_run({**content, "status": "running"})
    dump_prompts(plan)
    folder.begin()
    return content


def _run_pending(
    plan: RunPlan, pending: list[SampleBatch], finished: dict[Key, SampleRecord], watcher: Watcher
) -> int:
    """Run batch by batch, writing each record as it comes; returns how many were run."""
    ran = 0
    plan.method.announce = watcher.announce
    with watched_by(watcher):
        for batch in _with_preparation(plan, pending, watcher):
            if isinstance(watcher, BatchWatcher):
                watcher.begin([p.key for p in batch.samples if p.key not in finished])
            for record in _run(plan, batch, skip=finished):
                plan.folder.append(record)
                finished[record.key] = record
                watcher.sample(record.task, record)
                ran += 1
    return ran


@contextmanager
def _left_in_order(
    plan: RunPlan, content: Mapping[str, Any], finished: dict[Key, SampleRecord]
) -> Iterator[None]:
    """If the block is left by an error, `run.json` says what became of the run."""
    try:
        yield
    except MeasurementError as error:
        with plan.folder.leaving():
            plan.folder.write_run(
                {**content, "status": "failed", "error": str(error), "method_facts": plan.method.facts()}
            )
        raise
    except BaseException:
        # Ctrl-C, or a method that could not prepare: what is finished stays, and counts.
        with contextlib.suppress(UsageError), plan.folder.leaving():  # the disk may be what failed
            plan.folder.write_run({**content, "status": "interrupted", **_summed(plan, finished)})
        raise


def _conclude(plan: RunPlan, content: Mapping[str, Any], finished: dict[Key, SampleRecord]) -> dict[str, Any]:
    """Summarise a run that came to its end, and write that down; returns the summary."""
    with plan.folder.leaving():
        summed = _summed(plan, finished)
        status = "finished" if not summed["summary"]["total"]["failed"] else "finished with failures"
        end = {"method_facts": plan.method.facts(), "model": plan.model.facts(), **summed}
        plan.folder.write_run({**content, "status": status, **end})
    return dict(summed["summary"])


def _finish(plan: RunPlan, finished: dict[Key, SampleRecord]) -> RunResult:
    """A run without work left. One killed between its last sample and its summary gets the summary now."""
    summed = _summed(plan, finished)
    found = plan.folder.read_run() or run_content(plan)
    if "summary" not in found or found.get("status") == "interrupted":
        plan.folder.write_run({**found, "status": "finished", "planned": planned_ids(plan), **summed})
    return RunResult(plan.folder, summed["summary"], 0)


def _start_over_if_failed(folder: RunFolder) -> None:
    """Set the samples of a run that was not to be believed aside, so that none of them is built upon."""
    if (folder.read_run() or {}).get("status") == "failed":
        folder.set_aside()


def _same_samples(plan: RunPlan, finished: dict[Key, SampleRecord]) -> None:
    """Refuse to mix answers to different prompts, or scores by different references, in one run.

    A task says itself which data it has read (`Task.facts`); of one that does not, ids that another ``--limit``
    cannot explain tell it.
    """
    before = (plan.folder.read_run() or {}).get("planned", {})
    for name, now in planned_ids(plan).items():
        earlier = set(before.get(name, ()))
        if earlier and not (earlier <= set(now) or earlier >= set(now)):
            raise UsageError(
                f"{plan.folder.path} holds other samples of {name}: the data changed since; choose another --out"
            )
    for prepared in plan.samples:
        record = finished.get(prepared.key)
        if record is None:
            continue
        head = SampleRecord.from_json(json.loads(json.dumps(record_head(plan, prepared).to_json())))
        if any(
            getattr(record, name) != getattr(head, name) for name in ("prompt_hash", "references", "metadata")
        ):
            raise UsageError(
                f"{plan.folder.path} holds an answer to another text of {prepared.task.name} {prepared.sample.id}: "
                "the data changed since; choose another --out"
            )


def _summed(plan: RunPlan, records: dict[Key, SampleRecord]) -> dict[str, Any]:
    """The summary of the planned samples, and a digest of the records it was made from."""
    keys = [p.key for p in plan.samples]
    made_from = digest(records[key] for key in keys if key in records)
    return {"summary": summarise(plan.tasks, keys, records), "summary_of": made_from}


def _batches(plan: RunPlan) -> Iterator[SampleBatch]:
    """What is asked in one go, task by task."""
    for task in plan.tasks:
        mine = [p for p in plan.samples if p.task is task]
        yield from sample_batches(plan.method, mine, plan.settings.batch_size, plan.settings.share)


def _with_preparation(plan: RunPlan, batches: list[SampleBatch], watcher: Watcher) -> Iterator[SampleBatch]:
    """Each batch; before the first of a task the method prepares for all of the task's prompts."""
    if plan.settings.join:
        share(plan.folder.workers(), plan.model.device)
    watcher.note(f"loading {plan.model.name}")
    _ = plan.model.network
    for task in plan.tasks:
        mine = [b for b in batches if b.samples[0].task is task]
        if not mine:
            continue
        groups: dict[Decoding, list[TokenizedPrompt]] = {}
        for prepared in plan.samples:
            if prepared.task is task:
                for asked in prepared.each:
                    groups.setdefault(asked.decoding, []).append(asked.tokenized(plan.model))
        for decoding, prompts in groups.items():
            apart(plan.method.prepare, prepared_for(plan.method, prompts), decoding)
        del groups
        for batch in plan.folder.claimed(mine):
            if plan.settings.join:
                share(plan.folder.workers(), plan.model.device)
            yield batch


def _run(plan: RunPlan, batch: SampleBatch, skip: Mapping[Key, SampleRecord]) -> Iterator[SampleRecord]:
    """Records of a batch's or a group's unfinished samples, as they are answered."""
    if batch.samples[0].questions:
        yield _run_questions(plan, batch.samples[0])
        return
    if not batch.shared:
        yield from _run_batch(plan, batch.samples, skip)
        return
    size = plan.settings.batch_size
    chunks = [batch.samples[i : i + size] for i in range(0, len(batch.samples), size)]
    chunks = [chunk for chunk in chunks if any(p.key not in skip for p in chunk)]
    shared: SharedContext | None = None
    # What goes wrong here each sample, asked alone, says itself.
    with contextlib.suppress(Exception), _in_time(plan, len(batch.samples)):
        shared = compress_once(plan.method, [p for chunk in chunks for p in chunk])
    if shared is None:
        _release(plan)
    for chunk in chunks:
        yield from _run_batch(plan, chunk, skip, shared)


def _run_questions(plan: RunPlan, prepared: PreparedSample) -> SampleRecord:
    """The record of a sample with several questions; one that fails is the failure of the sample."""
    head = record_head(plan, prepared)
    try:
        with _in_time(plan, len(prepared.questions)):
            record = several_answered(head, prepared, answer_questions(plan, prepared))
        writable(record.to_json())
    except MeasurementError:
        raise
    except Exception as error:
        failure = failed(head, error)
    else:
        return record
    _release(plan)
    return failure


def _run_batch(
    plan: RunPlan,
    batch: list[PreparedSample],
    skip: Mapping[Key, SampleRecord],
    shared: SharedContext | None = None,
) -> list[SampleRecord]:
    """Records of a batch's unfinished samples. What fails is tried again sample by sample, sharing nothing."""
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
    records = []
    for prepared in batch:
        if prepared.key not in skip:
            records += _run_batch(plan, [prepared], skip)
    return records


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
    return limited(seconds and seconds * samples, plan.model.network)


def _release(plan: RunPlan) -> None:
    """Give cached device memory back before a sample is tried again alone."""
    if plan.model.device.startswith("cuda"):
        import torch

        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()


__all__ = ["RunPlan", "RunResult", "RunSettings", "execute", "plan_run"]
