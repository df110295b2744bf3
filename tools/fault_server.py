"""Starts commands for `tools/faults.py` and the tests: imports the libraries once, and forks for each start.

Reads a JSON object a line, answers with one. ``{"start": [words], "faults": {...}, "errors": FILE}`` gives the
process id (``"output": FILE`` keeps standard output), ``{"wait": pid}`` its exit status once it has ended,
``{"poll": pid}`` the same or null. What has not ended after `PATIENCE` is killed: nothing here lasts for ever.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0
"""Seconds after which a command hangs; they take a second or two."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
CHANGES = frozenset(f"os.{name}" for name in ("mkdir", "rename", "remove", "rmdir", "truncate", "chmod"))


def main() -> None:
    """Serve until standard input ends."""
    import torch
    import transformers  # noqa: F401
    from transformers import AutoTokenizer, DynamicCache, LlamaForCausalLM  # noqa: F401

    import harness.cli.fit
    import harness.cli.run
    import harness.cli.synth
    import harness.console.progress
    import harness.documents.figures
    import harness.evaluation.runner
    import harness.inference.kvcache
    import harness.plugins.beacon.base
    import harness.plugins.beacon.checkpoint
    import harness.plugins.beacon.lora_method
    import harness.plugins.beacon.training
    import harness.plugins.plain
    import harness.synthesis.run
    import harness.tasks.passkey
    import harness.training.plan
    import harness.training.trainer  # noqa: F401

    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT))  # for the scripted generator
    gc.collect()
    gc.freeze()  # a child that collects garbage need not look through all this
    for line in sys.stdin:
        asked = json.loads(line)
        if "start" in asked:
            answer: int | None = os.fork()
            if answer == 0:
                os._exit(_child(asked["start"], asked.get("faults", {}), asked))
        elif "poll" in asked:
            answer = _status(asked["poll"])
        else:
            answer = _ended(asked["wait"])
        print(json.dumps(answer), flush=True)


def _status(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _ended(pid: int) -> int:
    deadline = time.monotonic() + PATIENCE
    while (status := _status(pid)) is None:
        time.sleep(0.004)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
    return status


def _child(words: list[str], faults: dict[str, Any], files: dict[str, str]) -> int:
    for number, path in ((0, os.devnull), (1, files.get("output", os.devnull)), (2, files["errors"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.environ.update(faults.get("environment", {}))
    if "flush" in faults:
        _unflushable(faults["flush"], faults["at"])
    if "change" in faults:
        _unchangeable(faults["change"], faults["at"], faults["under"])
    if "size" in faults:  # the system's own doing: it takes a part of what is written, and then no more
        resource.setrlimit(resource.RLIMIT_FSIZE, (faults["size"], resource.RLIM_INFINITY))
    if faults.get("clock"):
        _clock_runs_back(faults["clock"])
    if "SCRIPTED" in os.environ:
        _scripted(Path(os.environ["SCRIPTED"]))
    from harness.cli import invoke
    from harness.cli._main import heed_signals

    heed_signals()
    status = invoke(words)
    sys.stdout.flush()
    return status


def _unflushable(number: int, at: int) -> None:
    """From the `at`-th flush to the disk on, there is no room (or no permission) any more."""
    real, count = os.fsync, 0

    def fsync(fd: Any) -> None:
        nonlocal count
        count += 1
        if count >= at:
            size = os.fstat(fd).st_size
            os.ftruncate(fd, max(0, size - 20))  # what was there for some of it is written
            raise OSError(number, os.strerror(number))
        real(fd)

    os.fsync = fsync


def _unchangeable(number: int, at: int, under: str) -> None:
    """From the `at`-th change below a folder on, nothing can be made, opened for writing, moved or removed."""
    count = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        writes = event == "open" and args[2] & WRITING
        if not (writes or event in CHANGES) or not str(args[0]).startswith(under):
            return
        count += 1
        if count >= at:
            raise OSError(number, os.strerror(number), str(args[0]))

    sys.addaudithook(hook)


def _clock_runs_back(seed: int) -> None:
    """Each time somebody asks what time it is, it is up to a day earlier than it was."""
    rng, now = random.Random(seed), time.time()

    def earlier() -> float:
        nonlocal now
        now -= rng.uniform(0, 86_400)
        return now

    time.time = earlier


def _scripted(asked: Path) -> None:
    """Let a script answer for the model, in its own time: a random model writes nothing usable."""
    from harness.synthesis.generators import ModelGenerator

    script = importlib.import_module("tests.helpers.synthesizing").Script()

    def generate(self: ModelGenerator, requests: Any, seed: int) -> Any:
        time.sleep(0.004)
        with asked.open("a") as log:
            log.write("".join(f"{request.key}\n" for request in requests))
        return script.generate(requests, seed)

    ModelGenerator.generate = generate  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
