"""The measures of LongBench Pro: lines of an answer held against lines of the accepted one.

A measure looks at what follows the last ``[Answer]`` (in Chinese rows ``[答案]``), without case and with each run of
blanks as one. A blank line among the lines of an answer counts as a line, as officially.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import Any

MEASURES = {
    "T1.1 Global Cohesive Retrieval": "ndcg",
    "T1.2 Key-Snippet Retrieval": "ndcg",
    "T2.1 Global Timeline Reconstruction": "pairs",
    "T2.2 Local Causal Chain Sorting": "pairs",
    "T3.1 Multi-Doc Integration QA": "accuracy",
    "T3.2 Single-Hop Fact QA": "accuracy",
    "T4.1 Global-Coverage Constrained Summary": "rouge",
    "T4.2 Query-Focused Summary": "rouge",
    "T5.1 Full-Sentence Citation Alignment": "f1",
    "T5.2 Key-Statement Citation Alignment": "f1",
    "T6.1 Large-Scale Document Clustering": "share",
    "T6.2 Targeted Subset Cluster Identification": "f1",
    "T6.3 Global Frequency Analysis": "pairs",
    "T7.1 Global Conflict & Inconsistency Localization": "f1",
    "T7.2 Targeted Rule or Condition Violation Detection": "f1",
    "T7.3 Comprehensive Error & Anomaly Sweep": "f1",
    "T8.1 Structured Multi-Source Consistency Verification": "share",
    "T8.2 Single-Source Targeted Aggregation": "share",
    "T8.3 Long-Context Procedural State Tracking": "share",
    "T9.1 Dependency-Aware Multi-Version Impact Analysis": "f1",
    "T9.2 Localized Interface Change Detection": "f1",
    "T10.1 Large-Scale In-Context Rule Induction": "share",
    "T10.2 Targeted Example-Based Rule Induction": "share",
    "T11.1 Long-Range Entity & Commitment Tracking": "accuracy",
    "T11.2 Short-Range Reference Resolution & State Query": "accuracy",
}
"""How each kind of question (``secondary_task``) is measured."""


def measured(measure: str, prediction: str, answers: Sequence[str], chinese: bool = False) -> float:
    """The measure of one answer, 0..1; nothing said is 0. `answers` are the accepted lines, or summaries."""
    if not prediction:
        return 0.0
    if measure == "rouge":
        return rouge_l(prediction, answers, chinese)
    found = {"ndcg": ndcg, "pairs": pairs, "accuracy": accuracy, "f1": f1, "share": share}[measure](
        lines(prediction), [_plain(each) for each in answers]
    )
    return found if 0 <= found <= 1 else 0.0  # officially such a value is a failure


def lines(prediction: str) -> list[str]:
    """The lines of an answer's area, each without case and outer blanks."""
    mark = "[Answer]" if "[Answer]" in prediction else "[答案]"
    area = prediction.rpartition(mark)[2]
    return [_plain(line) for line in area.strip().lower().split("\n")]


def accuracy(said: Sequence[str], wanted: Sequence[str]) -> float:
    """1 if the first line is the first accepted one."""
    return float(said[0] == wanted[0])


def f1(said: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of the sets of lines."""
    same = len(set(said) & set(wanted))
    precision, recall = same / len(set(said)), same / len(set(wanted))
    return 2 * precision * recall / (precision + recall) if same else 0.0


def share(said: Sequence[str], wanted: Sequence[str]) -> float:
    """The share of the accepted lines that are said."""
    return sum(each in said for each in wanted) / len(wanted)


def pairs(said: Sequence[str], wanted: Sequence[str]) -> float:
    """Pairs of accepted lines that are said in their order, of all pairs of lines that are said."""
    if min(len(said), len(wanted)) < 2:
        return 0.0
    at = {each: place for place, each in enumerate(said)}
    right = sum(a in at and b in at and at[a] < at[b] for a, b in combinations(wanted, 2))
    return right / math.comb(len(said), 2)


def ndcg(said: Sequence[str], wanted: Sequence[str]) -> float:
    """NDCG among as many lines as are accepted, as trec_eval has it: the first of n accepted lines is worth n.

    A line that is said twice counts at its later place, but no line is moved up to the earlier.
    """
    worth = {each: len(wanted) - place for place, each in enumerate(wanted)}
    last = {each: place for place, each in enumerate(said)}
    order = sorted(last, key=lambda each: last[each])
    best = _gain(sorted(worth.values(), reverse=True)[: len(wanted)])
    return _gain([worth.get(each, 0) for each in order[: len(wanted)]]) / best


def rouge_l(prediction: str, answers: Sequence[str], chinese: bool) -> float:
    """The best F of ROUGE-L (package ``rouge``) over the accepted summaries; of Chinese over jieba's words."""
    texts = [_plain(each) for each in (prediction, *answers)]
    if chinese:
        import jieba

        texts = [" ".join(jieba.cut(each, cut_all=False)) for each in texts]
    said, *wanted = texts
    try:
        found = _rouge().get_scores([said] * len(wanted), wanted, avg=False)
    except (ValueError, RecursionError):  # nothing but periods, or too long for the package
        return 0.0
    return max(float(each["rouge-l"]["f"]) for each in found)


def _gain(worth: Sequence[int]) -> float:
    return sum(each / math.log2(place + 2) for place, each in enumerate(worth))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


@cache
def _rouge() -> Any:
    from rouge import Rouge

    return Rouge(metrics=["rouge-l"])
