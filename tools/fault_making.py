"""Faults while data is generated and while a method is trained; see `tools/faults.py`.

What comes of both must be that of an undisturbed command, byte for byte.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fault_bench import Bench, Row

BATCH = 4
"""Items that are generated at once."""


class Making(ABC):
    """A verb that makes something step by step, and an undisturbed result of it."""

    status = 0
    """Exit status when all went well."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench = bench
        self.whole = bench.base / f"whole-{name}" / "out"
        began = time.monotonic()
        if self.run(self.whole) != self.status:
            raise RuntimeError(bench.errors.read_text())
        self.seconds = time.monotonic() - began
        self.truth = self.contents(self.whole)
        assert self.truth, "nothing to hold anything against"

    @abstractmethod
    def words(self, out: Path) -> list[str]:
        """The command line."""

    @abstractmethod
    def contents(self, out: Path) -> dict[str, bytes]:
        """All that must not depend on any fault, by name."""

    @abstractmethod
    def safe(self, out: Path) -> set[str]:
        """Names of the steps that no kill may cost."""

    @abstractmethod
    def done(self, out: Path) -> set[str]:
        """Names of the steps done since the last call."""

    @abstractmethod
    def unfinish(self, out: Path) -> list[Path]:
        """Take a finished result back to before its end; returns the files that may be found damaged."""

    @abstractmethod
    def working(self, out: Path) -> bool:
        """Whether a command is in the middle of it."""

    def faults(self, out: Path) -> dict[str, Any]:
        """What a child needs to know."""
        return {}

    def start(self, out: Path, **faults: Any) -> int:
        """Start the command; returns its process id."""
        out.parent.mkdir(parents=True, exist_ok=True)
        return self.bench.start(self.words(out), **{**self.faults(out), **faults})

    def run(self, out: Path) -> int:
        """The command to its end; returns the exit status."""
        return self.bench.wait(self.start(out))

    def stopped(self, out: Path) -> int:
        """Start the command and stop it in the middle; returns its process id."""
        out.parent.mkdir(parents=True, exist_ok=True)
        return self.bench.begun(self.words(out), lambda: self.working(out), **self.faults(out))

    def finish(self, row: Row, out: Path) -> None:
        """The command to its end, and `judge`."""
        before = self.safe(out)
        self.done(out)
        if self.run(out) != self.status:
            row.bad(f"did not end well: {self.bench.errors.read_text()!r}")
        row.duplicated += len(before & self.done(out))
        self.judge(row, out)

    def judge(self, row: Row, out: Path) -> None:
        """Hold what is there now, finished, against the undisturbed result."""
        found = self.contents(out)
        row.lost += len(self.truth.keys() - found.keys())
        for name in sorted(found):
            if found[name] != self.truth.get(name):
                row.bad(f"{name} is another")


class DataGeneration(Making):
    """``harness synth``, answered by a script."""

    def words(self, out: Path) -> list[str]:
        words = ["synth", "--recipe", "thesis", "--count", "12", "--items", "12", "--batch-size", str(BATCH)]
        words += ["--set", "min_words=5", "--model", self.bench.model, "--device", "cpu", "--quiet"]
        return [*words, "--out", str(out)]

    def faults(self, out: Path) -> dict[str, Any]:
        return {"environment": {"SCRIPTED": str(out.parent / "asked")}}

    def contents(self, out: Path) -> dict[str, bytes]:
        paths = [*out.glob("*.jsonl"), *out.glob("pool/*.jsonl")]
        return {str(path.relative_to(out)): path.read_bytes() for path in paths}

    def safe(self, out: Path) -> set[str]:
        found = set()
        for path in (out / "pool").glob("*.jsonl"):
            lines = path.read_bytes().count(b"\n") // BATCH * BATCH
            found |= {f"{path.stem} {index}" for index in range(lines)}
        return found

    def done(self, out: Path) -> set[str]:
        log = out.parent / "asked"
        found = set(log.read_text().splitlines()) if log.exists() else set()
        log.unlink(missing_ok=True)
        return found

    def unfinish(self, out: Path) -> list[Path]:
        return sorted([out / "data.jsonl", *(out / "pool").glob("*.jsonl")])

    def working(self, out: Path) -> bool:
        return (out / "pool" / "pool.json").exists()


class Training(Making):
    """``harness fit`` of a beacon's weights."""

    def words(self, out: Path) -> list[str]:
        fits = importlib.import_module("tests.helpers.fits")
        data = self.bench.base / "texts.jsonl"
        if not data.exists():
            fits.repeating(data)
        more = [
            "--max-steps",
            self.bench.steps,
            "--save-every",
            2,
            "--max-length",
            90,
            "--save-dtype",
            "float32",
        ]
        return list(fits.fit_words(self.bench.model, data, out, *more))

    def contents(self, out: Path) -> dict[str, bytes]:
        fits = importlib.import_module("tests.helpers.fits")
        found = {name: tensor.numpy().tobytes() for name, tensor in fits.tensors(out).items()}
        if (curve := out / "loss.jsonl").exists():
            for line in map(json.loads, curve.read_text().splitlines()):
                name = f"step {line['step']}"
                found[name + " twice" * (name in found)] = repr(line["loss"]).encode()
        return found

    def newest(self, out: Path) -> Path | None:
        """The last checkpoint that is whole."""
        path: Path | None = importlib.import_module("harness.training.trainer").last_whole(out / "training")
        return path

    def safe(self, out: Path) -> set[str]:
        path = self.newest(out)
        steps = 0 if path is None else int(path.name.rpartition("-")[2])
        return {f"step {number}" for number in range(1, steps + 1)}

    def done(self, out: Path) -> set[str]:
        log = out / "training" / "log.jsonl"
        lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
        log.unlink(missing_ok=True)
        return {f"step {json.loads(line)['step']}" for line in lines}

    def unfinish(self, out: Path) -> list[Path]:
        for path in [*out.glob("*.safetensors"), out / "adapter.json", out / "loss.jsonl"]:
            path.unlink()
        newest = self.newest(out)
        assert newest is not None
        return sorted(path for path in newest.rglob("*") if path.is_file())

    def working(self, out: Path) -> bool:
        return (out / "training" / "log.jsonl").exists()


KINDS: dict[str, type[Making]] = {"data generation": DataGeneration, "training": Training}


def making(bench: Bench, name: str) -> Making:
    """The verb of that name, with an undisturbed result that is made once."""
    if name not in bench.kept:
        bench.kept[name] = KINDS[name](bench, name)
    made: Making = bench.kept[name]
    return made


def killed(name: str) -> Callable[[Bench, Row, int], None]:
    """Killed at random moments until it has ended; nothing that was safe is done again."""

    def study(bench: Bench, row: Row, times: int) -> None:
        verb = making(bench, name)
        while row.tried < times:
            with bench.fresh() as base:
                out, before = base / "out", set[str]()
                while bench.killed(verb.words(out), row, times, verb, **verb.faults(out)):
                    row.duplicated += len(before & verb.done(out))
                    now = verb.safe(out)
                    row.lost += len(before - now)
                    before = now
                row.duplicated += len(before & verb.done(out))
                verb.judge(row, out)

    return study


def torn(name: str) -> Callable[[Bench, Row, int], None]:
    """A file of the work cut off at any byte."""

    def study(bench: Bench, row: Row, times: int) -> None:
        verb = making(bench, name)
        for _ in range(times):
            with bench.fresh() as base:
                out = base / "out"
                shutil.copytree(verb.whole, out)
                path = bench.rng.choice(verb.unfinish(out))
                size = path.stat().st_size
                os.truncate(path, bench.rng.randrange(max(1, size)))
                row.tried += 1
                verb.finish(row, out)

    return study


def unwritable(name: str) -> Callable[[Bench, Row, int], None]:
    """No room, no quota, a read-only or forbidden disk, from some moment on; then all is well again."""

    def study(bench: Bench, row: Row, times: int) -> None:
        verb = making(bench, name)
        largest = max(path.stat().st_size for path in verb.whole.rglob("*") if path.is_file())
        while row.tried < times:
            with bench.fresh() as base:
                out = base / "out"
                fault, reason = bench.disk(out, largest)
                status = bench.wait(verb.start(out, **{**verb.faults(out), **fault}))
                if status == verb.status:  # it had ended before the disk was full
                    verb.judge(row, out)
                    continue
                row.tried += 1
                if status != 2:
                    row.bad(f"exit status {status} of {fault}: {bench.errors.read_text()!r}")
                else:  # torch's writer does not say more than that not everything was written
                    bench.told(
                        row, "cannot be written", *(() if "full?" in bench.errors.read_text() else [reason])
                    )
                verb.finish(row, out)

    return study


def second(name: str) -> Callable[[Bench, Row, int], None]:
    """A second process on a folder leaves; the first ends well, or is killed and another one takes over."""

    def study(bench: Bench, row: Row, times: int) -> None:
        verb = making(bench, name)
        for _ in range(times):
            with bench.fresh() as base:
                out = base / "out"
                first = verb.stopped(out)
                row.tried += 1
                if verb.run(out) != 2:
                    row.bad("the second was let in")
                bench.told(row, "another process is working on")
                if bench.rng.random() < 0.5:
                    bench.kill(first)
                    verb.finish(row, out)
                    continue
                os.kill(first, signal.SIGCONT)
                if bench.wait(first) != verb.status:
                    row.bad("the first did not end well")
                verb.judge(row, out)

    return study
