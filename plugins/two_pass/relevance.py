"""How relevant each interval of a context is to its question: by attention, by BM25, or at random."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from harness._util.words import search_words
from harness.inference.forward import shallow

from ..beacon.reading import Reading

if TYPE_CHECKING:
    from harness import TokenizedPrompt

    from ..beacon.engine import ActivationBeacon
    from ..beacon.pieces import Kept
    from ..beacon.reading import ChooseRatio


SAME = 1e-9
"""Share by which relevances may differ and be the same: what the order of a sum changes."""


class BeaconAttention:
    """An attention probe: what the last token attends to, summed over each interval's memory entries.

    Sinks belong to no interval, so what they get counts for none.

    Pass it to a forward pass as ``attention_probe`` (see `harness.models.attention`); it costs one query row a
    layer, never a full attention matrix.

    Parameters
    ----------
    readings
        The state of each row before the pass; rows are stacked with padding on the left.
    first
        The first layer that counts, from 0.
    """

    def __init__(self, readings: Sequence[Reading], first: int = 0) -> None:
        self.readings, self.first = readings, first
        self._shares: list[list[Tensor]] = [[] for _ in readings]

    def __call__(self, layer: int, query: Tensor, key: Tensor, scaling: float) -> None:
        """Add one layer: query ``[batch, heads, head_dim]``, key ``[batch, kv_heads, keys, head_dim]``."""
        if layer < self.first:
            return
        batch, heads, dim = query.shape
        grouped = query.view(batch, key.shape[1], heads // key.shape[1], dim)
        scores = (grouped @ key.transpose(2, 3)).float() * scaling
        for row, reading in enumerate(self.readings):
            own = scores[row, ..., key.shape[2] - len(reading.cache) - 1 :]
            # Kept on the device until `relevance`: no layer waits for it.
            shares = own.softmax(-1).flatten(0, 1).mean(0)[reading.sinks : reading.memory]
            self._shares[row].append(shares)

    def by_layer(self) -> list[Tensor]:
        """For each row what each layer gives each interval ``[layers, intervals]``, the mean of its entries."""
        return [self._by_layer(*both) for both in zip(self.readings, self._shares)]

    def relevance(self) -> list[list[float]]:
        """For each row the mean over layers, heads and the interval's entries, normalised to sum to 1."""
        found: list[list[float]] = []
        for layers in self.by_layer():
            mean = sum(layers, torch.zeros(layers.shape[1], dtype=torch.float64)) / max(len(layers), 1)
            found.append((mean / mean.sum()).tolist())
        return found

    def _by_layer(self, reading: Reading, shares: Sequence[Tensor]) -> Tensor:
        """Of one row, from what each layer's heads attend to on the average."""
        if not reading.counts or not shares:
            return torch.zeros(len(shares), len(reading.counts), dtype=torch.float64)
        counts = list(reading.counts)
        return torch.stack(
            [
                torch.stack([part.mean() for part in torch.split(layer, counts)])
                for layer in torch.stack([share.to(shares[0].device) for share in shares]).cpu().double()
            ]
        )


def attended(
    engine: ActivationBeacon,
    states: Sequence[Reading],
    ids: Sequence[Sequence[int]],
    ratio: ChooseRatio,
    layers: tuple[int, int] | None = None,
    kept: Sequence[Kept] | None = None,
) -> tuple[list[Reading], BeaconAttention]:
    """Read `ids` after `states`, all but the last token of each row, and see what that token attends to.

    `layers` are the first that counts and one more than the last, no further than which is read; None: all. `kept` is
    that of `ActivationBeacon.read`. Nothing learns from it.
    """
    with torch.no_grad(), shallow(engine.network, None if layers is None else layers[1]):
        read = engine.read(states, [row[:-1] for row in ids], ratio, kept=kept)
        probe = BeaconAttention(read, 0 if layers is None else layers[0])
        engine.probe(read, [row[-1] for row in ids], probe)
    return read, probe


def bm25(intervals: Sequence[str], question: str) -> list[float]:
    """BM25 score of each interval for the question, 0 or more (Okapi with `rank_bm25`'s k1 and b).

    What a word is worth is Lucene's ``log(1 + (N - n + .5) / (n + .5))``, which no word brings to zero: the plain form,
    and its floor at a quarter of the mean of all words, are zero or negative where a word stands in half of few
    intervals or more. See `harness._util.words` for what a word is.
    """
    from rank_bm25 import BM25Okapi

    documents = [search_words(text) or [""] for text in intervals]
    ranked: Any = BM25Okapi(documents)
    held = Counter(word for document in documents for word in set(document))
    ranked.idf = {word: math.log1p((len(documents) - n + 0.5) / (n + 0.5)) for word, n in held.items()}
    return [float(s) for s in ranked.get_scores(search_words(question))]


def random(count: int, seed: int, ids: Sequence[int]) -> list[float]:
    """Relevance drawn uniformly from (0, 1), always the same for the same seed and prompt."""
    import hashlib

    digest = hashlib.sha256(np.asarray(ids, dtype=np.int64).tobytes()).digest()
    drawn = np.random.default_rng([seed, int.from_bytes(digest[:8], "little")]).random(count)
    return [float(value) for value in drawn]


def standardise(relevance: Sequence[float]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of one sample's own relevances, repeated for each interval.

    BM25 and random relevance have no position bias to calibrate away, so they are compared within the
    sample.
    """
    values = np.asarray(relevance, dtype=np.float64)
    return [float(values.mean())] * len(values), [float(values.std())] * len(values)


def says_nothing(kind: str, relevance: Sequence[float], z: Sequence[float]) -> str | None:
    """What a record must say of a relevance that tells no interval from another; None if it tells them apart."""
    if len(relevance) < 2:
        return None
    for values, what in ((relevance, "relevance"), (z, "standardised relevance")):
        if max(values) - min(values) <= SAME * max(map(abs, values)):
            return f"the {what} by {kind} is the same for all intervals: ratios do not depend on it"
    return None


def texts(prompt: TokenizedPrompt, intervals: int, engine: ActivationBeacon, tokenizer: Any) -> list[str]:
    """What each interval holds of the context: instruction and question often repeat the query's words."""
    found = []
    for number in range(1, intervals + 1):
        stop = engine.end_of(number)
        start = max(stop - engine.interval, prompt.context_start)
        ids = prompt.ids[start : min(stop, prompt.context_end)]
        found.append(str(tokenizer.decode(ids, skip_special_tokens=True)))
    return found
