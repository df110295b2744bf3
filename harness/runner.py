"""A run, from a plan to the last line on disk. Read it from top to bottom.

`execute` goes over the planned samples, batch by batch; each is asked, measured, scored and written down. A
sample that fails is recorded and the run goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ._asking import Asked, Reading, Together, ask, ask_over, read_once, together
from ._choices import cut_at
from ._timeouts import SampleTimeout, limited
from ._util import environment
from .contracts.outputs import Decoding, Generation, Scored
from .contracts.prompt import TokenizedPrompt
from .contracts.task import Task
from .errors import MeasurementError, UsageError
from .evaluation import run_metadata
from .planning import Prepared, RunPlan, RunSettings, plan_run, writable
from .prompts.render import tokenize
from .results import shared_run_folder
from .results.run_folder import SCHEMA, RunFolder, earlier_environments, identity_hash
from .results.summary import summarise

OUT_OF_MEMORY = ("out of memory", "DefaultCPUAllocator: can't allocate memory", "STATUS_ALLOC_FAILED")
"""What a RuntimeError says when memory ran out."""


class Watcher(Protocol):
    """Whoever shows a run to the user; every call may be ignored."""

    def start(self, totals: dict[str, int], done: dict[str, int]) -> None: ...

    def note(self, text: str) -> None: ...

    def announce(self, what: str) -> AbstractContextManager[Any]: ...

    def sample(self, task: str, record: dict[str, Any]) -> None: ...


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
    folder = plan.folder
    if plan.settings.join:
        order = [p.key for batch in _batches(plan) for p in batch.samples]
        folder = plan.folder = shared_run_folder.JoinedFolder(folder.path, order, watcher.sample)
    with folder.open():
        _start_over_if_failed(folder)
        finished = folder.recover()
        _same_samples(plan, finished)
        pending = [b for b in _batches(plan) if any(p.key not in finished for p in b.samples)]
        done = {t.name: sum(p.key in finished for p in plan.samples if p.task is t) for t in plan.tasks}
        watcher.start({t.name: sum(p.task is t for p in plan.samples) for t in plan.tasks}, done)
        if not pending:
            with folder.leaving():
                return _finish(plan, finished)
        content = _run_content(plan)
        if (finished or folder.shared) and (
            earlier := earlier_environments(folder.read_run() or {}, content["environment"])
        ):
            content["earlier_environments"] = earlier
            watcher.note("part of this run was answered with other versions, hardware or code: see run.json")
        folder.write_run({**content, "status": "running"})
        _dump_prompts(plan)
        folder.begin()
        ran = 0
        try:
            plan.method.announce = watcher.announce
            for batch in _with_preparation(plan, pending, watcher):
                for record in _run(plan, batch, skip=finished):
                    folder.append(record)
                    finished[record["task"], record["id"]] = record
                    watcher.sample(record["task"], record)
                    ran += 1
        except MeasurementError as error:
            with folder.leaving():
                folder.write_run(
                    {**content, "status": "failed", "error": str(error), "method_facts": plan.method.facts()}
                )
            raise
        except BaseException:
            # Ctrl-C, or a method that could not prepare: what is finished stays, and counts.
            with contextlib.suppress(UsageError), folder.leaving():  # the disk may be what failed
                folder.write_run({**content, "status": "interrupted", "summary": _summary(plan, finished)})
            raise
        with folder.leaving():
            summary = _summary(plan, finished)
            status = "finished" if not summary["total"]["failed"] else "finished with failures"
            folder.write_run(
                {
                    **content,
                    "status": status,
                    "method_facts": plan.method.facts(),
                    "model": plan.model.facts(),
                    "summary": summary,
                }
            )
        return RunResult(folder, summary, ran)


def _finish(plan: RunPlan, finished: dict[tuple[str, str], dict[str, Any]]) -> RunResult:
    """A run without work left. One killed between its last sample and its summary gets the summary now."""
    summary = _summary(plan, finished)
    found = plan.folder.read_run() or _run_content(plan)
    if "summary" not in found or found.get("status") == "interrupted":
        plan.folder.write_run({**found, "status": "finished", "summary": summary})
    return RunResult(plan.folder, summary, 0)


def _start_over_if_failed(folder: RunFolder) -> None:
    """Set the samples of a run that was not to be believed aside, so that none of them is built upon."""
    if (folder.read_run() or {}).get("status") == "failed":
        folder.set_aside()


def _same_samples(plan: RunPlan, finished: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Refuse to mix answers to different prompts, or scores by different references, in one run."""
    for prepared in plan.samples:
        record = finished.get(prepared.key)
        if record is None:
            continue
        head = json.loads(json.dumps(_record_head(plan, prepared)))
        if any(record.get(name) != head[name] for name in ("prompt_hash", "references", "metadata")):
            raise UsageError(
                f"{plan.folder.path} holds an answer to another text of {prepared.task.name} {prepared.sample.id}: "
                "the data changed since; choose another --out"
            )


def _summary(plan: RunPlan, records: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    return summarise(plan.tasks, [p.key for p in plan.samples], records)


def _batches(plan: RunPlan) -> Iterator[Together]:
    """What is asked in one go, task by task."""
    for task in plan.tasks:
        mine = [p for p in plan.samples if p.task is task]
        yield from together(plan.method, mine, plan.settings.batch_size, plan.settings.share)


def _with_preparation(plan: RunPlan, batches: list[Together], watcher: Watcher) -> Iterator[Together]:
    """Each batch; before the first of a task the method prepares for all of the task's prompts."""
    watcher.note(f"loading {plan.model.name}")
    _ = plan.model.network
    for task in plan.tasks:
        mine = [b for b in batches if b.samples[0].task is task]
        if not mine:
            continue
        groups: dict[Decoding, list[TokenizedPrompt]] = {}
        for prepared in plan.samples:
            if prepared.task is task:
                groups.setdefault(prepared.decoding, []).append(tokenize(prepared.rendered, plan.model))
        for decoding, prompts in groups.items():
            plan.method.prepare(prompts, decoding)
        del groups
        yield from plan.folder.claimed(mine)


def _run(
    plan: RunPlan, batch: Together, skip: Mapping[tuple[str, str], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Records of a batch's or a group's unfinished samples, as they are answered."""
    if not batch.shared:
        yield from _run_batch(plan, batch.samples, skip)
        return
    size = plan.settings.batch_size
    chunks = [batch.samples[i : i + size] for i in range(0, len(batch.samples), size)]
    chunks = [chunk for chunk in chunks if any(p.key not in skip for p in chunk)]
    reading: Reading | None = None
    # What goes wrong here each sample, asked alone, says itself.
    with contextlib.suppress(Exception), _in_time(plan, len(batch.samples)):
        reading = read_once(plan.method, [p for chunk in chunks for p in chunk])
    if reading is None:
        _release(plan)
    for chunk in chunks:
        yield from _run_batch(plan, chunk, skip, reading)


def _run_batch(
    plan: RunPlan,
    batch: list[Prepared],
    skip: Mapping[tuple[str, str], dict[str, Any]],
    reading: Reading | None = None,
) -> list[dict[str, Any]]:
    """Records of a batch's unfinished samples. What fails is tried again sample by sample, sharing nothing."""
    try:
        with _in_time(plan, len(batch)):
            answered = ask(plan.method, batch) if reading is None else ask_over(plan.method, reading, batch)
    except MeasurementError:
        raise
    except Exception as error:
        failure = _failure(error)
    else:
        return [_record(plan, p, asked) for p, asked in zip(batch, answered) if p.key not in skip]
    # Only out here is the error gone, and with it the frames that hold what had filled the memory.
    if len(batch) == 1 and reading is None:
        return [{**_record_head(plan, batch[0]), **failure}]
    _release(plan)
    records = []
    for prepared in batch:
        if prepared.key not in skip:
            records += _run_batch(plan, [prepared], skip)
    return records


def _record(plan: RunPlan, prepared: Prepared, asked: Asked) -> dict[str, Any]:
    """The record of an answered sample. What cannot be scored or written down is a failure of that sample."""
    head = _record_head(plan, prepared)
    try:
        with _in_time(plan, 1):  # a score may hang as well
            record = {**head, **_answer(prepared, asked), "cost": asked.cost}
        writable(record)
    except Exception as error:
        return {**head, **_failure(error)}
    return record


def _record_head(plan: RunPlan, prepared: Prepared) -> dict[str, Any]:
    return {
        "id": prepared.sample.id,
        "task": prepared.task.name,
        "status": "ok",
        "protocol": plan.method.protocol,
        "metadata": prepared.sample.metadata,
        "references": list(prepared.sample.references),
        "prompt_hash": prepared.prompt_hash,
        "prompt_tokens": prepared.tokens,
        "truncation": prepared.truncation.to_json(),
        "answer_token": prepared.answer_token,
    }


def _answer(prepared: Prepared, asked: Asked) -> dict[str, Any]:
    generation = asked.generation
    return {
        **(_chosen(prepared, generation) if isinstance(generation, Scored) else _said(prepared, generation)),
        "measured": asked.measured,
        "declared": {"kv_tokens": generation.kv_tokens},
        "details": generation.details,
    }


def _said(prepared: Prepared, generation: Generation) -> dict[str, Any]:
    """What the record holds of a generated answer."""
    text = cut_at(generation.text, prepared.sample.until)
    return {
        "prediction": text,
        "scores": _checked(prepared, prepared.task.score(prepared.sample, text)),
        "new_tokens": len(generation.token_ids),
        "stop_reason": generation.stop_reason,
    }


def _chosen(prepared: Prepared, scored: Scored) -> dict[str, Any]:
    """What the record holds where choices were asked for: their likelihoods; the likeliest is the prediction."""
    likelihoods = scored.likelihoods
    best = max(range(len(likelihoods)), key=lambda i: likelihoods[i].logprob)
    return {
        "prediction": prepared.sample.choices[best],
        "scores": _checked(prepared, prepared.task.score_choices(prepared.sample, likelihoods)),
        "likelihoods": [asdict(x) for x in likelihoods],
        "new_tokens": 0,
        "stop_reason": "choices",
    }


def _checked(prepared: Prepared, given: dict[str, float]) -> dict[str, float]:
    """The task's scores of one answer, held to the contract: every metric, each 0..1."""
    scores = {k: float(v) for k, v in given.items()}
    for metric in prepared.task.metrics:
        if metric not in scores:
            raise ValueError(f"task {prepared.task.name} gave no score {metric!r}")
    for metric, value in scores.items():
        if not (math.isfinite(value) and -1e-9 <= value <= 1 + 1e-9):
            raise ValueError(f"task {prepared.task.name} gave {metric} = {value}, which is not 0..1")
    return scores


def _failure(error: Exception) -> dict[str, Any]:
    """What a failed sample's record says: ``timeout``, ``oom`` if memory ran out, or ``error``; and where."""
    import torch

    # On a CPU, and in CUDA's libraries, memory that cannot be had is an ordinary RuntimeError.
    memory = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    )
    where = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    return {
        "status": "timeout" if isinstance(error, SampleTimeout) else "oom" if memory else "error",
        "error": {
            "type": type(error).__name__,
            "message": str(error)[:2000],
            "where": f"{Path(where.filename).name}:{where.lineno}" if where else None,
        },
    }


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


def _run_content(plan: RunPlan) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "hash": identity_hash(plan.identity),
        "identity": plan.identity,
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(plan.settings).items()},
        "method": {
            "name": plan.settings.method,
            "origin": plan.method_origin,
            "version": plan.method.version,
            "sees_question": plan.method.sees_question,
            "protocol": plan.method.protocol,
            "context_limit": plan.method.context_limit(),
        },
        "model": plan.model.facts(),
        "method_facts": plan.method.facts(),
        "unavailable": plan.unavailable,
        "prompts": {t.name: _prompt_facts(plan, t) for t in plan.tasks},
        "environment": environment.environment(),
    }


def _prompt_facts(plan: RunPlan, task: Task) -> dict[str, Any]:
    """The prompt protocol of a task, and a hash over all of its rendered prompts: the data that was asked."""
    hashes = [p.prompt_hash for p in plan.samples if p.task is task]
    whole = hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]
    found = {**run_metadata.preset_hash(task, plan.model), "samples": len(hashes), "samples_hash": whole}
    return {**found, **({"facts": facts} if (facts := task.facts()) else {})}


def _dump_prompts(plan: RunPlan) -> None:
    """The first prompt of each task as the model reads it, for people to look at."""
    seen = set()
    for prepared in plan.samples:
        if prepared.task.name not in seen:
            seen.add(prepared.task.name)
            plan.folder.write_text(
                f"prompts/{re.sub('[^A-Za-z0-9._-]', '-', prepared.task.name)}.txt", prepared.rendered.text
            )


__all__ = ["RunPlan", "RunResult", "RunSettings", "execute", "plan_run"]
