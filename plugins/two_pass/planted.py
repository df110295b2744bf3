"""Facts planted in calibration text, and which layers' attention finds them.

Ours: the thesis takes the mean over all layers. On SmolLM2-135M-Instruct most layers give a long text's intervals the
attention they always give, and the few that look for what is asked are drowned.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness import UsageError

from . import calibration_text
from .allocation import CLAMP, smooth_z_scores

if TYPE_CHECKING:
    from harness.models import LanguageModel

    from ..beacon.engine import ActivationBeacon

FACTS = (
    ("The {a} {n} was sold to the {w} for nothing.", "To whom was the {a} {n} sold?"),
    ("It took {y} days to mend the {a} {n}.", "How many days did it take to mend the {a} {n}?"),
    ("Only a {w} can open the {a} {n}.", "What can open the {a} {n}?"),
    ("Page {y} is where the {a} {n} is drawn.", "On which page is the {a} {n} drawn?"),
)
"""What is planted, and what is then asked; ``w`` and ``y`` answer, and stand nowhere else in the text."""

BORDER = re.compile(r"\n|(?<=[.?]) ")
"""Where a sentence or a line ends."""

CONTEXTS = 12
"""Contexts that nothing is asked of: the deviation is one for all intervals, so that a dozen will do."""

TRIES = 20
"""How often a fact that would stand across the border of two intervals is planted elsewhere."""


@dataclass(frozen=True)
class Chosen:
    """Layers whose attention finds planted facts best, and how well.

    Attributes
    ----------
    layers
        As ``13-18``, counted from 1.
    margin, rank, all_margin, all_rank
        What `Found` says of these layers, and of all.
    facts, contexts, intervals
        How many facts were planted, on how many contexts the calibration was made, and how long the texts were.
    """

    layers: str
    margin: float
    rank: float
    all_margin: float
    all_rank: float
    facts: int
    contexts: int
    intervals: int


def planted(
    model: LanguageModel, engine: ActivationBeacon, intervals: int, number: int, count: int
) -> tuple[list[int], int]:
    """Token ids of prompt `number` of `count`, whose facts are spread over the intervals, and its fact's interval.

    Raises
    ------
    UsageError
        If no place for the fact is found within one interval.
    """
    adjectives, nouns = calibration_text.words()
    rng = np.random.default_rng([number, intervals, calibration_text.TEXT_VERSION, 3])
    size = _read(engine, intervals)
    text = calibration_text.plain_text(model, size, number)
    ends = [0, *(match.end() for match in BORDER.finditer(text))]
    held = len(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    # Every form comes in every kind of text.
    form, asked = FACTS[number // len(calibration_text.KINDS) % len(FACTS)]
    for _ in range(TRIES):
        a, n, w = (str(words[int(rng.integers(len(words)))]) for words in (adjectives, nouns, nouns))
        filled = {"a": a, "n": n, "w": w, "y": str(rng.integers(2000, 10000))}
        fact, answer = form.format(**filled), filled["w" if "{w}" in form else "y"]
        if answer in text or n in text.split():
            continue
        aim = (number + rng.random()) / count * engine.end_of(intervals) / held * len(text)
        at = min(ends, key=lambda end: abs(end - aim))
        whole = f"{text[:at]}{fact}{text[at - 1] if at else ' '}{text[at:]}"
        head, suffix = calibration_text.asked_of(model, whole, asked.format(**filled))
        head = head[:size]
        for k in range(intervals):
            own = head[0 if k == 0 else engine.end_of(k) : engine.end_of(k + 1)]
            if fact in model.tokenizer.decode(own):
                return head + suffix, k
    raise UsageError(
        f"no fact of {engine.interval} tokens at most could be planted in a text of {intervals} intervals; "
        "raise --interval"
    )


def shares(engine: ActivationBeacon, ids: list[int], intervals: int, ratio: int) -> NDArray[np.float64]:
    """What each layer gives each of the first `intervals` ``[layers, intervals]``, asked by the last token."""
    from ..beacon.reading import Reading
    from .relevance import attended

    _, probe = attended(engine, [Reading()], [ids], lambda row, window: ratio)
    [found] = probe.by_layer()
    return found.numpy()[:, :intervals]


@dataclass(frozen=True)
class Found:
    """How well a range of layers finds planted facts.

    Attributes
    ----------
    margin
        By how many standard deviations the fact's interval is above the best other one, no more than allocation makes
        of it (`CLAMP`) either way; the mean over facts.
    rank
        Mean reciprocal rank of the fact's interval: 1 if it is always first.
    """

    margin: float
    rank: float


def best(
    natural: NDArray[np.float64], asked: NDArray[np.float64], places: NDArray[np.int64]
) -> tuple[tuple[int, int], dict[tuple[int, int], Found]]:
    """The range of layers that sets the facts' intervals off best, and how well every range does.

    Parameters
    ----------
    natural
        ``[contexts, layers, intervals]``: attention where nothing is asked for.
    asked
        ``[facts, layers, intervals]``: attention where a planted fact is.
    places
        ``[facts]``: the interval of each fact.

    Returns
    -------
    tuple of int
        The first layer, counted from 0, and one more than the last: of the highest margin. Of equals the one that ends
        first, since the first pass need not read further, and of these the widest, which leaves least to chance.
    dict
        For each range what it finds.
    """
    layers, facts = natural.shape[1], np.arange(len(places))
    sums = [np.concatenate([np.zeros_like(x[:, :1]), x.cumsum(axis=1)], axis=1) for x in (natural, asked)]
    scores: dict[tuple[int, int], Found] = {}
    for first, stop in combinations(range(layers + 1), 2):
        rest, probes = (x[:, stop] - x[:, first] for x in sums)
        rest, probes = (x / x.sum(axis=1, keepdims=True) for x in (rest, probes))
        mean, std = rest.mean(axis=0), rest.std(axis=0)
        z = np.array([smooth_z_scores(row, mean, std) for row in probes])
        own = z[facts, places].copy()
        ranks = (z >= own[:, None]).sum(axis=1)
        z[facts, places] = -np.inf
        margins = np.clip(own - z.max(axis=1), -CLAMP, CLAMP)
        scores[first, stop] = Found(float(margins.mean()), float((1 / ranks).mean()))
    return max(scores, key=lambda r: (round(scores[r].margin, 6), -r[1], -r[0])), scores


def choose(
    model: LanguageModel,
    engine: ActivationBeacon,
    ratio: int,
    intervals: int,
    facts: int,
    contexts: int,
    progress: Callable[[int, int], None] | None = None,
) -> Chosen:
    """Plant `facts` facts in texts of so many intervals, and take the layers that find them best.

    Raises
    ------
    UsageError
        If no place for a fact is found.
    """
    natural, asked, places = [], [], []
    size = _read(engine, intervals)
    for number in range(contexts):
        ids, question = calibration_text.context(model, size, number)
        natural.append(shares(engine, ids[:size] + question, intervals, ratio))
        if progress is not None:
            progress(number + 1, contexts + facts)
    for number in range(facts):
        ids, place = planted(model, engine, intervals, number, facts)
        asked.append(shares(engine, ids, intervals, ratio))
        places.append(place)
        if progress is not None:
            progress(contexts + number + 1, contexts + facts)
    (first, stop), scores = best(np.array(natural), np.array(asked), np.array(places))
    own, every = scores[first, stop], scores[0, natural[0].shape[0]]
    layers = f"{first + 1}-{stop}"
    return Chosen(layers, own.margin, own.rank, every.margin, every.rank, facts, contexts, intervals)


def _read(engine: ActivationBeacon, intervals: int) -> int:
    """Tokens of a text of so many intervals: half of one more is open, as it is on the average."""
    return int(engine.end_of(intervals)) + engine.interval // 2
