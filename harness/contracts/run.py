"""A finished run as data: what a report receives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..stats.bootstrap import confidence_interval
from .phases import PHASES
from .record import Key, SampleRecord

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from ..documents.tables import Table


UNDONE = {
    "running": ": it goes on now, or was killed, and then the same command goes on from there",
    "interrupted": ": the same command goes on from there",
}
"""What can be done about runs that are not finished."""
UNUSED = "weights of the model's files that it does not use were allowed (--allow-unused-weights)"


@dataclass(frozen=True)
class RunTask:
    """A task as a run asked it.

    Attributes
    ----------
    name
        ``passkey``, ``longbench/trec``.
    metric
        Its main score.
    planned
        Samples that were asked for.
    version, preset, options, facts
        Of the task, as the run's hash has them.
    """

    name: str
    metric: str
    planned: int
    version: str
    preset: str
    options: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class LoadedRun:
    """One run: its facts and its records. A recorded baseline comes as the same thing, without the answers.

    Attributes
    ----------
    content
        `run.json`.
    records
        The record of each sample by (task, id), failed ones included, in the order of the file. Those of a
        recorded baseline lack prediction, references, metadata and details, and have `references_hash`.
    source
        Where it was read from.
    label
        A short name, different from those of the runs it was loaded with (see `labelled`).
    """

    content: Mapping[str, Any]
    records: Mapping[Key, SampleRecord]
    source: str
    label: str

    def __repr__(self) -> str:
        tasks = f"{len(self.tasks)} task{'s' * (len(self.tasks) != 1)}"
        counted = f"{self.n_ok:,} of {self.planned:,} samples"
        return f"<LoadedRun {self.label!r} on {self.model}: {counted} of {tasks}, {self.status}>"

    @property
    def hash(self) -> str:
        """Twelve hex digits over everything that can change an answer."""
        return str(self.content["hash"])

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.content["method"]["name"])

    @property
    def protocol(self) -> str:
        """``query-aware`` if compression saw the question in this run, else ``query-agnostic``."""
        method = self.content["method"]
        return str(method.get("protocol") or ("query-aware" if method["sees_question"] else "query-agnostic"))

    @property
    def sees_question(self) -> bool:
        """Whether compression saw the question in this run: false too in a query-agnostic run."""
        return self.protocol == "query-aware"

    @property
    def status(self) -> str:
        """``finished``, ``finished with failures``, ``interrupted``, ``running`` or ``failed``."""
        return str(self.content["status"])

    @property
    def model(self) -> str:
        """The model's name as the user gave it; ``identity["model_hash"]`` is what it is."""
        return str(self.content["model"]["name"])

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that the hash covers: options, model and tokenizer, window, truncation, seed, tasks."""
        found: Mapping[str, Any] = self.content["identity"]
        return found

    @property
    def options(self) -> Mapping[str, Any]:
        """Every option of the method, defaults included."""
        found: Mapping[str, Any] = self.identity["options"]
        return found

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be said beside its numbers: a state other than finished, and the method's own warning."""
        marked = f"the run is marked {self.status!r}{UNDONE.get(self.status, '')}"
        state = () if self.status == "finished" else (marked,)
        given = UNUSED if self.identity.get("allow_unused_weights") else None
        told = (given, self.content.get("stale"), (self.content.get("method_facts") or {}).get("warning"))
        return (*state, *(str(warning) for warning in told if warning))

    @cached_property
    def tasks(self) -> tuple[RunTask, ...]:
        """The tasks of the run, in its order."""
        summary = {r["task"]: r for r in self.content.get("summary", {}).get("tasks", ())}
        found = []
        for each in self.identity["tasks"]:
            name = str(each["name"])
            row = summary.get(name, {})
            asked = self.content["prompts"].get(name, {}).get("samples") or row.get("n")
            found.append(
                RunTask(
                    name=name,
                    metric=str(row["metric"] if row else self._metric(name)),
                    planned=int(asked or len(self.of_task(name))),
                    version=str(each["version"]),
                    preset=str(each["preset"]),
                    options=each["options"],
                    facts=each.get("facts", {}),
                )
            )
        return tuple(found)

    def task(self, name: str) -> RunTask | None:
        """The task of that name, if the run has it."""
        return next((t for t in self.tasks if t.name == name), None)

    def _metric(self, task: str) -> str:
        """The main score of a task of a run without a summary; of one of an older version, its records' first."""
        if named := self.content.get("metrics", {}).get(task):
            return str(named)
        scores = next((r.scores for r in self.of_task(task).values() if r.finished), {"score": 0})
        return next(iter(scores))

    def of_task(self, task: str) -> dict[str, SampleRecord]:
        """Records of one task by sample id, failed ones included."""
        return self._by_task.get(task, {})

    @cached_property
    def _by_task(self) -> dict[str, dict[str, SampleRecord]]:
        found: dict[str, dict[str, SampleRecord]] = {}
        for (task, name), record in self.records.items():
            found.setdefault(task, {})[name] = record
        return found

    @property
    def planned(self) -> int:
        """Samples that were asked for, in all."""
        return sum(t.planned for t in self.tasks)

    @cached_property
    def n_ok(self) -> int:
        """Samples that finished, in all."""
        return sum(r.finished for r in self.records.values())

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat dict for each sample: what a data frame is made from. What is not known is None."""
        for (task, name), r in self.records.items():
            measured = r.measured if r.finished else None
            yield {
                "run": self.label,
                "hash": self.hash,
                "method": self.method,
                "model": self.model,
                "protocol": self.protocol,
                "task": task,
                "id": name,
                "status": r.status,
                **{f"score.{metric}": value for metric, value in r.scores.items()},
                "prompt_tokens": r.prompt_tokens,
                **{key: getattr(measured, key, None) for key in ("kv_tokens", "compression", "verified")},
                **{
                    key: getattr(r.truncation, key)
                    for key in ("truncated", "tokens_before", "tokens_after", "answer_survives")
                },
                "new_tokens": r.new_tokens,
                "stop_reason": r.stop_reason,
                **{key: getattr(r.cost, key) if r.finished else None for key in (*COSTS, *SHARED)},
                "error": None if r.error is None else r.error.type,
                "prediction": r.prediction,
                **{
                    f"metadata.{key}": value
                    for key, value in r.metadata.items()
                    if value is None or isinstance(value, (str, int, float))
                },
            }

    def to_pandas(self) -> pandas.DataFrame:
        """`rows` as a data frame."""
        return LoadedRuns([self]).to_pandas()


MOST = 20
"""Runs that are named when many are printed."""


class LoadedRuns(list[LoadedRun]):
    """Runs that were read together: a list, and one data frame."""

    def __repr__(self) -> str:
        return (
            "["
            + ",\n ".join(map(repr, self[:MOST]))
            + (f",\n … {len(self) - MOST} more" * (len(self) > MOST))
            + "]"
        )

    def scores(self) -> Table:
        """A row for each run, a column for each task: its main score × 100 with its interval, and what finished."""
        from ..documents.tables import Cell, Column, Row, Table

        tasks = list(dict.fromkeys(t.name for run in self for t in run.tasks))
        columns = [Column("run", "run", kind="name"), *(Column(name, name) for name in tasks)]
        rows = []
        for run in self:
            cells = {"run": Cell(run.label)}
            for task in run.tasks:
                found = [float(r.scores[task.metric]) for r in run.of_task(task.name).values() if r.finished]
                bounds = confidence_interval(found)
                cells[task.name] = Cell(
                    100 * sum(found) / len(found) if found else None,
                    None if bounds is None else (100 * bounds[0], 100 * bounds[1]),
                    n_ok=len(found),
                    n=task.planned,
                )
            rows.append(Row(cells))
        return Table("scores", "Scores × 100: means over the finished samples", columns, rows)

    def _repr_html_(self) -> str:
        from ..render.fragment import table

        return table(self.scores())

    def plot(self) -> Figure:
        """Scores with their intervals, a group for each task, drawn with matplotlib."""
        from ..render.matplotlib import scores

        return scores(self.scores())

    def to_pandas(self) -> pandas.DataFrame:
        """The samples of all runs, a row each, ``run`` being the run's label (columns: `LoadedRun.rows`)."""
        import pandas

        return pandas.DataFrame([row for run in self for row in run.rows()])


COSTS = ("seconds", *(f"{name}_seconds" for name in PHASES), "kv_bytes", "peak_bytes")
"""Names of what a sample cost: seconds and bytes."""
SHARED = ("questions", "saved_seconds")
"""What a record's cost says besides, if questions shared one compressed context."""
