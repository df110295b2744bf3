"""LongBench's metrics as published numbers were made with them, oddities included.

Each oddity is a fact of ``metrics.py`` and ``eval.py`` of THUDM/LongBench that moves scores; where it looks
like a mistake it still stays, because a corrected metric could not be compared with anything published.
"""

from __future__ import annotations

import importlib.util
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from harness.errors import UsageError

from .._similarity import edit_ratio
from .rouge_l import rouge_l

_CHINESE_PUNCTUATION = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣"
    "､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."
)
_PUNCTUATION = frozenset(string.punctuation)
ALL_PUNCTUATION = frozenset(string.punctuation + _CHINESE_PUNCTUATION)
"""ASCII's and the Chinese punctuation that is deleted before Chinese texts are compared."""


def qa_f1(prediction: str, answer: str) -> float:
    """F1 of the two bags of words after SQuAD's normalisation, 0..1; two empty texts have nothing in common.

    Punctuation is ASCII's and is deleted, not replaced by a blank, and it goes before the articles do.
    """
    return f1(_normalised(prediction).split(), _normalised(answer).split())


def qa_f1_zh(prediction: str, answer: str) -> float:
    """F1 of the two bags of jieba's words without punctuation, 0..1."""
    return f1(_chinese_words(prediction), _chinese_words(answer))


def rouge_l_zh(prediction: str, answer: str) -> float:
    """`rouge_l` of the two texts cut into words by jieba, 0..1."""
    return rouge_l(" ".join(_cut(prediction)), " ".join(_cut(answer)))


def classification(prediction: str, answer: str, classes: Sequence[str]) -> float:
    """One over the number of classes named in the prediction, if the right one is among them; else 0.

    A class whose name is part of the right one's should not count, but the official loop drops items from
    the list it walks, so the item after a dropped one is passed over and stays. Kept: it moves scores.
    """
    named = [name for name in classes if name in prediction]
    for name in named:
        if name in answer and name != answer:
            named.remove(name)
    return 1.0 / len(named) if answer in named else 0.0


def count(prediction: str, answer: str) -> float:
    """Share of the prediction's digit runs that read like the answer, 0..1 (``07`` is not ``7``)."""
    numbers = re.findall(r"\d+", prediction)
    return numbers.count(answer) / len(numbers) if numbers else 0.0


def retrieval(prediction: str, answer: str) -> float:
    """`count` of the number in ``Paragraph 12``.

    Raises
    ------
    UsageError
        If the answer names no paragraph.
    """
    return count(prediction, _paragraph(answer, r"Paragraph (\d+)"))


def retrieval_zh(prediction: str, answer: str) -> float:
    """`count` of the number in ``段落12``. Raises UsageError if the answer names no paragraph."""
    return count(prediction, _paragraph(answer, r"段落(\d+)"))


def code_similarity(prediction: str, answer: str) -> float:
    """`edit_ratio` / 100 of the answer and the first line of the prediction that is code, 0..1.

    Code is a line without a backtick, ``#`` and ``//`` anywhere; leading newlines are dropped, indentation
    and blank lines count. Without such a line the empty string is compared.
    """
    lines = prediction.lstrip("\n").split("\n")
    code = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    return edit_ratio(code, answer) / 100


METRICS: dict[str, Callable[[str, str], float]] = {
    **dict.fromkeys(
        ("narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "triviaqa"), qa_f1
    ),
    "multifieldqa_zh": qa_f1_zh,
    **dict.fromkeys(("gov_report", "qmsum", "multi_news", "samsum"), rouge_l),
    **dict.fromkeys(("dureader", "vcsum"), rouge_l_zh),
    "passage_retrieval_en": retrieval,
    "passage_retrieval_zh": retrieval_zh,
    "passage_count": count,
    **dict.fromkeys(("lcc", "repobench-p"), code_similarity),
}
"""The metric of each data set; `CLASSIFIED` ones are scored by `classification`, which needs the classes."""

CLASSIFIED: frozenset[str] = frozenset({"trec", "lsht"})
FIRST_LINE: frozenset[str] = frozenset({"trec", "triviaqa", "samsum", "lsht"})
NEEDS_JIEBA: frozenset[str] = frozenset({"multifieldqa_zh", "dureader", "vcsum"})


def score(dataset: str, prediction: str, answers: Sequence[str], classes: Sequence[str] = ()) -> float:
    """Score one answer as ``eval.py`` does: the best over the accepted answers, starting at 0.

    Parameters
    ----------
    dataset
        A name of `METRICS` or `CLASSIFIED` (LongBench-E: the set it is named for).
    prediction
        The decoded new tokens, untouched. Only the few-shot sets are cut to their first line here, after
        leading newlines (and nothing else) are dropped.
    answers
        The accepted answers; none scores 0.
    classes
        Every class name of a classification set, in the data's order.

    Returns
    -------
    float
        0..1, not rounded.
    """
    if dataset in FIRST_LINE:
        prediction = prediction.lstrip("\n").split("\n")[0]
    if dataset in CLASSIFIED:
        return max([0.0, *(classification(prediction, answer, classes) for answer in answers)])
    return max([0.0, *(METRICS[dataset](prediction, answer) for answer in answers)])


def unanswerable(dataset: str, answers: Sequence[str], classes: Sequence[str] = ()) -> bool:
    """Whether nobody can score on a row: its answers, given as predictions, would not either."""
    if dataset in CLASSIFIED:
        return not any(answer in classes for answer in answers)
    metric = METRICS[dataset]
    if metric in (rouge_l, rouge_l_zh):  # the package's own way of losing long answers is not a row's fault
        return not any(answer.replace(".", "").strip() for answer in answers)
    if metric is code_similarity:
        return not answers
    try:
        return not any(metric(answer, answer) for answer in answers)
    except UsageError:
        return True


def require_jieba() -> None:
    """Raise UsageError, with the line that installs it, if the Chinese word splitter is missing."""
    if importlib.util.find_spec("jieba") is None:
        raise UsageError("scoring Chinese text needs jieba: pip install 'long-context-harness[zh]'")


def f1(prediction: Sequence[str], answer: Sequence[str]) -> float:
    """F1 of two bags of words, 0..1; two empty bags have nothing in common."""
    common = sum((Counter(prediction) & Counter(answer)).values())
    if not common:
        return 0.0
    precision, recall = common / len(prediction), common / len(answer)
    return 2 * precision * recall / (precision + recall)


def _normalised(text: str) -> str:
    bare = "".join(c for c in text.lower() if c not in _PUNCTUATION)
    return re.sub(r"\b(a|an|the)\b", " ", bare)


def _chinese_words(text: str) -> list[str]:
    bare = ("".join(c for c in word.lower() if c not in ALL_PUNCTUATION) for word in _cut(text))
    # Splitting and joining drops blanks inside a word; what was nothing but blanks and punctuation goes.
    return [word for word in ("".join(b.split()) for b in bare) if word]


def _cut(text: str) -> list[str]:
    require_jieba()
    import jieba

    jieba.setLogLevel("WARNING")  # it reports the loading of its dictionary on stderr otherwise
    words: list[Any] = list(jieba.cut(text, cut_all=False))
    return [str(word) for word in words]


def _paragraph(answer: str, pattern: str) -> str:
    found = re.search(pattern, answer)
    if found is None:
        raise UsageError(f"the answer {answer!r} names no paragraph by number")
    return found[1]
