"""`two_pass`: read once to see what matters, then again with the relevant intervals condensed least.

Source: Li, "Improving LLM Long Context Understanding via Synthetic Data and Adaptive Compression" (MIT,
May 2024), section 3.2; the top-k variant is Table 4.4's ablation. It costs nearly twice the compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from harness import Decoding, Generation, Options, TokenizedPrompt
from harness.measure import phase

from ._allocation import allocate, allocate_top, positive_scores, z_scores
from ._ratios import RAW, capacity, check_interval, entries, parse_ratio, smallest_ratio, usable
from .beacon import CondensingMethod

if TYPE_CHECKING:
    from harness.models import LanguageModel

    from ._calibration import Calibration

TRAINED_UP_TO = 128
"""Highest ratio of the papers' training; allocation goes beyond it only where the first pass must."""


class TwoPassOptions(Options):
    """Options of `TwoPass`."""

    alpha: float = Field(3.0, gt=0, le=100, description="exponent of the relevance: higher trusts it more")
    retrieval: Literal["attention", "bm25", "random"] = Field(
        "attention", description="how relevance is found; attention needs the first pass"
    )
    top_k: int | None = Field(
        None, ge=1, description="instead of --alpha: so many most relevant intervals get --relevant-ratio"
    )
    relevant_ratio: str = Field("2", description="ratio of the --top-k intervals: raw, 1, 2, 4 ... 1024")
    first_ratio: str | None = Field(
        None,
        description="ratio of the first pass: 2, 4 ... 1024; default: the lowest under which the prompt fits",
    )
    interval: int = Field(1024, ge=2, description="raw tokens condensed together (the paper's window)")
    calibration_contexts: int = Field(
        8, ge=2, description="contexts a missing calibration is computed from (the thesis: 50)"
    )
    retrieval_seed: int = Field(42, ge=0, description="seed of --retrieval random")

    @field_validator("relevant_ratio", "first_ratio")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            parse_ratio(value)
        return value

    @model_validator(mode="after")
    def _one_way(self) -> TwoPassOptions:
        given = self.model_fields_set
        if self.top_k is None and "relevant_ratio" in given:
            raise ValueError("relevant_ratio has a meaning only together with top_k")
        if self.top_k is not None and "alpha" in given:
            raise ValueError("alpha and top_k are two ways of allocating; give one")
        return self

    @field_validator("first_ratio")
    @classmethod
    def _condenses(cls, value: str | None) -> str | None:
        if value is not None and parse_ratio(value) < 2:
            raise ValueError("the first pass must condense; choose 2, 4 ... 1024")
        return value


@dataclass(frozen=True)
class Plan:
    """What is known about a prompt before anything is read.

    Attributes
    ----------
    intervals
        Full intervals that will be closed before the last prompt token is read.
    first
        Ratio of the first pass, and of intervals that fill while answering; raw if everything fits as it is.
    budget
        Memory entries the intervals may have in the second pass.
    """

    intervals: int
    first: int
    budget: int


class TwoPass(CondensingMethod):
    """Relevance of each interval to the question, then Activation Beacon with a ratio for each.

    Relevance by attention is the mean over layers, heads and an interval's beacons of the last prompt
    token's attention after a first pass, normalised over intervals, standardised by a calibration, clamped
    to ±3 (for allocation by alpha) and exponentiated with base 2. Prompts that fit the window as they are,
    answer included, are read raw in a single pass. Without an adapter the beacon weights are untrained, and
    the record says so.
    """

    Options: ClassVar[type[Options]] = TwoPassOptions
    sees_question = True
    options: TwoPassOptions

    def __init__(self, model: LanguageModel, options: TwoPassOptions) -> None:
        super().__init__(model, options)
        self._first = None if options.first_ratio is None else parse_ratio(options.first_ratio)
        self._relevant = parse_ratio(options.relevant_ratio)
        self._usable = usable(options.interval)
        used = [r for r in (self._first, self._relevant if options.top_k else None) if r is not None]
        check_interval(model, options.interval, used)
        self._calibrations: dict[int, Calibration] = {}

    def context_limit(self) -> int | None:
        ratio = self._first or max(self._usable)
        return capacity(ratio, self.model.context_length, self.options.interval)

    def plan(self, tokens: int, new_tokens: int) -> Plan:
        """How a prompt of `tokens`, to be answered in at most `new_tokens`, will be read."""
        window, interval = self.model.context_length, self.options.interval
        total = tokens + new_tokens
        intervals = (tokens - 1) // interval
        if total <= window:
            return Plan(intervals, RAW, window - interval)
        condensing = [r for r in self._usable if r != RAW]
        first = self._first or smallest_ratio(total, window, interval, condensing)
        while_answering = (total - 1) // interval - intervals
        return Plan(intervals, first, window - interval - while_answering * entries(first, interval))

    def prepare(self, prompts: Sequence[TokenizedPrompt], decoding: Decoding) -> None:
        """Load or compute the calibration for every first ratio and number of intervals that will occur."""
        if self.options.retrieval != "attention":
            return
        needed: dict[int, set[int]] = {}
        for prompt in prompts:
            plan = self.plan(len(prompt), decoding.max_new_tokens)
            if plan.first != RAW and plan.intervals:
                needed.setdefault(plan.first, set()).add(plan.intervals)
        for ratio, numbers in sorted(needed.items()):
            self._calibrations[ratio] = self._calibration(ratio, numbers)

    def _calibration(self, ratio: int, numbers: set[int]) -> Calibration:
        from . import _calibration

        key = {
            "text": _calibration.text_fingerprint(),
            "model": self.model.content_hash,
            "tokenizer": self.model.tokenizer_hash,
            "dtype": self.model.dtype,
            "device": self.model.device.partition(":")[0],
            "beacon_weights": self.adapter_hash,
            "interval": self.options.interval,
            "ratio": ratio,
            "contexts": self.options.calibration_contexts,
        }
        known = self._calibrations.get(ratio)
        if known is None or known.key != key:
            known = _calibration.load(key)
        missing = numbers - set(known.mean if known else ())
        if known and not missing:
            return known
        with self.announce(f"calibrating ratio {ratio} for {sorted(missing)} intervals") as progress:
            made = _calibration.calibrate(
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
        _calibration.store(made)
        return made

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

    def compress_and_generate(
        self, prompts: Sequence[TokenizedPrompt], decoding: Decoding
    ) -> list[Generation]:
        import torch

        from ._activation_beacon import Reading

        plans = [self.plan(len(p), decoding.max_new_tokens) for p in prompts]
        with torch.no_grad():
            with phase("compress"):
                choices = self._choose(prompts, plans)
                ratios = [c["chosen"] for c in choices]
                heads = [p.head_ids[: n * self.options.interval] for p, n in zip(prompts, map(len, ratios))]
                states = self.engine.read([Reading()] * len(prompts), heads, lambda row, i: ratios[row][i])
            with phase("prefill"):
                rest = [p.ids[len(h) : -1] for p, h in zip(prompts, heads)]
                states = self.engine.read(states, rest, lambda row, i: ratios[row][i])
        return self.answer(
            states,
            [p.ids[-1] for p in prompts],
            [len(p) for p in prompts],
            decoding,
            lambda row, _: plans[row].first,
            [{k: v for k, v in c.items() if k != "chosen"} for c in choices],
        )

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
        interval = self.options.interval
        top_k, highest = self.options.top_k, max(TRAINED_UP_TO, plan.first)
        if top_k is not None:
            highest = max(highest, self._relevant)
        ratios = [r for r in self._usable if r <= highest]
        if top_k is not None:
            return allocate_top(z, top_k, self._relevant, plan.budget, interval, ratios)
        return allocate(positive_scores(z).tolist(), self.options.alpha, plan.budget, interval, ratios)

    def _relevance(
        self, prompts: Sequence[TokenizedPrompt], plans: Sequence[Plan]
    ) -> list[tuple[list[float], tuple[list[float], list[float]]]]:
        """Relevance of each interval, and the mean and standard deviation to hold it against."""
        from . import _relevance

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
                relevance = _relevance.random(plan.intervals, self.options.retrieval_seed, prompt.ids)
            else:
                texts = [self._context_text(prompt, k) for k in range(plan.intervals)]
                relevance = _relevance.bm25(texts, prompt.prompt.question or prompt.prompt.suffix)
            scored.append((relevance, _relevance.standardise(relevance)))
        return scored

    def _context_text(self, prompt: TokenizedPrompt, number: int) -> str:
        """What an interval holds of the context: instruction and question often repeat the query's words."""
        interval = self.options.interval
        start = max(number * interval, prompt.context_start)
        ids = prompt.ids[start : min((number + 1) * interval, prompt.context_end)]
        return str(self.model.tokenizer.decode(ids, skip_special_tokens=True))

    def _attention(self, prompts: Sequence[TokenizedPrompt], plans: Sequence[Plan]) -> list[list[float]]:
        """The first pass: everything at one ratio, then what the last token attends to."""
        from ._activation_beacon import Reading
        from ._relevance import BeaconAttention

        ids = [p.ids[:-1] for p in prompts]
        states = self.engine.read([Reading()] * len(ids), ids, lambda row, _: plans[row].first)
        probe = BeaconAttention(states)
        self.engine.probe(states, [p.ids[-1] for p in prompts], probe)
        return probe.relevance()
