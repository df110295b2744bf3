"""The half of `two_pass` that is known before a prompt is: how it will be read, and the calibration it needs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness import Decoding, TokenizedPrompt, UsageError
from harness.models import adapters

from ..beacon.adapter_card import Kind
from ..beacon.base import CondensingMethod
from ..beacon.form import settle
from ..beacon.ratios import RAW, capacity, entries, parse_ratio, smallest_ratio
from . import layers
from .allocation import Plan
from .options import TwoPassOptions

if TYPE_CHECKING:
    from harness.models.model import LanguageModel

    from ..beacon.engine import ActivationBeacon
    from .calibration import Calibration

OWN = "two_pass"
COMPRESSOR = "compressor"
"""Folder of a fitted adapter that holds the compressor's adapter."""

SHIPPED_CONTEXTS = (50, 12)
"""Contexts of the calibrations that ship: the thesis's 50 for up to 66 intervals, 12 for 125 to 128."""

TRAINED_UP_TO = 128
"""Highest ratio of the papers' training; allocation goes beyond it only where the first pass must."""

LEAST_FIRST = 8
"""Lowest ratio of the first pass where beacons start as the last token they stand for (ours).

The paper's is the lowest under which the prompt fits, so 2 for most. Over 14 passkeys in texts of 3,400 tokens,
window 2,048 and nothing trained, a first pass at ratio 8 led to the key in 13, one at ratio 2 in 10: the
calibration varies more at 8, and the allocation commits itself less. It also costs less.
"""


class CalibratedMethod(CondensingMethod):
    """Plans, fitting and calibrations of `two_pass`."""

    aims: ClassVar[bool] = True
    options: TwoPassOptions

    def __init__(self, model: LanguageModel, options: TwoPassOptions) -> None:
        super().__init__(model, options)
        self._first = None if options.first_ratio is None else parse_ratio(options.first_ratio)
        self._relevant = parse_ratio(options.relevant_ratio)
        self._calibrations: dict[int, Calibration] = {}
        self._fitted: dict[int, Calibration] = {}
        self._settle_layers()
        if options.interval is not None:  # else the adapter's has to be known first
            self.check_form()

    @property
    def kind(self) -> Kind:
        return self.options.compressor

    @property
    def asked_ratios(self) -> Sequence[int]:
        used = (self._first, self._relevant if self.options.top_k else None)
        return [r for r in used if r is not None]

    @cached_property
    def first_engine(self) -> ActivationBeacon:
        """The first pass's engine, and its calibration's: it adds all that was learned."""
        return self.engine if self.scale == 1 else self._engine(1)

    def forget(self) -> None:
        super().forget()
        self.__dict__.pop("first_engine", None)

    @property
    def adapter_methods(self) -> tuple[str, ...]:
        return (OWN, self.kind)

    def load(self, folder: Path) -> None:
        """An adapter of the compressor, or what `save` wrote: calibrations, and the compressor's adapter within."""
        from . import calibration

        card = adapters.check(folder, self.adapter_methods, self.model)
        self._calibrations, self._fitted = {}, {}
        if card["method"] != OWN:
            super().load(folder)
        else:
            if card.get("compressor") != self.kind:
                raise UsageError(
                    f"--adapter {folder}: calibrated for --compressor {card.get('compressor')}, not {self.kind}"
                )
            self._adapter = None
            self.forget()
            if (folder / COMPRESSOR).is_dir():
                super().load(folder / COMPRESSOR)
            self.options = settle(self._given, folder)  # its interval is the calibration's
            self.check_form()
            for name in card["files"]:
                text = (folder / name).read_text(encoding="utf-8")
                made = calibration.Calibration.from_json(text, folder / name)
                self._fitted[made.key["ratio"]] = made
        self._settle_layers()
        if lacking := [r for r in self.asked_ratios if r > 1 and r not in self.usable()]:
            there = ", ".join(str(r) for r in self.usable() if r != RAW)
            raise UsageError(f"--adapter {folder}: it has no expert for ratio {lacking[0]}, only for {there}")

    def _settle_layers(self) -> None:
        """Layers that count: as asked, else the calibration's that was loaded, else those recorded for the weights.

        All layers, the paper's way, are written down as None, as they were before there was a choice.
        """
        asked, there = self._given.first_layers, self.model.config.num_hidden_layers
        if asked is None and self.options.takes_layers and self._fitted:
            asked = next(iter(self._fitted.values())).key.get("layers")
        elif asked is None and self.options.takes_layers and self.adapter_hash is not None:
            asked = layers.recorded(self.adapter_hash)
        self.options = self.options.model_copy(
            update={"first_layers": None if asked == layers.ALL else asked}
        )
        listened = self.options.listened
        if listened is not None and listened[1] > there:
            raise UsageError(f"--first-layers {asked}: {self.model.name} has {there} layers")

    def context_limit(self) -> int | None:
        self.check_form()
        ratio = self._first or max(self.usable())
        return capacity(ratio, self.model.context_length, self.interval, self.sinks)

    def _first_ratio(self, tokens: int) -> int:
        """Ratio of the first pass over so many tokens, prompt and answer, that do not fit as they are."""
        known = [r for r in self.usable() if r != RAW]
        condensing = [r for r in known if r >= LEAST_FIRST and self.start == "last"] or known
        window = self.model.context_length
        return self._first or smallest_ratio(tokens, window, self.interval, condensing, self.sinks)

    def plan(self, tokens: int, new_tokens: int) -> Plan:
        """How a prompt of `tokens`, to be answered in at most `new_tokens`, will be read."""
        interval, total = self.interval, tokens + new_tokens
        intervals = max(0, tokens - 1 - self.sinks) // interval
        budget = self.model.context_length - self.sinks - interval
        fits = self.budget is None or tokens - 1 <= self.budget
        if total <= self.model.context_length and fits:
            return Plan(intervals, RAW, budget)
        first = self._first_ratio(total)
        while_answering = max(0, total - 1 - self.sinks) // interval - intervals
        budget -= while_answering * entries(first, interval)
        if self.budget is not None:  # where not even the highest ratio fits, that is what there is
            rest = max(0, tokens - 1 - self.sinks) - intervals * interval
            least = intervals * entries(self.highest(first), interval)
            budget = min(budget, max(self.budget - self.sinks - rest, least))
        return Plan(intervals, first, budget)

    def highest(self, first: int) -> int:
        """The highest ratio that may be allocated after a first pass by `first`."""
        return max(r for r in self.usable() if r <= max(TRAINED_UP_TO, first))

    def prepares(self, tokens: Sequence[int], decoding: Decoding) -> dict[str, int]:
        found: dict[str, int] = {}
        for ratio, numbers in self._needed([(n, decoding.max_new_tokens) for n in tokens]).items():
            key = self._key(ratio, self.options.calibration_contexts, None)
            known = self._known(ratio, numbers, key)
            if missing := numbers - set(known.mean if known else ()):
                # One reading of the longest context; beside it, for each number, half an interval.
                read = self.interval * (max(missing) + len(missing) // 2)
                found[f"{key} {sorted(missing)}"] = read * self.options.calibration_contexts
        return found

    def _needed(self, sizes: Sequence[tuple[int, int]]) -> dict[int, set[int]]:
        """Numbers of intervals there will be, by the first pass's ratio, for so many tokens read and still to come."""
        needed: dict[int, set[int]] = {}
        for total, after in sizes if self.options.retrieval == "attention" else ():
            plan = self.plan(total, after)
            if plan.first != RAW and plan.intervals:
                needed.setdefault(plan.first, set()).add(plan.intervals)
        return needed

    def prepare(self, prompts: Sequence[TokenizedPrompt], decoding: Decoding) -> None:
        """Load or compute the calibration for every first ratio and number of intervals that will occur."""
        super().prepare(prompts, decoding)
        later = [len(p.suffix_ids) if self.query_agnostic else 0 for p in prompts]
        sizes = [(len(p) - n, n + decoding.max_new_tokens) for p, n in zip(prompts, later)]
        for ratio, numbers in sorted(self._needed(sizes).items()):
            self._calibrations[ratio] = self._calibration(ratio, numbers)

    def _calibration(self, ratio: int, numbers: set[int]) -> Calibration:
        from . import calibration

        key = self._key(ratio, self.options.calibration_contexts, None)
        known = self._known(ratio, numbers, key)
        missing = numbers - set(known.mean if known else ())
        if known and not missing:
            return known
        with self.announce(f"calibrating ratio {ratio} for {sorted(missing)} intervals") as progress:
            made = calibration.calibrate(
                self.model,
                self.first_engine,
                key,
                ratio,
                sorted(missing),
                self.options.calibration_contexts,
                progress,
                layers=self.options.listened,
            )
        if known:  # made for the same key, other numbers
            made.mean, made.std = {**known.mean, **made.mean}, {**known.std, **made.std}
        calibration.store(made)
        return made

    def _known(self, ratio: int, numbers: set[int], key: dict[str, Any]) -> Calibration | None:
        """The calibration there is for a ratio: the adapter's if it serves all `numbers`, else one made before.

        One of `SHIPPED_CONTEXTS` serves whoever asks for no more, if it has all the numbers.
        """
        from . import calibration

        fitted = self._fitted.get(ratio)
        if fitted is not None and fitted.serves(self._key(ratio, fitted.contexts, None), numbers):
            return fitted
        more = [{**key, "contexts": n} for n in SHIPPED_CONTEXTS if n > key["contexts"]]
        before = self._calibrations.get(ratio)
        for each in (*more, key):
            known = before if before is not None and before.key == each else calibration.load(each)
            if known is not None and numbers <= set(known.mean):
                return known
        return calibration.load(key)

    def _key(self, ratio: int, contexts: int, text: str | None) -> dict[str, Any]:
        """What a calibration's numbers depend on; `text` names data of the user's own.

        Not the type and the device it was computed in: they move it by far less than one context more would.
        """
        from . import calibration_text

        return {
            "text": text or calibration_text.text_fingerprint(),
            "model": self.model.content_hash,
            "tokenizer": self.model.tokenizer_hash,
            "beacon_weights": self.adapter_hash,
            **self.options.model_dump(include={"interval", "start", "sinks"}),
            "ratio": ratio,
            "contexts": contexts,
            **({} if self.options.first_layers is None else {"layers": self.options.first_layers}),
        }

    def facts(self) -> dict[str, Any]:
        calibration = {
            str(ratio): {
                "file": c.name,
                "contexts": c.contexts,
                "intervals": sorted(c.mean),
                "hash": c.content_hash,
            }
            for ratio, c in self._calibrations.items()
        }
        return {**super().facts(), "calibration": calibration or None}
