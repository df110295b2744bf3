"""What every method scores at equal budgets, from the runs recorded for the default model: docs/budgets.md.

python tools/budgets.py            # rewrite the tables and the figure
python tools/budgets.py --check    # write nothing; exit 1 if the page's tables are out of date

Source: the samples of the suite `budgets` (`tools/record_suite.py budgets RUNS --data-dir DATA`).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.contracts import LoadedRun
from harness.documents.figures import Axis, Scatter
from harness.render.matplotlib import panels
from harness.reports._rows import members
from harness.reports._suite_rows import SuiteRow, measure
from harness.reports.cost import Cost, Measured, goals_of, measured, together
from harness.results.recorded_baselines import read

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "baselines" / "smollm2" / "budgets"
PAGE, FIGURE = ROOT / "docs" / "budgets.md", ROOT / "docs" / "images" / "budgets.png"
PART = re.compile(r"(<!-- budgets -->\n).*?(<!-- /budgets -->)", re.DOTALL)

WHOLE = "full"
"""The cell that condenses nothing."""


def main() -> int:
    """Write the page's tables and the figure, or say that the tables are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    outcome, rows = recorded()
    old = PAGE.read_text(encoding="utf-8")
    new = PART.sub(lambda match: match[1] + "\n".join(tables(outcome, rows)) + "\n" + match[2], old)
    if check:
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    draw(rows, FIGURE)
    return 0


def recorded() -> tuple[dict[str, Any], list[SuiteRow]]:
    """What was asked, and its rows with their runs, each run under its row's name."""
    outcome = json.loads((RECORDED / "outcome.json").read_text(encoding="utf-8"))
    runs = {run.hash: run for run in read(RECORDED / "runs.json")}
    rows = [
        SuiteRow(
            row,
            [replace(runs[name.rpartition("-")[2]], label=row["label"]) for name in row["runs"]],
        )
        for row in outcome["rows"]
    ]
    return outcome, rows


def cell_of(row: SuiteRow) -> tuple[str, int | None]:
    """The method's cell and the budget of a row: ``rag/512``."""
    name, _, budget = row.id.partition("/")
    return name, int(budget) if budget else None


def name_of(row: SuiteRow) -> str:
    """What the figure and the tables call the method of a row: its label without the budget."""
    budget = str(cell_of(row)[1])
    label: str = row.label
    return label.replace(f", {budget}", "").replace(f" to {budget}", "")


def tables(outcome: dict[str, Any], rows: Sequence[SuiteRow]) -> Iterator[str]:
    """A table of scores for each column, and one each of what was held and how long it took."""
    budgets = sorted({budget for row in rows if (budget := cell_of(row)[1])})
    by_place = {cell_of(row): row for row in rows}
    names = {name: name_of(row) for (name, _), row in by_place.items()}

    def table(title: str, show: Callable[[SuiteRow], str], last: str) -> Iterator[str]:
        yield f"**{title}**\n"
        yield f"| method | {' | '.join(f'{b:,}' for b in budgets)} | {last} |"
        yield "| --- |" + " ---: |" * (len(budgets) + 1)
        for name, shown in names.items():
            found = [by_place.get((name, b)) for b in [*budgets, None]]
            yield f"| {shown} | " + " | ".join(show(row) if row else "" for row in found) + " |"
        yield ""

    for column in outcome["columns"]:
        title = f"{column['heading'] or column['key']}: score × 100 [95 %], n"
        yield from table(title, partial(_score, column=column), "no budget")
    yield from table(
        "KV cache when the answer begins, MiB (mean of the four)", _mean("kv_mib", "{:.1f}"), "no budget"
    )
    yield from table("Seconds for a sample (mean of the four)", _mean("seconds", "{:.1f}"), "no budget")
    title = "Positions that the model computed for a sample (mean of the four)"
    yield from table(title, lambda row: f"{_positions(row.runs[0]):,.0f}" if row.runs else "–", "no budget")
    missing = [row for row in rows if not row.runs]
    failed = [(row, r) for row in rows for run in row.runs for r in run.records.values() if r.status != "ok"]
    if missing:
        yield f"Not run: {'; '.join(row.label for row in missing)}."
    if failed:
        where = sorted({f"{row.label} on {record.task}" for row, record in failed})
        yield f"Failed, as the budget holds less than is needed: {'; '.join(where)}."
    if missing or failed:
        yield ""


def _score(row: SuiteRow, column: dict[str, Any]) -> str:
    found = measure(row, column)
    if found is None or found.value is None:
        return "–"
    edges = "" if found.interval is None else " [{:.0f}, {:.0f}]".format(*found.interval)
    n = f"{found.n_ok}" if found.n_ok == found.n else f"{found.n_ok}/{found.n}"
    return f"{found.value:.0f}{edges}, {n}"


def _mean(key: str, form: str) -> Callable[[SuiteRow], str]:
    def show(row: SuiteRow) -> str:
        values = [m.value[key] for m in (_measured(run) for run in row.runs) if m and key in m.value]
        return form.format(sum(values) / len(values)) if values else "–"

    return show


def _measured(run: LoadedRun) -> Measured | None:
    """The means over a run's tasks, each weighing the same; None if one has no finished sample."""
    known = {m.task: measured(m) for m in members(run)}
    [goal] = [replace(goals_of([run])[0], weights={task: 1 / len(known) for task in known})]
    return together(goal, known)


def draw(rows: Sequence[SuiteRow], path: Path) -> None:
    """A row of panels for bytes, as the report `cost` has them, and one for what the model computed."""
    names = {row.label: name_of(row) for row in rows}
    runs = {run.label: run for row in rows for run in row.runs}
    figures = Cost(Cost.Options()).build(list(runs.values())).figures
    by_bytes = [
        replace(f, points=[replace(p, curve=names[p.label]) for p in f.points])
        for f in figures
        if isinstance(f, Scatter) and f.name.endswith("-kv")
    ]
    by_work = [
        replace(
            f,
            x=Axis("positions the model computed", log=True),
            points=[
                replace(p, x=_positions(runs[p.label], f.name.split("-")[1]), x_interval=None)
                for p in f.points
            ],
        )
        for f in by_bytes
    ]
    drawing = panels(
        [*by_bytes, *by_work], len(by_bytes), "Score against measured KV memory, and against work"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=100)


def _positions(run: LoadedRun, family: str | None = None) -> float:
    """Positions the model computed for a sample: the mean of each task, and of the tasks of a family or of all."""
    found: dict[str, list[int]] = {}
    for record in run.records.values():
        if record.status == "ok" and family in (None, record.task.partition("/")[0]):
            found.setdefault(record.task, []).append(record.cost.positions or 0)
    return sum(sum(v) / len(v) for v in found.values()) / len(found)


if __name__ == "__main__":
    sys.exit(main())
