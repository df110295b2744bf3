"""The numbers that SCBench's scoring script writes of a file of answers."""

from __future__ import annotations

from collections.abc import Sequence

from .prompts import PARTS, REPO_KV

Scored = tuple[int, str, float]
"""Turn (from 1), kind of question, score 0..1."""


def official_numbers(task: str, multi_request: bool, answers: Sequence[Scored]) -> dict[str, float]:
    """By name the numbers of a line of the official table, in its order, 0..1.

    Multi-request: one, or one for each kind. Multi-turn: the same for each turn; a kind that a turn does not have is
    0 there, and named so. In multi-request mode the script cannot read the answers of `kv` beside RepoQA, and gives
    them 0: that stands beside the score.
    """
    if not answers:
        return {}
    kinds = PARTS.get(task, (task,))
    found: dict[str, float] = {}
    if multi_request:
        for kind in kinds if len(kinds) > 1 else ():
            scores = [score for _, part, score in answers if part == kind]
            found[kind] = sum(scores) / len(scores) if scores else 0.0
        return found | ({"kv, officially": 0.0} if task == REPO_KV else {})
    for turn in sorted({turn for turn, _, _ in answers}):
        for kind in kinds:
            scores = [score for number, part, score in answers if number == turn and part == kind]
            name = f"turn {turn}" + (f" {kind}" if len(kinds) > 1 else "")
            found[name if scores else f"{name} (not asked)"] = sum(scores) / len(scores) if scores else 0.0
    return found
