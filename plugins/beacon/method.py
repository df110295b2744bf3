"""`beacon`: Activation Beacon v1, each full interval condensed into fewer key-value entries.

Source: Zhang et al., "Soaring from 4K to 400K: Extending LLM's Context with Activation Beacon",
arXiv 2401.03462 (v1, January 2024). Condensed entries replace the raw ones: memory is really saved.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness import Decoding, Generation, Options, UsageError

from .base import CondensingMethod
from .options import BeaconOptions
from .ratios import RAW, capacity, held, parse_ratio, smallest_ratio, usable

if TYPE_CHECKING:
    from harness.models import LanguageModel

    from .reading import ChooseRatio, Reading


class Beacon(CondensingMethod):
    """Condense every full interval of W tokens into W / ratio beacons; attend to those and the open interval.

    Only the memory and the raw entries of the open interval are kept: ``M + R`` entries a layer. Without an
    adapter the beacon weights are untrained copies of the model's own, and the record says so.

    Two options are ours and not the paper's: ``start`` (what a beacon is fed) and ``sinks`` (first tokens that
    stay raw in front of the memory); both are the paper's unless asked for or an adapter was trained with
    others. Reasons and measurements stand beside them in `form.Start` and `engine`.
    """

    Options: ClassVar[type[Options]] = BeaconOptions
    options: BeaconOptions
    aims: ClassVar[bool] = True

    def __init__(self, model: LanguageModel, options: BeaconOptions) -> None:
        super().__init__(model, options)
        self._listed = (
            None if options.ratio == "adapt" else [parse_ratio(r) for r in options.ratio.split(",")]
        )
        if options.interval is not None:  # else the adapter's has to be known first
            self.check_form()

    @property
    def asked_ratios(self) -> Sequence[int]:
        return self._listed or usable(self.interval)

    def load(self, folder: Path) -> None:
        super().load(folder)
        known = self.usable()
        if lacking := [r for r in self._listed or () if r not in known and r > 1]:
            there = ", ".join(str(r) for r in known if r != RAW)
            raise UsageError(
                f"--ratio {lacking[0]}: the adapter {folder} has no expert for it; it has {there}"
            )

    def context_limit(self) -> int | None:
        self.check_form()
        ratios = [max(self.usable())] if self._listed is None else self._listed
        return capacity(ratios, self.model.context_length, self.interval, self.sinks)

    def aim(self, entries: int) -> None:
        """The lowest ratio under which what is read before the answer keeps to the budget, if there is one."""
        if self._listed is not None:
            raise UsageError(f"--ratio {self.options.ratio} and --budget both say how much stays; give one")
        super().aim(entries)

    def _within_budget(self, read: int) -> int:
        """The lowest ratio by which so many tokens `read` leave at most `budget` entries; the highest if none does."""
        known, budget = sorted(self.usable()), self.budget or 0
        return next((r for r in known if held(r, read, self.interval, self.sinks) <= budget), known[-1])

    def _ratios(self, tokens: int) -> list[int]:
        """The ratio of each interval, the last repeated, for so many `tokens`, prompt and answer."""
        if self._listed is not None:
            return self._listed
        window = self.model.context_length
        return [smallest_ratio(tokens, window, self.interval, self.usable(), self.sinks)]

    def _planned(self, context: int, reserve: int, decoding: Decoding) -> list[int]:
        """The ratios for so many tokens of context and of question, and the answer's room."""
        window = self._ratios(context + reserve + max(self.options.margin, decoding.max_new_tokens))
        if self.budget is None:
            return window
        return [max(window[0], self._within_budget(context + reserve - 1))]

    def share_key(self, context: int, reserve: int, decoding: Decoding) -> Hashable:
        """The ratios: room for question and answer decides nothing else."""
        return tuple(self._planned(context, reserve, decoding))

    def tokens_to_process(self, tokens: int, decoding: Decoding) -> int:
        [ratio, *_] = self._ratios(tokens + max(self.options.margin, decoding.max_new_tokens))
        return tokens if ratio == RAW else tokens + tokens // ratio

    def compress(
        self, contexts: Sequence[Sequence[int]], reserve: Sequence[int], decoding: Decoding
    ) -> list[tuple[Reading, list[int], int]]:
        """Each state is (reading, the ratios it uses, tokens read)."""
        import torch

        from .reading import Reading

        plans = [self._planned(len(c), r, decoding) for c, r in zip(contexts, reserve)]
        with torch.no_grad():
            readings = self.engine.read([Reading()] * len(contexts), contexts, _pick(plans))
        return [(reading, plan, len(c)) for reading, plan, c in zip(readings, plans, contexts)]

    def generate(
        self,
        states: Sequence[tuple[Reading, list[int], int]],
        questions: Sequence[Sequence[int]],
        decoding: Decoding,
    ) -> list[Generation]:
        import torch

        from harness.contracts import phase

        plans = [plan for _, plan, _ in states]
        with phase("prefill"), torch.no_grad():
            readings = self.engine.read([s[0] for s in states], [q[:-1] for q in questions], _pick(plans))
        totals = [tokens + len(q) for (_, _, tokens), q in zip(states, questions)]
        details: list[dict[str, Any]] = [{} for _ in states]
        return self.answer(readings, [q[-1] for q in questions], totals, decoding, _pick(plans), details)


def _pick(plans: Sequence[Sequence[int]]) -> ChooseRatio:
    """The engine's ratio callback for one list of ratios a row, the last repeated."""
    return lambda row, window: plans[row][min(window, len(plans[row]) - 1)]
