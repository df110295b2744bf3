"""A paper's claims put to the test on the very samples that two rows, or more, have both answered."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.documents import Cell, Column, Row, Table
from harness.stats.paired import contributions, difference_interval, holm, sign_flips, smallest_p
from harness.stats.power import POWER, detectable_difference

from ._suite_rows import SuiteRow, contexts_of, strata_of

LEVEL = 0.05
"""A finding is stated where its p, corrected for the number of claims, is below this."""


@dataclass(frozen=True)
class Tested:
    """One claim on one model.

    Attributes
    ----------
    n
        Samples that all of the claim's rows have finished.
    difference, interval
        In points: of the better row over the worse, or for each step along an increasing claim.
    p
        Two-sided, of a sign-flip test stratified by data set; None if it could not be tested.
    why
        What kept it from being tested.
    contrasts, contexts, binary
        What was tested, by data set, in points; what each sample is a question about; and whether it is
        differences of scores of 0 and 1.
    """

    claim: str
    rows: str
    column: str
    n: int
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    why: str = ""
    contrasts: tuple[tuple[float, ...], ...] = ()
    contexts: tuple[tuple[Hashable, ...], ...] = ()
    binary: bool = False

    def detectable(self, level: float, most: float = 100.0) -> float | None:
        """The true difference, in points, that these samples would have shown with a chance of `POWER`.

        None where there is none up to `most`, or the spread is not known.
        """
        shares = [[value / 100 for value in stratum] for stratum in self.contrasts]
        if not self.binary and len({value for stratum in shares for value in stratum}) < 2:
            return None  # nothing is known of the spread
        found = detectable_difference(shares, binary=self.binary, alpha=level, clusters=self.contexts or None)
        return None if found is None or 100 * found > most else 100 * found


def findings_table(outcome: Mapping[str, Any], rows: Sequence[SuiteRow]) -> Table:
    """A line for each claim and model: the difference, its p, and whether the claim holds here."""
    columns = {column["key"]: column for column in outcome["columns"]}
    tested = [
        put_to_test(
            finding,
            columns[finding["column"]],
            [r for r in rows if r.model == model],
            model if several else "",
        )
        for several in [len(outcome["models"]) > 1]
        for model in outcome["models"]
        for finding in outcome["findings"]
    ]
    ps = iter(holm([t.p for t in tested if t.p is not None]))
    adjusted = [None if t.p is None else next(ps) for t in tested]
    tests = sum(t.p is not None for t in tested)
    heads = [
        Column("claim", "Claim", kind="name"),
        Column("rows", "Compared", kind="text"),
        Column("column", "On", kind="text"),
        Column("n", "n", format="d"),
        Column("difference", "Difference", "points", format=".2f"),
        Column("p", "p (Holm)", format=".2g"),
        Column("detectable", "Could be seen", "points", format=".0f"),
        Column("verdict", "Here", kind="text"),
    ]
    lines = [
        Row(
            {
                "claim": Cell(t.claim),
                "rows": Cell(t.rows),
                "column": Cell(t.column),
                "n": Cell(t.n),
                "difference": Cell(t.difference, t.interval),
                "p": Cell(p),
                "detectable": Cell(None if p is None else t.detectable(LEVEL / tests)),
                "verdict": Cell(verdict(t, p)),
            }
        )
        for t, p in zip(tested, adjusted)
    ]
    footers = [
        "difference: on the samples that all compared rows have finished, data sets weighing the same; of an "
        "increasing claim, the slope for each step",
        f"p: two-sided sign-flip test, corrected by Holm for the {tests} of {len(tested)} claims that could be "
        f"tested; a claim holds, or does not, if it is below {LEVEL}",
        f"could be seen: the true difference that so many samples with the spread that was seen show with a chance of "
        f"{100 * POWER:.0f} %, at the strictest level of Holm's correction",
    ]
    return Table(
        f"{outcome['name']}-claims", "What the paper claims, on these samples", heads, lines, footers
    )


def verdict(tested: Tested, p: float | None) -> str:
    """``holds``, ``does not hold``, or ``cannot be told`` with the reason."""
    if p is None or tested.difference is None:
        return f"cannot be told: {tested.why}"
    if p >= LEVEL:
        return "cannot be told: the difference may be chance"
    return "holds" if tested.difference > 0 else "does not hold: it is the other way round"


def put_to_test(
    finding: Mapping[str, Any], column: Mapping[str, Any], rows: Sequence[SuiteRow], model: str
) -> Tested:
    """Test one claim on the rows of one model.

    An increasing claim is tested by the linear contrast of each sample's scores along the claimed order: if
    the order made no difference, its sign could as well be the other.
    """
    ids = finding["increasing"] or [finding["worse"], finding["better"]]
    known = {row.id: row for row in rows}
    missing = [name for name in ids if name not in known or not known[name].runs]
    labels = [known[name].label if name in known else name for name in ids]
    shown = " < ".join(labels)
    claim = f"{finding['claim']} ({model})" if model else finding["claim"]
    head = column["heading"] or column["key"]
    if missing:
        lacking = ", ".join(known[name].label if name in known else name for name in missing)
        return Tested(claim, shown, head, 0, why=f"not run: {lacking}")
    strata = [strata_of(known[name], column) for name in ids]
    weights = [i - (len(ids) - 1) / 2 for i in range(len(ids))]
    scale = 100 / sum(w * w for w in weights)
    contrasts: list[list[float]] = []
    known_contexts, contexts = contexts_of(known[ids[0]], column), list[list[Hashable]]()
    for task in column["tasks"]:
        common = [key for key in strata[0][task] if all(key in s[task] for s in strata)]
        values = [scale * sum(w * s[task][key] for w, s in zip(weights, strata)) for key in common]
        if values:
            contrasts.append(values)
            contexts.append([known_contexts[key] for key in common])
    n = sum(map(len, contrasts))
    if not contrasts:
        return Tested(claim, shown, head, 0, why="no sample was finished in all of them")
    difference = sum(sum(c) / len(c) for c in contrasts) / len(contrasts)
    parts = contributions(contrasts, clusters=contexts)
    interval = difference_interval(contrasts, spread=scale * sum(map(abs, weights)) / 2, clusters=contexts)
    if len({tuple(run.hash for run in known[name].runs) for name in ids}) == 1:
        return Tested(claim, shown, head, n, difference, interval, why="they are the same run")
    if smallest_p(len(parts)) >= LEVEL:
        what = f"{n} samples" + (f" on {len(parts)} contexts" if len(parts) < n else "")
        return Tested(claim, shown, head, n, difference, interval, why=f"{what} are too few")
    found = sign_flips(parts.tolist())
    scores = {score for row in strata for samples in row.values() for score in samples.values()}
    binary = len(ids) == 2 and scores <= {0.0, 1.0}
    tested = Tested(claim, shown, head, n, difference, interval, found.p)
    return replace(
        tested,
        contrasts=tuple(map(tuple, contrasts)),
        contexts=tuple(map(tuple, contexts)),
        binary=binary,
    )
