"""Stages of the recipe `experts` that make pairs: of similar texts, of linked ones, and of facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.contracts import Answer, Request
from harness.contracts.recipe import Dropped, Items, Stage

from .filters import content_words, prose
from .pairs import answered, both_of, fact_a, fact_b, fixed_question, needs_both, noun_of, paired, text_of
from .prompts import ANSWER, FACT_A, FACT_B, SIMDIFF


@dataclass(frozen=True)
class PairStages:
    """Makes the stages of pairs.

    Attributes
    ----------
    size
        How many pairs of each kind.
    pair_tokens, qa_tokens, summary_tokens
        Most tokens of a text, of a question with its answer, and of a comparison.
    """

    size: int
    pair_tokens: int
    qa_tokens: int
    summary_tokens: int

    def two(self, family: str, first: str, second: str) -> list[Stage]:
        """A text, and another that builds on it, for the prompts `first` and `second`."""
        tokens = self.pair_tokens

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
            Stage(f"{family}_a", self.size, expected, ask_a, judge_a, {"text": ""}),
            Stage(f"{family}_b", self.size, expected, ask_b, judge_b, {"text": ""}),
        ]

    def compared(self) -> Stage:
        """What two similar texts have in common and what not."""

        def ask(index: int, pool: Items) -> Request | None:
            second = pool.record("similar_b", index)
            if second is None:
                return None
            prompt = SIMDIFF.format(
                first=text_of(pool, "similar_a", index), second=second["text"], noun=second["noun"]
            )
            return Request(f"sim_diff {index}", prompt, self.summary_tokens, 0.1, 10)

        def judge(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
            text = prose(answer, 12)
            if isinstance(text, Dropped):
                return text
            both = content_words(both_of(pool, "similar", index))
            return {"text": text} if len(content_words(text) & both) >= 3 else Dropped("unanswerable")

        return Stage("sim_diff", self.size, int(self.summary_tokens * 0.8), ask, judge)

    def questions(self, family: str, prompt: str) -> list[Stage]:
        """A question that needs both texts of a pair, and its answer.

        Two facts always have one: where the model's own will not do, it is asked in a fixed form.
        """
        tokens = self.qa_tokens

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
            found = answer_request(f"{family}_qa", index, pool, f"{family}_question", both, tokens)
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
            Stage(f"{family}_question", self.size, short, ask, judge),
            Stage(
                f"{family}_qa", self.size, short, ask_answer, judge_answer, {"question": " ", "answer": " "}
            ),
        ]

    def facts(self) -> list[Stage]:
        """Two facts of which the second begins where the first ends."""
        return [
            Stage("logic_a", self.size, 30, _ask_fact_a, fact_a, {"text": ""}),
            Stage("logic_b", self.size, 30, _ask_fact_b, fact_b, {"text": ""}),
        ]


def _ask_fact_a(index: int, pool: Items) -> Request:
    return Request(f"logic_a {index}", FACT_A.format(noun=noun_of(pool, "logic", index)), 56, 0.7, 50)


def _ask_fact_b(index: int, pool: Items) -> Request | None:
    first = pool.record("logic_a", index)
    if first is None:
        return None
    return Request(f"logic_b {index}", FACT_B.format(middle=first["end"]), 56, 0.7, 50)


def answer_request(
    key: str, index: int, pool: Items, asked_by: str, text: str, tokens: int
) -> Request | dict[str, Any] | None:
    """The request for the answer to a question of stage `asked_by`; the record itself if it came with one."""
    asked = pool.record(asked_by, index)
    if asked is None:
        return None
    if asked["answer"]:
        return {key: asked[key] for key in ("question", "answer", "origin") if key in asked}
    prompt = ANSWER.format(text=text, question=asked["question"])
    return Request(f"{key} {index}", prompt, tokens, 0.1, 10)
