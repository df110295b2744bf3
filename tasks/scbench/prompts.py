"""SCBench's prompts: what stands before the questions, and each question, in both modes and with or without template.

Wordings are those of the official code, oddities included: "The the correct answer" wherever a chat template is used
or all questions share one context, the median of all lists asked for in math_find's chat follow-ups, the first
question of math_find in front of its shared context.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SUMMARY, NEEDLES, REPO_KV = "summary", "summary_with_needles", "repoqa_and_kv"
TASKS = (
    "kv", "prefix_suffix", "vt", "repoqa", "qa_eng", "qa_chn", "choice_eng", "many_shot", SUMMARY, "mf", NEEDLES,
    REPO_KV,
)  # fmt: skip
PARTS = {NEEDLES: (SUMMARY, "passkey"), REPO_KV: ("repoqa", "kv")}
"""Tasks whose questions are of two kinds, in the order of the official table."""
NEW_TOKENS = {
    "kv": 150, "prefix_suffix": 150, "vt": 30, "repoqa": 1024, "qa_eng": 40, "qa_chn": 40, "choice_eng": 40,
    "many_shot": 10, SUMMARY: 200, "mf": 5,
}  # fmt: skip
PART_NEW_TOKENS = {
    (NEEDLES, SUMMARY): 800,
    (NEEDLES, "passkey"): 15,
    (REPO_KV, "repoqa"): 1024,
    (REPO_KV, "kv"): 80,
}
GAP = "\n\n"
INSTRUCTIONS = {
    "kv": "Extract the value corresponding to the specified key in the JSON object below.",
    "repoqa": "Based on the function description and code context, please retrieve and repeat the exact described "
    "function from the code context in a code block wrapped by ```:",
    "qa_eng": "Read the book and answer the question. Be very concise in your answer.",
    "qa_chn": "阅读以下书籍然后回答问题。",
    "choice_eng": "Read the book and answer the question.",
}
CONTINUED = "This paper"
"""What the answers to a summary's later questions begin with, in chat."""
LETTERS = "ABCD"


@dataclass(frozen=True)
class Turn:
    """A question of a row, checked.

    Attributes
    ----------
    asked
        The field ``input``.
    answer
        The field ``answer``: text, a list of texts, or a number.
    options
        Four, of a choice.
    part
        Its kind, in a task of two kinds; else the task.
    name
        The function that RepoQA asks for.
    """

    asked: str
    answer: Any
    options: tuple[str, ...] = ()
    part: str = ""
    name: str = ""


@dataclass(frozen=True)
class Asked:
    """What stands before the context of a row, and each of its questions.

    `joint` stands between an answer and the next question where there is no template, `begins` what an answer begins
    with.
    """

    prefix: str
    questions: tuple[str, ...]
    joint: str = GAP
    begins: tuple[str, ...] = field(default=())


def multi_request(task: str, turns: Sequence[Turn]) -> Asked:
    """The prompts where the context is read before any question, which then follows it with nothing between."""
    prefix = turns[0].asked if task == "mf" else INSTRUCTIONS.get(task, "")
    questions = tuple(_wanted(t) + GAP + t.asked if task == "mf" else _question(task, t) for t in turns)
    return Asked(prefix + GAP if prefix else "", questions)


def multi_turn(task: str, turns: Sequence[Turn], *, chat: bool) -> Asked:
    """The prompts where each question follows the answers before it."""
    prefix = _wanted(turns[0]) if task == "mf" else INSTRUCTIONS.get(task, "")
    questions = [GAP + _question(task, turns[0])]
    for turn in turns[1:]:
        if task == "mf":
            questions.append(_wanted(turns[-1] if chat else turn) + GAP + turn.asked)
        else:
            questions.append(_question(task, turn, again=not chat))
    begins = tuple(CONTINUED if chat and task == SUMMARY and n else "" for n in range(len(turns)))
    return Asked(prefix + GAP if prefix else "", tuple(questions), begins=begins)


def new_tokens(task: str, part: str) -> int:
    """Most tokens of an answer."""
    return PART_NEW_TOKENS[task, part] if task in PARTS else NEW_TOKENS[task]


def spoken(answer: Any) -> str:
    """A reference answer as the next turn finds it: lists as Python writes them."""
    return str(answer)


def _question(task: str, turn: Turn, again: bool = False) -> str:
    if task == "qa_eng":
        return f"Question: {turn.asked}\nAnswer:"
    if task == "qa_chn":
        return f"问题：{turn.asked}\n答案："
    if task == "choice_eng":
        listed = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, turn.options))
        closing = "The letter of the correct answer is" if again else "The the correct answer is"
        return f"Question: {turn.asked}\n{listed}\n\n{closing}"
    return turn.asked


def _wanted(turn: Turn) -> str:
    """The question that math_find's statement stands for."""
    return f"What is {subject(turn.asked)}?"


def subject(asked: str) -> str:
    """What math_find asks for: ``the largest number of the list``. Raises ValueError if it does not say so."""
    match = re.search(r"The .+ is", asked)
    if match is None:
        raise ValueError("it does not say 'The ... is'")
    return match[0].lower()[:-3]


def facts_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a record keeps of a row."""
    return {name: row[name] for name in ("lang", "repo") if isinstance(row.get(name), str)}
