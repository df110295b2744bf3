"""What `tools/faults.py` tries faults on: a tiny model, commands started and killed, runs held to the truth."""

from __future__ import annotations

import errno
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent
KEPT = (
    "status",
    "prediction",
    "scores",
    "prompt_hash",
    "truncation",
    "measured",
    "declared",
    "details",
    "stop_reason",
)
"""What must not depend on any fault; the rest of a record is what it cost."""

METHOD = """
import os
import time
import zlib

import torch
from harness.plugins.plain import Plain


class Faulty(Plain):
    def compress_and_generate(self, prompts, decoding):
        names = [f"{zlib.crc32(str(list(p.ids)).encode()):08x}" for p in prompts]
        log = os.open(os.environ["ASKED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(log, "".join(name + "\\n" for name in names).encode())
        os.close(log)
        time.sleep(float(os.environ.get("SLEEP", "0")) / 2)
        hit = any(name in os.environ.get("ROWS", "").split(",") for name in names)
        found = getattr(self, os.environ.get("FAULT", ""), self.no_fault)(prompts, decoding) if hit else None
        found = super().compress_and_generate(prompts, decoding) if found is None else found
        time.sleep(float(os.environ.get("SLEEP", "0")) / 2)
        return found

    def no_fault(self, prompts, decoding):
        return None

    def raises(self, prompts, decoding):
        raise RuntimeError("broken on purpose")

    def hangs(self, prompts, decoding):
        weights = torch.ones(64, 64)
        while True:
            weights = weights @ weights * 0
            time.sleep(0.005)  # others need the processor

    def hangs_asleep(self, prompts, decoding):
        while True:
            time.sleep(0.01)

    def answers_nothing(self, prompts, decoding):
        return []

    def answers_one_less(self, prompts, decoding):
        return super().compress_and_generate(prompts, decoding)[1:]

    def answers_none(self, prompts, decoding):
        return [None] * len(prompts)

    def answers_twice(self, prompts, decoding):
        return [*super().compress_and_generate(prompts, decoding)] * 2

    def fills_memory(self, prompts, decoding):
        return torch.ones(2**55)

    def fills_pythons_memory(self, prompts, decoding):
        return bytearray(2**62)

    def computes_nan(self, prompts, decoding):
        def spoil(module, args, hidden):
            return hidden * float("nan")

        hook = self.model.network.model.norm.register_forward_hook(spoil)
        try:
            return super().compress_and_generate(prompts, decoding)
        finally:
            hook.remove()
"""


PROGRESS = re.compile(r"passkey: \d+ of \d+ samples, ")


@dataclass
class Row:
    """One line of the table."""

    fault: str
    tried: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    notes: list[str] = field(default_factory=list)

    def bad(self, what: str) -> None:
        """Something else than what must happen."""
        self.wrong += 1
        self.notes.append(what)


class Server:
    """The process that starts commands: `tools/fault_server.py`, with the libraries in its memory.

    Parameters
    ----------
    environment
        Variables of it and of all it starts, beside those of this process.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tools" / "fault_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
        )

    def tell(self, message: dict[str, Any]) -> Any:
        """Its answer. Raises RuntimeError if it has died."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        if not (line := self.process.stdout.readline()):
            raise RuntimeError("the process that starts others has died")
        return json.loads(line)

    def start(self, words: list[str], errors: Path, output: Path | None = None, **faults: Any) -> int:
        """Start a command; returns its process id."""
        kept = {} if output is None else {"output": str(output)}
        return int(self.tell({"start": words, "faults": faults, "errors": str(errors), **kept}))

    def wait(self, pid: int) -> int:
        """Its exit status."""
        return int(self.tell({"wait": pid}))

    def ended(self, pid: int) -> bool:
        """Whether it has; then nobody may wait for it any more."""
        return self.tell({"poll": pid}) is not None

    def kill(self, pid: int) -> int:
        """Without warning; returns the exit status."""
        os.kill(pid, signal.SIGKILL)
        return self.wait(pid)

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


class Paced(Protocol):
    """What takes about so many seconds."""

    seconds: float


class Bench:
    """A tiny model, a process that starts commands, and what an undisturbed run gives.

    Parameters
    ----------
    model, server
        Of somebody who has them already; else they are made here.
    small
        Six samples in a run instead of ten, and half as many steps in a training.
    """

    def __init__(
        self,
        base: Path,
        seed: int,
        model: Path | None = None,
        server: Server | None = None,
        small: bool = False,
    ) -> None:
        self.depths = "0,50,100" if small else "0,20,40,70,100"
        self.samples = 2 * len(self.depths.split(","))
        self.steps = 4 if small else 8
        self.base, self.rng = base, random.Random(seed)
        self.left = 10
        """Commands that may still be started: no study goes on for ever, whatever its draws."""
        self.kept: dict[str, Any] = {}
        """What studies make once, and others take up."""
        sys.path.insert(0, str(ROOT))
        self.model = str(model or importlib.import_module("tests.conftest").make_model(base / "model"))
        (base / "faulty.py").write_text(METHOD)
        self.borrowed = server is not None
        self.server = server or Server({"HARNESS_CACHE": str(base / "cache")})
        self.errors, self.asked = base / "errors", base / "asked"
        self.whole = self.folder(self.run(self.base / "whole"))
        began = time.monotonic()  # the first has loaded more than any later one will
        with self.fresh() as out:
            self.run(out)
            self.seconds = time.monotonic() - began
            self.asked.replace(self.base / "order")
        self.truth = {r["id"]: r for r in records(self.whole)}
        self.names = dict(zip(self.truth, (self.base / "order").read_text().split(), strict=True))

    def close(self) -> None:
        """End what was started here."""
        if not self.borrowed:
            self.server.close()

    def words(self, out: Path, *more: str) -> list[str]:
        """The command line of an evaluation."""
        grid = f"passkey.depths={self.depths}"
        words = ["run", "-m", "faulty", "--plugin", str(self.base / "faulty.py"), "--model", self.model]
        words += ["--set", "passkey.lengths=230,288", "--set", grid, "--device", "cpu", "--json"]
        return [*words, "--out", str(out), *more]

    def start(self, words: list[str], **faults: Any) -> int:
        """Start a command; returns its process id. Raises RuntimeError if there were too many."""
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("far more commands were started than so many tries take")
        faults["environment"] = {"ASKED": str(self.asked), "SLEEP": "0.03", **faults.get("environment", {})}
        return self.server.start(words, self.errors, **faults)

    def wait(self, pid: int) -> int:
        """Its exit status."""
        return self.server.wait(pid)

    def ended(self, pid: int) -> bool:
        """Whether it has; then nobody may wait for it any more."""
        return self.server.ended(pid)

    def kill(self, pid: int) -> None:
        """Without warning."""
        self.server.kill(pid)

    def begun(self, words: list[str], reached: Callable[[], bool], **faults: Any) -> int:
        """Start a command, and stop it where it stands as soon as it has come so far; `SIGCONT` wakes it."""
        pid = self.start(words, **faults)
        while not reached():
            if self.ended(pid):
                raise RuntimeError(f"ended too early: {self.errors.read_text()!r}")
            time.sleep(0.002)
        os.kill(pid, signal.SIGSTOP)
        return pid

    def disk(self, under: Path, largest: int) -> tuple[dict[str, Any], str]:
        """A fault of the disk, drawn at random, and the system's word for it.

        The flush fails, or every change, from some moment on; or files cannot grow beyond some size.
        """
        number = self.rng.choice([errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
        how = self.rng.choice(["flush", "change", "size"])
        if how == "size":
            size = self.rng.randint(1000, largest)  # the line that tells it is written to a file as well
            return {"size": size}, os.strerror(errno.EFBIG)
        fault = {how: number, "at": self.rng.randint(1, self.samples + 6), "under": str(under)}
        return fault, os.strerror(number)

    def killed(self, words: list[str], row: Row, times: int, pace: Paced, **faults: Any) -> bool:
        """Start a command and kill it at a random moment; False if it ended before, or was tried enough.

        The moments follow how fast the machine is just now: most kills are to meet a command that runs.
        """
        pid = self.start(words, **faults)
        if row.tried >= times:
            if self.wait(pid) != 0:
                row.bad(f"did not end well: {self.errors.read_text()!r}")
            return False
        time.sleep(self.rng.uniform(0, pace.seconds))
        if self.ended(pid):
            pace.seconds *= 0.8
            return False
        self.kill(pid)
        pace.seconds *= 1.05
        row.tried += 1
        return True

    def run(self, out: Path, *more: str, status: int = 0, **faults: Any) -> Path:
        """An evaluation to its end. Raises RuntimeError if that is another than it should be."""
        found = self.wait(self.start(self.words(out, *more), **faults))
        if found != status:
            raise RuntimeError(f"exit status {found}, not {status}: {self.errors.read_text()}")
        return out

    @staticmethod
    def folder(out: Path) -> Path:
        """The one run in a folder of runs."""
        return next(path for path in out.iterdir() if path.is_dir())

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """A folder for one series, gone when it is over."""
        self.asked.unlink(missing_ok=True)
        out = Path(tempfile.mkdtemp(dir=self.base))
        yield out
        shutil.rmtree(out)

    def finished(self, out: Path) -> dict[str, dict[str, Any]]:
        """What is finished in a folder of runs, parts of joined processes included."""
        found = [r for path in sorted(out.glob("*/")) for r in records(path)]
        return {r["id"]: r for r in found if r["status"] == "ok"}

    def again(self) -> set[str]:
        """Ids of the samples asked since the last call."""
        asked = set(self.asked.read_text().split()) if self.asked.exists() else set()
        self.asked.unlink(missing_ok=True)
        return {id for id, name in self.names.items() if name in asked}

    def judge(self, row: Row, out: Path, before: dict[str, dict[str, Any]]) -> None:
        """Hold a run that was `before` so far, and has ended, against the undisturbed one."""
        folder = self.folder(out)
        lines = [json.loads(line) for line in (folder / "samples.jsonl").read_bytes().splitlines()]
        found = {r["id"]: r for r in lines}
        row.lost += len(self.truth.keys() - found.keys())
        row.lost += sum(found.get(id, {}).get("cost") != record["cost"] for id, record in before.items())
        row.duplicated += len(lines) - len(found) + len(before.keys() & self.again())
        for id, record in found.items():
            if any(record.get(name) != self.truth[id].get(name) for name in KEPT):
                row.bad(f"{id}: {record.get('status')} {record.get('error')}")
        run, truth = (json.loads((f / "run.json").read_text()) for f in (folder, self.whole))
        if (
            run["status"] != "finished"
            or run["summary"]["tasks"][0]["scores"] != truth["summary"]["tasks"][0]["scores"]
        ):
            row.bad(f"run.json: {run['status']}")
        if list((folder / "parts").glob("*")):
            row.bad("parts are left")

    def told(self, row: Row, *words: str) -> None:
        """One line on standard error, with all the words; a run that takes long says besides how far it is."""
        text = self.errors.read_text().lstrip("\n")  # after ^C the line begins anew
        lines = [line for line in text.splitlines() if not PROGRESS.match(line)]
        if len(lines) != 1 or not all(word in text for word in words):
            row.bad(f"told: {text!r}")


def records(folder: Path) -> list[dict[str, Any]]:
    """Every whole line of a run and of its parts."""
    found = []
    for path in (folder / "samples.jsonl", *sorted((folder / "parts").glob("*.jsonl"))):
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
        found += [json.loads(line) for line in lines]
    return found
