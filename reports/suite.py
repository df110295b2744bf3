"""`suite`: the table of a suite in the paper's layout, published values beside ours, and what became of its claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from harness import Options, Report
from harness.baselines import published
from harness.contracts import LoadedRun
from harness.documents import Axis, Cell, Column, Document, Lines, Mark, Row, Series, Table
from harness.results import load_run
from harness.suites import read_outcome
from harness.suites.document import same_model

from ._claims import findings_table
from ._suite_rows import Measured, SuiteRow, measure

if TYPE_CHECKING:
    from harness.baselines.published import PublishedTable

NOT_COMPARABLE = "numbers are not comparable with the paper's, orderings may be"


class SuiteOptions(Options):
    """Options of `SuiteReport`."""

    outcome: Path | None = Field(
        None, description="the file that a suite left in its folder of runs, under suites/"
    )


class SuiteReport(Report):
    """A paper's table again: its rows and columns, its values beside ours, its claims put to the test.

    Empty without an outcome: which runs make the table is known to the suite alone.
    """

    Options: ClassVar[type[Options]] = SuiteOptions
    options: SuiteOptions

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        """The table; `runs` are not looked at, the outcome names its own."""
        if self.options.outcome is None:
            return Document("suite", "Suite")
        return document(read_outcome(self.options.outcome))


def document(outcome: Mapping[str, Any]) -> Document:
    """The report of what `harness.suites.run.carry_out` has written.

    Raises
    ------
    UsageError
        If a run is gone, or the published table is not known.
    """
    rows = [SuiteRow(row, [load_run(Path(path)) for path in row["runs"]]) for row in outcome["rows"]]
    paper = None if outcome["published"] is None else published.table(outcome["published"])
    beside = any(_published(paper, r, c) is not None for r in rows for c in outcome["columns"])
    tables = [_table(outcome, rows, paper, beside)]
    if paper is not None and not beside:
        tables.append(_papers_own(paper))
    if outcome["findings"]:
        tables.append(findings_table(outcome, rows))
    figures = list(_figures(outcome, rows)) if outcome["figure"] else []
    return Document(outcome["name"], outcome["title"], tables, figures)


def _table(
    outcome: Mapping[str, Any], rows: Sequence[SuiteRow], paper: PublishedTable | None, beside: bool
) -> Table:
    """Ours, with published values in the cells that have one; `beside`: there are such cells."""
    form = ".2f" if paper is None else f".{paper.decimals}f"
    columns: list[Mapping[str, Any]] = outcome["columns"]
    cells = {
        (r.id, r.model, c["key"]): _cell(measure(r, c), _published(paper, r, c), r)
        for r in rows
        for c in columns
    }
    several = len(outcome["models"]) > 1
    labels = [f"{r.label} · {r.model}" if several else r.label for r in rows]
    notes = [*_footers(outcome, rows, paper, beside)]
    counts = [Cell(text=f"{r.n_ok}/{r.n}" if r.runs else "–", value=r.n_ok) for r in rows]
    heads = [(c["key"], c["heading"] or c["key"]) for c in columns]
    if not outcome["transposed"]:
        made = [Column("row", "Method", kind="name"), *(Column(k, h, format=form) for k, h in heads)]
        made.append(Column("n_ok", "n ok"))
        lines = [
            Row({"row": Cell(label), **{k: cells[r.id, r.model, k] for k, _ in heads}, "n_ok": count})
            for r, label, count in zip(rows, labels, counts)
        ]
    else:
        keys = [f"{r.id} {r.model}" for r in rows]
        made = [Column("row", "Dataset", kind="name")]
        made += [Column(key, label, format=form) for key, label in zip(keys, labels)]
        lines = [
            Row({"row": Cell(h), **{key: cells[r.id, r.model, k] for key, r in zip(keys, rows)}})
            for k, h in heads
        ]
        lines.append(Row({"row": Cell("n ok"), **dict(zip(keys, counts))}))
    return Table(outcome["name"], heading(outcome), made, lines, notes)


def heading(outcome: Mapping[str, Any]) -> str:
    """The table's title; it says if the model is not the paper's."""
    models, paper = outcome["models"], outcome["paper"]
    quick = " (quick)" if outcome["quick"] else ""
    said = f"{outcome['name']}{quick}: {outcome['title']}; on {', '.join(Path(m).name for m in models)}"
    theirs = [] if paper is None else paper["models"]
    if theirs and not all(any(same_model(m, t) for t in theirs) for m in models):
        said += f", not on {' or '.join(Path(t).name for t in theirs)}: {NOT_COMPARABLE}"
    return said


def _cell(found: Measured | None, theirs: float | None, row: SuiteRow) -> Cell:
    marks = frozenset({Mark.SEES_QUESTION}) if any(run.sees_question for run in row.runs) else frozenset()
    if found is None:
        return Cell(published=theirs)
    return Cell(found.value, found.interval, marks=marks, published=theirs, n_ok=found.n_ok, n=found.n)


def _published(paper: PublishedTable | None, row: SuiteRow, column: Mapping[str, Any]) -> float | None:
    """The published value of a cell; None if the paper has no such row or column."""
    if paper is None or row.published is None:
        return None
    return next((r.values.get(column["key"]) for r in paper.rows if r.label == row.published), None)


def _papers_own(paper: PublishedTable) -> Table:
    """What the paper prints, for a table of ours of which no cell is one of the paper's."""
    columns = [Column("row", "Row", kind="name"), Column("model", "Model", kind="text")]
    columns += [Column(c.key, c.heading, format=f".{paper.decimals}f") for c in paper.columns]
    rows = [
        Row({"row": Cell(r.label), "model": Cell(r.model), **{key: Cell(v) for key, v in r.values.items()}})
        for r in paper.rows
    ]
    reasons = dict.fromkeys(why for r in paper.rows for why in r.missing.values())
    notes = [
        "no cell above is one of these (other lengths or another row), so nothing is set beside it",
        *paper.notes,
    ]
    notes += [f"no value: {why}" for why in reasons]
    return Table(f"{paper.name}-published", f"As published: {paper.title}", columns, rows, notes)


def _footers(
    outcome: Mapping[str, Any], rows: Sequence[SuiteRow], paper: PublishedTable | None, beside: bool
) -> Iterator[str]:
    if paper is not None:
        where = f"{paper.source.title} ({paper.source.year}), {paper.place}"
        yield f"paper: {where}; " + ("beside it ours less the paper's, in points" if beside else "see below")
    yield from outcome["notes"]
    for row in rows:
        if row.status != "ok":
            yield f"{row.label}: {row.status}: {row.why}"
        if row.note:
            yield f"{row.label}: {row.note}"
    yield from _averages(outcome["columns"], rows)
    runs = [run for row in rows for run in row.runs]
    yield from _data(runs)
    warned: dict[str, list[str]] = {}
    for row in rows:
        for warning in dict.fromkeys(w for run in row.runs for w in run.warnings):
            warned.setdefault(warning, []).append(row.label)
    for warning, labels in warned.items():
        yield f"{warning}: {', '.join(labels)}"
    yield "runs: " + ", ".join(
        f"{row.label} {' '.join(run.hash for run in row.runs)}" for row in rows if row.runs
    )


def _averages(columns: Sequence[Mapping[str, Any]], rows: Sequence[SuiteRow]) -> Iterator[str]:
    """How averages are formed, and which lack data sets."""
    if any(len(c["tasks"]) > 1 for c in columns):
        yield "an average weighs its data sets alike, however many samples each has; scores x 100"
    asked = {t.name for row in rows for run in row.runs for t in run.tasks}
    here = {
        c["heading"] or c["key"]: [t.partition("/")[2] or t for t in c["tasks"] if t in asked]
        for c in columns
        if not asked.issuperset(c["tasks"])
    }
    if here and asked:
        over = "; ".join(f"{head} over {', '.join(names) or 'none'}" for head, names in here.items())
        yield f"not all data sets were asked here: {over}"


def _data(runs: Sequence[LoadedRun]) -> Iterator[str]:
    """Samples of each data set and the truncation, once for all runs that share them."""
    counts: dict[str, set[int]] = {}
    for run in runs:
        for task in run.tasks:
            counts.setdefault(task.name, set()).add(task.planned)
    if counts:
        yield "samples: " + ", ".join(f"{name} {'/'.join(map(str, sorted(n)))}" for name, n in counts.items())
    rules = dict.fromkeys(_rule(r.identity["truncate"], r.identity["max_context"]) for r in runs)
    if rules:
        yield f"prompts over the limit: {'; '.join(rules)}"


def _rule(truncate: str, limit: int | None) -> str:
    if truncate == "none":
        return "none is cut"
    return f"cut ({truncate}) to " + ("what fits" if limit is None else f"{limit} tokens")


def _figures(outcome: Mapping[str, Any], rows: Sequence[SuiteRow]) -> Iterator[Lines]:
    """For each metric a line a row over the fact of the samples that the suite names."""
    fact = outcome["figure"]
    picked = [c for c in outcome["columns"] if fact in c["where"]]
    for metric in dict.fromkeys(c["metric"] for c in picked):
        mine = sorted((c for c in picked if c["metric"] == metric), key=lambda c: float(c["where"][fact]))
        series = []
        for row in rows:
            found = [(float(c["where"][fact]), measure(row, c)) for c in mine]
            points = [(x, m.value, m.interval) for x, m in found if m is not None and m.value is not None]
            if points:
                series.append(Series(row.label, points, any(run.sees_question for run in row.runs)))
        if series:
            name = str(metric or "score")
            yield Lines(
                name=f"{outcome['name']}-{name}",
                title=f"{name} by {fact}",
                description=f"{heading(outcome)}; bands are 95 % intervals",
                x=Axis(str(fact), "tokens" if fact == "length" else ""),
                y=Axis(f"{name} x 100"),
                series=series,
            )
