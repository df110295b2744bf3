"""The natural attention over intervals, whatever the context says: what relevance is held against.

A model attends more to the first and the last interval than to the middle, relevant or not. For each
number of intervals, the mean and standard deviation of the attention each interval gets on contexts of no
particular interest tell how surprising an observed attention is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import UsageError
from harness._util import artifacts

from .calibration_text import TEXT_VERSION, DataContexts, context

if TYPE_CHECKING:
    from harness.models import LanguageModel

    from ..beacon.engine import ActivationBeacon


AT_ONCE = 25
"""Contexts read in one batch on a GPU, where launching a pass costs more than computing it."""


@dataclass
class Calibration:
    """Mean and standard deviation of the normalised attention, for each number of intervals.

    Attributes
    ----------
    key
        What the numbers depend on: model, beacon weights, interval, start, sinks, ratio, text.
    contexts
        How many contexts they were computed on.
    mean, std
        ``{number of intervals: [value of interval 0, 1, ...]}``; the standard deviation is the population's.
    """

    key: dict[str, Any]
    contexts: int
    mean: dict[int, list[float]] = field(default_factory=dict)
    std: dict[int, list[float]] = field(default_factory=dict)

    @property
    def content_hash(self) -> str:
        """Twelve hex digits over the numbers: what a run that used them can be held against."""
        rows = json.dumps([sorted(self.mean.items()), sorted(self.std.items())])
        return hashlib.sha256(rows.encode()).hexdigest()[:12]

    def serves(self, key: dict[str, Any], numbers: set[int]) -> bool:
        """Whether it holds all `numbers` for that key, its text aside: who names a fitted one wants that one.

        Earlier versions put the type and the device into the key.
        """
        aside = ("text", "contexts", "dtype", "device")
        mine, asked = ({n: v for n, v in k.items() if n not in aside} for k in (self.key, key))
        return mine == asked and numbers <= set(self.mean)

    @property
    def name(self) -> str:
        """The file name it is stored under: a hash of its key."""
        return file_name(self.key)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str, where: Path) -> Calibration:
        """Raises UsageError, naming the file, if it is damaged."""
        try:
            raw = json.loads(text)
            mean, std = ({int(n): v for n, v in raw[side].items()} for side in ("mean", "std"))
            if any(len(mean[n]) != n or len(std[n]) != n for n in mean):
                raise ValueError("a row has the wrong length")
            return cls(raw["key"], int(raw["contexts"]), mean, std)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"calibration {where} is damaged ({error}); delete it to have it made anew"
            ) from None


def file_name(key: dict[str, Any]) -> str:
    """Name of the file for a key."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24] + ".json"


def load(key: dict[str, Any]) -> Calibration | None:
    """The calibration for `key` from the cache or from what ships with the harness; None if there is none."""
    path = artifacts.find("calibrations", file_name(key))
    return None if path is None else Calibration.from_json(path.read_text(encoding="utf-8"), path)


def store(calibration: Calibration) -> Path:
    """Put a calibration into the cache, whole or not at all."""
    return artifacts.store("calibrations", calibration.name, calibration.to_json())


def calibrate(
    model: LanguageModel,
    engine: ActivationBeacon,
    key: dict[str, Any],
    ratio: int,
    numbers: Sequence[int],
    contexts: int,
    progress: Callable[[int, int], None] | None = None,
    source: DataContexts | None = None,
    layers: tuple[int, int] | None = None,
) -> Calibration:
    """Measure the natural attention for each number of intervals in `numbers`.

    One reading of the longest context serves every smaller number too: at each of its borders a branch
    reads a random part of the next interval and a question, and the last token's attention is taken. The
    text is a user's turn in the model's chat template (if it has one), whatever the task later does; `source`
    gives other text than our own, `layers` the first layer that counts and one more than the last, in place of all.
    """
    import torch

    from harness.inference.forward import shallow

    from ..beacon.reading import Reading
    from .relevance import attended

    wanted = sorted(set(numbers))
    seen: dict[int, list[list[float]]] = {n: [] for n in wanted}
    size = AT_ONCE if torch.device(model.device).type == "cuda" else 1
    for first in range(0, contexts, size):
        drawn = range(first, min(contexts, first + size))
        texts = [context(model, engine.end_of(wanted[-1] + 1), number, source) for number in drawn]
        states = [Reading() for _ in drawn]
        for n in wanted:
            start, stop = engine.end_of(len(states[0].ratios)), engine.end_of(n)
            tails = []
            for number, (ids, asked) in zip(drawn, texts):
                # The draw depends on n alone, so that numbers computed together or apart are the same.
                room = np.random.default_rng([number, n, TEXT_VERSION]).integers(
                    max(1, engine.interval - len(asked))
                )
                tails.append([*ids[stop : stop + int(room)], *asked][-engine.interval :])
            with torch.no_grad(), shallow(model.network, None if layers is None else layers[1]):
                states = engine.read(states, [ids[start:stop] for ids, _ in texts], lambda row, window: ratio)
            _, probe = attended(engine, states, tails, lambda row, window: ratio, layers)
            seen[n] += probe.relevance()
            if progress is not None:
                progress(first * wanted[-1] + n * len(drawn), contexts * wanted[-1])
    made = Calibration(key, contexts)
    for n, rows in seen.items():
        made.mean[n] = np.mean(rows, axis=0).tolist()
        made.std[n] = np.std(rows, axis=0).tolist()
    return made
