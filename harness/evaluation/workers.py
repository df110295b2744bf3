"""A run's batches shared out among workers, whatever engine starts them; one that dies is replaced.

The driver keeps the run folder and writes every record; a worker makes the same plan from the same request and is asked
by the names of samples. What an engine has to offer is a `Pool`; `harness.evaluation.ray_pool` has Ray's,
`harness.evaluation.launched_pool` that of launchers.
"""

from __future__ import annotations

import json
import platform
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from .. import registry
from .._util.environment import environment
from ..contracts.record import Key, SampleRecord
from ..errors import MeasurementError, UsageError
from ..models.loading import load as load_model
from ..models.model import LanguageModel
from ..results.run_folder import identity_hash
from .asking import prepare_task, run_batch
from .batches import SampleBatch
from .plan import RunPlan, plan_run
from .sample_record import failed, record_head
from .settings import RunSettings

DEATHS = 3
"""So many workers may die over a batch before its samples are recorded as failed."""


class WorkerDiedError(RuntimeError):
    """What a record says of a sample over which workers died."""


class Pool(Protocol):
    """Whoever starts workers; workers and jobs are what it likes."""

    size: int

    def start(self) -> Any:
        """A new worker: a `SampleWorker` somewhere."""
        ...

    def ask(self, worker: Any, keys: Sequence[Key], shared: bool) -> Any:
        """Let it ask samples, `shared` if over one compressed context; returns the job at once."""
        ...

    def next(self, jobs: Collection[Any]) -> tuple[Any, dict[str, Any] | None]:
        """The first job that is done, and what `SampleWorker.ask` returned; None: the worker died."""
        ...


class SampleWorker:
    """What runs in a process of its own: the plan of the request, made there, asked batch by batch.

    Parameters
    ----------
    settings, plugin
        The request, and the file of its method if that has one.
    expected
        What `expectations` said in the process that shares out.
    name
        What messages call it.
    load
        See `harness.evaluation.plan.plan_run`.
    """

    def __init__(
        self,
        settings: RunSettings,
        plugin: str | None,
        expected: dict[str, Any],
        name: str | None = None,
        load: Callable[..., LanguageModel] = load_model,
    ) -> None:
        self._name = name or f"worker on {platform.node()}"
        self._load = load
        self._settings = settings
        self._plugin = plugin
        self._expected = expected
        self._plan: RunPlan | None = None
        self._prepared: set[str] = set()

    def ask(self, keys: Sequence[Key], shared: bool) -> dict[str, Any]:
        """Records of these samples, as JSON, and what is known now of method and model; or what went wrong."""
        try:
            plan = self._plan = self._plan or self._ready()
            samples = {p.key: p for p in plan.samples}
            mine = [samples[(key[0], key[1])] for key in keys]
            task = mine[0].task
            if task.name not in self._prepared:
                if not plan.method.remote:
                    _ = plan.model.network
                prepare_task(plan, task)
                self._prepared.add(task.name)
            batch = SampleBatch(mine, shared)
            records = [json.dumps(record.to_json()) for record in run_batch(plan, batch, skip={})]
        except MeasurementError as error:
            return {"caught": str(error)}
        except UsageError as error:
            return {"refused": f"{self._name}: {error}"}
        return {"records": records, "method_facts": plan.method_facts(), "model": plan.model.facts()}

    def _ready(self) -> RunPlan:
        here = environment()
        versions = {"harness": here["harness"], "python": here["python"], **here["packages"]}
        for name, wanted in self._expected["versions"].items():
            if versions.get(name) != wanted:
                raise UsageError(
                    f"it has {name} {versions.get(name) or 'missing'}, the process that started it has {wanted}; "
                    "install the same versions everywhere"
                )
        if self._plugin is not None:
            registry.register_file(Path(self._plugin))
        plan = plan_run(self._settings, load=self._load)
        for name, wanted in self._expected["identity"].items():
            if (found := identity_hash({name: plan.identity.get(name)})) != wanted:
                raise UsageError(
                    f"its {name.replace('_', ' ')} is another ({found}); all have to run the same"
                )
        return plan


def expectations(plan: RunPlan) -> dict[str, Any]:
    """What a worker must have in common with this process: versions, and each part of the run's identity."""
    here = environment()
    return {
        "versions": {"harness": here["harness"], "python": here["python"], **here["packages"]},
        "identity": {name: identity_hash({name: value}) for name, value in plan.identity.items()},
    }


def share_out(plan: RunPlan, pool: Pool, batches: Sequence[SampleBatch]) -> Iterator[SampleRecord]:
    """Records of the batches' samples, as workers of `pool` answer them.

    Raises
    ------
    UsageError
        If a worker cannot run this request. Records that came before are the caller's already.
    MeasurementError
        If a worker caught the method.
    """
    waiting, deaths = deque(batches), Counter[int]()
    idle = [pool.start() for _ in range(min(pool.size, len(batches)))]
    at_work: dict[Any, tuple[Any, SampleBatch]] = {}
    while waiting or at_work:
        while waiting and idle:
            batch, worker = waiting.popleft(), idle.pop(0)
            at_work[pool.ask(worker, [p.key for p in batch.samples], batch.shared)] = (worker, batch)
        job, answer = pool.next(list(at_work))
        worker, batch = at_work.pop(job)
        if answer is not None:
            idle.append(worker)
            yield from _records(plan, answer)
            continue
        deaths[id(batch)] += 1
        if deaths[id(batch)] < DEATHS:
            waiting.appendleft(batch)
        else:
            error = WorkerDiedError(f"{DEATHS} workers died while they ran this sample or one of its batch")
            yield from (failed(record_head(plan, p), error) for p in batch.samples)
        if waiting:
            idle.append(pool.start())


def _records(plan: RunPlan, answer: dict[str, Any]) -> Iterator[SampleRecord]:
    if "caught" in answer:
        raise MeasurementError(answer["caught"])
    if "refused" in answer:
        raise UsageError(answer["refused"])
    plan.known = {name: answer[name] for name in ("method_facts", "model")}
    for line in answer["records"]:
        yield SampleRecord.from_json(json.loads(line))
