"""Checks of what a method leaves behind: on the model, in the process, in memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from ._likelihoods import SHORTEST, alone
from ._results import Failed
from ._snapshot import differences, modules, new_tensors
from ._snapshot import weights as weights_of
from ._trial import Trial

SAMPLES, WARM, TRACED = 20, 8, 2
"""Samples in a row; after how many memory has to stand still; and how many are traced, twice, which is slow.

All are even: samples are long and short by turns, so that what is counted last follows a sample of the same kind.
"""

SHORT = 0.3
"""Length of a short sample, as a share of a long one: what is long for a method is read in another way."""

LEAST = 150
"""Tokens a short sample has at least: room for its instruction and question."""

GROWTH = 1.5
"""Held memory may differ by so much between samples of nearly the same length; a leak grows by more."""

ALLOWED = 16 * 1024
"""Bytes of Python objects that each traced sample may leave: what libraries keep."""


@dataclass(frozen=True)
class Traces:
    """Names of what was not as before once samples had been answered."""

    weights: list[str]
    modules: list[str]
    process: list[str]


def traces(trial: Trial) -> Traces:
    """What answers leave behind, alone and in a batch; looked for once for all checks."""
    known = trial.shared.get("traces")
    if isinstance(known, Traces):
        return known
    _ = trial.in_a_row, trial.together
    with suppress(Exception):  # what fails here is for the checks of likelihoods to say
        alone(trial, SHORTEST)
    model = trial.model
    found = Traces(
        differences(trial.weights_before, weights_of(model.network)),
        differences(trial.modules_before, modules(model)),
        list(dict.fromkeys(trial.process_changed)),
    )
    trial.shared["traces"] = found
    return found


def weights(trial: Trial) -> str:
    """The model's parameters and buffers are, bit for bit, what they were."""
    if changed := traces(trial).weights:
        raise Failed(
            f"answering changed the model's weights: {_some(changed)}; never write into a parameter or buffer, "
            "work on copies"
        )
    return f"{len(trial.weights_before)} tensors"


def left_on_modules(trial: Trial) -> str:
    """Nothing is left on the model: hooks, attributes, modes, settings, tokenizer."""
    if changed := traces(trial).modules:
        raise Failed(
            f"answering left something on the model: {_some(changed)}; take it off again in the same call "
            "(try ... finally), or pass it as an argument of the forward pass"
        )
    return ""


def left_in_process(trial: Trial) -> str:
    """Settings that torch, transformers, numpy and Python share are what they were."""
    if changed := traces(trial).process:
        raise Failed(
            f"answering changed what the whole process shares: {_some(changed)}; use a generator of your own "
            "for what is random, and torch.no_grad() as a block"
        )
    return ""


def memory(trial: Trial) -> str:
    """Memory does not grow with the samples."""
    size = len(trial.prompts[0])
    sizes = (size, min(size, max(LEAST, int(SHORT * size))))
    prompts = [trial.prompt(sizes[number % 2], 100 + number) for number in range(SAMPLES)]
    method = trial.fresh(prompts)
    ask = partial(trial.ask, method)
    ask(prompts[:1])
    with new_tensors() as alive:
        for prompt in prompts[1:WARM]:
            ask([prompt])
        before = alive()
        for prompt in prompts[WARM : -2 * TRACED]:
            ask([prompt])
        kept = []
        with _traced() as grown:
            for part in (prompts[-2 * TRACED : -TRACED], prompts[-TRACED:]):
                for prompt in part:
                    ask([prompt])
                after = alive()
                kept.append(grown())
    if after > GROWTH * before + ALLOWED:
        raise Failed(
            f"{after - before:,} bytes of tensors stayed alive over {SAMPLES - WARM} samples; let go of caches and "
            "hidden states when the answer is there (a list on the method? a closure? a cache by prompt?)"
        )
    others = min(kept[0], kept[1] - kept[0])  # what comes once is a library's cache
    if others > ALLOWED * TRACED:
        raise Failed(
            f"{others:,} bytes of Python objects stayed alive over {TRACED} samples; keep nothing of them"
        )
    return f"{SAMPLES} samples"


@contextmanager
def _traced() -> Iterator[Callable[[], int]]:
    """Gives a function that says how many bytes were allocated since and are still there."""
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] - start
    finally:
        if not running:
            tracemalloc.stop()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
