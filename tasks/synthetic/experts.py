"""The recipe of the LoRA experts paper: passages of many genres, and six tasks over them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from harness.contracts.draft import Draft
from harness.contracts.recipe import Answer, Dropped, Items, LengthRange, NoItems, Recipe, Request, Stage
from harness.options import Options

from .coding import Coding, code_question
from .contexts import in_order, key, passages_of, shuffled
from .expert_stages import PairStages, answer_request
from .filling import Deck, pick
from .filters import about, prose
from .pairs import answered, noun_of, paired, text_of
from .prompts import (
    ASKED,
    GENRES,
    LINKED_A,
    LINKED_B,
    LINKED_QA,
    LOGIC_QA,
    PASSAGE,
    QA,
    SIMILAR_A,
    SIMILAR_B,
    SUMMARY,
)

MOST_SUMMARIES = 5
CODE_SHARE = 0.5
"""Most of a code sample's length that other programs take; passages take the rest."""


class ExpertsOptions(Options):
    """Options of `Experts`: how long the items are, and how many pairs and programs there are."""

    passage_tokens: int = Field(320, ge=16, description="most tokens of a passage")
    pair_tokens: int = Field(144, ge=16, description="most tokens of a passage that comes in a pair")
    qa_tokens: int = Field(96, ge=8, description="most tokens of a question with its answer")
    summary_tokens: int = Field(112, ge=8, description="most tokens of a summary or a comparison")
    min_words: int = Field(40, ge=1, description="words a passage must have to be kept")
    pairs: float = Field(
        0.5, gt=0, le=1, description="pairs of passages, pairs of facts and programs, each, for one passage"
    )


class Experts(Recipe):
    """Six tasks over passages of many genres (LoRA experts paper, section 2.1), 1,000 samples of each.

    The paper prints what a sample asks, and that is used word for word; it prints none of the prompts that
    its passages were generated with, so those are ours, as are the temperatures (0.7 and top-k 50 for what
    is invented, 0.1 and 10 for what is said about it). Its nouns are WordNet's 119,034, ours by default
    those of ``wonderwords``. Samples are 1,000 to 8,000 tokens long, uniformly, unless asked otherwise.

    Code samples spread the steps of several programs, each in its order, over the context, between passages.
    Mechanical answers come from the tree of calls, which `ast` reads from the very code in the context.
    """

    Options = ExpertsOptions
    tasks: ClassVar[Mapping[str, int]] = dict.fromkeys(
        ("single_doc_qa", "summarization", "sim_diff", "multi_doc_qa", "multi_doc_logic", "code"), 1000
    )
    default_range: ClassVar[LengthRange | None] = LengthRange(1000, 8000)
    options: ExpertsOptions

    def items(self, count: int, nouns: int) -> int:
        """A passage a sample, at least enough for the longest default sample, at most one a noun."""
        return min(nouns, max(32, count))

    def stages(self, items: int, seed: int) -> list[Stage]:
        """Passages and what is asked of one; pairs of three kinds; programs."""
        o = self.options
        special = max(4, round(items * o.pairs))
        qa = {"question": " ", "answer": " "}
        short = int(o.qa_tokens * 0.4)
        pairs = PairStages(special, o.pair_tokens, o.qa_tokens, o.summary_tokens)
        return [
            Stage(
                "passage", items, int(o.passage_tokens * 0.9), self._ask_passage, self._passage, {"text": ""}
            ),
            Stage("question", items, short, self._ask_question, self._question),
            Stage("qa", items, short, self._ask_qa, self._qa, qa),
            Stage("summary", items, o.summary_tokens // 2, self._ask_summary, self._summary, {"text": " "}),
            *pairs.two("similar", SIMILAR_A, SIMILAR_B),
            pairs.compared(),
            *pairs.two("linked", LINKED_A, LINKED_B),
            *pairs.questions("linked", LINKED_QA),
            *pairs.facts(),
            *pairs.questions("logic", LOGIC_QA),
            *Coding(special, seed, lambda pool, index: noun_of(pool, "code", index)).stages(),
        ]

    def draft(self, task: str, pool: Items, rng: random.Random, length: LengthRange | None) -> Draft:
        """One sample of a task; see the class."""
        length = length or LengthRange(1000, 8000)
        if task == "single_doc_qa":
            return self._draft_asked(task, pool, rng, length, "qa", ("passage",))
        if task == "summarization":
            return self._draft_summarization(pool, rng, length)
        if task == "code":
            return self._draft_code(pool, rng, length)
        if task == "sim_diff":
            return self._draft_sim_diff(pool, rng, length)
        family = {"multi_doc_qa": "linked", "multi_doc_logic": "logic"}[task]
        return self._draft_asked(task, pool, rng, length, f"{family}_qa", (f"{family}_a", f"{family}_b"))

    # --- passages, and what is asked of one

    def _ask_passage(self, index: int, pool: Items) -> Request:
        prompt = PASSAGE.format(genre=GENRES[index % len(GENRES)], noun=pool.noun(index))
        return Request(f"passage {index}", prompt, self.options.passage_tokens, 0.7, 50)

    def _passage(self, index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
        text = prose(answer, self.options.min_words, ("Title",))
        if isinstance(text, Dropped):
            return text
        return {"noun": pool.noun(index), "genre": GENRES[index % len(GENRES)], "text": text}

    def _ask_question(self, index: int, pool: Items) -> Request | None:
        passage = pool.record("passage", index)
        if passage is None:
            return None
        prompt = QA.format(noun=passage["noun"], text=passage["text"])
        return Request(f"question {index}", prompt, self.options.qa_tokens, 0.1, 10)

    def _question(self, index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
        return paired(answer, text_of(pool, "passage", index))

    def _ask_qa(self, index: int, pool: Items) -> Request | dict[str, Any] | None:
        return answer_request(
            "qa", index, pool, "question", text_of(pool, "passage", index), self.options.qa_tokens
        )

    def _qa(self, index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
        return answered(answer, pool.record("question", index), text_of(pool, "passage", index))

    def _ask_summary(self, index: int, pool: Items) -> Request | None:
        passage = pool.record("passage", index)
        if passage is None:
            return None
        prompt = SUMMARY.format(noun=passage["noun"], text=passage["text"])
        return Request(f"summary {index}", prompt, self.options.summary_tokens, 0.1, 10)

    def _summary(self, index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
        text = about(answer, text_of(pool, "passage", index), 8, ("Summary",))
        return text if isinstance(text, Dropped) else {"text": " ".join(text.split())}

    # --- samples

    def _draft_asked(
        self,
        task: str,
        pool: Items,
        rng: random.Random,
        length: LengthRange,
        stage: str,
        passages: Sequence[str],
    ) -> Draft:
        chosen = pick(rng, pool.usable(stage))
        found = pool.record(stage, chosen) or {}
        suffix = f"\n\n{ASKED} {found['question']}"
        evidence = [(name, chosen, "text") for name in passages]
        noun = str((pool.record(passages[0], chosen) or {})["noun"])
        order, repeats = shuffled(pool, rng, length, evidence, {noun}, suffix, found["answer"])
        drawn = passages_of(order, evidence)
        return Draft(task, "", drawn, suffix, found["answer"], "", found["question"], repeats)

    def _draft_sim_diff(self, pool: Items, rng: random.Random, length: LengthRange) -> Draft:
        chosen = pick(rng, pool.usable("sim_diff"))
        noun = str((pool.record("similar_a", chosen) or {})["noun"])
        answer = str((pool.record("sim_diff", chosen) or {})["text"])
        question = f"Identify the similarities and differences in the two passages about {noun}."
        suffix = f"\n\n{question}"
        evidence = [(name, chosen, "text") for name in ("similar_a", "similar_b")]
        order, repeats = shuffled(pool, rng, length, evidence, {noun}, suffix, answer)
        return Draft("sim_diff", "", passages_of(order, evidence), suffix, answer, "", question, repeats)

    def _draft_summarization(self, pool: Items, rng: random.Random, length: LengthRange) -> Draft:
        chosen: list[int] = []
        usable = pool.usable("summary")
        if not usable:
            raise NoItems("no summary")
        number = rng.randint(1, min(MOST_SUMMARIES, len(usable)))
        for index in Deck(rng, usable).take(4 * MOST_SUMMARIES):
            if len(chosen) < number and pool.noun(index) not in {pool.noun(i) for i in chosen}:
                chosen.append(index)

        def ends(numbers: Sequence[int]) -> tuple[str, str]:
            asked = [
                f"a summary for Passage {n}, the passage about {pool.noun(i)}"
                for n, i in zip(numbers, chosen)
            ]
            return f"\n\nWrite {'; '.join(asked)}.", "\n".join(text_of(pool, "summary", i) for i in chosen)

        def size() -> int:
            return sum(map(pool.count, ends([10] * len(chosen)))) + sum(
                pool.size("passage", "text", i)[0] + 8 for i in chosen
            )

        while len(chosen) > 1 and size() > length.high:
            chosen.pop()
        suffix, answer = ends([10] * len(chosen))
        evidence = [("passage", index, "text") for index in chosen]
        nouns = {pool.noun(index) for index in chosen}
        order, repeats = shuffled(pool, rng, length, evidence, nouns, suffix, answer)
        suffix, answer = ends([order.index(source) + 1 for source in evidence])
        return Draft("summarization", "", passages_of(order, evidence), suffix, answer, "", "", repeats)

    def _draft_code(self, pool: Items, rng: random.Random, length: LengthRange) -> Draft:
        chosen = pick(rng, pool.usable("program"))
        program = pool.record("program", chosen) or {}
        kind, question, answer, steps = code_question(pool, rng, chosen, program)
        suffix = f"\n\n{question}"
        target = rng.randint(length.low, length.high)
        blocks = [(f"code_{step}", chosen, "code") for step in program["steps"]]
        used = sum(pool.size(*key(source))[0] for source in blocks)
        names = set(program["block"])
        programs = [chosen]
        for other in Deck(rng, pool.usable("program"), lambda i: i == chosen).take(
            len(pool.usable("program"))
        ):
            found = pool.record("program", other) or {}
            more = [(f"code_{step}", other, "code") for step in found["steps"]]
            size = sum(pool.size(*key(source))[0] + 8 for source in more)
            if used + size > CODE_SHARE * target:
                break
            if not names & set(found["block"]):
                names |= set(found["block"])
                programs.append(other)
                blocks += more
                used += size
        nouns = {program["noun"]}
        order, repeats = shuffled(pool, rng, length, blocks, nouns, suffix, answer, target)
        order = in_order(order, blocks)
        evidence = [(f"code_{step}", chosen, "code") for step in steps]
        return Draft(kind, "", passages_of(order, evidence), suffix, answer, "", question, repeats)
