"""Runs as flat tables: Parquet, and a workbook of Excel."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contracts.run import LoadedRun
from ..errors import UsageError

MOST_ROWS, MOST_LETTERS = 1_048_576, 32_767
"""Of a sheet and of a cell, in Excel."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
CUT = "… (cut: a cell of Excel holds no more)"

Rows = list[dict[str, Any]]


def tables(runs: Sequence[LoadedRun]) -> dict[str, Rows]:
    """Rows by table: ``samples`` (see `LoadedRun.rows`), ``tasks`` (a run on a task), ``runs``."""
    return {
        "samples": _even([row for run in runs for row in run.rows()]),
        "tasks": _even([row for run in runs for row in _task_rows(run)]),
        "runs": _even([_run_row(run) for run in runs]),
    }


def public_name(model: str) -> str:
    """A model's name for others: of a folder or file its last part, for where it lies is nobody's business."""
    path = Path(model)
    return path.name if path.is_absolute() or model.startswith((".", "~")) else model


def _even(rows: Rows) -> Rows:
    """Rows that all have the same columns, in the order of their first appearance."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def _task_rows(run: LoadedRun) -> Iterable[dict[str, Any]]:
    for row in run.content.get("summary", {}).get("tasks", ()):
        low, high = row.get("interval") or (None, None)
        plain = {k: v for k, v in row.items() if v is None or isinstance(v, str | int | float)}
        scores = {f"score.{name}": value for name, value in (row.get("scores") or {}).items()}
        yield (
            {"run": run.label, "hash": run.hash, "method": run.method, "model": run.model}
            | plain
            | {
                "interval.low": low,
                "interval.high": high,
                **scores,
            }
        )


def _run_row(run: LoadedRun) -> dict[str, Any]:
    names = ("context_length", "dtype", "device", "batch_size", "truncate", "max_context", "seed", "harness")
    return {
        "run": run.label,
        "hash": run.hash,
        "method": run.method,
        "options": json.dumps(dict(run.options), ensure_ascii=False),
        "model": run.model,
        "model_hash": run.identity.get("model_hash"),
        "adapter": run.identity.get("adapter"),
        "protocol": run.protocol,
        "status": run.status,
        **{name: None if (v := run.identity.get(name)) is None else str(v) for name in names},
        "samples": run.planned,
        "samples_ok": run.n_ok,
        "warnings": "; ".join(run.warnings) or None,
    }


def write_parquet(rows: Rows, path: Path) -> None:
    """Write a table as Parquet; a column of several types is text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}
    pq.write_table(pa.table({name: _array(values) for name, values in columns.items()}), path)


def _array(values: Sequence[Any]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        kinds = {type(v) for v in values if v is not None}
        if kinds <= {int, float}:
            return pa.array([None if v is None else float(v) for v in values])
        return pa.array([None if v is None else str(v) for v in values])


def write_xlsx(sheets: Mapping[str, Rows], path: Path) -> list[str]:
    """Write a sheet for each table; returns what of it Excel has no room for.

    Text stays text: an answer that begins with ``=`` is no formula.

    Raises
    ------
    UsageError
        If openpyxl is not installed.
    """
    try:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell
        from openpyxl.styles import Font
    except ImportError:
        raise UsageError("a workbook needs openpyxl: pip install 'long-context-harness[xlsx]'") from None
    book = Workbook(write_only=True)
    cut, left = 0, 0

    def cell(sheet: Any, value: Any) -> Any:
        nonlocal cut
        if isinstance(value, str):
            text = _CONTROL.sub("\ufffd", value)
            if len(text) > MOST_LETTERS:
                cut += 1
                text = text[: MOST_LETTERS - len(CUT)] + CUT
            made = WriteOnlyCell(sheet, value=text)
            made.data_type = "s"
            return made
        return value

    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        sheet.freeze_panes = "A2"
        heads = [WriteOnlyCell(sheet, value=head) for head in (rows[0] if rows else {})]
        for head in heads:
            head.font = Font(bold=True)
        sheet.append(heads)
        for row in rows[: MOST_ROWS - 1]:
            sheet.append([cell(sheet, value) for value in row.values()])
        left += max(0, len(rows) - (MOST_ROWS - 1))
    book.save(path)
    told = [f"{cut} texts are longer than {MOST_LETTERS:,} characters and are cut"] if cut else []
    return told + ([f"{left:,} rows are beyond the last row of a sheet and are left out"] if left else [])
