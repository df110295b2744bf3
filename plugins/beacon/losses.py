"""What a sequence read through the beacon engine costs: the papers' next-token loss."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from harness.inference.forward import feed
from harness.inference.kvcache import KVCache
from harness.inference.tensors import sent

from .engine import ActivationBeacon
from .reading import Reading

IGNORED = -100


def next_token_loss(
    engine: ActivationBeacon,
    input_ids: Sequence[int],
    labels: Sequence[int],
    ratios: Sequence[int],
    *,
    skip_first: bool = False,
    recompute: bool = False,
) -> tuple[Tensor, int]:
    """Sum over one sequence, read window by window, of what each predicted token costs, and how many they are.

    Labels are unshifted (-100: ignored) and are shifted here over the whole sequence, so a window's
    last token predicts the next window's first. The memory is not detached: gradients flow back
    through every later window (full back-propagation through time). Nothing is read beyond the last
    token that predicts something, so a final window is not condensed for nobody.

    Parameters
    ----------
    ratios
        Those of the full windows, in order.
    skip_first
        Leave out the first window, which depends on no memory and teaches nothing (v2's way).
    recompute
        Keep no activations but those between windows; each window is computed again for its gradient.
    """
    network = engine.network
    targets = Targets(labels, network.device, first=engine.end_of(1) if skip_first else 0)
    if not targets.places:
        return torch.zeros((), device=network.device), 0
    ids = list(input_ids[: targets.places[-1] + 1])

    def window(start: int, keys: Any, values: Any, state: Reading) -> tuple[Any, Any, Tensor]:
        """Cost of the window at `start`, and the memory after it; the last window is not condensed."""
        chunk = ids[start : start + engine.room(state)]
        (cache,), hidden = feed(network, [KVCache(keys, values)], [chunk])
        if start + len(chunk) < len(ids):
            full = replace(state, cache=cache, raw=len(chunk), tokens=tuple(chunk))
            cache = engine.condense([full], ratios[len(state.ratios)])[0].cache
        kept, target = targets.between(start, start + len(chunk))
        logits = network.lm_head(hidden[0][kept]).float()
        return cache.keys, cache.values, F.cross_entropy(logits, target, reduction="sum")

    keys: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()
    sums, state, start = [], Reading(), 0
    while start < len(ids):
        if recompute:
            keys, values, found = checkpoint(window, start, keys, values, state, use_reentrant=False)
        else:
            keys, values, found = window(start, keys, values, state)
        sums.append(found)
        start += engine.room(state)
        state = Reading(memory=keys[0].shape[1], ratios=tuple(ratios[: len(sums)]))
    return torch.stack(sums).sum(), len(targets.places)


class Targets:
    """What each token of a sequence is to predict, found on the CPU: no window waits for the device to say where.

    Parameters
    ----------
    labels
        Unshifted, -100 for nothing.
    device
        Where the model is.
    first
        So many first tokens predict nothing.

    Attributes
    ----------
    places
        Indices of the tokens that predict something, ascending.
    """

    def __init__(self, labels: Sequence[int], device: Any, first: int = 0) -> None:
        self.places = [i for i, wanted in enumerate(labels[1:]) if wanted != IGNORED and i >= first]
        both = torch.tensor([self.places, [labels[i + 1] for i in self.places]], dtype=torch.long)
        self._places, self._wanted = sent(both, device)

    def between(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Of the tokens ``start:stop`` those that predict something, counted from `start`, and what they predict."""
        part = slice(bisect_left(self.places, start), bisect_left(self.places, stop))
        return self._places[part] - start, self._wanted[part]
