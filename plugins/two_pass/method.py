"""`two_pass`: read once to see what matters, then again with the relevant intervals condensed least.

Source: Li, "Improving LLM Long Context Understanding via Synthetic Data and Adaptive Compression" (MIT,
May 2024), section 3.2; the top-k variant is Table 4.4's ablation. It costs nearly twice the compute.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from harness import Decoding, Generation, Prompt, TokenizedPrompt, UsageError
from harness import Options as BaseOptions
from harness._util.words import VERSION as WORDS
from harness.contracts import phase

from ..beacon.ratios import RAW, entries
from .allocation import CLAMP, Plan, allocate, allocate_top, positive_scores, smooth_z_scores, z_scores
from .calibrated import TRAINED_UP_TO
from .fitting import FittedMethod
from .options import TwoPassOptions

if TYPE_CHECKING:
    from ..beacon.reading import ChooseRatio, Reading
    from .first_pass import FirstPass


class TwoPass(FittedMethod):
    """Relevance of each interval to the question, then Activation Beacon with a ratio for each.

    Relevance by attention is the mean over layers, heads and an interval's beacons of the last prompt
    token's attention after a first pass, normalised over intervals, standardised by a calibration, clamped
    to ±3 (for allocation by alpha) and exponentiated with base 2. Prompts that fit the window as they are,
    answer included, are read raw in a single pass. Without an adapter the beacon weights are untrained, and
    the record says so.

    Ours where beacons start as the last token they stand for (``--start last``), and nowhere else unless asked for:
    the first pass condenses by 8 at least, relevance is held against a smoothed calibration and the budget is
    filled (``--standardise smooth``): not to the brim, since a small model forgets near the end of its window
    (SmolLM2-135M-Instruct loses a passkey at depth 0 with 8,044 of 8,192 positions in use), but to half of the
    window. The first interval, which holds the instructions, stays raw. Sinks, also ours, belong to no interval.

    Query-agnostic (``--query-agnostic``) the last token of the context stands in for that of the
    prompt, and question tokens are read like those of an answer. BM25 has nothing to ask with then.
    """

    Options: ClassVar[type[BaseOptions]] = TwoPassOptions
    sees_question = True
    version = "3"
    options: TwoPassOptions

    @property
    def smooth(self) -> bool:
        """Whether attention is standardised by a smoothed calibration, and the budget filled: both are ours."""
        asked = self.options.standardise
        return self.start == "last" if asked is None else asked == "smooth"

    @classmethod
    def rival(cls, options: TwoPassOptions) -> str:
        """One pass of the same weights, with one ratio for all intervals."""
        return options.compressor

    def rival_options(self) -> dict[str, Any]:
        """The same form, and as much of the window kept free as here: an interval."""
        form = self.options.model_dump(include={"interval", "start", "sinks", "adapter_scale"})
        return {**form, "margin": self.interval}

    def tokens_to_process(self, tokens: int, decoding: Decoding) -> int:
        first = self.plan(tokens, decoding.max_new_tokens).first
        if first == RAW or self.options.retrieval != "attention":
            return tokens
        if self.options.reuse == "raw":  # then beacons, of which two tokens share one at the most
            return tokens + tokens // first + tokens // 2
        layers = self.model.config.num_hidden_layers
        share = (self.options.listened or (0, layers))[1] / layers
        return tokens + int(tokens * share) + tokens // first

    def identity(self) -> dict[str, Any]:
        """BM25's words: the other kinds of relevance have nothing to do with them."""
        return {"words": WORDS} if self.options.retrieval == "bm25" else {}

    def make_query_agnostic(self) -> None:
        if self.options.retrieval == "bm25":
            raise UsageError(
                "--query-agnostic: BM25 ranks by the question; choose --retrieval attention or random"
            )
        super().make_query_agnostic()

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
        from .first_pass import taken_over

        first: dict[int, FirstPass] = {}
        choices = self._choose(prompts, plans, first)
        chosen = [choice.pop("chosen") for choice in choices]

        def ratio(row: int, interval: int) -> int:
            # A context that ends with an interval closes one more than had to be chosen for.
            return chosen[row][interval] if interval < len(chosen[row]) else plans[row].first

        begun = taken_over(self.engine, [p.ids for p in prompts], first, chosen)
        if self.options.reuse != "none":
            for i in first:
                choices[i]["reused"] = len(begun[i].ratios)
        first.clear()
        ids = [p.ids[self.engine.end_of(len(s.ratios)) : n] for p, n, s in zip(prompts, read, begun)]
        return self.engine.read(begun, ids, ratio), choices

    def _choose(
        self, prompts: Sequence[TokenizedPrompt], plans: Sequence[Plan], first: dict[int, FirstPass]
    ) -> list[dict[str, Any]]:
        """For each prompt relevance, z-score and the chosen ratio of each interval; `first` gets first passes."""
        from .relevance import says_nothing

        rows = [i for i, p in enumerate(plans) if p.first != RAW and p.intervals]
        states: list[FirstPass] = []
        relevances = self._relevance([prompts[i] for i in rows], [plans[i] for i in rows], states)
        found = dict(zip(rows, relevances))
        first.update(zip(rows, states))
        choices: list[dict[str, Any]] = []
        for i, plan in enumerate(plans):
            if i not in found:
                choices.append({"first_ratio": None, "chosen": [plan.first] * plan.intervals})
                continue
            relevance, (mean, std) = found[i]
            attended = self.options.retrieval == "attention"
            standardised = smooth_z_scores if attended and self.smooth else z_scores
            z = standardised(relevance, mean, std).tolist()
            note = says_nothing(self.options.retrieval, relevance, z)
            choices.append(
                {
                    "first_ratio": plan.first if attended else None,
                    "relevance": relevance,
                    "z": z,
                    "budget": plan.budget,
                    "chosen": self._allocate(z, plan),
                    **({"notes": [note]} if note else {}),
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
        scores, alpha, budget = positive_scores(z).tolist(), self.options.alpha, plan.budget
        if self.smooth and self.budget is None:
            # The instructions stay raw. What is filled is half of the window, or what the first pass held.
            scores[0] = positive_scores([CLAMP]).item()
            half = max(self.model.context_length // 2, plan.intervals * entries(plan.first, self.interval))
            budget = min(budget, half)
        return allocate(scores, alpha, budget, self.interval, ratios, fill=self.smooth)

    def _relevance(
        self, prompts: Sequence[TokenizedPrompt], plans: Sequence[Plan], states: list[FirstPass]
    ) -> list[tuple[list[float], tuple[list[float], list[float]]]]:
        """Relevance of each interval, and the mean and deviation to hold it against; `states` gets first passes."""
        from .relevance import bm25, random, standardise, texts

        if not prompts:
            return []
        if self.options.retrieval == "attention":
            found = self._attention(prompts, plans, states)
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

    def _attention(
        self, prompts: Sequence[TokenizedPrompt], plans: Sequence[Plan], kept: list[FirstPass]
    ) -> list[list[float]]:
        """The first pass: everything at one ratio, then what the last token attends to; `kept` gets its states."""
        from ..beacon.pieces import Kept
        from ..beacon.reading import Reading
        from .first_pass import FirstPass
        from .relevance import attended

        ids, layers = [p.ids for p in prompts], self.options.listened
        raw = [Kept() for _ in prompts]
        states, probe = attended(
            self.first_engine,
            [Reading()] * len(ids),
            ids,
            _first_of(plans),
            layers,
            raw if self.options.reuse == "raw" else None,
        )
        if layers is None and self.scale == 1:  # else they are no states of the second pass
            kept.extend(map(FirstPass, states, raw))
        return probe.relevance()


def _first_of(plans: Sequence[Plan]) -> ChooseRatio:
    """The engine's ratio callback for intervals after those that were chosen for."""
    return lambda row, _: plans[row].first
