"""``harness check --strict``: every check in two processes with other hash seeds, which share nothing on the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import HarnessError
from ..testing import CheckResult

SEEDS = ("0", "4217")
_WORST = ("failed", "skipped", "not applicable", "ok")


def strict(words: Sequence[str]) -> list[CheckResult]:
    """The results of a command line of ``harness check``, each the worse of two processes.

    Parameters
    ----------
    words
        The command line after ``check``, ``--strict`` included.

    Raises
    ------
    HarnessError
        If one of them comes to no result.
    """
    with tempfile.TemporaryDirectory(prefix="harness-strict-") as folder:
        started = [_start(words, seed, Path(folder) / seed) for seed in SEEDS]
        found = [_result(process) for process in started]
    merged = [_worse(*pair) for pair in zip(*(each["checks"] for each in found), strict=True)]
    alike = found[0].get("answers") == found[1].get("answers")
    seeds = CheckResult(
        "seeds",
        "answers do not depend on Python's hash seed or on what another process left on the disk",
        "ok" if alike else "failed",
        ""
        if alike
        else "two processes with other hash seeds and caches gave other answers; go through sets in a fixed order "
        "(sorted), and use hashlib in place of hash()",
    )
    return [*merged, seeds]


def _start(words: Sequence[str], seed: str, folder: Path) -> subprocess.Popen[str]:
    """One process, with a cache, a folder for temporary files and a hash seed of its own."""
    (folder / "tmp").mkdir(parents=True)
    own = {"PYTHONHASHSEED": seed, "TMPDIR": str(folder / "tmp"), "HARNESS_STRICT_CHILD": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "check", *words, "--json"],
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, said = process.communicate()
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError:
        last = (said.strip().splitlines() or ["it said nothing"])[-1].removeprefix("harness: ")
        raise HarnessError(f"a check under another hash seed came to no result: {last}") from None
    return found


def _worse(one: dict[str, Any], other: dict[str, Any]) -> CheckResult:
    """The worse of two results of a check; of equal ones the first."""
    worst = min((one, other), key=lambda each: _WORST.index(each["status"]))
    return CheckResult(**worst)
