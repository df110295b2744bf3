"""A run, from the command's settings to the last line on disk. Read it from top to bottom.

Everything that can be refused is refused by `plan_run`, before any weights are loaded: names, options,
data, budgets. `execute` then goes over the samples, batch by batch; a sample that fails is recorded and the
run goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from . import __version__, adapters, provenance, registry
from .environment import task_environment
from .errors import MeasurementError, UsageError
from .measure import Meter, check, observe
from .method import Announce, Decoding, Generation, Method
from .models import LanguageModel
from .models import load as load_model
from .prompt import Prompt, TokenizedPrompt, render, tokenize
from .records import RunFolder, folder_name, identity_hash
from .summary import summarise
from .task import Sample, Task
from .truncation import RULES, Truncation, truncate

SCHEMA = 1

OUT_OF_MEMORY = ("out of memory", "DefaultCPUAllocator: can't allocate memory", "STATUS_ALLOC_FAILED")
"""What a RuntimeError says when memory ran out."""


@dataclass(frozen=True)
class RunSettings:
    """What a user asks for; the flags of ``harness run`` under the same names."""

    method: str = "plain"
    options: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ("passkey",)
    task_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    model: str = "smollm2"
    adapter: Path | None = None
    context_length: int | None = None
    max_context: int | None = None
    truncate: str = "middle"
    chat: str = "auto"
    limit: int | None = None
    seed: int = 42
    dtype: str = "auto"
    device: str = "auto"
    batch_size: int = 1
    data_dir: Path | None = None
    offline: bool = False
    out: Path = Path("runs")
    trust_remote_code: bool = False


@dataclass
class Prepared:
    """A sample ready to be asked: its prompt truncated and rendered."""

    task: Task
    sample: Sample
    rendered: Prompt
    tokens: int
    truncation: Truncation
    decoding: Decoding

    @property
    def prompt_hash(self) -> str:
        """Sixteen hex digits of the rendered prompt: resuming on other data is noticed."""
        return hashlib.sha256(self.rendered.text.encode()).hexdigest()[:16]

    @property
    def key(self) -> tuple[str, str]:
        return self.task.name, self.sample.id


@dataclass
class RunPlan:
    """A run that has passed every check; nothing heavy is loaded yet."""

    settings: RunSettings
    model: LanguageModel
    method: Method
    method_origin: str
    tasks: list[Task]
    samples: list[Prepared]
    identity: dict[str, Any]
    folder: RunFolder


class Watcher(Protocol):
    """Whoever shows a run to the user; every call may be ignored."""

    def start(self, totals: dict[str, int], done: dict[str, int]) -> None: ...

    def note(self, text: str) -> None: ...

    def announce(self, what: str) -> AbstractContextManager[Any]: ...

    def sample(self, task: str, record: dict[str, Any]) -> None: ...


def plan_run(settings: RunSettings, note: Any = None) -> RunPlan:
    """Check everything that can be checked before the model's weights are loaded.

    Raises
    ------
    UsageError
        For anything wrong with the request, in one line.
    """
    if settings.truncate not in RULES:
        raise UsageError(f"--truncate {settings.truncate}: choose from {', '.join(RULES)}")
    for flag, value in (
        ("limit", settings.limit),
        ("batch-size", settings.batch_size),
        ("max-context", settings.max_context),
    ):
        if value is not None and value < 1:
            raise UsageError(f"--{flag} must be at least 1, not {value}")
    plugin = registry.method(settings.method)
    options = plugin.cls.Options.parse(settings.options, f"method {settings.method}")
    tasks = registry.tasks(list(settings.tasks), settings.task_settings)
    model = load_model(
        settings.model,
        context_length=settings.context_length,
        dtype=settings.dtype,
        device=settings.device,
        offline=settings.offline,
        chat=settings.chat,
        trust_remote_code=settings.trust_remote_code,
        notify=note,
    )
    method = plugin.cls(model, options)
    if settings.adapter is not None:
        method.load(settings.adapter)
    samples: list[Prepared] = []
    for task in tasks:
        env = task_environment(
            model,
            seed=settings.seed,
            data_dir=settings.data_dir,
            offline=settings.offline,
            limit=settings.limit,
        )
        made = _take(task, env, settings, method)
        if not made:
            raise UsageError(f"task {task.name} has no samples")
        samples += made
    identity = _identity(settings, model, method, tasks)
    if plugin.file_hash is not None:  # a file has no version to go by: another text may give other answers
        identity["method_file"] = plugin.file_hash
    name = folder_name(settings.method, settings.model, identity)
    return RunPlan(
        settings, model, method, plugin.origin, tasks, samples, identity, RunFolder(settings.out / name)
    )


def _take(task: Task, env: Any, settings: RunSettings, method: Method) -> list[Prepared]:
    made, ids = [], set()
    for number, sample in enumerate(task.samples(env)):
        if settings.limit is not None and number >= settings.limit:
            break
        if sample.id in ids:
            raise UsageError(f"task {task.name} gives the id {sample.id!r} twice")
        ids.add(sample.id)
        try:
            json.dumps(sample.metadata, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UsageError(f"task {task.name}: metadata of {sample.id} is not JSON: {error}") from None
        made.append(prepare(task, sample, method, settings))
    return made


def prepare(task: Task, sample: Sample, method: Method, settings: RunSettings) -> Prepared:
    """Truncate and render one sample so that template, prompt and answer fit what the method reads.

    Raises
    ------
    UsageError
        With the arithmetic, if they cannot.
    """
    model = method.model
    wrap = {"chat": sample.chat, "answer_prefix": sample.answer_prefix}
    bare = len(model.tokenizer(sample.prompt.text)["input_ids"])
    overhead = max(0, len(tokenize(render(sample.prompt, model, **wrap), model)) - bare)  # type: ignore[arg-type]
    room = method.context_limit()
    free = None if room is None else room - overhead - sample.new_tokens
    arithmetic = f"{overhead} template + {sample.new_tokens} new tokens"
    if free is not None and free < 1:
        raise UsageError(
            f"task {task.name}: {arithmetic} leave nothing of the {room} tokens {settings.method} can read"
        )
    limit = settings.max_context
    if limit is None:
        habits = [task.max_context(), method.default_max_context(), free]
        limit = min((n for n in habits if n is not None), default=None)
    elif free is not None and min(limit, bare) > free:
        raise UsageError(
            f"task {task.name}: {min(limit, bare)} prompt + {arithmetic} = "
            f"{min(limit, bare) + overhead + sample.new_tokens} > {room}, what {settings.method} can read on "
            f"{settings.model}; lower --max-context to {free}"
        )
    while True:
        cut, truncation = truncate(
            sample.prompt, settings.truncate, limit, model.tokenizer, sample.references
        )
        rendered = render(cut, model, **wrap)  # type: ignore[arg-type]
        tokens = len(tokenize(rendered, model))
        excess = 0 if room is None else tokens + sample.new_tokens - room
        if excess <= 0:
            break
        # Joined halves may tokenise a little longer than the limit: cut that much more.
        limit = (bare if limit is None else limit) - excess
        if limit < 1:
            raise UsageError(
                f"task {task.name}: {arithmetic} leave too little of the {room} tokens {settings.method} can read"
            )
    stop = tuple(
        ids[-1]
        for text in sample.stop
        if (ids := model.tokenizer(text, add_special_tokens=False)["input_ids"])
    )
    decoding = Decoding(sample.new_tokens, sample.min_new_tokens, stop)
    return Prepared(task, sample, rendered, tokens, truncation, decoding)


def _identity(
    settings: RunSettings, model: LanguageModel, method: Method, tasks: Sequence[Task]
) -> dict[str, Any]:
    """Everything that can change an answer; ``--limit`` cannot, so raising it continues the same run."""
    return {
        "schema": SCHEMA,
        "harness": __version__,
        "method": settings.method,
        "method_version": method.version,
        "options": method.options.model_dump(mode="json"),
        "adapter": None if settings.adapter is None else adapters.fingerprint(settings.adapter),
        "model_hash": model.content_hash,
        "tokenizer_hash": model.tokenizer_hash,
        "context_length": model.context_length,
        "dtype": model.dtype,
        "device": model.device.partition(":")[0],
        "batch_size": settings.batch_size,
        "truncate": settings.truncate,
        "max_context": settings.max_context,
        "chat": model.chat,
        "seed": settings.seed,
        "tasks": [
            {
                "name": t.name,
                "version": t.version,
                "preset": t.preset,
                "options": t.options.model_dump(mode="json"),
            }
            for t in tasks
        ],
    }


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
    with folder.open():
        _start_over_if_failed(folder)
        finished = folder.recover()
        _same_samples(plan, finished)
        batches = list(_batches(plan))
        pending = [b for b in batches if any(p.key not in finished for p in b)]
        done = {t.name: sum(p.key in finished for p in plan.samples if p.task is t) for t in plan.tasks}
        watcher.start({t.name: sum(p.task is t for p in plan.samples) for t in plan.tasks}, done)
        if not pending:
            return _finish(plan, finished)
        content = _run_content(plan)
        folder.write_run({**content, "status": "running"})
        _dump_prompts(plan)
        ran = 0
        try:
            plan.method.announce = watcher.announce
            for batch in _with_preparation(plan, pending, watcher):
                for record in _run_batch(plan, batch, skip=finished):
                    folder.append(record)
                    finished[record["task"], record["id"]] = record
                    watcher.sample(record["task"], record)
                    ran += 1
        except MeasurementError as error:
            folder.write_run(
                {**content, "status": "failed", "error": str(error), "method_facts": plan.method.facts()}
            )
            raise
        except KeyboardInterrupt:
            folder.write_run({**content, "status": "interrupted", "summary": _summary(plan, finished)})
            raise
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
        head = json.loads(json.dumps(_record_head(prepared)))
        if any(record.get(name) != head[name] for name in ("prompt_hash", "references", "metadata")):
            raise UsageError(
                f"{plan.folder.path} holds an answer to another text of {prepared.task.name} {prepared.sample.id}: "
                "the data changed since; choose another --out"
            )


def _summary(plan: RunPlan, records: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    return summarise(plan.tasks, [p.key for p in plan.samples], records)


def _batches(plan: RunPlan) -> Iterator[list[Prepared]]:
    """Batches of one task and one decoding, always the same whatever has been finished already."""
    batch: list[Prepared] = []
    for prepared in plan.samples:
        full = len(batch) == plan.settings.batch_size
        if batch and (full or batch[0].task is not prepared.task or batch[0].decoding != prepared.decoding):
            yield batch
            batch = []
        batch.append(prepared)
    if batch:
        yield batch


def _with_preparation(
    plan: RunPlan, batches: list[list[Prepared]], watcher: Watcher
) -> Iterator[list[Prepared]]:
    """Each batch; before the first of a task the method prepares for all of the task's prompts."""
    watcher.note(f"loading {plan.model.name}")
    _ = plan.model.network
    for task in plan.tasks:
        mine = [b for b in batches if b[0].task is task]
        if not mine:
            continue
        groups: dict[Decoding, list[TokenizedPrompt]] = {}
        for prepared in plan.samples:
            if prepared.task is task:
                groups.setdefault(prepared.decoding, []).append(tokenize(prepared.rendered, plan.model))
        for decoding, prompts in groups.items():
            plan.method.prepare(prompts, decoding)
        del groups
        yield from mine


def _run_batch(
    plan: RunPlan, batch: list[Prepared], skip: dict[tuple[str, str], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Records of a batch's unfinished samples. A batch that fails is tried again sample by sample."""
    try:
        answered = _ask(plan, batch)
    except MeasurementError:
        raise
    except Exception as error:
        failure = _failure(error)
    else:
        return [record for prepared, record in zip(batch, answered) if prepared.key not in skip]
    # Only out here is the error gone, and with it the frames that hold what had filled the memory.
    if len(batch) == 1:
        return [{**_record_head(batch[0]), **failure}]
    _release(plan)
    records = []
    for prepared in batch:
        if prepared.key not in skip:
            records += _run_batch(plan, [prepared], skip)
    return records


def _ask(plan: RunPlan, batch: list[Prepared]) -> list[dict[str, Any]]:
    prompts = [tokenize(p.rendered, plan.model) for p in batch]
    began = time.perf_counter()
    with observe(plan.model.network, plan.model.device, len(batch)) as meter:
        generations = plan.method.compress_and_generate(prompts, batch[0].decoding)
    seconds = time.perf_counter() - began
    if len(generations) != len(batch):
        raise RuntimeError(f"the method returned {len(generations)} answers to {len(batch)} prompts")
    return [
        _record(p, g, check(g, meter, row, p.tokens), _cost(meter, seconds, len(batch), row))
        for row, (p, g) in enumerate(zip(batch, generations))
    ]


def _record(
    prepared: Prepared, generation: Generation, measured: dict[str, Any], cost: dict[str, Any]
) -> dict[str, Any]:
    """The record of an answered sample. What cannot be scored or written down is a failure of that sample."""
    head = _record_head(prepared)
    try:
        record = {**head, **_answer(prepared, generation, measured), "cost": cost}
        json.dumps(record, allow_nan=False)
    except Exception as error:
        return {**head, **_failure(error)}
    return record


def _record_head(prepared: Prepared) -> dict[str, Any]:
    return {
        "id": prepared.sample.id,
        "task": prepared.task.name,
        "status": "ok",
        "metadata": prepared.sample.metadata,
        "references": list(prepared.sample.references),
        "prompt_hash": prepared.prompt_hash,
        "prompt_tokens": prepared.tokens,
        "truncation": prepared.truncation.to_json(),
    }


def _answer(prepared: Prepared, generation: Generation, measured: dict[str, Any]) -> dict[str, Any]:
    return {
        "prediction": generation.text,
        "scores": _scores(prepared, generation.text),
        "new_tokens": len(generation.token_ids),
        "stop_reason": generation.stop_reason,
        "measured": measured,
        "declared": {"kv_tokens": generation.kv_tokens},
        "details": generation.details,
    }


def _scores(prepared: Prepared, prediction: str) -> dict[str, float]:
    """The task's scores of one answer, held to the contract: every metric, each 0..1."""
    scores = {k: float(v) for k, v in prepared.task.score(prepared.sample, prediction).items()}
    for metric in prepared.task.metrics:
        if metric not in scores:
            raise ValueError(f"task {prepared.task.name} gave no score {metric!r}")
    for metric, value in scores.items():
        if not (math.isfinite(value) and -1e-9 <= value <= 1 + 1e-9):
            raise ValueError(f"task {prepared.task.name} gave {metric} = {value}, which is not 0..1")
    return scores


def _cost(meter: Meter, seconds: float, batch: int, row: int) -> dict[str, Any]:
    """Time and memory of one sample: an equal share of its batch's, except the batch's peak memory."""
    booked = {name: value / batch for name, value in meter.seconds.items()}
    return {
        "seconds": seconds / batch,
        **{f"{name}_seconds": value for name, value in booked.items()},
        "kv_bytes": None if meter.kv_bytes is None else meter.kv_bytes // batch,
        "peak_bytes": meter.peak_bytes,
        "forwards": meter.forwards,
        "positions": meter.positions // batch,
        "batch": batch,
        "row": row,
    }


def _failure(error: Exception) -> dict[str, Any]:
    """What a failed sample's record says: ``oom`` if memory ran out, else ``error`` and where it came from."""
    import torch

    # On a CPU, and in CUDA's libraries, memory that cannot be had is an ordinary RuntimeError.
    memory = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    )
    where = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    return {
        "status": "oom" if memory else "error",
        "error": {
            "type": type(error).__name__,
            "message": str(error)[:2000],
            "where": f"{Path(where.filename).name}:{where.lineno}" if where else None,
        },
    }


def _release(plan: RunPlan) -> None:
    """Give cached device memory back before a sample is tried again alone."""
    if plan.model.device.startswith("cuda"):
        import torch

        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()


def _run_content(plan: RunPlan) -> dict[str, Any]:
    settings = replace(plan.settings)
    return {
        "schema": SCHEMA,
        "hash": identity_hash(plan.identity),
        "identity": plan.identity,
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(settings).items()},
        "method": {
            "name": plan.settings.method,
            "origin": plan.method_origin,
            "version": plan.method.version,
            "sees_question": plan.method.sees_question,
            "context_limit": plan.method.context_limit(),
        },
        "model": plan.model.facts(),
        "method_facts": plan.method.facts(),
        "prompts": {t.name: provenance.preset_hash(t, plan.model) for t in plan.tasks},
        "environment": provenance.environment(),
    }


def _dump_prompts(plan: RunPlan) -> None:
    """The first prompt of each task as the model reads it, for people to look at."""
    seen = set()
    for prepared in plan.samples:
        if prepared.task.name not in seen:
            seen.add(prepared.task.name)
            plan.folder.write_text(
                f"prompts/{prepared.task.name.replace('/', '-')}.txt", prepared.rendered.text
            )


__all__ = ["Announce", "RunPlan", "RunResult", "RunSettings", "execute", "plan_run"]
