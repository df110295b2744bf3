"""Finished runs as data: read from their folders, never written, and never a model loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contracts.record import Key, SampleRecord
from ..contracts.run import LoadedRun, LoadedRuns
from ..errors import UsageError
from .labels import in_order, labelled
from .record_lines import NAMED
from .run_folder import RUN, SCHEMA, RunFolder, identity_hash, misshapen
from .summary import sums_up

NEEDED = ("hash", "identity", "settings", "method", "model", "prompts", "status")
"""What `run.json` holds from a run's first second on."""


STALE = "its lines or its summary were changed since: what is shown is made anew from the lines there are"


def load_runs(paths: Path | str | Sequence[Path | str]) -> LoadedRuns:
    """Read finished (or interrupted) runs, labelled so that they can be told apart.

    Parameters
    ----------
    paths
        One or several, each a run's folder or a folder of such folders. A run named twice is read once. Runs come
        in the order in which they are named, those of one folder as `harness.results.labels.in_order` puts them.

    Raises
    ------
    UsageError
        For a path without a run, or a run that cannot be read; a torn last line is only left out.
    """
    several = [paths] if isinstance(paths, (str, Path)) else paths
    found: dict[Path, LoadedRun] = {}
    for path in several:
        new = dict.fromkeys(folder.resolve() for folder in run_folders(Path(path)))
        read = {folder: load_run(folder) for folder in new if folder not in found}
        places = {id(run): folder for folder, run in read.items()}
        found |= {places[id(run)]: run for run in in_order(read.values())}
    return LoadedRuns(labelled(list(found.values())))


def run_folders(path: Path) -> list[Path]:
    """`path` itself if it is a run's folder, else the run folders right below it, by name."""
    if (path / RUN).is_file():
        return [path]
    try:
        found = sorted(child for child in path.iterdir() if (child / RUN).is_file())
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}; name a run's folder, or a folder of runs"
        ) from None
    if not found:
        raise UsageError(f"{path} holds no run: neither it nor a folder right below it has a {RUN}")
    return found


def load_run(path: Path) -> LoadedRun:
    """Read one run's folder; its label is not yet held against those of others."""
    folder = RunFolder(path)
    try:
        content, records = folder.read_run() or {}, folder.records()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    return loaded(content, records, str(path))


def loaded(content: Mapping[str, Any], records: Sequence[SampleRecord], source: str) -> LoadedRun:
    """A run from what `run.json` and its records say. Raises UsageError if it is none, or of another schema."""
    missing = [name for name in NEEDED if name not in content]
    if missing or content.get("schema") != SCHEMA:
        why = (
            f"it has no {missing[0]!r}"
            if missing
            else f"its schema is {content.get('schema')!r}, not {SCHEMA}"
        )
        raise UsageError(f"{source} is no run of this version of the harness: {why}")
    if why := misshapen(content):
        raise UsageError(f"{source} is no run of this version of the harness: its {why}")
    if identity_hash(content["identity"]) != content["hash"]:
        raise UsageError(
            f"{source}: {RUN} was edited: its identity is not the one its hash, {content['hash']}, is of; put back "
            "what was there, for its samples were asked so"
        )
    kept: dict[Key, SampleRecord] = {}
    planned = content.get("planned")
    wanted = None if planned is None else {(task, each) for task, ids in planned.items() for each in ids}
    for record in records:
        if wanted is not None and record.key not in wanted:
            continue  # of a larger --limit, or of data that was there before
        before = kept.get(record.key)
        if record.finished or before is None or not before.finished:
            kept[record.key] = record
    if content.get(NAMED) is not True:
        _check_own(content, kept, source)
    if "summary" in content and not sums_up(content, kept):
        content = {name: value for name, value in content.items() if name != "summary"} | {"stale": STALE}
    return LoadedRun(content, kept, source, str(content["method"]["name"]))


def _check_own(content: Mapping[str, Any], records: Mapping[Key, SampleRecord], source: str) -> None:
    """Refuse lines of another run in one that an earlier version wrote, as far as they show that they are.

    Its checksums do not tell. Without ``--max-context`` a prompt is cut to what the method reads, less the answer and
    the template, never to more; the protocol is one for all.
    """
    reads, protocol = content["method"].get("context_limit"), content["method"].get("protocol")
    if content["identity"].get("max_context") is not None:
        reads = None
    for record in records.values():
        limit = record.truncation.limit
        if isinstance(reads, int) and isinstance(limit, int) and limit > reads:
            why = f"its prompt might have {limit:,} tokens, and this method reads {reads:,}"
        elif protocol and record.protocol not in (None, protocol):
            why = f"it was {record.protocol}, the run {protocol}"
        else:
            continue
        raise UsageError(
            f"{source}: the line of {record.task} {record.id} is of another run: {why}; remove that line to run its "
            "sample again"
        )
