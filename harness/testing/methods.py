"""The conformance suite of methods: what each check proves, and how to run them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts.method import Method
from ..errors import UsageError
from ._answers import answers, batch, decoding, every_sample, order, repeat
from ._contract import before_weights, contract, limit, options
from ._cost import declared, phases
from ._dependence import dependence
from ._disk import disk
from ._identity import identity
from ._leaks import left_in_process, left_on_modules, memory, weights
from ._learning import fit, save
from ._likelihoods import as_generated, likelihood
from ._positions import positions
from ._results import Check, CheckResult, NotApplicable, Suite
from ._trial import Trial, scratch_cache
from ._two_phase import question, share_key, shared_state, two_phase

if TYPE_CHECKING:
    from ..models.model import LanguageModel
    from ..options import Options

ANSWERS = ("answers",)
STEADY = ("answers", "repeat")
ALONE = (*STEADY, "order", "batch", "declared")

METHOD_CHECKS: tuple[Check[Trial], ...] = (
    Check("contract", "the class says what the contract asks for", contract),
    Check("options", "options out of range are refused", options, ("contract",)),
    Check("before-weights", "what a run asks first needs no weights", before_weights),
    Check("answers", "answers have the shapes and types of the contract", answers, ("contract",)),
    Check("every-sample", "each of three samples in a row is compressed", every_sample, ANSWERS),
    Check("repeat", "the same prompt gets the same answer", repeat, (*ANSWERS, "every-sample")),
    Check("decoding", "answers are as long as they may be, and stop where they must", decoding, STEADY),
    Check("question", "compression sees the question only if it says so", question, STEADY),
    Check("order", "answers do not depend on what was asked before", order, (*STEADY, "question")),
    Check("batch", "a batch gets the answers its samples get alone", batch, STEADY),
    Check("declared", "declared compression is what was measured", declared, ANSWERS),
    Check("phases", "the model's time is booked as compression, prefill or decoding", phases, ANSWERS),
    Check("identity", "where nothing is condensed, the answer is the model's own", identity, STEADY),
    Check(
        "dependence", "every token of the context can make a difference", dependence, (*STEADY, "question")
    ),
    Check("positions", "entries stand where the answer expects them", positions, STEADY),
    Check("likelihood", "a log-likelihood does not depend on what else is asked", likelihood, ALONE),
    Check("as-generated", "log-likelihoods are those of its own answers", as_generated, ("likelihood",)),
    Check("limit", "context_limit is honoured", limit, ANSWERS),
    Check(
        "two-phase",
        "compress and generate agree with compress_and_generate",
        two_phase,
        (*STEADY, "question"),
    ),
    Check("shared-state", "one state serves two questions and stays intact", shared_state, STEADY),
    Check("share-key", "equal share keys, equal states", share_key, STEADY),
    Check("weights", "parameters are bit for bit what they were", weights, ANSWERS),
    Check("modules", "no hook, attribute or setting stays on the model", left_on_modules, ANSWERS),
    Check("process", "no global setting or random state is changed", left_in_process, ANSWERS),
    Check("memory", "memory does not grow over 20 samples", memory, ANSWERS),
    Check("disk", "what is kept on disk decides no answer", disk, STEADY),
    Check("fit", "a fit changes only what it says", fit, STEADY),
    Check("save", "save and load give the same answers", save, (*STEADY, "fit")),
)
"""Every check of a method, in the order in which they are run."""


UNSEEN = frozenset("every-sample question declared phases identity positions likelihood as-generated".split())
"""Checks that look at how an answer is made: there is nothing to see where a method is remote."""


def method_suite(
    method: str | type[Method],
    options: Mapping[str, Any] | None = None,
    *,
    fit_options: Mapping[str, Any] | None = None,
    adapter: Path | None = None,
    model: Callable[[], LanguageModel] | None = None,
    strict: bool = False,
    budget: int | str | None = None,
    checks: Sequence[Check[Trial]] = METHOD_CHECKS,
) -> Suite[Trial]:
    """The checks of a method, ready to be run one by one; see `check_method` for the parameters.

    Raises
    ------
    UsageError
        For an unknown method, or options it refuses.
    """
    from .. import registry

    if isinstance(method, str):
        name, cls = method, registry.method(method).cls
    else:
        name, cls = registry.snake_case(method.__name__), method
    parsed = cls.Options.parse(options or {}, f"method {name}")
    held: tempfile.TemporaryDirectory[str] = tempfile.TemporaryDirectory(prefix="harness-check-")
    folder = Path(held.name)

    def trial() -> Trial:
        find = model or _roomy(cls, parsed)
        made = Trial(name, cls, parsed, find, folder, adapter, dict(fit_options or {}), strict=strict)
        made.budget = budget
        made.shared["folder"] = held  # deleted with the trial
        return made

    return Suite([_within(check, folder / "cache") for check in checks], trial)


def check_method(
    method: str | type[Method],
    options: Mapping[str, Any] | None = None,
    *,
    only: Sequence[str] = (),
    **more: Any,
) -> list[CheckResult]:
    """Try a method on a tiny model, check by check.

    Parameters
    ----------
    method
        A name that `harness list methods` shows, or the class.
    options
        Its options, as strings or values; the defaults if nothing is said.
    only
        Names of checks (see `METHOD_CHECKS`); all if none is named. What they build on runs too.
    more
        ``fit_options``: how to learn, in place of the method's `fit_trial`. ``adapter``: a folder it loads
        first. ``strict``: an answer of which something was not seen fails. ``budget``: as ``harness run --budget``.
        ``model``: a function that makes the model, weights unread, in place of a `tiny_model` with a window the
        method's options fit.

    Returns
    -------
    list of CheckResult
        In the suite's order.

    Raises
    ------
    UsageError
        For an unknown method or check, or options it refuses.
    """
    suite = method_suite(method, options, **more)
    return [suite.result(name) for name in suite.select(only)]


def _roomy(cls: type[Method], options: Options) -> Callable[[], LanguageModel]:
    """Makes tiny models with the smallest of `WINDOWS` that the method takes with these options."""
    from .tiny import WINDOWS, tiny_model

    for window in WINDOWS:
        try:
            cls(tiny_model(window), options).context_limit()
        except UsageError:
            continue
        except Exception:  # for the checks to say
            break
        return partial(tiny_model, window)
    return tiny_model


def _within(check: Check[Trial], cache: Path) -> Check[Trial]:
    def run(trial: Trial) -> str:
        if trial.cls.remote and check.name in UNSEEN:
            raise NotApplicable("its answers come from elsewhere: how they are made cannot be seen")
        with scratch_cache(cache):
            return check.run(trial)

    return replace(check, run=run)
