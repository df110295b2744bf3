"""How lists of nodes are read out of an answer and compared: the card's rule as meant, as printed, and lm-eval's."""

from __future__ import annotations

import re
from collections.abc import Collection

MARK = "Final Answer:"
_CARD = re.compile(r"Final Answer: ?\[.*\]")
_STRICT = re.compile(r"Final Answer:\s*\[(.*)\]")


def f1(found: Collection[str], wanted: Collection[str]) -> float:
    """F1 of two sets of nodes, 0..1; two empty ones agree."""
    if not found and not wanted:
        return 1.0
    both = len(set(found) & set(wanted))
    return 2 * both / (len(set(found)) + len(set(wanted))) if both else 0.0


def intended(response: str) -> list[str] | None:
    """The nodes of the last line by the card's rule as it is meant; None: it has no answer in the form asked for."""
    line = response.split("\n")[-1]
    match = _CARD.search(line) if MARK in line else None
    if match is None:
        return None
    inside = match.group(0).partition("[")[2][:-1]
    return [node for each in inside.split(",") if (node := each.strip())]


def intended_f1(response: str, wanted: Collection[str]) -> float:
    """The score: F1 of what stands between the brackets; 0 without an answer in the form asked for."""
    found = intended(response)
    return 0.0 if found is None else f1(found, wanted)


def literal_f1(response: str, wanted: Collection[str]) -> float:
    """The number that the card's code gives as it is printed.

    The words before the bracket stay on the first node, so that it never counts, and F1 is 1 where nothing agrees.
    """
    line = response.split("\n")[-1]
    match = _CARD.search(line) if MARK in line else None
    nodes = [] if match is None else [each.strip() for each in match.group(0).strip("[]").split(",")]
    found, truth = set(nodes), set(wanted)
    both = len(found & truth)
    recall = both / len(truth) if truth else 0.0
    precision = both / len(found) if found else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 1.0


def lm_eval_f1(response: str, wanted: Collection[str], *, anywhere: bool = False) -> float:
    """lm-evaluation-harness's number: of the last line, or of the last line with an answer (its flexible filter).

    Quotes are taken off; an empty list has no F1, whatever was wanted.
    """
    lines = response.rstrip("\n").split("\n")
    matches = [_STRICT.search(line) for line in (lines if anywhere else lines[-1:])]
    match = next((m for m in reversed(matches) if m), None)
    if match is None:
        return 0.0
    found = {node for each in match.group(1).split(",") if (node := each.strip().strip("'\""))}
    return f1(found, wanted) if found and wanted else 0.0
