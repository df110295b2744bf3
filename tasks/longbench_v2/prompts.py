"""LongBench v2's own prompts (``prompts/*.txt`` and ``pred.py`` of THUDM/LongBench @2e00731f), word for word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.contracts import Prompt

COMMIT = "2e00731f"
MODES = ("zero-shot", "cot", "no-context", "rag")

_HEAD = "Please read the following text and answer the question{s} below.\n\n<text>\n"
_QUESTION = "What is the correct answer to this question: $Q$\nChoices:\n(A) $C_A$\n(B) $C_B$\n(C) $C_C$\n(D) $C_D$\n\n"
_FORMAT = 'Format your response as follows: "The correct answer is (insert answer here)".'
_THINK = "Let’s think step by step:"
_SINGLE = "what is the single, most likely answer choice? "
NO_CONTEXT = f"{_QUESTION}What{_SINGLE.removeprefix('what')}{_FORMAT}"

HEADS: dict[str, str] = {
    "zero-shot": _HEAD.replace("{s}", ""),
    "cot": _HEAD.replace("{s}", "s"),
    "rag": "Please read the following retrieved text chunks and answer the question below.\n\n<text>\n",
}
TAILS: dict[str, str] = {
    "zero-shot": f"\n</text>\n\n{_QUESTION}{_FORMAT}",
    "cot": f"\n</text>\n\n{_QUESTION}{_THINK}",
    "rag": f"\n</text>\n\n{_QUESTION}{_FORMAT}",
}
SECOND = (
    "Please read the following text and answer the questions below.\n\nThe text is too long and omitted here.\n\n"
    f"{_QUESTION}{_THINK} $COT$\n\nBased on the above, {_SINGLE}{_FORMAT}"
)
"""The second call of ``cot``."""

NEW_TOKENS = {"zero-shot": 128, "cot": 1024, "no-context": 128, "rag": 128}
SECOND_NEW_TOKENS = 128


def places(row: Mapping[str, Any]) -> dict[str, str]:
    """What is put into a template for a row, in the order in which it is replaced."""
    fields = {"$Q$": "question", **{f"$C_{letter}$": f"choice_{letter}" for letter in "ABCD"}}
    return {place: str(row[field]).strip() for place, field in fields.items()}


def render(mode: str, row: Mapping[str, Any], context: str) -> Prompt:
    """The prompt of a row; its parts joined are the official text.

    The official code replaces one place after the other in the whole text, so a document or a question that spells
    ``$C_A$`` gets choice A there. That is kept.
    """
    given = places(row)
    if mode == "no-context":
        return Prompt("", "", filled(NO_CONTEXT, given), given["$Q$"])
    document = filled(context.strip(), given)
    return Prompt(HEADS[mode], document, filled(TAILS[mode], given), given["$Q$"])


def second(given: Mapping[str, str], thoughts: str) -> Prompt:
    """The prompt of the second call, with what the model said in the first."""
    return Prompt("", "", filled(SECOND, {**given, "$COT$": thoughts.strip()}), given["$Q$"])


def chunks(retrieved: Sequence[Mapping[str, Any]], number: int) -> str:
    """The first `number` retrieved chunks in the order of the document, numbered by that."""
    chosen = sorted(retrieved[:number], key=lambda chunk: int(chunk["c_idx"]))
    return "\n\n".join(f"Retrieved chunk {i}: {chunk['content']}" for i, chunk in enumerate(chosen, start=1))


def filled(template: str, given: Mapping[str, str]) -> str:
    """`template` with each place replaced in turn, also where an earlier one brought it in."""
    for place, text in given.items():
        template = template.replace(place, text)
    return template
