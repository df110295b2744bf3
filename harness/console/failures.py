"""Why samples failed, the same reasons together."""

from __future__ import annotations

from collections.abc import Iterable

from ..contracts.record import SampleRecord

MOST = 5
"""Reasons that are named."""
LONGEST = 200
"""Characters of a message that are shown."""


def reasons(records: Iterable[SampleRecord]) -> list[str]:
    """A line for each reason, the most frequent first: how many, of which task, what was said, where, and one id."""
    groups: dict[tuple[str, str, str, str], list[SampleRecord]] = {}
    for record in records:
        if not record.finished:
            error = record.error
            said = " ".join((error.message or "").split()) if error else ""
            kind = (error.type if error else None) or record.status
            where = (error.where if error else None) or ""
            groups.setdefault((record.status, kind, said, where), []).append(record)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    lines = []
    for (status, kind, said, where), failed in ordered[:MOST]:
        message = said if len(said) <= LONGEST else f"{said[:LONGEST]} …"
        tasks = ", ".join(dict.fromkeys(r.task for r in failed))
        told = f"{kind}: {message}" if message else kind
        place = f" ({where})" if where else ""
        lines.append(
            f"failed ({status}), {len(failed)} of {tasks}: {told}{place}; for instance {failed[0].id}"
        )
    if len(ordered) > MOST:
        rest = sum(len(failed) for _, failed in ordered[MOST:])
        lines.append(f"failed for {len(ordered) - MOST} other reasons: {rest}; harness report shows them all")
    return lines
