"""Comparisons as a figure."""

from __future__ import annotations

from collections.abc import Sequence

from ..documents.figures import Difference, Forest
from .rows import TOO_FEW, Comparison, Row

MOST = 60
"""Lines of a figure, from which only the rows that speak for a family are shown."""


def forest(found: Sequence[Comparison]) -> Forest:
    """Every run's difference to the baseline on each task; of many only on each family's average."""
    whole = sum(len(c.rows) for c in found) <= MOST
    groups: dict[str, list[Difference]] = {}
    for made in found:
        deciding = made.deciding()
        for row in made.rows if whole else deciding:
            bounds = None if row.interval is None else (100 * row.interval[0], 100 * row.interval[1])
            groups.setdefault(row.name, []).append(
                Difference(made.run.label, 100 * row.difference, bounds, _told(row), row.n)
            )
    groups = dict(_ends(name, group) for name, group in groups.items())
    return Forest(
        "forest",
        f"Differences to {found[0].baseline.label}",
        "Paired differences with their intervals, corrected for the number of rows; to the right of 0 the run is "
        "better. An interval that holds 0 cannot be told from no difference; a dot of too few samples has none.",
        list(groups.items()),
    )


def _told(row: Row) -> str:
    if row.verdict == TOO_FEW:
        return "too few samples"
    return row.verdict if row.verdict in ("better", "worse") else "cannot be told"


def _ends(name: str, group: list[Difference]) -> tuple[str, list[Difference]]:
    """Of very many runs those at both ends, in the order they came, and in the group's name how many there are."""
    if len(group) <= MOST:
        return name, group
    ordered = sorted(group, key=lambda d: d.value)
    half = MOST // 3
    ends = {id(d) for d in (*ordered[:half], *ordered[-half:])}
    return f"{name} ({half} highest and {half} lowest of {len(group)} runs)", [
        d for d in group if id(d) in ends
    ]
