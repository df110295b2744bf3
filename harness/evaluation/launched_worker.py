"""What a process does that was started beside rank 0: it runs what it is told, prints nothing, and ends when told."""

from __future__ import annotations

import json
import os
import platform
import queue
import signal
import socket
import threading
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from .._util.quiet import hush_libraries, hush_warnings
from ..errors import UsageError, in_words
from .launched import Place, hide_place
from .launched_meeting import called, connected, hello, report

if TYPE_CHECKING:
    from ..models.shared import SharedModels
    from .workers import SampleWorker

LAST_WORD = 2.0
"""Seconds in which rank 0 says why it ended, before a worker that ends too lets the launcher end all."""


def serve(here: Place) -> None:
    """Be the worker of a rank above 0, until rank 0 says that all is over; does not return.

    Raises
    ------
    UsageError
        If rank 0 does not answer.
    """
    _die_at_once()
    _run(report(here), here)


def serve_beside(here: Place, port: int, token: str) -> None:
    """Be the worker of rank 0's own device, in a process that it started; does not return."""
    hush_libraries()
    hush_warnings()
    _die_at_once()
    connection = connected(socket.create_connection(("localhost", port)))
    connection.send_bytes(hello(here.rank, token))
    _run(connection, here)


def own_gpu(local_rank: int | None) -> None:
    """Let this process see one GPU, that of its number on this machine, if it sees several.

    Before CUDA is first used: torch, its threads and other libraries then have one device, named as on a machine with
    one.

    Raises
    ------
    UsageError
        If there are fewer.
    """
    import torch

    count = torch.cuda.device_count()
    if count <= 1 or local_rank is None:
        return
    if local_rank >= count:
        raise UsageError(
            f"LOCAL_RANK is {local_rank}, and it sees {count} GPUs: start one process for each GPU"
        )
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    os.environ["CUDA_VISIBLE_DEVICES"] = seen[local_rank] if seen else str(local_rank)


def _die_at_once() -> None:
    """There is nothing to leave in order here, nor anything to say."""
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def _run(connection: Connection, here: Place) -> None:
    """Answer one message after another."""
    from ..models.shared import SharedModels

    hide_place()
    said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, said), daemon=True).start()
    models, worker = SharedModels(), None
    request: dict[str, Any] = {}
    while True:
        message = said.get()
        if "run" in message:
            request, worker = message["run"], None  # the method of the run before, and what it holds
            continue
        try:
            worker = worker or _made(request, here, models)
            answer: dict[str, Any] = {"answer": worker.ask(message["keys"], message["shared"])}
        except UsageError as error:
            answer = {"answer": {"refused": f"{_name(here)}: {error}"}}
        except Exception as error:
            answer = {"broken": in_words(error)}
        try:
            connection.send_bytes(json.dumps({"job": message["job"], **answer}).encode())
        except OSError:
            os._exit(1)


def _listen(connection: Connection, said: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Hand on what rank 0 says. When it is over, or rank 0 is gone, this process ends amid whatever it does."""
    while True:
        try:
            message = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            time.sleep(LAST_WORD)
            os._exit(1)
        if "over" in message:
            os._exit(0)
        said.put(message)


def _made(request: dict[str, Any], here: Place, models: SharedModels) -> SampleWorker:
    """The worker of a run. Raises UsageError if this process has no device for it."""
    from pydantic import TypeAdapter

    from .cores import share
    from .settings import RunSettings
    from .workers import SampleWorker

    settings = TypeAdapter(RunSettings).validate_python(request["settings"])
    if settings.device == "cuda":
        own_gpu(here.local_rank)
    share(here.local_world or 1, settings.device)
    return SampleWorker(settings, request["plugin"], request["expected"], _name(here), models)


def _name(here: Place) -> str:
    return called(here.rank, platform.node())
