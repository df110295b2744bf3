"""Oolong: counts, comparisons, dates and users that take the whole context together; many questions over each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts import Prompt, Sample, ScoredSample, TaskEnvironment
from harness.contracts.prompt import Turn
from harness.errors import UsageError
from harness.options import Options

from . import _files
from ._file_task import FileTask
from ._grid import part_means

COMMIT = "adbf1cb"
SOURCES = {
    "synth": _files.Source(
        "oolong/synth",
        ("synth.jsonl", "synth.json"),
        "oolongbench/oolong-synth",
        revision="f0d59eaf0febf130664cfceb710436c8e3216b2b",
        rows=5200,
        split="test",
    ),
    "real": _files.Source(
        "oolong/real",
        ("real.jsonl", "real.json"),
        "oolongbench/oolong-real",
        revision="6bc9ef04866fcf005c9749b70649be69dd37fffb",
        split="test",
        config="dnd",
    ),
}
SYSTEM = "You are a helpful assistant."
NEW_TOKENS = 256
CLOSENESS = 0.75
"""To the power of the difference: the score of a number that is not the right one."""
MARKS = str.maketrans("", "", "*[]")
COMPARISONS = ("more common", "less common", "same frequency")


class Oolong(FileTask):
    """Oolong (https://arxiv.org/abs/2511.02817): questions that need all of a long context at once.

    ``oolong`` alone stands for both sets: ``synth`` and ``real``. Messages and scores are those of the official code:
    the context stands in a system message, the question is the user's. Questions over one context follow each other.

    Rows come from ``--data-dir`` (``synth.jsonl``, ``real.jsonl``) or from the hub.
    """

    version: ClassVar[str] = "2"
    changelog: ClassVar[tuple[str, ...]] = (
        f"1: scores of abertsch72/oolong @{COMMIT}, one message",
        "2: the context stands in a system message, as officially",
    )
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    variants: ClassVar[tuple[str, ...]] = tuple(SOURCES)
    group: ClassVar[tuple[str, ...]] = tuple(SOURCES)
    answer_fields: ClassVar[tuple[str, ...]] = ("answers", "answer")
    preset: str = f"oolong-official@1 {COMMIT}"

    def __init__(self, options: Options, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.dataset = _dataset(variant)

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """Both sets, into the hub's cache; raises UsageError if they cannot be had."""
        return [_files.fetched(source, offline) for source in SOURCES.values()][-1]

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the rows, those of one context window one after the other.

        Raises
        ------
        UsageError
            If the data cannot be had, or a row is broken (named by file and line).
        """
        seen: dict[str, str] = {}
        windows: dict[str, list[Sample]] = {}
        for row, place in _files.rows(SOURCES[self.dataset], env, self._take_data):
            row_id = _files.once(str(row.get("id", place)), place, seen)
            text, question = (
                _files.text_of(row, each, place) for each in ("context_window_text", "question")
            )
            answer = row.get("answer")
            if (
                not isinstance(answer, str)
                or not answer
                or (self.dataset == "synth" and gold(answer) is None)
            ):
                raise UsageError(f"{place}: field 'answer' is no answer as this set has them: {answer!r}")
            prompt = rendered(text, question)
            windows.setdefault(str(row.get("context_window_id", text)), []).append(
                Sample(row_id, prompt, (answer,), NEW_TOKENS, metadata=_facts(row))
            )
        yield from (sample for window in windows.values() for sample in window)

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """The official score, 0..1: exact, or near for numbers; a share of the list in ``real``."""
        answer = sample.references[0]
        if self.dataset == "real":
            return {"score": score_real(prediction, answer)}
        return {"score": score_synth(prediction, answer, str(sample.metadata.get("answer_type", "")))}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The mean of each length and of each group of tasks, where there are several."""
        facts = [f for f in ("length", "task_group") if all(f in each.metadata for each in scored)]
        lengths = part_means(scored, "score", [f for f in facts if f == "length"])
        groups: dict[str, list[float]] = {}
        for each in scored if "task_group" in facts else ():
            groups.setdefault(str(each.metadata["task_group"]), []).append(each.scores["score"])
        return {**lengths, **{name: sum(values) / len(values) for name, values in sorted(groups.items())}}

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with, from ``answer`` as the rows have it, and in ``synth`` ``answer_type``."""
        dataset = _dataset(variant)
        answer = row.get("answers", row.get("answer"))
        if not isinstance(answer, str) or (dataset == "synth" and gold(answer) is None):
            raise UsageError(
                "field 'answer' must be a string as the rows have it, in synth a list written out"
            )
        facts = {"answer_type": row.get("answer_type", "")}
        return Sample(str(row.get("id", "")), Prompt("", "", ""), (answer,), NEW_TOKENS, metadata=facts)


def rendered(text: str, question: str) -> Prompt:
    """The official messages: a system message with two pieces of text, the second the context; then the question.

    Pieces of one message are joined by a line break, as vLLM does for templates that take one text.
    """
    system = f"{SYSTEM}\n"
    turns = (Turn("system", 0), Turn("user", len(system) + len(text)))
    return Prompt(system, text, question, question, turns=turns)


def gold(answer: str) -> Any:
    """The accepted answer of a row of ``synth``: the only element of a list written out; None if it is none.

    Nothing is evaluated: only literals and ``datetime.date(year, month, day)`` are read.
    """
    if match := re.fullmatch(r"\[datetime\.date\((\d+), (\d+), (\d+)\)\]", answer.strip()):
        try:
            return date(*map(int, match.groups()))
        except ValueError:
            return None
    try:
        found = ast.literal_eval(answer)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return found[0] if isinstance(found, list) and len(found) == 1 else None


def said(prediction: str) -> str:
    """What counts of an answer: what follows the last colon, without ``*``, ``[`` and ``]``.

    Without a colon all of a short answer, else its last word.
    """
    if ":" in prediction:
        return prediction.rpartition(":")[2].translate(MARKS).strip()
    if len(prediction) < 20:
        return prediction
    words = prediction.split()
    return words[-1] if words else ""


def score_synth(prediction: str, answer: str, answer_type: str) -> float:
    """The official score of ``synth``: equal, the right comparison, a near number, or the same day."""
    wanted, found = gold(answer), said(prediction)
    if found == str(wanted):
        return 1.0
    if any(each in found and each in str(wanted) for each in COMPARISONS):
        return 1.0
    if answer_type.endswith("NUMERIC"):
        try:
            return float(CLOSENESS ** abs(int(wanted) - int(found)))
        except (ValueError, TypeError):
            return 0.0
    if answer_type.endswith("DATE"):
        return float(_day(found) == wanted)
    return 0.0


def score_real(prediction: str, answer: str) -> float:
    """The official score of ``real``, by what stands in ``\\boxed{}``: a near number, a share of a list, or a text."""
    wanted, found = _typed(answer), _boxed(prediction)
    if isinstance(wanted, int):
        return float(CLOSENESS ** abs(wanted - found)) if isinstance(found, int) else 0.0
    if isinstance(wanted, list):
        return len(set(wanted) & set(found)) / len(wanted) if isinstance(found, list) else 0.0
    return float(isinstance(found, str) and found.strip().lower() == wanted.strip().lower())


def _boxed(prediction: str) -> int | str | list[str]:
    """What a model put in a box, typed; without a box its words."""
    match = re.search(r"\\boxed\{\\text\{([^}]*)\}\}", prediction) or re.search(
        r"\\boxed\{([^}]*)\}", prediction
    )
    return prediction if match is None else _typed(match[1])


def _typed(text: str) -> int | str | list[str]:
    """A whole number, a list parted by commas, or a text."""
    if re.fullmatch(r"\s*[+-]?\d+\s*", text):
        return int(text)
    return [each.strip() for each in text.split(",") if each.strip()] if "," in text else text


def _day(text: str) -> date | None:
    """The day a text names, as dateutil reads it; None if it names none."""
    from dateutil import parser

    try:
        return date.fromisoformat(parser.parse(text).date().isoformat())
    except (ValueError, OverflowError, TypeError):
        return None


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: row[name] for name in ("answer_type", "task", "task_group", "dataset") if name in row}
    facts = {name: str(value) for name, value in facts.items()}
    return {**facts, **({"length": row["context_len"]} if type(row.get("context_len")) is int else {})}


def _dataset(variant: str | None) -> str:
    if variant is None:
        raise UsageError("oolong is two sets; name one, as in oolong/synth")
    return variant
