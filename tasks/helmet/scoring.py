"""HELMET's scores (``utils.py`` and ``eval_alce.py`` @4526dfb), as far as no model judges: 0..1."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

CUTOFFS = (1, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Ranks at which a ranking is cut, as far as there are documents."""


def normalize(text: str) -> str:
    """SQuAD's: lower case, without ASCII punctuation and articles, blanks collapsed."""
    text = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def parsed(output: str, prefix: str = "Answer:") -> str:
    """What follows the first `prefix` on its line, whatever its case; without one the first line.

    `prefix` is a regular expression, as officially. A prefix that is said twice goes twice.
    """

    for pattern in (f"(?:{prefix})(.*)(?:\n|$)", r"(?:^)(.*)(?:\n|$)"):
        if match := re.search(pattern, output, re.IGNORECASE):
            return re.sub(f"^{re.escape(prefix)}", "", match[1].strip(), flags=re.IGNORECASE).strip()
    return ""


def flat(answers: Any) -> list[str]:
    """Accepted answers from a string, a list, or a list of lists."""
    if isinstance(answers, str):
        return [answers]
    if answers and isinstance(answers[0], list | tuple):
        return [each for group in answers for each in group]
    return list(answers)


def f1(prediction: str, answer: str) -> float:
    """F1 of normalized words; yes, no and noanswer only match themselves."""
    said, wanted = normalize(prediction), normalize(answer)
    if said != wanted and {said, wanted} & {"yes", "no", "noanswer"}:
        return 0.0
    first, second = said.split(), wanted.split()
    same = sum((Counter(first) & Counter(second)).values())
    if not same:
        return 0.0
    precision, recall = same / len(first), same / len(second)
    return 2 * precision * recall / (precision + recall)


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL", "rougeLsum"], use_stemmer=True)


def measures(prediction: str, answers: Any) -> dict[str, float]:
    """Official ``calculate_metrics``: each the best over the accepted answers."""
    wanted = flat(answers)
    said = normalize(prediction)
    found = {
        "exact_match": float(any(said == normalize(each) for each in wanted)),
        "f1": max(f1(prediction, each) for each in wanted),
        "substring_exact_match": float(any(normalize(each) in said for each in wanted)),
    }
    scored = [_rouge().score(target=each, prediction=prediction) for each in wanted]
    for name in ("rougeL", "rougeLsum"):
        found[f"{name}_f1"] = max(each[name].fmeasure for each in scored)
        found[f"{name}_recall"] = max(each[name].recall for each in scored)
    return found


def best(output: str, answers: Any, prefix: str = "Answer:") -> dict[str, float]:
    """Each measure of the whole output or of its parsed part, whichever is higher: most sets."""
    raw, part = measures(output, answers), measures(parsed(output, prefix), answers)
    return {name: max(raw[name], part[name]) for name in raw}


def label(output: str, answers: Any) -> dict[str, float]:
    """In-context learning: only what follows ``label:`` counts."""
    return measures(parsed(output, "label:"), answers)


def choice(output: str, answers: Sequence[str]) -> dict[str, float]:
    """InfiniteBench's choices: ``answers`` are the letter and "B. text"; that text in the output is right too."""
    whole, part = measures(output, answers), measures(parsed(output), answers)
    found = {name: max(whole[name], part[name]) for name in whole}
    if answers[1].lower() in output.lower():
        found["substring_exact_match"] = found["exact_match"] = 1.0
    else:
        found["substring_exact_match"] = 0.0  # a letter stands in many a word
    return found


def recall(output: str, answers: Any) -> dict[str, float]:
    """RULER's needles: share of the answers that stand in the output, whatever the case."""
    wanted = flat(answers)
    return {"ruler_recall": sum(each.lower() in output.lower() for each in wanted) / len(wanted)}


def ranking(output: str) -> dict[str, int]:
    """Ids in the longest row of numbers parted by ``>``, each with its score; without one the whole text.

    Brackets, colons and every "id" are removed first. An id said twice counts at its first place.
    """
    text = re.sub(r"[\[\]:]", "", output).lower().replace("id", "")
    rows = [match[0] for match in re.finditer(r"(\d+)(?:\s*>\s*(\d+))*", text)]
    if not rows:
        return {text.strip(): 1}
    ids = [each.strip() for each in max(rows, key=len).split(">")]
    found: dict[str, int] = {}
    for place, each in enumerate(ids):
        found.setdefault(each, len(ids) - place)
    return found


def ndcg(output: str, labels: Mapping[str, int], documents: int) -> dict[str, float]:
    """NDCG at each cut-off that `documents` reaches; the label is the gain, what was not ranked has none.

    trec_eval's: rounded to five digits for each query.
    """
    scores = ranking(output)
    order = sorted(scores, key=lambda each: (-scores[each], each))
    gains = [labels.get(each, 0) for each in order]
    ideal = sorted(labels.values(), reverse=True)

    def cumulated(values: Iterable[int]) -> float:
        return sum(value / math.log2(place + 2) for place, value in enumerate(values))

    cuts = [cut for cut in CUTOFFS if cut <= documents] or [documents]
    return {
        f"NDCG@{cut}": round(cumulated(gains[:cut]) / cumulated(ideal[:cut]), 5) if any(ideal) else 0.0
        for cut in cuts
    }


def headline(found: Mapping[str, float]) -> float:
    """NDCG@10, or at the highest cut-off there is."""
    return found.get("NDCG@10", [*found.values()][-1])


def uncited(output: str) -> str:
    """An answer on one line without its citations; "[1801" goes as one."""
    return (
        re.sub(r"\[\d+", "", re.sub(r" \[\d+", "", output.replace("\n", " ")))
        .replace(" |", "")
        .replace("]", "")
    )


def short_answers(output: str, pairs: Sequence[Sequence[str]]) -> dict[str, float]:
    """ALCE's str_em: share of the questions with one of their short answers in the text."""
    said = normalize(uncited(output))
    hit = [any(normalize(each) in said for each in pair) for pair in pairs]
    share = sum(hit) / len(hit) if hit else 0.0
    return {"str_em": share, "str_hit": float(bool(hit) and all(hit))}


def listed(output: str, answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """QAMPARI's: of the list said, precision, and recall of all answers and of five."""
    text = uncited(output).rstrip().rstrip(".").rstrip(",")
    said = [each for part in text.split(",") if (each := normalize(part.strip()))]
    wanted = [[normalize(each) for each in group] for group in answers]
    everything = {each for group in wanted for each in group}
    precision = sum(each in everything for each in said) / len(said) if said else 0.0
    hits = sum(any(each in said for each in group) for group in wanted)
    full, five = hits / len(wanted), min(5, hits) / min(5, len(wanted))
    return {
        "qampari_prec": precision,
        "qampari_rec": full,
        "qampari_rec_top5": five,
        "qampari_f1": _harmonic(precision, full),
        "qampari_f1_top5": _harmonic(precision, five),
    }


def are_groups(answers: Any) -> bool:
    """Whether accepted answers are lists of texts, as ALCE has them, and say anything."""
    return (
        isinstance(answers, list)
        and all(isinstance(group, list) for group in answers)
        and all(isinstance(each, str) for group in answers for each in group)
        and any(each.strip() for group in answers for each in group)
    )


def are_labels(answers: Any) -> bool:
    """Whether answers are labels by id, as MS MARCO has them: whole numbers, at least one above 0."""
    return (
        isinstance(answers, dict)
        and all(type(gain) is int and gain >= 0 for gain in answers.values())
        and any(answers.values())
    )


def _harmonic(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second else 0.0


Scorer = Callable[[str, Any], dict[str, float]]
