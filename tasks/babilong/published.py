"""BABILong's published rows: from the hub, or as JSON lines in ``--data-dir``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.contracts import TaskEnvironment
from harness.errors import UsageError

from .. import _files
from .._hub_tables import hub_table
from .facts import Story

REPOSITORY = "RMT-team/babilong"
REVISION = "ee0d588794c7ac098062ee0d247c733d62e94fe2"
ROWS = (100, 1000)
"""Rows of a task and length, in the set of 100 and in ``RMT-team/babilong-1k-samples``."""


def rows(
    name: str, task: str, length: int, env: TaskEnvironment, told: Callable[[int, str], None]
) -> Iterator[tuple[str, Story, dict[str, Any]]]:
    """Text, story and facts of each row of a task at a length, from ``<length>/<task>.jsonl`` or the hub.

    `told` gets the length and a fingerprint of the rows.

    Raises
    ------
    UsageError
        If they cannot be had, or a row is broken (named by file and line).
    """
    label = config(length)
    if env.data_dir is None:
        table = hub_table("babilong", REPOSITORY, label, task, REVISION, env.offline, _otherwise(label, task))
        found = [dict(row) for row in table]
        text = json.dumps(found, ensure_ascii=False)
        told(length, hashlib.sha256(text.encode()).hexdigest()[:16])
        for number, row in enumerate(found, start=1):
            yield _row(row, f"{REPOSITORY} {label}/{task}, row {number}")
        return
    source = _files.Source(name, (f"{label}/{task}.jsonl", f"{label}/{task}.json"))
    every = replace(env, limit=None)
    number = 0
    for row, place in _files.rows(source, every, lambda fingerprint: told(length, fingerprint)):
        yield _row(row, place)
        number += 1
    if number not in ROWS:
        path = _files.located(source, env)
        _files.count_told(replace(source, rows=ROWS[0]), path, number, env)


def config(length: int) -> str:
    """The published name of a length: 4k, 1M. Raises UsageError for one that was not published."""
    if length % 1000:
        raise UsageError(
            f"babilong: no published rows of {length} tokens; lengths are 0, 1000, 2000, 4000 ..."
        )
    return f"{length // 1_000_000}M" if length and length % 1_000_000 == 0 else f"{length // 1000}k"


def fetch(tasks: Sequence[str], lengths: Sequence[int], offline: bool) -> Path:
    """The hub's rows of some tasks and lengths, into its cache. Raises Unavailable if they cannot be had."""
    from huggingface_hub.constants import HF_HUB_CACHE

    for length in lengths:
        for task in tasks:
            label = config(length)
            hub_table("babilong", REPOSITORY, label, task, REVISION, offline, _otherwise(label, task))
    return Path(HF_HUB_CACHE)


def _otherwise(label: str, task: str) -> str:
    return f"give --data-dir {label}/{task}.jsonl or bAbI's {task}_*train.txt, or set babilong.source=own"


def _row(row: Mapping[str, Any], place: str) -> tuple[str, Story, dict[str, Any]]:
    text, question, target = (_files.text_of(row, field, place) for field in ("input", "question", "target"))
    if not target:
        raise UsageError(f"{place}: field 'target' is empty: no answer could score")
    return text, Story((), question, target), {}
