"""What is claimed of condensing, put to the test on what was recorded for the default model: docs/evidence.md.

python tools/evidence.py            # rewrite the table and the figure
python tools/evidence.py --check    # write nothing; exit 1 if the page's table is out of date

Two sources: the samples that the suites `evidence` and `evidence-long` have recorded, and the losses after one
condensed interval and after many (`tools/memory_loss.py`). Holm's correction is over the claims of both.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.reports._claims import LEVEL, Tested, put_to_test
from harness.reports._suite_rows import SuiteRow
from harness.results.recorded_baselines import read
from harness.stats.paired import difference_interval, holm, sign_flips

ROOT = Path(__file__).resolve().parents[1]
RECORDED = [ROOT / "baselines" / "smollm2" / suite for suite in ("evidence", "evidence-long")]
LOSSES = ROOT / "baselines" / "smollm2" / "interval-256" / "memory_loss.json"
LONG_LOSSES = ROOT / "baselines" / "smollm2" / "interval-256-long" / "memory_loss.json"
PAGE, FIGURE = ROOT / "docs" / "evidence.md", ROOT / "docs" / "images" / "evidence.png"
PART = re.compile(r"(<!-- claims -->\n).*?(<!-- /claims -->)", re.DOTALL)

NONE, WHOLE, EXPERTS = "no memory", "whole context", "lora_experts"
ONE, PAPERS, LAST = "one expert for all", "untrained, the paper's start", "untrained, start last"
HALF = "lora_experts, half"
LOSS = "loss after {:,} tokens"


def main() -> int:
    """Write the page's table and the figure, or say that the table is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    tested = list(of_all())
    old = PAGE.read_text(encoding="utf-8")
    new = PART.sub(lambda match: match[1] + table(tested) + match[2], old)
    if check:
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    draw(tested, FIGURE)
    return 0


def of_all() -> Iterator[Tested]:
    """Every claim, from what is recorded."""
    yield from of_runs()
    yield from of_losses(json.loads(LOSSES.read_text(encoding="utf-8")))
    yield from of_long_losses(json.loads(LONG_LOSSES.read_text(encoding="utf-8")))


def of_runs() -> Iterator[Tested]:
    """The claims of the suites, on the samples of the runs that are recorded."""
    for folder in RECORDED:
        outcome = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
        runs = {run.hash: run for run in read(folder / "runs.json")}
        rows = [
            SuiteRow(row, [runs[name.rpartition("-")[2]] for name in row["runs"]]) for row in outcome["rows"]
        ]
        columns = {column["key"]: column for column in outcome["columns"]}
        for finding in outcome["findings"]:
            yield put_to_test(finding, columns[finding["column"]], rows, "")


def of_losses(found: dict[str, Any]) -> Iterator[Tested]:
    """The claims on losses; a positive difference, in hundredths of a nat, is what is claimed."""
    losses, ratios, tested = _losses(found), found["ratios"], partial(_tested, _column(found))

    def mean(name: str, some: Sequence[int] = ratios) -> Any:
        return np.mean([losses[name][r] for r in some], axis=0)

    steps = np.arange(len(ratios)) - (len(ratios) - 1) / 2
    slope = sum(w * losses[EXPERTS][r] for w, r in zip(steps, ratios)) / (steps**2).sum()
    yield tested("the loss rises with the ratio", "ratio 2 < 4 < ... < 128, for each doubling", slope)
    half = (losses[NONE][0] + losses[WHOLE][0]) / 2
    yield tested(
        "condensed 2 to 8 times, more than half of what the text is worth is kept",
        "half of the way from no memory to the whole text − experts, ratios 2 to 8",
        half - mean(EXPERTS, [2, 4, 8]),
    )
    yield tested(
        "condensed 128 times, the text is still worth something",
        "no memory − experts, ratio 128",
        losses[NONE][0] - losses[EXPERTS][128],
    )
    yield tested(
        "a beacon that starts as the last token it stands for holds more than one that starts as the paper's",
        "the paper's start − last, untrained, all ratios",
        mean(PAPERS) - mean(LAST),
    )
    yield tested(
        "training makes the memory better",
        "untrained − experts, ratios 4 to 128",
        *[mean(LAST, ratios[1:]) - mean(EXPERTS, ratios[1:])],
    )
    yield tested(
        "training makes the memory better at ratio 2 too",
        "untrained − experts, ratio 2",
        losses[LAST][2] - losses[EXPERTS][2],
    )
    if ONE in losses:
        others = [r for r in ratios if r != 16]
        yield tested(
            "an expert for each ratio is better than one for all",
            "ratio 16's expert for all − each ratio's own, other ratios",
            mean(ONE, others) - mean(EXPERTS, others),
        )


def of_long_losses(found: dict[str, Any]) -> Iterator[Tested]:
    """The claims on losses after many condensed intervals, which the experts were not trained on."""
    losses, tested = _losses(found), partial(_tested, _column(found))
    for ratio in found["ratios"]:
        yield tested(
            f"training makes a long memory better, ratio {ratio}",
            f"untrained − experts, ratio {ratio}",
            losses[LAST][ratio] - losses[EXPERTS][ratio],
        )
        yield tested(
            f"half of what was learned makes a long memory better than all of it, ratio {ratio}",
            f"experts − half of what they learned, ratio {ratio}",
            losses[EXPERTS][ratio] - losses[HALF][ratio],
        )


def _losses(found: dict[str, Any]) -> dict[str, dict[int, Any]]:
    """The losses of each memory by ratio, a text each."""
    return {
        name: {int(ratio): np.array(values) for ratio, values in by_ratio.items()}
        for name, by_ratio in found["losses"].items()
    }


def _column(found: dict[str, Any]) -> str:
    return LOSS.format(found["windows"] * found["interval"])


def _tested(column: str, claim: str, compared: str, differences: Any) -> Tested:
    """One claim on paired differences, a text each, in nats."""
    values = [100 * float(d) for d in differences]
    interval = difference_interval([values], spread=2 * max(map(abs, values)))
    p = sign_flips(values).p
    return Tested(
        claim, compared, column, len(values), float(np.mean(values)), interval, p, contrasts=(tuple(values),)
    )


def judged(tested: Sequence[Tested]) -> list[tuple[Tested, float | None]]:
    """Each claim with its p after Holm's correction over all that could be tested."""
    adjusted = iter(holm([t.p for t in tested if t.p is not None]))
    return [(t, None if t.p is None else next(adjusted)) for t in tested]


def decision(one: Tested, p: float | None) -> str:
    """``confirmed``, ``refuted``, ``cannot be told`` (with the reason), or ``not run``."""
    if p is None or one.difference is None:
        return "not run" if not one.n else f"cannot be told: {one.why}"
    if p >= LEVEL:
        return "cannot be told"
    return "confirmed" if one.difference > 0 else "refuted"


def table(tested: Sequence[Tested]) -> str:
    """The claims as Markdown."""
    tests = sum(t.p is not None for t in tested)
    lines = [
        "| claim | compared | on | n | difference [95 %] | p (Holm) | seen at 80 % | here |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for one, p in judged(tested):
        most = math.inf if _of_loss(one) else 100.0
        seen = None if p is None else one.detectable(LEVEL / tests, most)
        cells = [one.claim, one.rows.replace(" < ", " → "), one.column, str(one.n), difference(one)]
        cells += [
            "–" if p is None else f"{p:.2g}",
            "–" if seen is None else amount(one, seen),
            decision(one, p),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    counts = [decision(t, p).partition(":")[0] for t, p in judged(tested)]
    summed = ", ".join(
        f"{counts.count(word)} {word}" for word in ("confirmed", "refuted", "cannot be told", "not run")
    )
    return "\n".join([*lines, "", f"{len(tested)} claims: {summed}; Holm's correction is over {tests}.", ""])


def difference(one: Tested) -> str:
    """The difference with its interval: points of a score, or nats of a loss."""
    if one.difference is None:
        return "–"
    edges = "" if one.interval is None else " [{}, {}]".format(*(amount(one, edge) for edge in one.interval))
    return f"{amount(one, one.difference)}{edges}"


def amount(one: Tested, value: float) -> str:
    """A difference in the unit of its claim."""
    return f"{value / 100:.3f} nat" if _of_loss(one) else f"{value:.0f} points"


def _of_loss(one: Tested) -> bool:
    return str(one.column).startswith(LOSS.partition("{")[0])


def draw(tested: Sequence[Tested], path: Path) -> None:
    """Every difference with its interval: scores on the left, losses on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [
        [t for t in tested if _of_loss(t) == losses and t.difference is not None] for losses in (False, True)
    ]
    # A label takes two lines, or three.
    figure = Figure(figsize=(11, max(4.6, 0.32 * max(map(len, shown)))), layout="constrained")
    FigureCanvasAgg(figure)
    sides = zip(figure.subplots(1, 2), shown, ("points of 100", "nat"), (1.0, 100.0), (False, True))
    for axes, rows, unit, scale, losses in sides:
        for place, one in enumerate(reversed(rows)):
            low, high = one.interval or (one.difference, one.difference)
            axes.plot([low / scale, high / scale], [place, place], color="#89a", linewidth=2)
            axes.plot(one.difference / scale, place, "o", color="#124")
        labels = [textwrap.fill(f"{t.claim} (n {t.n})", 38 if losses else 60) for t in reversed(rows)]
        axes.set_yticks(range(len(rows)), labels, fontsize=8)
        if losses:
            axes.set_xscale("symlog", linthresh=0.1)
        axes.axvline(0, color="#555", linestyle=":")
        axes.set_xlabel(f"difference, {unit}, with its 95 % interval")
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
