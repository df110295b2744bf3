"""`two_pass`: read once to see what matters, then again with the relevant intervals condensed least.

Source: Li, "Improving LLM Long Context Understanding via Synthetic Data and Adaptive Compression" (MIT,
May 2024), section 3.2; the top-k variant is Table 4.4's ablation. It costs nearly twice the compute.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness import Decoding, Generation, Prompt, TokenizedPrompt, UsageError
from harness import Options as BaseOptions
from harness.contracts.fit import FitReport
from harness.contracts.phases import phase
from harness.models import adapters

from ..beacon.adapter_card import Kind
from ..beacon.base import CondensingMethod
from ..beacon.form import settle
from ..beacon.ratios import RAW, capacity, entries, parse_ratio, smallest_ratio
from .allocation import Plan, allocate, allocate_top, positive_scores, z_scores
from .options import TwoPassFitOptions, TwoPassOptions

if TYPE_CHECKING:
    from harness.contracts.fit import Schedule, TrainingData
    from harness.models.model import LanguageModel

    from ..beacon.reading import ChooseRatio, Reading
    from .calibration import Calibration

OWN = "two_pass"
COMPRESSOR = "compressor"
"""Folder of a fitted adapter that holds the compressor's adapter."""

TRAINED_UP_TO = 128
"""Highest ratio of the papers' training; allocation goes beyond it only where the first pass must."""


class TwoPass(CondensingMethod):
    """Relevance of each interval to the question, then Activation Beacon with a ratio for each.

    Relevance by attention is the mean over layers, heads and an interval's beacons of the last prompt
    token's attention after a first pass, normalised over intervals, standardised by a calibration, clamped
    to ±3 (for allocation by alpha) and exponentiated with base 2. Prompts that fit the window as they are,
    answer included, are read raw in a single pass. Without an adapter the beacon weights are untrained, and
    the record says so.

    With the question withheld (``--query-agnostic``) the last token of the context stands in for that of the
    prompt, and question tokens are read like those of an answer. BM25 has nothing to ask with then.
    """

    Options: ClassVar[type[BaseOptions]] = TwoPassOptions
    FitOptions: ClassVar[type[BaseOptions]] = TwoPassFitOptions
    fit_trial: ClassVar[Mapping[str, Any]] = {"intervals": "1-3", "contexts": 2}
    needs_data = False
    sees_question = True
    version = "2"
    options: TwoPassOptions

    def __init__(self, model: LanguageModel, options: TwoPassOptions) -> None:
        super().__init__(model, options)
        self._first = None if options.first_ratio is None else parse_ratio(options.first_ratio)
        self._relevant = parse_ratio(options.relevant_ratio)
        if options.interval is not None:  # else the adapter's has to be known first
            self.check_form()
        self._calibrations: dict[int, Calibration] = {}
        self._fitted: dict[int, Calibration] = {}

    @property
    def kind(self) -> Kind:
        return self.options.compressor

    @property
    def asked_ratios(self) -> Sequence[int]:
        used = (self._first, self._relevant if self.options.top_k else None)
        return [r for r in used if r is not None]

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
            self._adapter, self.options = None, settle(self._given, None)
            self.forget()
            if (folder / COMPRESSOR).is_dir():
                super().load(folder / COMPRESSOR)
            for name in card["files"]:
                made = calibration.Calibration.from_json(
                    (folder / name).read_text(encoding="utf-8"), folder / name
                )
                self._fitted[made.key["ratio"]] = made
        if lacking := [r for r in self.asked_ratios if r > 1 and r not in self.usable()]:
            there = ", ".join(str(r) for r in self.usable() if r != RAW)
            raise UsageError(f"--adapter {folder}: it has no expert for ratio {lacking[0]}, only for {there}")

    def fit(self, data: TrainingData | None, schedule: Schedule, options: Any) -> FitReport:
        """Measure the natural attention for each number of intervals, each under the ratio it would be read by."""
        from . import calibration, calibration_text

        source = None if data is None else calibration_text.DataContexts(data, schedule.seed)
        for ratio, numbers in sorted(self._wanted(options).items()):
            key = self._key(ratio, options.contexts, None if source is None else source.fingerprint)
            with self.announce(
                f"calibrating ratio {ratio} for {len(numbers)} numbers of intervals"
            ) as progress:
                self._fitted[ratio] = calibration.calibrate(
                    self.model, self.engine, key, ratio, sorted(numbers), options.contexts, progress, source
                )
        measured = {str(r): sorted(c.mean) for r, c in self._fitted.items()}
        self._learned = {"calibrated": measured, "contexts": options.contexts}
        return FitReport(0, None, facts=self._learned)

    def check_fit(self, options: Any) -> None:
        self._wanted(options)

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
        adapters.write(
            folder, OWN, self.model, {}, {**facts, **self._learned, "compressor": self.kind}, texts
        )

    def context_limit(self) -> int | None:
        self.check_form()
        ratio = self._first or max(self.usable())
        return capacity(ratio, self.model.context_length, self.interval, self.sinks)

    def _first_ratio(self, tokens: int) -> int:
        """Ratio of the first pass over so many tokens, prompt and answer, that do not fit as they are."""
        condensing = [r for r in self.usable() if r != RAW]
        window = self.model.context_length
        return self._first or smallest_ratio(tokens, window, self.interval, condensing, self.sinks)

    def plan(self, tokens: int, new_tokens: int) -> Plan:
        """How a prompt of `tokens`, to be answered in at most `new_tokens`, will be read."""
        interval, total = self.interval, tokens + new_tokens
        intervals = max(0, tokens - 1 - self.sinks) // interval
        budget = self.model.context_length - self.sinks - interval
        if total <= self.model.context_length:
            return Plan(intervals, RAW, budget)
        first = self._first_ratio(total)
        while_answering = max(0, total - 1 - self.sinks) // interval - intervals
        return Plan(intervals, first, budget - while_answering * entries(first, interval))

    def reads(self, tokens: int, decoding: Decoding) -> int:
        first = self.plan(tokens, decoding.max_new_tokens).first
        if first == RAW or self.options.retrieval != "attention":
            return tokens
        return 2 * tokens + tokens // first

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
        later = [len(p.suffix_ids) if self.withheld else 0 for p in prompts]
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
                self.engine,
                key,
                ratio,
                sorted(missing),
                self.options.calibration_contexts,
                progress,
            )
        if known:
            made.mean, made.std = {**known.mean, **made.mean}, {**known.std, **made.std}
        calibration.store(made)
        return made

    def _known(self, ratio: int, numbers: set[int], key: dict[str, Any]) -> Calibration | None:
        """The calibration there is for a ratio: the adapter's if it serves all `numbers`, else one made before."""
        from . import calibration

        fitted = self._fitted.get(ratio)
        if fitted is not None and fitted.serves(self._key(ratio, fitted.contexts, None), numbers):
            return fitted
        known = self._calibrations.get(ratio)
        return known if known is not None and known.key == key else calibration.load(key)

    def _key(self, ratio: int, contexts: int, text: str | None) -> dict[str, Any]:
        """What a calibration's numbers depend on; `text` names data of the user's own."""
        from . import calibration_text

        return {
            "text": text or calibration_text.text_fingerprint(),
            "model": self.model.content_hash,
            "tokenizer": self.model.tokenizer_hash,
            "dtype": self.model.dtype,
            "device": self.model.device.partition(":")[0],
            "beacon_weights": self.adapter_hash,
            **self.options.model_dump(include={"interval", "start", "sinks"}),
            "ratio": ratio,
            "contexts": contexts,
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

    def withhold_question(self) -> None:
        if self.options.retrieval == "bm25":
            raise UsageError(
                "--query-agnostic: BM25 ranks by the question; choose --retrieval attention or random"
            )
        super().withhold_question()

    def share_key(self, context: int, reserve: int, decoding: Decoding) -> Hashable:
        """The plan: room for question and answer decides nothing else."""
        return self.plan(context, reserve + decoding.max_new_tokens)

    def compress(
        self, contexts: Sequence[Sequence[int]], reserve: Sequence[int], decoding: Decoding
    ) -> list[tuple[Reading, Plan, dict[str, Any], int]]:
        """Without the question; each state is (reading, its plan, what was chosen and why, tokens read)."""
        import torch

        plans = [self.plan(len(c), r + decoding.max_new_tokens) for c, r in zip(contexts, reserve)]
        alone = [TokenizedPrompt(Prompt("", "", ""), tuple(c), 0, len(c)) for c in contexts]
        with torch.no_grad():
            states, choices = self._condense(alone, plans, [len(c) for c in contexts])
        return list(zip(states, plans, choices, map(len, contexts)))

    def generate(
        self,
        states: Sequence[tuple[Reading, Plan, dict[str, Any], int]],
        questions: Sequence[Sequence[int]],
        decoding: Decoding,
    ) -> list[Generation]:
        import torch

        readings, plans, choices, read = (list(part) for part in zip(*states))
        with phase("prefill"), torch.no_grad():
            readings = self.engine.read(readings, [q[:-1] for q in questions], _first_of(plans))
        totals = [tokens + len(q) for tokens, q in zip(read, questions)]
        return self.answer(readings, [q[-1] for q in questions], totals, decoding, _first_of(plans), choices)

    def compress_and_generate(
        self, prompts: Sequence[TokenizedPrompt], decoding: Decoding
    ) -> list[Generation]:
        import torch

        plans = [self.plan(len(p), decoding.max_new_tokens) for p in prompts]
        with torch.no_grad():
            with phase("compress"):
                closed = [self.engine.end_of(plan.intervals) for plan in plans]
                states, choices = self._condense(prompts, plans, closed)
            with phase("prefill"):
                rest = [p.ids[n:-1] for p, n in zip(prompts, closed)]
                states = self.engine.read(states, rest, _first_of(plans))
        last, totals = [p.ids[-1] for p in prompts], [len(p) for p in prompts]
        return self.answer(states, last, totals, decoding, _first_of(plans), choices)

    def _condense(
        self, prompts: Sequence[TokenizedPrompt], plans: Sequence[Plan], read: Sequence[int]
    ) -> tuple[list[Reading], list[dict[str, Any]]]:
        """Choose a ratio for each interval and read the first `read` tokens of each prompt by them."""
        from ..beacon.reading import Reading

        choices = self._choose(prompts, plans)
        chosen = [choice.pop("chosen") for choice in choices]

        def ratio(row: int, interval: int) -> int:
            # A context that ends with an interval closes one more than had to be chosen for.
            return chosen[row][interval] if interval < len(chosen[row]) else plans[row].first

        ids = [p.ids[:n] for p, n in zip(prompts, read)]
        return self.engine.read([Reading()] * len(prompts), ids, ratio), choices

    def _choose(self, prompts: Sequence[TokenizedPrompt], plans: Sequence[Plan]) -> list[dict[str, Any]]:
        """For each prompt relevance, z-score and the chosen ratio of each interval."""
        rows = [i for i, p in enumerate(plans) if p.first != RAW and p.intervals]
        found = dict(zip(rows, self._relevance([prompts[i] for i in rows], [plans[i] for i in rows])))
        choices: list[dict[str, Any]] = []
        for i, plan in enumerate(plans):
            if i not in found:
                choices.append({"first_ratio": None, "chosen": [plan.first] * plan.intervals})
                continue
            relevance, (mean, std) = found[i]
            z = z_scores(relevance, mean, std).tolist()
            attended = self.options.retrieval == "attention"
            choices.append(
                {
                    "first_ratio": plan.first if attended else None,
                    "relevance": relevance,
                    "z": z,
                    "budget": plan.budget,
                    "chosen": self._allocate(z, plan),
                }
            )
        return choices

    def _allocate(self, z: Sequence[float], plan: Plan) -> list[int]:
        top_k, highest = self.options.top_k, max(TRAINED_UP_TO, plan.first)
        if top_k is not None:
            highest = max(highest, self._relevant)
        ratios = [r for r in self.usable() if r <= highest]
        if top_k is not None:
            return allocate_top(z, top_k, self._relevant, plan.budget, self.interval, ratios)
        return allocate(positive_scores(z).tolist(), self.options.alpha, plan.budget, self.interval, ratios)

    def _relevance(
        self, prompts: Sequence[TokenizedPrompt], plans: Sequence[Plan]
    ) -> list[tuple[list[float], tuple[list[float], list[float]]]]:
        """Relevance of each interval, and the mean and standard deviation to hold it against."""
        from .relevance import bm25, random, standardise, texts

        if not prompts:
            return []
        if self.options.retrieval == "attention":
            found = self._attention(prompts, plans)
            known = [self._calibration(p.first, {p.intervals}) for p in plans]
            return [
                (relevance, (c.mean[p.intervals], c.std[p.intervals]))
                for relevance, c, p in zip(found, known, plans)
            ]
        scored = []
        for prompt, plan in zip(prompts, plans):
            if self.options.retrieval == "random":
                relevance = random(plan.intervals, self.options.retrieval_seed, prompt.ids)
            else:
                documents = texts(prompt, plan.intervals, self.engine, self.model.tokenizer)
                relevance = bm25(documents, prompt.prompt.question or prompt.prompt.suffix)
            scored.append((relevance, standardise(relevance)))
        return scored

    def _attention(self, prompts: Sequence[TokenizedPrompt], plans: Sequence[Plan]) -> list[list[float]]:
        """The first pass: everything at one ratio, then what the last token attends to."""
        from ..beacon.reading import Reading
        from .relevance import BeaconAttention

        ids = [p.ids[:-1] for p in prompts]
        states = self.engine.read([Reading()] * len(ids), ids, lambda row, _: plans[row].first)
        probe = BeaconAttention(states)
        self.engine.probe(states, [p.ids[-1] for p in prompts], probe)
        return probe.relevance()


def _first_of(plans: Sequence[Plan]) -> ChooseRatio:
    """The engine's ratio callback for intervals after those that were chosen for."""
    return lambda row, _: plans[row].first
