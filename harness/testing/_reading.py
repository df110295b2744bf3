"""Whether a text was read in its order and once: told from what passes read, and from where a change shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from ..contracts.prompt import TokenizedPrompt
from ._places import GRAM, placed
from ._results import Failed

PIECE = 2 * GRAM
"""A piece that is read twice has so many tokens at least."""

PAIRS = 6
"""So many pairs of changed tokens are enough to tell an order from chance."""

MOST = 0.8
"""A text is read backwards if so many of the pairs stand the other way round."""


def read_once(prompt: TokenizedPrompt, rows: Sequence[Sequence[int]]) -> None:
    """Raise Failed if one pass reads a whole piece of the text a second time, while others are read once.

    Pieces that overlap are no mistake: each brings something new. Nor is a prompt that says everything twice.
    """
    for row in rows:
        runs = _runs(prompt, row)
        once: set[int] = set()
        again: list[range] = []
        for index, run in enumerate(runs):
            before = runs[:index]
            begins = any(run.start == other.start for other in before)
            ends = run.stop < prompt.context_end and any(run.stop == other.stop for other in before)
            if len(run) >= PIECE and (begins or ends) and once.issuperset(run):
                again.append(run)
            once.update(run)
        twice = {place for run in again for place in run}
        if again and once - twice:
            first, last = (place - prompt.context_start + 1 for place in (again[0].start, again[0].stop - 1))
            raise Failed(
                f"tokens {first} to {last} of the context are read twice in one pass, others once; put each piece "
                "into the prompt once (two ways of choosing that choose the same?)"
            )


def _runs(prompt: TokenizedPrompt, row: Sequence[int]) -> list[range]:
    """Places of the context that stand in a row one behind the other, piece by piece."""
    found: list[range] = []
    before = -2
    for index, place in sorted(placed(prompt, [row]).items()):
        if not prompt.context_start <= place < prompt.context_end:
            continue
        if found and index == before + 1 and place == found[-1].stop:
            found[-1] = range(found[-1].start, place + 1)
        else:
            found.append(range(place, place + 1))
        before = index
    return found


def in_order(first: Mapping[int, int]) -> None:
    """Raise Failed if what stands later in the text shows earlier in the cache.

    Parameters
    ----------
    first
        For tokens that were changed one by one, by their places, the first entry that became another.
    """
    pairs = [
        (first[early], first[late])
        for early, late in combinations(sorted(first), 2)
        if first[early] != first[late]
    ]
    wrong = sum(early > late for early, late in pairs)
    if len(pairs) >= PAIRS and wrong >= MOST * len(pairs):
        raise Failed(
            "the text is read from its end to its beginning: another token near the end changes entries that stand "
            "before those which one near the beginning changes; read the pieces in their order"
        )
