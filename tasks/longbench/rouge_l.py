"""ROUGE-L as the package ``rouge`` computes it for LongBench, its limits included, in time that texts can have.

The package fills a Python dictionary for each pair of sentences: minutes for an answer of 20,000 words. Here pairs that
can add nothing are passed over, and the rest is done in arrays; a test holds the scores against the package's.
"""

from __future__ import annotations

from collections.abc import Sequence

from rouge.rouge_score import f_r_p_rouge_n

from .._subsequences import WordIndex, lengths

MOST_STEPS = 990
"""Steps of the package's recursive back-trace that Python's limit of 1,000 leaves it in the official script."""


def rouge_l(prediction: str, answer: str) -> float:
    """ROUGE-L F of the package ``rouge`` (not ``rouge-score``), 0..1.

    Sentences end at every ``.``, words are counted once, an exact match is 0.999999995. Whatever the package raises is
    a 0, and that includes the recursion of its back-trace: two pieces without a full stop that are some 500 words long
    score 0 officially (`MOST_STEPS`).
    """
    said, right = _sentences(prediction), _sentences(answer)
    if not said or not right:
        return 0.0
    if any(_too_deep(one, other) for one, other in _long_pairs(right, said)):
        return 0.0
    index, found = WordIndex(said), set[str]()
    for sentence in dict.fromkeys(map(tuple, right)):
        for number in index.holding(set(sentence) - found):
            other = index.lists[number]
            if (set(sentence) & set(other)) - found:
                found.update(_back(sentence, other)[0])
    words = (len({word for sentence in side for word in sentence}) for side in (said, right))
    return float(f_r_p_rouge_n(*words, len(found))["f"])


def _sentences(text: str) -> list[list[str]]:
    return [" ".join(piece.split()).split(" ") for piece in text.split(".") if piece]


def _long_pairs(
    right: Sequence[Sequence[str]], said: Sequence[Sequence[str]]
) -> list[tuple[Sequence[str], Sequence[str]]]:
    """Pairs of sentences so long together that the back-trace might not come to its end."""
    longest = max(map(len, said))
    return [
        (one, other)
        for one in right
        if len(one) + longest > MOST_STEPS
        for other in said
        if len(one) + len(other) > MOST_STEPS
    ]


def _too_deep(right: Sequence[str], said: Sequence[str]) -> bool:
    """Whether the package's back-trace needs more steps than it has."""
    if min(len(right), len(said)) > MOST_STEPS:  # it ends where one of them does
        return True
    if not set(right) & set(said):
        return len(said) > MOST_STEPS
    return _back(right, said)[1] > MOST_STEPS


def _back(right: Sequence[str], said: Sequence[str]) -> tuple[list[str], int]:
    """The words of the longest common subsequence that the package finds, and in how many steps."""
    table, words, steps = lengths(right, said), [], 0
    i, j = len(right), len(said)
    while i and j:
        steps += 1
        if right[i - 1] == said[j - 1]:
            words.append(right[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1, j] > table[i, j - 1]:
            i -= 1
        else:
            j -= 1
    return words, steps
