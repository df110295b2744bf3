"""rougeLsum as the package ``rouge-score`` computes it, in time that long summaries can have.

The package fills Python lists for each pair of sentences: half a minute for a summary of 20,000 words. Here pairs that
can add nothing are passed over, and the rest is done in arrays; a test holds the scores against the package's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .._subsequences import WordIndex, lengths


def rouge_l_sum(prediction: str, label: str) -> float:
    """F of the words that sentences have in common in one order, 0..1: each word of a text counts once at most."""
    from rouge_score.scoring import fmeasure
    from rouge_score.tokenize import tokenize

    said, right = (
        [tokenize(line, None) for line in text.split("\n") if line] for text in (prediction, label)
    )
    left_said, left_right = (Counter(word for words in side for word in words) for side in (said, right))
    n, m = left_said.total(), left_right.total()
    if not n or not m:
        return 0.0
    index, hits = WordIndex(said), 0
    for sentence in right:
        for word in _union(sentence, index):
            if left_said[word] > 0 and left_right[word] > 0:
                hits += 1
                left_said[word] -= 1
                left_right[word] -= 1
    return float(fmeasure(hits / n, hits / m))


def _union(sentence: Sequence[str], index: WordIndex) -> list[str]:
    """Words of a sentence, in its order, that are in its longest common subsequence with any other."""
    found: set[int] = set()
    for number in index.holding(sentence):
        other = index.lists[number]
        held = set(other)
        if any(word in held for place, word in enumerate(sentence) if place not in found):
            found.update(_places(sentence, other))
    return [sentence[place] for place in sorted(found)]


def _places(sentence: Sequence[str], other: Sequence[str]) -> list[int]:
    """Places in `sentence` of the longest common subsequence that the package finds."""
    table, places = lengths(sentence, other), []
    i, j = len(sentence), len(other)
    while i and j:
        if sentence[i - 1] == other[j - 1]:
            places.append(i - 1)
            i, j = i - 1, j - 1
        elif table[i, j - 1] > table[i - 1, j]:
            j -= 1
        else:
            i -= 1
    return places
