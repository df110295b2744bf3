"""Faults of `tools/faults.py` from outside in mid-run: signals, a folder that goes, a small disk that is full."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from fault_bench import Bench, Row

SMALL = 12 << 10
"""Bytes of a disk on which a run of the study finds no room for its last samples."""


def _answered(bench: Bench, out: Path, least: int) -> bool:
    """Whether a run has come so far."""
    return len(bench.finished(out)) >= least


def told_to_end(bench: Bench, row: Row, times: int) -> None:
    """SIGTERM, SIGHUP or Ctrl-C at a random moment: one line, the run says that it was interrupted, and goes on."""
    while row.tried < times:
        with bench.fresh() as out:
            number = bench.rng.choice([signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
            pid = bench.begun(bench.words(out), partial(_answered, bench, out, 1))
            os.kill(pid, signal.SIGCONT)
            time.sleep(bench.rng.uniform(0, 0.3 * bench.seconds))
            if bench.ended(pid):
                continue
            os.kill(pid, number)
            row.tried += 1
            status = bench.wait(pid)
            if status == 0:  # it was at its very end
                row.tried -= 1
                continue
            if status != 128 + number:
                row.bad(f"exit status {status} of signal {number}: {bench.errors.read_text()!r}")
            bench.told(row, "the same command resumes")
            state = json.loads((bench.folder(out) / "run.json").read_text())["status"]
            if state != "interrupted":
                row.bad(f"signal {number}: the run says {state!r}")
            before = bench.finished(out)
            bench.again()
            bench.run(out)
            bench.judge(row, out, before)


def stopped(bench: Bench, row: Row, times: int) -> None:
    """SIGSTOP for a while: nobody else may go on with the run, and it ends well once it is woken."""
    for _ in range(times):
        with bench.fresh() as out:
            pid = bench.begun(bench.words(out), partial(_answered, bench, out, 1))
            row.tried += 1
            time.sleep(bench.rng.uniform(0, 0.5))
            if bench.wait(bench.start(bench.words(out))) != 2:
                row.bad("a second was let in while the first stood still")
            bench.told(row, "another process is working on")
            before = bench.finished(out)
            os.kill(pid, signal.SIGCONT)
            if bench.wait(pid) != 0:
                row.bad(f"did not end well: {bench.errors.read_text()!r}")
            bench.asked.unlink()
            bench.judge(row, out, before)


def folder_goes(bench: Bench, row: Row, times: int) -> None:
    """In mid-run the folder is deleted, moved, made a link to another run's, or its samples are cut: one line."""
    for _ in range(times):
        with bench.fresh() as out:
            pid = bench.begun(bench.words(out), partial(_answered, bench, out, 2))
            folder, way = bench.folder(out), bench.rng.choice(["deleted", "moved", "linked", "cut"])
            aside, other = out.with_name(out.name + "-aside"), out.with_name(out.name + "-other")
            shutil.copytree(folder, other)
            untouched = (other / "samples.jsonl").read_bytes()
            if way == "cut":
                (folder / "samples.jsonl").write_bytes(b"")
            elif way == "deleted":
                shutil.rmtree(folder)
            else:
                folder.rename(aside)
                if way == "linked":
                    folder.symlink_to(other)
            row.tried += 1
            os.kill(pid, signal.SIGCONT)
            if (status := bench.wait(pid)) != 2:
                row.bad(f"{way}: exit status {status}: {bench.errors.read_text()!r}")
            bench.told(row, "while the run was at work")
            if (other / "samples.jsonl").read_bytes() != untouched:
                row.bad(f"{way}: the other folder was written to")
            if way == "linked":
                folder.unlink()
            if way in ("moved", "linked"):
                aside.rename(folder)
            before = bench.finished(out)
            bench.again()
            bench.run(out)
            bench.judge(row, out, before)
            for path in (aside, other):
                shutil.rmtree(path, ignore_errors=True)


def full_disk(bench: Bench, row: Row, times: int) -> None:
    """A disk of its own, so small that it is full in mid-run; with more room the run goes on."""
    while row.tried < times:
        with bench.fresh() as out, small_disk(out, SMALL + bench.rng.randrange(4) * 4096) as grow:
            fault = {} if grow else {"size": SMALL}
            status = bench.wait(bench.start(bench.words(out), **fault))
            if status == 0:  # there was room enough
                continue
            row.tried += 1
            if status != 2:
                row.bad(f"exit status {status}: {bench.errors.read_text()!r}")
            bench.told(row, "cannot be written", os.strerror(errno.ENOSPC if grow else errno.EFBIG))
            before = bench.finished(out)
            bench.again()
            if grow:
                subprocess.run(grow, check=True)
            bench.run(out)
            bench.judge(row, out, before)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[list[str]]:
    """A file system in memory at `folder`, and the command that makes it larger; empty where nobody may mount one."""
    mount = ["mount", "-t", "tmpfs", "-o"]
    made = (
        os.geteuid() == 0
        and not subprocess.run(
            [*mount, f"size={size}", "harness-faults", str(folder)], stderr=subprocess.DEVNULL, check=False
        ).returncode
    )
    try:
        yield ["mount", "-o", "remount,size=16m", str(folder)] if made else []
    finally:
        if made:
            subprocess.run(["umount", str(folder)], check=True)
