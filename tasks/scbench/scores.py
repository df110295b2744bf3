"""SCBench's scores by the rules of its ``compute_scores.py``, oddities included."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from ..infinitebench import metrics

CHARACTERS = frozenset(("many_shot", "qa_chn"))
"""Tasks whose official scorer walks over a label that is one text, and so over its characters."""


def substring(prediction: str, label: str) -> float:
    """kv, prefix_suffix: whether the label stands anywhere in the answer."""
    return float(label in prediction)


def named(prediction: str, labels: Sequence[str]) -> float:
    """qa_eng, many_shot: whether a label stands in the answer, both in capitals."""
    said = prediction.upper()
    return float(any(label.upper() in said for label in labels))


def all_named(prediction: str, labels: Sequence[str]) -> float:
    """vt: the share of the labels that stand in the answer, in lower case, rounded to two decimals."""
    said = prediction.lower()
    return round(sum(label.lower() in said for label in labels) / len(labels), 2)


def number_found(prediction: str, label: str) -> float:
    """mf: whether the first number without its sign is the label; of a whole one what stands before the point."""
    found = re.search(r"\d+\.\d+|\d+", prediction)
    value = json.loads(label)
    if found is None:
        return 0.0
    said = float(found[0])
    return float(int(said) == value if isinstance(value, int) and said < float("inf") else said == value)


def choice(prediction: str, labels: Sequence[str]) -> float:
    """choice_eng: labels are the text of the right option and its letter."""
    return metrics.longbook_choice(prediction, labels[0], labels[1])


_LABELS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "qa_eng": named,
    "many_shot": named,
    "vt": all_named,
    "choice_eng": choice,
    "qa_chn": metrics.longbook_qa_chn,
}
_LABEL: dict[str, Callable[[str, str], float]] = {
    "kv": substring,
    "prefix_suffix": substring,
    "mf": number_found,
    "passkey": metrics.first_integer,
}


def score(part: str, prediction: str, labels: Sequence[str]) -> float:
    """Score an answer, 0..1; RepoQA's are scored by `functions`.

    Parameters
    ----------
    part
        The kind of question: a task, or ``passkey``.
    labels
        Accepted answers; of a text that the official scorer takes apart, its characters.
    """
    if part == "summary":
        return metrics.longbook_sum(prediction, labels)
    if part in _LABELS:
        return _LABELS[part](prediction, labels)
    return _LABEL[part](prediction, labels[0])
