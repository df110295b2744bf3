"""A planned fit carried out: data, training, adapter folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .._util.files import write_whole, writes
from ..contracts.fit import FitObserver, FitReport
from ..errors import UsageError
from ..models import adapters
from ..results.run_folder import RunFolder
from . import build_mixture
from .plan import (
    AGAIN,
    CONTENT,
    CURVE,
    FIGURE,
    REQUEST,
    TRAINING,
    finished,
    request_of,
    same_request,
    schedule_of,
)

if TYPE_CHECKING:
    from ..contracts.fit import TrainingData
    from .plan import FitPlan


class FitView(FitObserver, Protocol):
    """Who is shown a fit."""

    def note(self, text: str) -> None:
        """One line about something that takes a while."""
        ...

    def announce(self, what: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A bar for a preparation: ``with announce(what) as progress: progress(done, total)``."""
        ...


@dataclass
class FitResult:
    """How a fit ended. `report` is None if the folder held the finished adapter already."""

    folder: Path
    card: dict[str, Any]
    report: FitReport | None


def execute(plan: FitPlan, view: FitView) -> FitResult:
    """Carry out a fit, or go on with one that was interrupted; the adapter appears when it is complete.

    Raises
    ------
    UsageError
        Data without a usable example, a folder that holds another fit, no room on the disk.
    TrainingError
        If the loss is no number any more; checkpoints of before are kept.
    """
    settings = plan.settings
    request = request_of(settings, plan.method, plan.options, plan.adapter)
    first = int(os.environ.get("RANK", "0")) == 0
    if not (settings.track and first):
        return _execute(plan, request, view, first)
    from ..tracking import track_fit

    with track_fit(settings.track, settings.out, request, view) as tracked:
        result = _execute(plan, request, tracked, first)
        tracked.finished(result.report.loss if result.report else None)
        return result


def _execute(plan: FitPlan, request: dict[str, Any], view: FitView, first: bool) -> FitResult:
    out = plan.settings.out
    if not first:
        if (out / adapters.CARD).exists():  # the first process will see it too, and train nothing
            return FitResult(out, finished(out), None)
        return _carry_out(plan, request, view, first)
    with RunFolder(out / TRAINING).open():
        if began := (out / TRAINING / REQUEST).exists():
            same_request(out, request)
        if (out / adapters.CARD).exists():
            return FitResult(out, finished(out), None)
        with writes(out, AGAIN):
            write_whole(out / TRAINING / REQUEST, json.dumps(request, indent=2) + "\n")
        try:
            return _carry_out(plan, request, view, first)
        except UsageError:
            if not began and not any((out / TRAINING).glob("checkpoint-*")):
                with contextlib.suppress(OSError):  # the disk may be what refused
                    for name in (REQUEST, CONTENT):  # a fit that was refused has no claim to the folder
                        (out / TRAINING / name).unlink(missing_ok=True)
            raise


def _carry_out(plan: FitPlan, request: dict[str, Any], view: FitView, first: bool) -> FitResult:
    from .._util.environment import environment

    settings, out = plan.settings, plan.settings.out
    schedule = schedule_of(settings, view if first else None)
    data = _data(plan, view)
    if data is not None and first:
        _same_data(out, data.facts)
    plan.method.announce = view.announce
    if settings.shard_base:
        schedule = replace(schedule, settle=plan.model.settle)
    report = plan.method.fit(data, schedule, plan.options)
    if not first:
        return FitResult(out, {}, report)
    facts = {
        "request": request,
        "data": None if data is None else data.facts,
        "environment": environment(),
        "device": plan.model.device,
        "dtype": plan.model.dtype,
        **({"shard_base": shards.facts()} if (shards := plan.model.shards) else {}),
        **({"unused_weights": list(left)} if (left := plan.model.unused_weights) else {}),
    }
    _write_curve(out, report)
    plan.method.save(out, facts)
    return FitResult(out, adapters.read_card(out), report)


def _data(plan: FitPlan, view: FitView) -> TrainingData | None:
    """The mixture; with several processes the first makes it and the others find it made."""
    settings = plan.settings
    if not settings.data:
        return None
    from accelerate import PartialState

    def build() -> TrainingData:
        with view.announce("reading data") as progress:
            return build_mixture.build(
                settings.data,
                plan.model,
                settings.out / TRAINING / "data",
                min_length=settings.min_length,
                max_length=settings.max_length,
                seed=settings.seed,
                split=settings.split_documents,
                chat=settings.chat_prompts,
                offline=settings.offline,
                progress=lambda done, total: progress(done, total or 0),
            )

    if "RANK" not in os.environ:
        return build()
    with PartialState(cpu=plan.model.device == "cpu").main_process_first():
        return build()


def _same_data(out: Path, facts: dict[str, Any]) -> None:
    """Raise UsageError if the fit in `out` began on other content than the files named in the request have now."""
    path = out / TRAINING / CONTENT
    content = [s.get("sha256") or s.get("revision") for s in facts["sources"]]
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        for source, was, now in zip(facts["sources"], before, content):
            if was != now:
                raise UsageError(
                    f"{out} holds a fit on other content of {source['given']}; choose another --out or delete it"
                )
    with writes(out, AGAIN):
        write_whole(path, json.dumps(content) + "\n")


def _write_curve(out: Path, report: FitReport) -> None:
    """The loss of every step, as lines of JSON and as a picture."""
    if not report.curve:
        return
    with writes(out, AGAIN):
        write_whole(out / CURVE, "".join(json.dumps(row) + "\n" for row in report.curve))
        _draw(report, out / FIGURE)


def _draw(report: FitReport, path: Path) -> None:
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = np.array([row["step"] for row in report.curve])
    losses = np.array([row["loss"] for row in report.curve])
    width = max(1, len(losses) // 20)
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="#9ab", linewidth=0.8, label="each step")
    axes.plot(steps[width - 1 :], smooth, color="#124", linewidth=1.8, label=f"mean of {width} steps")
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("loss (nats per token)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
