"""A run, from a plan to the last line on disk. Read it from top to bottom.

`execute` goes over the planned samples, batch by batch; each is asked, measured, scored and written down. A
sample that fails is recorded and the run goes on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..contracts.phases import watched_by
from ..contracts.record import Key, SampleRecord
from ..errors import MeasurementError, UsageError
from ..results.record_lines import NAMED
from ..results.run_folder import RunFolder, earlier_environments
from ..results.shared_run_folder import SharedRunFolder
from ..results.summary import digest, own_digest, summarise
from .asking import prepare_task, run_batch
from .batches import SampleBatch, sample_batches
from .cores import share
from .launched_pool import launched_pool
from .plan import RunPlan, plan_run
from .ray_pool import ray_pool
from .run_metadata import dump_prompts, planned_ids, run_content
from .sample_record import record_head
from .settings import RunSettings
from .workers import expectations, share_out


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
    if not plan.settings.track:
        return _execute(plan, watcher)
    from ..tracking import track_run

    with track_run(plan.settings.track, plan.folder.path, plan.identity, watcher) as tracked:
        result = _execute(plan, tracked)
        tracked.finished(result.summary)
        return result


def _execute(plan: RunPlan, watcher: Watcher) -> RunResult:
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
    if finished and not folder.named:  # an earlier version wrote some of its lines
        content.pop(NAMED)
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
    with (
        watched_by(watcher),
        plan.folder.syncing_behind(),
        contextlib.closing(_answers(plan, pending, finished, watcher)) as answers,
    ):
        for record in answers:
            plan.folder.append(record)
            finished[record.key] = record
            watcher.sample(record.task, record)
            ran += 1
    return ran


def _answers(
    plan: RunPlan, pending: list[SampleBatch], finished: Mapping[Key, SampleRecord], watcher: Watcher
) -> Generator[SampleRecord, None, None]:
    """Records of what is missing, by this process or by workers."""
    if plan.settings.engine == "local":
        for batch in _with_preparation(plan, pending, watcher):
            if isinstance(watcher, BatchWatcher):
                watcher.begin([p.key for p in batch.samples if p.key not in finished])
            yield from run_batch(plan, batch, skip=finished)
        return
    kind, _, plugin = plan.method_origin.partition(" ")
    file = str(Path(plugin).resolve()) if kind == "file" else None
    pooled = ray_pool if plan.settings.engine == "ray" else launched_pool
    with pooled(plan.settings, plan.model.device, file, expectations(plan)) as pool:
        watcher.note(f"{pool.size} workers load {plan.model.name}")
        for record in share_out(plan, pool, pending):
            if record.key not in finished:
                yield record
    order = [p.key for batch in _batches(plan) for p in batch.samples]
    plan.folder.put_in_order(order)


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
                {**content, "status": "failed", "error": str(error), "method_facts": plan.method_facts()}
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
        plan.answered = [r.details for key in _keys(plan) if (r := finished.get(key)) and r.finished]
        known = {**plan.known, "method_facts": plan.method_facts()}
        end = {"model": plan.model.facts(), **known, **summed}
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
        _own(plan, record, head)


def _own(plan: RunPlan, record: SampleRecord, head: SampleRecord) -> None:
    """Refuse a line of another run whose checksum does not tell: one of an earlier version, which named no run."""
    if plan.folder.named:
        return
    cut = record.truncation
    if record.protocol not in (None, head.protocol):
        why = f"it was {record.protocol}, this run is {head.protocol}"
    elif cut.limit is not None and (cut.rule, cut.limit) != (head.truncation.rule, head.truncation.limit):
        ours = head.truncation
        why = (
            f"it was cut by the rule {cut.rule} to {cut.limit}, this run cuts by {ours.rule} to {ours.limit}"
        )
    else:
        return
    raise UsageError(
        f"{plan.folder.samples_path}: the line of {record.task} {record.id} is of another run: {why}; remove that line "
        "to run its sample again"
    )


def _keys(plan: RunPlan) -> list[Key]:
    return [p.key for p in plan.samples]


def _summed(plan: RunPlan, records: dict[Key, SampleRecord]) -> dict[str, Any]:
    """The summary of the planned samples, and a digest of the records it was made from."""
    keys = _keys(plan)
    made_from = digest(records[key] for key in keys if key in records)
    summary = summarise(plan.tasks, keys, records)
    return {"summary": summary, "summary_of": made_from, "summary_sum": own_digest(summary)}


def _batches(plan: RunPlan) -> Iterator[SampleBatch]:
    """What is asked in one go, task by task."""
    for task in plan.tasks:
        mine = [p for p in plan.samples if p.task is task]
        yield from sample_batches(
            plan.method, mine, plan.batches.most, plan.settings.share, plan.batches.automatic
        )


def _with_preparation(plan: RunPlan, batches: list[SampleBatch], watcher: Watcher) -> Iterator[SampleBatch]:
    """Each batch; before the first of a task the method prepares for all of the task's prompts."""
    if plan.settings.join:
        share(plan.folder.workers(), plan.model.device)
    if not plan.method.remote:
        watcher.note(f"loading {plan.model.name}")
        _ = plan.model.network
    for task in plan.tasks:
        mine = [b for b in batches if b.samples[0].task is task]
        if not mine:
            continue
        prepare_task(plan, task)
        for batch in plan.folder.claimed(mine):
            if plan.settings.join:
                share(plan.folder.workers(), plan.model.device)
            yield batch


__all__ = ["RunPlan", "RunResult", "RunSettings", "execute", "plan_run"]
