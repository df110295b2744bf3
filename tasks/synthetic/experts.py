"""The recipe of the LoRA experts paper: passages of many genres, and six tasks over them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from harness.contracts.recipe import (
    Answer,
    Draft,
    Dropped,
    Items,
    LengthRange,
    NoItems,
    Recipe,
    Request,
    Stage,
)
from harness.options import Options

from .coding import Coding, code_question
from .contexts import in_order, key, passages_of, shuffled
from .filling import Deck, pick
from .filters import about, content_words, prose
from .pairs import answered, both_of, fact_a, fact_b, fixed_question, needs_both, noun_of, paired, text_of
from .prompts import (
    ANSWER,
    ASKED,
    FACT_A,
    FACT_B,
    GENRES,
    LINKED_A,
    LINKED_B,
    LINKED_QA,
    LOGIC_QA,
    PASSAGE,
    QA,
    SIMDIFF,
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
        return [
            Stage(
                "passage", items, int(o.passage_tokens * 0.9), self._ask_passage, self._passage, {"text": ""}
            ),
            Stage("question", items, short, self._ask_question, self._question),
            Stage("qa", items, short, self._ask_qa, self._qa, qa),
            Stage("summary", items, o.summary_tokens // 2, self._ask_summary, self._summary, {"text": " "}),
            *self._two("similar", special, SIMILAR_A, SIMILAR_B),
            self._compared(special),
            *self._two("linked", special, LINKED_A, LINKED_B),
            *self._asked("linked", special, LINKED_QA),
            Stage("logic_a", special, 30, self._ask_fact_a, fact_a, {"text": ""}),
            Stage("logic_b", special, 30, self._ask_fact_b, fact_b, {"text": ""}),
            *self._asked("logic", special, LOGIC_QA),
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
        return self._ask_answer("qa", index, pool, "question", text_of(pool, "passage", index))

    def _qa(self, index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
        return answered(answer, pool.record("question", index), text_of(pool, "passage", index))

    def _ask_answer(
        self, key: str, index: int, pool: Items, asked_by: str, text: str
    ) -> Request | dict[str, Any] | None:
        asked = pool.record(asked_by, index)
        if asked is None:
            return None
        if asked["answer"]:
            return {key: asked[key] for key in ("question", "answer", "origin") if key in asked}
        prompt = ANSWER.format(text=text, question=asked["question"])
        return Request(f"{key} {index}", prompt, self.options.qa_tokens, 0.1, 10)

    def _ask_summary(self, index: int, pool: Items) -> Request | None:
        passage = pool.record("passage", index)
        if passage is None:
            return None
        prompt = SUMMARY.format(noun=passage["noun"], text=passage["text"])
        return Request(f"summary {index}", prompt, self.options.summary_tokens, 0.1, 10)

    def _summary(self, index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
        text = about(answer, text_of(pool, "passage", index), 8, ("Summary",))
        return text if isinstance(text, Dropped) else {"text": " ".join(text.split())}

    # --- pairs

    def _two(self, family: str, size: int, first: str, second: str) -> list[Stage]:
        tokens = self.options.pair_tokens

        def ask_a(index: int, pool: Items) -> Request:
            return Request(
                f"{family}_a {index}", first.format(noun=noun_of(pool, family, index)), tokens, 0.7, 50
            )

        def judge_a(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
            text = prose(answer, 20, ("Title",))
            return text if isinstance(text, Dropped) else {"noun": noun_of(pool, family, index), "text": text}

        def ask_b(index: int, pool: Items) -> Request | None:
            other = pool.record(f"{family}_a", index)
            if other is None:
                return None
            prompt = second.format(noun=other["noun"], text=other["text"])
            return Request(f"{family}_b {index}", prompt, tokens, 0.7, 50)

        def judge_b(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
            text = prose(answer, 20, ("Title",))
            if isinstance(text, Dropped):
                return text
            mine, theirs = content_words(text), content_words(text_of(pool, f"{family}_a", index))
            if mine == theirs:
                return Dropped("identical")
            if len(mine & theirs) < 3:
                return Dropped("unrelated")
            return {"noun": noun_of(pool, family, index), "text": text}

        expected = int(tokens * 0.7)
        return [
            Stage(f"{family}_a", size, expected, ask_a, judge_a, {"text": ""}),
            Stage(f"{family}_b", size, expected, ask_b, judge_b, {"text": ""}),
        ]

    def _compared(self, size: int) -> Stage:
        def ask(index: int, pool: Items) -> Request | None:
            second = pool.record("similar_b", index)
            if second is None:
                return None
            prompt = SIMDIFF.format(
                first=text_of(pool, "similar_a", index), second=second["text"], noun=second["noun"]
            )
            return Request(f"sim_diff {index}", prompt, self.options.summary_tokens, 0.1, 10)

        def judge(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
            text = prose(answer, 12)
            if isinstance(text, Dropped):
                return text
            both = content_words(both_of(pool, "similar", index))
            return {"text": text} if len(content_words(text) & both) >= 3 else Dropped("unanswerable")

        return Stage("sim_diff", size, int(self.options.summary_tokens * 0.8), ask, judge)

    def _asked(self, family: str, size: int, prompt: str) -> list[Stage]:
        """A question that needs both texts of a pair, and its answer.

        Two facts always have one: where the model's own will not do, it is asked in a fixed form.
        """
        tokens = self.options.qa_tokens

        def otherwise(index: int, pool: Items, found: dict[str, Any] | Dropped) -> dict[str, Any] | Dropped:
            return fixed_question(index, pool) if family == "logic" and isinstance(found, Dropped) else found

        def ask(index: int, pool: Items) -> Request | None:
            first, second = pool.record(f"{family}_a", index), pool.record(f"{family}_b", index)
            if first is None or second is None:
                return None
            words = {"first": first["text"], "second": second["text"]}
            words |= {"start": first.get("start", ""), "end": second.get("end", "")}
            return Request(f"{family}_question {index}", prompt.format(**words), tokens, 0.1, 10)

        def judge(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
            return otherwise(index, pool, paired(answer, both_of(pool, family, index)))

        def ask_answer(index: int, pool: Items) -> Request | dict[str, Any] | None:
            both = both_of(pool, family, index)
            found = self._ask_answer(f"{family}_qa", index, pool, f"{family}_question", both)
            # An answer that came with its question is judged here like one that was asked for.
            if isinstance(found, dict) and not needs_both(pool, family, index, found):
                fixed = otherwise(index, pool, Dropped("one passage is enough"))
                return None if isinstance(fixed, Dropped) else fixed
            return found

        def judge_answer(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
            found = answered(answer, pool.record(f"{family}_question", index), both_of(pool, family, index))
            if not isinstance(found, Dropped) and not needs_both(pool, family, index, found):
                found = Dropped("one passage is enough")
            return otherwise(index, pool, found)

        short = int(tokens * 0.4)
        return [
            Stage(f"{family}_question", size, short, ask, judge),
            Stage(f"{family}_qa", size, short, ask_answer, judge_answer, {"question": " ", "answer": " "}),
        ]

    def _ask_fact_a(self, index: int, pool: Items) -> Request:
        return Request(f"logic_a {index}", FACT_A.format(noun=noun_of(pool, "logic", index)), 56, 0.7, 50)

    def _ask_fact_b(self, index: int, pool: Items) -> Request | None:
        first = pool.record("logic_a", index)
        if first is None:
            return None
        return Request(f"logic_b {index}", FACT_B.format(middle=first["end"]), 56, 0.7, 50)

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
