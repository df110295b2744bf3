"""Fitting `two_pass`: its calibration, and the layers that count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness import Options, UsageError
from harness.contracts.fit import FitReport
from harness.models import adapters

from .calibrated import COMPRESSOR, OWN, CalibratedMethod
from .options import TwoPassFitOptions

if TYPE_CHECKING:
    from harness.contracts.fit import Schedule, TrainingData


class FittedMethod(CalibratedMethod):
    """What `fit` measures, chooses and saves."""

    FitOptions: ClassVar[type[Options]] = TwoPassFitOptions
    fit_trial: ClassVar[Mapping[str, Any]] = {"intervals": "1-3", "contexts": 2}
    needs_data = False

    def fit(self, data: TrainingData | None, schedule: Schedule, options: Any) -> FitReport:
        """Measure the natural attention for each number of intervals, each under the ratio it would be read by."""
        from . import calibration, calibration_text

        source = None if data is None else calibration_text.DataContexts(data, schedule.seed)
        chosen = self._choose_layers(options) if options.choose_layers else {}
        for ratio, numbers in sorted(self._wanted(options).items()):
            key = self._key(ratio, options.contexts, None if source is None else source.fingerprint)
            with self.announce(
                f"calibrating ratio {ratio} for {len(numbers)} numbers of intervals"
            ) as progress:
                self._fitted[ratio] = calibration.calibrate(
                    self.model,
                    self.first_engine,
                    key,
                    ratio,
                    sorted(numbers),
                    options.contexts,
                    progress,
                    source,
                    self.options.listened,
                )
        measured = {str(r): sorted(c.mean) for r, c in self._fitted.items()}
        self._learned = {"calibrated": measured, "contexts": options.contexts, **chosen}
        return FitReport(0, None, facts=self._learned)

    def _choose_layers(self, options: TwoPassFitOptions) -> dict[str, Any]:
        """Listen to the layers that find planted facts best from now on; what a card says of it."""
        from . import planted

        number = max(options.numbers_of(options.intervals))
        ratio = self._first_ratio(self.sinks + (number + 1) * self.interval)
        contexts = min(planted.CONTEXTS, options.contexts)
        with self.announce(f"choosing layers by {options.choose_layers} planted facts") as progress:
            found = planted.choose(
                self.model, self.first_engine, ratio, number, options.choose_layers, contexts, progress
            )
        every = f"1-{self.model.config.num_hidden_layers}"
        taken = None if found.layers == every else found.layers
        self.options = self.options.model_copy(update={"first_layers": taken})
        return {"chosen_layers": asdict(found)}

    def check_fit(self, options: Any) -> None:
        self._refuse_scale()
        if options.choose_layers and not (self.options.takes_layers and self._given.first_layers is None):
            raise UsageError(
                "--choose-layers: leave out --first-layers, --reuse and other --retrieval than attention"
            )
        if options.choose_layers and max(options.numbers_of(options.intervals)) < 2:
            raise UsageError("--choose-layers: --intervals must name 2 or more, or there is nothing to find")
        self._wanted(options)

    def check_sharded(self, options: Any) -> None:
        raise UsageError(
            "--shard-base: two_pass learns nothing that processes could share: each would calibrate all for itself"
        )

    def _wanted(self, options: TwoPassFitOptions) -> dict[int, set[int]]:
        """Numbers of intervals to calibrate for, by the ratio the first pass would have."""
        wanted: dict[int, set[int]] = {}
        for number in options.numbers_of(options.intervals):
            tokens = self.sinks + (number + 1) * self.interval
            limit = self.context_limit()
            if limit is not None and tokens > limit:
                raise UsageError(
                    f"--intervals: {number} intervals are {tokens} tokens, but at most {limit} can be read"
                )
            ratio = self._first_ratio(tokens)
            wanted.setdefault(ratio, set()).add(number)
        return wanted

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        if self._adapter is not None:
            adapters.copy(self._adapter, folder / COMPRESSOR)
        texts = {f"calibration-{ratio}.json": c.to_json() for ratio, c in self._fitted.items()}
        own = {"compressor": self.kind, "interval": self.interval, "start": self.start, "sinks": self.sinks}
        adapters.write(folder, OWN, self.model, {}, {**facts, **self._learned, **own}, texts)
