"""Put the finished runs of a suite where its recorded outcome lies: python tools/record_suite.py SUITE RUNS [OUT]

`--data-dir` is that of the runs, where their tasks read files: what a file holds is part of what a run is.

A run is a cell's if it is what the cell asks for, but for the device and how many samples were run together: the
outcome of a suite may so be put together from what several machines ran. Cells without a run are recorded as such.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness._util.files import write_whole
from harness.evaluation.plan import plan_run
from harness.models.shared import SharedModels
from harness.results import recorded_baselines
from harness.results.loading import load_run, load_runs
from harness.suites.document import find, read
from harness.suites.matrix import spell
from harness.suites.outcome import outcome_content, row_outcome

RECORDED = Path(__file__).resolve().parents[1] / "baselines" / "smollm2"
ASIDE = ("batch_size", "device", "share")
"""What of a run's identity says how it was run rather than what."""


def main() -> None:
    """Write ``outcome.json`` and ``runs.json``, and say which cells lack a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite")
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--data-dir", type=Path)
    args = parser.parse_args()
    out = args.out or RECORDED / args.suite
    out.mkdir(parents=True, exist_ok=True)
    there: dict[str, Path] = {}
    for path in sorted(args.runs.glob("*/run.json")):
        run = load_run(path.parent)
        if run.status.startswith("finished"):  # with failures too: they are shown
            there[_asked(run.identity)] = path.parent
    models = SharedModels()
    given = {} if args.data_dir is None else {"data_dir": args.data_dir}
    spelled = spell(read(find(args.suite)), {**given, "limit": 1, "offline": True}, quick=False, variables={})
    content: dict[str, Any] = outcome_content(SimpleNamespace(spelled=spelled))  # type: ignore[arg-type]
    rows, found = [], []
    for row in spelled.rows:
        came = row_outcome(row)
        for settings in row.runs:
            asked = _asked(plan_run(settings, None, models).identity)
            if asked in there:
                came.runs.append(there[asked].name)
                found.append(there[asked])
            else:
                came.status, came.why = "unavailable", "not run yet"
                print(f"no run of: {row.id}")
        rows.append(dataclasses.asdict(came))
    write_whole(
        out / "outcome.json", json.dumps({**content, "rows": rows}, indent=1, ensure_ascii=False) + "\n"
    )
    (out / "runs.json").unlink(missing_ok=True)
    recorded_baselines.record("runs", load_runs(found), out)


def _asked(identity: Mapping[str, Any]) -> str:
    return json.dumps({k: v for k, v in identity.items() if k not in ASIDE}, sort_keys=True)


if __name__ == "__main__":
    main()
