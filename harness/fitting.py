"""``harness fit``: data mixed, a method trained or calibrated on it, an adapter folder written.

The folder is the adapter; what is needed to go on after a kill (checkpoints, tokenised data, the request)
lies in its ``training`` sub-folder, which may be deleted once the fit has ended.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import mixture, registry
from ._util.files import write_whole, writes
from ._version import __version__
from .contracts.fit import FitObserver, FitReport, Schedule
from .contracts.method import Method
from .errors import UsageError
from .models import adapters
from .models.loading import load as load_model
from .models.model import LanguageModel
from .options import Options
from .results.run_folder import RunFolder

if TYPE_CHECKING:
    from .contracts.fit import TrainingData

TRAINING = "training"
REQUEST = "fit.json"
CONTENT = "content.json"
CURVE = "loss.jsonl"
FIGURE = "loss.png"
AGAIN = "make room and run again"


class FitView(FitObserver, Protocol):
    """Who is shown a fit."""

    def note(self, text: str) -> None:
        """One line about something that takes a while."""
        ...

    def announce(self, what: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A bar for a preparation: ``with announce(what) as progress: progress(done, total)``."""
        ...


@dataclass(frozen=True)
class FitSettings:
    """What a user asks for; the flags of ``harness fit`` under the same names."""

    method: str
    out: Path
    data: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    fit_options: dict[str, Any] = field(default_factory=dict)
    model: str = "smollm2"
    adapter: Path | None = None
    min_length: int = 1200
    max_length: int = 8192
    split_documents: bool = False
    chat_prompts: bool = False
    batch_size: int = 8
    learning_rate: float = 5e-5
    warmup_steps: int = 0
    epochs: float = 1.0
    max_steps: int | None = None
    save_every: int = 100
    seed: int = 42
    dtype: str = "auto"
    device: str = "auto"
    offline: bool = False
    trust_remote_code: bool = False
    trainer: dict[str, Any] = field(default_factory=dict)


@dataclass
class FitPlan:
    """A fit that has passed every check; nothing heavy is loaded yet."""

    settings: FitSettings
    model: LanguageModel
    method: Method
    options: Options
    adapter: Path | None


@dataclass
class FitResult:
    """How a fit ended. `report` is None if the folder held the finished adapter already."""

    folder: Path
    card: dict[str, Any]
    report: FitReport | None


def plan_fit(settings: FitSettings, note: Callable[[str], None] | None = None) -> FitPlan:
    """Check everything that can be checked before the model's weights are loaded.

    Raises
    ------
    UsageError
        For anything wrong with the request, in one line.
    """
    plugin = registry.method(settings.method)
    if not plugin.cls.trainable:
        raise UsageError(f"method {settings.method} has nothing to fit")
    owner = f"method {settings.method}"
    options = plugin.cls.Options.parse(settings.options, owner)
    fit_options = plugin.cls.FitOptions.parse(settings.fit_options, f"fit of {owner}")
    for name, least in (("batch_size", 1), ("save_every", 1), ("min_length", 2), ("warmup_steps", 0)):
        if (value := getattr(settings, name)) < least:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    for name in ("learning_rate", "epochs"):
        if not 0 < (value := getattr(settings, name)) < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} must be greater than 0 and finite, not {value:g}")
    if not 0 <= settings.seed < 2**32:  # as numpy and torch take it
        raise UsageError(f"--seed must be 0 to {2**32 - 1}, not {settings.seed}")
    if settings.max_steps is not None and settings.max_steps < 1:
        raise UsageError(f"--max-steps must be at least 1, not {settings.max_steps}")
    if settings.min_length > settings.max_length:
        raise UsageError(f"--min-length {settings.min_length} is above --max-length {settings.max_length}")
    if settings.data:
        mixture.check(settings.data)
    elif plugin.cls.needs_data:
        raise UsageError(f"{owner} learns from data: give --data FILE.jsonl[:COUNT], once or more")
    model = load_model(
        settings.model,
        dtype=settings.dtype,
        device=_own_device(settings.device),
        offline=settings.offline,
        trust_remote_code=settings.trust_remote_code,
        notify=note,
    )
    method = plugin.cls(model, options)
    # What learns begins from nothing; what only calibrates does it for the weights that a run would use.
    adapter = adapters.resolve(
        settings.adapter, (lambda: None) if plugin.cls.needs_data else method.default_adapter
    )
    if adapter is not None:
        method.load(adapter)
    method.check_fit(fit_options)
    if settings.trainer:  # else there is nothing to refuse, and what would refuse it takes seconds to import
        from . import trainer

        trainer.check(_schedule(settings), model.device)
    if (settings.out / adapters.CARD).exists():
        _same_request(settings.out, _request(settings, method, fit_options, adapter))
    return FitPlan(settings, model, method, fit_options, adapter)


def execute(plan: FitPlan, view: FitView) -> FitResult:
    """Carry out a fit, or go on with one that was interrupted; the adapter appears when it is complete.

    Raises
    ------
    UsageError
        Data without a usable example, a folder that holds another fit, no room on the disk.
    TrainingError
        If the loss is no number any more; checkpoints of before are kept.
    """
    settings, out = plan.settings, plan.settings.out
    request = _request(settings, plan.method, plan.options, plan.adapter)
    first = int(os.environ.get("RANK", "0")) == 0
    if not first:
        if (out / adapters.CARD).exists():  # the first process will see it too, and train nothing
            return FitResult(out, adapters.read_card(out), None)
        return _carry_out(plan, request, view, first)
    with RunFolder(out / TRAINING).open():
        if (out / TRAINING / REQUEST).exists():
            _same_request(out, request)
        if (out / adapters.CARD).exists():
            return FitResult(out, adapters.read_card(out), None)
        with writes(out, AGAIN):
            write_whole(out / TRAINING / REQUEST, json.dumps(request, indent=2) + "\n")
        return _carry_out(plan, request, view, first)


def _carry_out(plan: FitPlan, request: dict[str, Any], view: FitView, first: bool) -> FitResult:
    from ._util.environment import environment

    settings, out = plan.settings, plan.settings.out
    schedule = _schedule(settings, view if first else None)
    data = _data(plan, view)
    if data is not None and first:
        _same_data(out, data.facts)
    plan.method.announce = view.announce
    report = plan.method.fit(data, schedule, plan.options)
    if not first:
        return FitResult(out, {}, report)
    facts = {
        "request": request,
        "data": None if data is None else data.facts,
        "environment": environment(),
        "device": plan.model.device,
        "dtype": plan.model.dtype,
    }
    _write_curve(out, report)
    plan.method.save(out, facts)
    return FitResult(out, adapters.read_card(out), report)


def _schedule(settings: FitSettings, observer: FitObserver | None = None) -> Schedule:
    return Schedule(
        folder=settings.out / TRAINING,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        epochs=settings.epochs,
        max_steps=settings.max_steps,
        save_every=settings.save_every,
        seed=settings.seed,
        trainer=settings.trainer,
        observer=observer,
    )


def _data(plan: FitPlan, view: FitView) -> TrainingData | None:
    """The mixture; with several processes the first makes it and the others find it made."""
    settings = plan.settings
    if not settings.data:
        return None
    from accelerate import PartialState

    def build() -> TrainingData:
        with view.announce("reading data") as progress:
            return mixture.build(
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


def _own_device(device: str) -> str:
    """The device of this process among those started together: the one of its local rank."""
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or device not in ("auto", "cuda"):
        return device
    import torch

    return f"cuda:{rank}" if torch.cuda.is_available() else device


def _request(settings: FitSettings, method: Method, options: Options, adapter: Path | None) -> dict[str, Any]:
    """Everything that can change what is learned; JSON-ready."""
    return {
        "harness": __version__,
        "method": settings.method,
        "method_version": method.version,
        "options": method.options.model_dump(mode="json"),
        "given_options": settings.options,
        "fit_options": options.model_dump(mode="json"),
        "model": settings.model,
        "model_hash": method.model.content_hash,
        "dtype": method.model.dtype,
        "data": list(settings.data),
        "from_adapter": None if adapter is None else adapters.fingerprint(adapter),
        **{
            name: getattr(settings, name)
            for name in (
                "min_length",
                "max_length",
                "split_documents",
                "chat_prompts",
                "batch_size",
                "learning_rate",
                "warmup_steps",
                "epochs",
                "max_steps",
                "seed",
                "trainer",
            )
        },
    }


def _same_request(out: Path, request: dict[str, Any]) -> None:
    """Raise UsageError unless the fit in `out` was asked for in the same words."""
    try:
        before = json.loads((out / TRAINING / REQUEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = adapters.read_card(out).get("request", {})
    wanted = json.loads(json.dumps(request))
    names = {*wanted, *before} - {"given_options"}  # how it was typed makes no difference
    other = sorted(name for name in names if wanted.get(name) != before.get(name))
    if other:
        raise UsageError(
            f"{out} holds a fit with another {other[0].replace('_', ' ')} "
            f"({before.get(other[0])!r}, not {wanted.get(other[0])!r}); choose another --out or delete it"
        )


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
