"""Checks of methods that learn: what a fit may change, and that what was learned survives on the disk."""

from __future__ import annotations

import copy
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts.fit import FitReport, Schedule
from ..errors import UsageError
from ..evaluation.collecting import writable
from ._answers import same
from ._data import examples
from ._results import Failed, NotApplicable
from ._snapshot import differences, modules, settings, weights
from ._trial import Trial

if TYPE_CHECKING:
    from ..contracts.method import Method
    from ..models.model import LanguageModel

SUFFIXES = (".safetensors", ".json", ".md")
"""What an adapter folder may hold: weights, facts, and a page about them."""

ASKED = (0, 2)
"""Prompts asked before and after: the shortest and the longest."""


@dataclass
class Fitted:
    """A method that has learned, the report of it, and the model it learned on, which no other check uses."""

    method: Method
    model: LanguageModel
    report: FitReport
    changed: list[str]


def fitted(trial: Trial) -> Fitted:
    """Fit once for all checks. Raises NotApplicable for a method that does not learn."""
    if not trial.cls.trainable:
        raise NotApplicable("it is not trainable")
    known = trial.shared.get("fitted")
    if isinstance(known, Fitted):
        return known
    model = trial.find()
    method = trial.cls(model, trial.options)
    if trial.adapter is not None:
        method.load(trial.adapter)
    options = trial.cls.FitOptions.parse(
        {**trial.cls.fit_trial, **trial.fit_options}, f"fit of method {trial.name}"
    )
    method.check_fit(options)
    # The first answers make sure that whatever transformers sets up on a model is there.
    other = trial.cls(model, trial.options)
    other.prepare(trial.prompts[:1], trial.decoding)
    trial.ask(other, trial.prompts[:1])
    data = examples(model, trial.cls.needs_data)
    learned_from = copy.deepcopy(data)
    schedule = Schedule(trial.folder / "training", batch_size=2, max_steps=2, learning_rate=1e-3)
    before = _given(model)
    report = method.fit(data, schedule, options)
    after = _given(model)
    changed = differences(before, after) + ([] if data == learned_from else ["the training data"])
    found = Fitted(method, model, report, changed)
    trial.shared["fitted"] = found
    return found


def _given(model: LanguageModel) -> dict[str, Any]:
    """What a fit must leave alone; the random generators it may seed, as training everywhere does."""
    return {**weights(model.network), **modules(model), **settings()}


def fit(trial: Trial) -> str:
    """A fit changes the method it was asked of and its folder, and nothing else."""
    found = fitted(trial)
    report = found.report
    if found.changed:
        raise Failed(
            f"the fit changed what it was given: {', '.join(found.changed[:3])}; train parameters of your own, "
            "leave the base model's frozen, and set settings of the process back"
        )
    if not isinstance(report, FitReport) or report.steps < 0:
        raise Failed(f"fit returned {report!r}; return harness.contracts.fit.FitReport")
    if report.loss is not None and not math.isfinite(report.loss):
        raise Failed(
            f"the loss of the fit is {report.loss}; raise harness.training.trainer.TrainingError instead"
        )
    try:
        writable(report.facts)
    except (TypeError, ValueError) as error:
        raise Failed(f"the report's facts cannot be written as JSON ({error})") from None
    for index in ASKED:
        same(
            trial,
            trial.first[index],
            trial.alone(trial.prompts[index]),
            "asked of a method that was not fitted after another was",
            "keep what is learned on the instance, not on the class or the module",
        )
    if report.steps and not _learned(trial, found):
        raise Failed(
            f"after {report.steps} steps every logit is what it was without them, to the last bit; let the method "
            "answer with what it learned"
        )
    return f"{report.steps} steps"


def _learned(trial: Trial, found: Fitted) -> bool:
    """Whether anything is otherwise than before the fit; the prompts together use whatever may have been trained."""
    method = found.method
    method.prepare(trial.prompts, trial.decoding)
    for prompt, first in zip(trial.prompts, trial.first):
        seen = trial.watch(method, prompt)
        if seen.tokens != first.tokens or not seen.logits or len(seen.logits) != len(first.logits):
            return True
        if any(bool((a != b).any()) for a, b in zip(first.logits, seen.logits)):
            return True
    return False


def save(trial: Trial) -> str:
    """What was learned answers the same once it was saved and loaded."""
    learned = fitted(trial)
    folder = trial.folder / "adapter"
    learned.method.save(folder, {"checked": True})
    _safe(folder)
    with suppress(Exception):  # not every method has something to save before it has learned
        trial.cls(trial.find(), trial.options).save(trial.folder / "unlearned", {})
    model = trial.find()
    loaded = trial.cls(model, trial.options)
    loaded.load(folder)
    if "network" in vars(model):
        raise Failed(
            "load reads the model's weights; check the folder there, and read what is in it on first use"
        )
    advice = "save all that was learned, unrounded (fit_trial can say so for this check)"
    for method in (learned.method, loaded):
        method.prepare(trial.prompts, trial.decoding)
    for index in ASKED:
        one, other = (trial.watch(method, trial.prompts[index]) for method in (learned.method, loaded))
        same(trial, one, other, "asked after save and load", advice)
        if one.generation.kv_tokens != other.generation.kv_tokens:
            raise Failed(
                f"{one.generation.kv_tokens} KV entries are kept when it has just been fitted, and "
                f"{other.generation.kv_tokens} after save and load; {advice}"
            )
    empty = trial.folder / "empty"
    empty.mkdir(exist_ok=True)
    try:
        trial.cls(model, trial.options).load(empty)
    except UsageError:
        return ", ".join(sorted(p.name for p in folder.rglob("*") if p.is_file())[:4])
    raise Failed(
        "load takes an empty folder for an adapter; let harness.models.adapters.check look at it first"
    )


def _safe(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not files:
        raise Failed(
            "save wrote nothing; write into the folder it is given, by harness.models.adapters.write"
        )
    if bad := [path.name for path in files if path.suffix not in SUFFIXES]:
        raise Failed(f"save wrote {', '.join(bad[:3])}; write safetensors and JSON only")
