"""Workers as actors of Ray: one a device, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..contracts.record import Key
from ..errors import UsageError
from .settings import RunSettings
from .workers import SampleWorker


class RayPool:
    """A `harness.evaluation.workers.Pool` of Ray actors. Made by `ray_pool`."""

    def __init__(self, ray: Any, size: int, resources: dict[str, float], given: tuple[Any, ...]) -> None:
        self.size = size
        self._ray = ray
        self._given = given
        self._actors: list[Any] = []
        self._kind = ray.remote(max_restarts=0, max_task_retries=0, **resources)(SampleWorker)

    def start(self) -> Any:
        """A new actor; Ray finds it a place."""
        self._actors.append(self._kind.remote(*self._given))
        return self._actors[-1]

    def ask(self, worker: Any, keys: Sequence[Key], shared: bool) -> Any:
        """Let an actor ask samples."""
        return worker.ask.remote(list(keys), shared)

    def next(self, jobs: Collection[Any]) -> tuple[Any, dict[str, Any] | None]:
        """The first job that is done; None for its answer if its actor, or the machine under it, is gone."""
        [job], _ = self._ray.wait(list(jobs), num_returns=1)
        gone = self._ray.exceptions
        try:
            answer: dict[str, Any] = self._ray.get(job)
        except (gone.RayActorError, gone.WorkerCrashedError, gone.ObjectLostError, gone.OutOfMemoryError):
            return job, None
        return job, answer

    def close(self) -> None:
        """End all actors."""
        for actor in self._actors:
            with contextlib.suppress(Exception):
                self._ray.kill(actor)


@contextmanager
def ray_pool(
    settings: RunSettings, device: str, plugin: str | None, expected: dict[str, Any]
) -> Iterator[RayPool]:
    """A pool for a run; its actors are gone after the block, Ray itself stays for the next run of this process.

    Parameters
    ----------
    device
        Of this process's model: on ``cuda`` an actor has one GPU, else one core or its share of this machine's.
    plugin, expected
        See `SampleWorker`.
    """
    for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")):
        os.environ.setdefault(name, value)
    ray: Any = importlib.import_module("ray")
    cores = os.cpu_count() or 1
    if not ray.is_initialized():
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
        where = {"num_cpus": max(cores, settings.workers or 1)} if settings.address is None else {}
        try:
            ray.init(address=settings.address or "local", **quiet, **where)
        except (ConnectionError, RuntimeError, ValueError) as error:
            said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UsageError(f"Ray does not start or answer: {said}") from error
    there = ray.cluster_resources()
    gpu = device.startswith("cuda")
    most = int(there.get("GPU" if gpu else "CPU", 0))
    if most < 1:
        raise UsageError(f"the cluster has no {'GPU' if gpu else 'CPU'} to run on")
    size = min(settings.workers or most, most)
    share = 1 if gpu or settings.address is not None else max(1, cores // size)
    pool = RayPool(
        ray,
        size,
        {"num_gpus": 1, "num_cpus": 1} if gpu else {"num_cpus": share},
        (settings, plugin, expected),
    )
    try:
        yield pool
    finally:
        pool.close()
