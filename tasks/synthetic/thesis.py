"""The recipe of the two-pass thesis: stories, and what was asked about them, in four tasks."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from harness.contracts.draft import Draft, Part, Passage
from harness.contracts.recipe import Answer, Dropped, Items, LengthRange, NoItems, Recipe, Request, Stage
from harness.options import Options

from .filling import Deck, fill, pick
from .filters import about, pair, prose, reply

STORY = (
    "Write a long story with long paragraphs about {noun}. Do not ask questions and do not add itemized "
    "items.\n\nStory:"
)
QA = (
    "You are given a story. Create only one specific question and only one answer based on the story. The "
    "question should be specific to the story, not a general question that could be asked of any story, and "
    "the answer should be based only on information given in the story.\n\nStory: {story}\n\nCreate only one "
    "specific question and only one answer based on the story. The question should be specific to the story, "
    "not a general question that could be asked of any story, and the answer should be based only on "
    "information given in the story.\n\nQuestion:"
)
SUMMARY = (
    "You are given a story. Write a summary for the story.\n\nStory: {story}\n\nWrite a summary for the "
    "story.\n\nSummary:"
)
ANSWER = (
    "You are given a story. Answer the question in one short sentence, based only on information given in "
    "the story.\n\nStory: {story}\n\nQuestion: {question}\n\nAnswer:"
)
"""Ours, for a model that stops after the question: the thesis expects both in one answer."""
FEWEST, MOST = 3, 14
"""Stories in a sample whose length is not asked for."""
MOST_SUMMARIES = 5
SUFFIX_SLACK = 8
"""Tokens kept free because the numbers of the chosen stories are not known before they are shuffled."""


class ThesisOptions(Options):
    """Options of `Thesis`: how long the items are. Sampling is the thesis's."""

    story_tokens: int = Field(400, ge=16, description="most tokens of a story")
    qa_tokens: int = Field(96, ge=8, description="most tokens of a question with its answer")
    summary_tokens: int = Field(128, ge=8, description="most tokens of a summary")
    min_words: int = Field(60, ge=1, description="words a story must have to be kept")


class Thesis(Recipe):
    """Stories about nouns; QA, summaries, and both as few-shot tasks (two-pass thesis, section 3.1).

    Prompts are those of its appendix A, the samples' words those of figures 3.1 and 3.2, with single line
    breaks as figure 3.2 has them. Temperature and top-k: 0.7 and 50 for stories, 0.1 and 10 for the rest.
    Without a length a sample has 3 to 14 stories; with one, as many as fit.
    """

    Options = ThesisOptions
    tasks: ClassVar[Mapping[str, int]] = {
        "qa": 4000,
        "summarization": 2000,
        "few_shot_qa": 1000,
        "few_shot_summarization": 1000,
    }
    options: ThesisOptions

    def items(self, count: int, nouns: int) -> int:
        """A story a sample, at least enough for the largest sample, at most one a noun."""
        return min(nouns, max(MOST + 2, count))

    def stages(self, items: int, seed: int) -> list[Stage]:
        """Stories, and for each a question with its answer and a summary."""
        o = self.options
        return [
            Stage("story", items, int(o.story_tokens * 0.9), self._ask_story, self._story, {"text": ""}),
            Stage("question", items, o.qa_tokens // 3, self._ask_question, _question),
            Stage("qa", items, o.qa_tokens // 3, self._ask_answer, _answer, {"question": " ", "answer": " "}),
            Stage("summary", items, o.summary_tokens // 2, self._ask_summary, _summary, {"text": " "}),
        ]

    def draft(self, task: str, pool: Items, rng: random.Random, length: LengthRange | None) -> Draft:
        """One sample of a task; see the class."""
        make = {
            "qa": self._draft_qa,
            "summarization": self._draft_summarization,
            "few_shot_qa": self._draft_few_shot_qa,
            "few_shot_summarization": self._draft_few_shot_summarization,
        }
        return make[task](pool, rng, length)

    # --- items

    def _ask_story(self, index: int, pool: Items) -> Request:
        prompt = STORY.format(noun=pool.noun(index))
        return Request(f"story {index}", prompt, self.options.story_tokens, 0.7, 50)

    def _story(self, index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
        text = prose(answer, self.options.min_words, ("Story", "Title"))
        return text if isinstance(text, Dropped) else {"noun": pool.noun(index), "text": text}

    def _ask_question(self, index: int, pool: Items) -> Request | None:
        return self._about(index, pool, "question", QA, self.options.qa_tokens)

    def _ask_answer(self, index: int, pool: Items) -> Request | dict[str, Any] | None:
        asked, story = pool.record("question", index), pool.record("story", index)
        if asked is None or story is None:
            return None
        if asked["answer"]:
            return {"question": asked["question"], "answer": asked["answer"]}
        prompt = ANSWER.format(story=story["text"], question=asked["question"])
        return Request(f"qa {index}", prompt, self.options.qa_tokens, 0.1, 10)

    def _ask_summary(self, index: int, pool: Items) -> Request | None:
        return self._about(index, pool, "summary", SUMMARY, self.options.summary_tokens)

    def _about(self, index: int, pool: Items, stage: str, prompt: str, tokens: int) -> Request | None:
        story = pool.record("story", index)
        if story is None:
            return None
        return Request(f"{stage} {index}", prompt.format(story=story["text"]), tokens, 0.1, 10)

    # --- samples

    def _draft_qa(self, pool: Items, rng: random.Random, length: LengthRange | None) -> Draft:
        chosen = pick(rng, pool.usable("qa"))
        found = pool.record("qa", chosen) or {}
        suffix = f"Answer the question based on the given stories.\nQuestion: {found['question']}"
        answer = f"Answer: {found['answer']}"
        prefix = "Memorize the following stories and then answer the question based on the given stories.\n"
        fixed = sum(map(pool.count, (prefix, suffix, answer)))
        others, repeats = _others(pool, rng, length, "story", [chosen], fixed, _story_parts)
        order = [chosen, *others]
        rng.shuffle(order)
        passages = [Passage(_story_parts(i, n), i == chosen) for n, i in enumerate(order, 1)]
        return Draft("qa", prefix, passages, suffix, answer, "Answer: ", found["question"], repeats)

    def _draft_summarization(self, pool: Items, rng: random.Random, length: LengthRange | None) -> Draft:
        usable = pool.usable("summary")
        if not usable:
            raise NoItems("no summary")
        number = None if length else rng.randint(FEWEST, max(FEWEST, min(MOST, len(usable))))
        chosen = _distinct(pool, rng, usable, rng.randint(1, min(MOST_SUMMARIES, number or MOST)))
        prefix = (
            "Memorize the following stories and then write a summary for each of the specifically requested "
            "stories.\n"
        )
        texts = {i: str((pool.record("summary", i) or {})["text"]) for i in chosen}

        def ends(numbers: Sequence[int]) -> tuple[str, str]:
            asked = [
                f"a summary for Story {n}, the story about {pool.noun(i)}" for n, i in zip(numbers, chosen)
            ]
            last = f", and {asked.pop()}" if len(asked) > 1 else ""
            return f"Write {', '.join(asked)}{last}.", "Summary: " + "\n".join(texts[i] for i in chosen)

        def fixed() -> int:
            return sum(map(pool.count, (prefix, *ends([10] * len(chosen))))) + SUFFIX_SLACK

        while length and len(chosen) > 1 and fixed() + _total(pool, chosen, _story_parts) > length.high:
            chosen.pop()
        others, repeats = _others(pool, rng, length, "story", chosen, fixed(), _story_parts, number)
        order = [*chosen, *others]
        rng.shuffle(order)
        passages = [Passage(_story_parts(i, n), i in texts and i in chosen) for n, i in enumerate(order, 1)]
        suffix, answer = ends([order.index(i) + 1 for i in chosen])
        return Draft("summarization", prefix, passages, suffix, answer, "Summary: ", "", repeats)

    def _draft_few_shot_qa(self, pool: Items, rng: random.Random, length: LengthRange | None) -> Draft:
        last = pick(rng, pool.usable("qa"))
        found = pool.record("qa", last) or {}
        prefix = "Answer the question based on the given story. The following are some examples.\n"
        suffix = f"Question: {found['question']}"
        answer = f"Answer: {found['answer']}"
        fixed = sum(map(pool.count, (prefix, suffix, answer)))
        shots, repeats = _others(pool, rng, length, "qa", [last], fixed, _qa_shot)
        passages = [Passage(_qa_shot(i, 0)) for i in shots]
        passages.append(Passage((*_shot(last), Part("\n")), True))
        return Draft("few_shot_qa", prefix, passages, suffix, answer, "Answer: ", found["question"], repeats)

    def _draft_few_shot_summarization(
        self, pool: Items, rng: random.Random, length: LengthRange | None
    ) -> Draft:
        last = pick(rng, pool.usable("summary"))
        prefix = "Write a summary for the given story. The following are some examples.\n"
        answer = f"Summary: {(pool.record('summary', last) or {})['text']}"
        fixed = pool.count(prefix) + pool.count(answer)
        shots, repeats = _others(pool, rng, length, "summary", [last], fixed, _summary_shot)
        passages = [*(Passage(_summary_shot(i, 0)) for i in shots), Passage(_shot(last), True)]
        return Draft("few_shot_summarization", prefix, passages, "", answer, "Summary: ", "", repeats)


def _question(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
    found = pair(answer, (pool.record("story", index) or {})["text"])
    return found if isinstance(found, Dropped) else {"question": found[0], "answer": found[1]}


def _answer(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
    question = str((pool.record("question", index) or {})["question"])
    found = reply(answer, question, (pool.record("story", index) or {})["text"])
    return found if isinstance(found, Dropped) else {"question": question, "answer": found}


def _summary(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
    text = about(answer, (pool.record("story", index) or {})["text"], 8, ("Summary",))
    # One line: a sample's answer has one a story.
    return text if isinstance(text, Dropped) else {"text": " ".join(text.split())}


def _story_parts(index: int, number: int) -> tuple[Part, ...]:
    return (
        Part(f"Story {number} begins.\n"),
        Part(None, ("story", index, "text")),
        Part(f"\nStory {number} ends.\n"),
    )


def _shot(index: int) -> tuple[Part, ...]:
    return Part("Story:\n"), Part(None, ("story", index, "text"))


def _qa_shot(index: int, number: int) -> tuple[Part, ...]:
    asked = (Part("\nQuestion: "), Part(None, ("qa", index, "question")))
    return (*_shot(index), *asked, Part("\nAnswer: "), Part(None, ("qa", index, "answer")), Part("\n"))


def _summary_shot(index: int, number: int) -> tuple[Part, ...]:
    return (*_shot(index), Part("\nSummary: "), Part(None, ("summary", index, "text")), Part("\n"))


def _cost(pool: Items, parts: Sequence[Part]) -> int:
    return sum(
        pool.count((p.text or "").removesuffix(" "))
        if p.source is None
        else pool.size(p.source[0], p.source[2], p.source[1])[0]
        for p in parts
    )


def _total(pool: Items, chosen: Sequence[int], parts: Any) -> int:
    return sum(_cost(pool, parts(index, number)) for number, index in enumerate(chosen, 1))


def _distinct(pool: Items, rng: random.Random, indices: Sequence[int], number: int) -> list[int]:
    """So many indices, no two of one noun: the question names a story by its noun."""
    chosen: list[int] = []
    nouns: set[str] = set()
    for index in Deck(rng, indices).take(64):
        if len(chosen) < number and pool.noun(index) not in nouns:
            chosen.append(index)
            nouns.add(pool.noun(index))
    return chosen


def _others(
    pool: Items,
    rng: random.Random,
    length: LengthRange | None,
    stage: str,
    chosen: Sequence[int],
    fixed: int,
    parts: Any,
    number: int | None = None,
) -> tuple[list[int], int]:
    """The other stories of a sample: as many as its length takes, or 3 to 14 in all; and the repetitions."""
    nouns = {pool.noun(index) for index in chosen}
    deck = Deck(rng, pool.usable(stage), lambda index: pool.noun(index) in nouns)
    if length is None:
        number = number or rng.randint(FEWEST, MOST)
        return deck.take(number - len(chosen)), 0
    used = fixed + _total(pool, chosen, parts)
    target = rng.randint(length.low, length.high)
    return fill(deck, target, length, used, len(chosen), lambda i, n: _cost(pool, parts(i, n)))
