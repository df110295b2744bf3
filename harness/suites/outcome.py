"""What a suite came to, written beside its runs."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._util.files import write_whole, writes
from .._version import __version__
from ..errors import UsageError
from ..results.run_folder import folder_name
from .matrix import Row
from .planned import SuitePlan

SCHEMA = 1
FOLDER = "suites"


@dataclass
class RowOutcome:
    """What came of a row: `status` is ``ok``, ``failed`` (some or all of it), ``unavailable``."""

    id: str
    label: str
    model: str
    method: str
    published: str | None
    note: str | None
    status: str = "ok"
    why: str = ""
    runs: list[str] = field(default_factory=list)


@dataclass
class SuiteOutcome:
    """What came of a suite; `path` is the file it was written to."""

    path: Path
    content: dict[str, Any]
    rows: list[RowOutcome]

    @property
    def failed(self) -> list[RowOutcome]:
        return [row for row in self.rows if row.status == "failed"]


def row_outcome(row: Row) -> RowOutcome:
    """What a row is, before anything of it was run."""
    return RowOutcome(row.id, row.label, row.model, row.runs[0].method, row.published, row.note)


def outcome_content(plan: SuitePlan) -> dict[str, Any]:
    """What was asked: the table's layout, the findings, and whatever differs from the paper's set-up."""
    spelled = plan.spelled
    suite = spelled.suite
    return {
        "schema": SCHEMA,
        "harness": __version__,
        "name": suite.name,
        "title": suite.title,
        "paper": None if suite.paper is None else suite.paper.model_dump(),
        "published": suite.published,
        "transposed": suite.transposed,
        "figure": suite.figure,
        "quick": spelled.quick,
        "overrides": {k: _plain(v) for k, v in spelled.overrides.items()},
        "models": list(spelled.suites),
        "columns": [
            {**column.model_dump(), "tasks": list(spelled.columns[column.key])} for column in suite.columns
        ],
        "findings": [finding.model_dump() for finding in suite.findings],
        "notes": list(dict.fromkeys(note for s in spelled.suites.values() for note in s.notes)),
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def outcome_path(plan: SuitePlan, out: Path) -> Path:
    """A file named after all that was asked: the same request finds and replaces it."""
    asked = [
        [dataclasses.asdict(run.settings) for run in runs] + [row.label, row.fit] for row, runs in plan.rows
    ]
    identity = {"content": outcome_content(plan), "runs": json.dumps(asked, default=str, sort_keys=True)}
    suite = plan.spelled.suite
    return out / FOLDER / f"{folder_name(suite.name, plan.spelled.rows[0].model, identity)}.json"


def write_outcome(outcome: SuiteOutcome) -> None:
    """Write what a suite came to, whole or not at all."""
    content = {**outcome.content, "rows": [dataclasses.asdict(row) for row in outcome.rows]}
    outcome.content = content
    with writes(outcome.path.parent):
        write_whole(outcome.path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_outcome(path: Path) -> dict[str, Any]:
    """What `carry_out` wrote. Raises UsageError if the file is none, or of another schema."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: no record of a suite ({error})") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or "rows" not in content:
        raise UsageError(f"{path}: no record of a suite of this version")
    return content
