"""LongProc's scores for routes, beliefs and tables; those of its two searches stand in `countdown` and `travel`."""

from __future__ import annotations

import csv
import re
import string

ARTICLES = re.compile(r"\b(a|an|the)\b")
UNSAID = re.compile(
    r"\b(a|an|the|on|in|at|step|thinks|think|believes|believe|is|are|of|location|know|knows|belief)\b"
)
PUNCTUATION = set(string.punctuation)


def tagged(answer: str, tag: str) -> str | None:
    """What stands between the first ``<tag>`` and the first ``</tag>``, without outer blanks; None without both."""
    start, end = answer.find(f"<{tag}>"), answer.find(f"</{tag}>")
    return None if -1 in (start, end) else answer[start + len(tag) + 2 : end].strip()


def route(answer: str, wanted: str) -> dict[str, float]:
    """Whether a route is right to the letter; ``partial``: the lines up to the first wrong one, that one included."""
    said = tagged(answer, "Route")
    if said is None:
        return _found(0.0, 0.0, False)
    if said == wanted.strip():
        return _found(1.0, 1.0)
    mine, gold = said.split("\n"), wanted.strip().split("\n")
    wrong = (at for at, (line, right) in enumerate(zip(mine, gold), start=1) if line != right)
    return _found(0.0, next(wrong, min(len(mine), len(gold))) / len(gold))


def beliefs(answer: str, wanted: str) -> dict[str, float]:
    """Whether the lines that begin with a hyphen are the right ones; ``partial``: the share of them before a wrong one.

    Case, punctuation and words like "thinks" do not count.
    """
    mine, gold = _beliefs(answer), _beliefs(wanted)
    if mine == gold:
        return _found(1.0, 1.0)
    wrong = (at for at, (line, right) in enumerate(zip(mine, gold)) if line != right)
    return _found(0.0, next(wrong, min(len(mine), len(gold))) / len(gold))


def table(answer: str, wanted: str) -> dict[str, float]:
    """F1 of the rows of a table, whatever their order; ``extracted`` is 0 for what is no table of so many columns.

    Case, punctuation, articles and blanks do not count. Names of columns are not compared.
    """
    if match := re.search(r"```tsv([\s\S]*)```", answer):
        text = match[1]
    else:
        text = answer.split("```tsv")[1] if "```tsv" in answer else answer
    mine, gold = _rows(text), _rows(wanted)
    if not mine or not gold or len(mine[0]) != len(gold[0]):
        return {"score": 0.0, "precision": 0.0, "recall": 0.0, "extracted": 0.0}
    precision = sum(row in gold for row in mine) / len(mine)
    recall = sum(row in mine for row in gold) / len(gold)
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"score": f1, "precision": precision, "recall": recall, "extracted": 1.0}


def is_table(text: str) -> bool:
    """Whether a text is a table with a row, so that an answer can be held against it."""
    return bool(_rows(text))


def has_beliefs(text: str) -> bool:
    """Whether there is a line of a belief in a text."""
    return bool(_beliefs(text))


def _found(score: float, partial: float, extracted: bool = True) -> dict[str, float]:
    return {"score": score, "partial": partial, "extracted": float(extracted)}


def _beliefs(text: str) -> list[str]:
    chosen = "\n".join(line for line in text.splitlines() if line.strip().startswith("-"))
    said = [line[1:] for line in chosen.strip().split("\n") if line.startswith("-")]
    bare = ("".join(c for c in line.lower() if c not in PUNCTUATION and c != "’") for line in said)
    return [line for line in (" ".join(UNSAID.sub(" ", line).split()) for line in bare) if line]


def _rows(text: str) -> list[tuple[str, ...]]:
    """The rows of a table below its head; none of what is no table.

    The last row is left out if it is incomplete; another incomplete one is a row of "N/A".
    """
    try:
        head, *rows = csv.reader(text.strip().split("\n"), delimiter="\t")
    except (csv.Error, ValueError):
        return []
    if len(set(head)) < len(head):  # officially an error too
        return []
    if rows and len(rows[-1]) != len(head):
        rows = rows[:-1]
    return [tuple(map(_cell, row if len(row) == len(head) else ["N/A"] * len(head))) for row in rows]


def _cell(text: str) -> str:
    bare = "".join(char for char in text.lower() if char not in PUNCTUATION)
    return "".join(ARTICLES.sub(" ", bare).split())
