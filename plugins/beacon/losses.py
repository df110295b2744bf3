"""What a sequence read through the beacon engine costs: the papers' next-token loss, and distillation (ours)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
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

    def any_between(self, start: int, stop: int) -> bool:
        """Whether one of the tokens ``start:stop`` predicts something."""
        return bisect_left(self.places, start) < bisect_left(self.places, stop)


@dataclass(frozen=True)
class Lesson:
    """A sequence as the model itself reads it, raw: what a memory of it is held against.

    Attributes
    ----------
    ids
        Its token ids, up to the last that predicts something.
    targets
        What each of them is to predict.
    first
        Tokens until its first window is full; what comes after is compared.
    cache
        Raw entries of the first window.
    hidden
        Last hidden states ``[tokens after first, hidden]``.
    attended
        For each layer the attention block's output at the same tokens.
    """

    ids: list[int]
    targets: Targets
    first: int
    cache: KVCache
    hidden: Tensor
    attended: list[Tensor]


@torch.no_grad()
def lesson(engine: ActivationBeacon, input_ids: Sequence[int], labels: Sequence[int]) -> Lesson | None:
    """Read a sequence as it is; None if nothing is predicted behind its first window."""
    first = engine.end_of(1)
    targets = Targets(labels, engine.network.device)
    if not targets.places or targets.places[-1] < first:
        return None
    ids = list(input_ids[: targets.places[-1] + 1])
    with attention_outputs(engine.network) as attended:
        (cache,), hidden = feed(engine.network, [KVCache()], [ids])
    return Lesson(
        ids, targets, first, cache.slice(0, first), hidden[0, first:], [a[0, first:] for a in attended]
    )


def distillation_loss(engine: ActivationBeacon, told: Lesson, ratios: Sequence[int]) -> tuple[Tensor, Tensor]:
    """How far the model is from itself once its past is condensed.

    Every full window is condensed; the tokens after the first are read after the memory. The memory is
    detached where later windows are read into it, so a window's beacons learn from the tokens of the open
    window at the end, and from those of other windows that predict something.

    Parameters
    ----------
    told
        The sequence and what the model made of it uncompressed.
    ratios
        Those of the full windows, in order.

    Returns
    -------
    tuple of Tensor
        KL(uncompressed || condensed) of the next-token distribution, the mean over predicted tokens behind the
        first window, in nats; and the squared distance of the attention outputs relative to the uncompressed
        ones' squares, the mean over layers, on every token read with a gradient.
    """
    network = engine.network
    state = Reading(told.cache, 0, told.first, tokens=tuple(told.ids[: told.first]))
    state = engine.condense([state], ratios[0])[0]
    divergences, distances, start = [], [], told.first
    while start < len(told.ids):
        chunk = told.ids[start : start + engine.room(state)]
        stop, last = start + len(chunk), start + len(chunk) == len(told.ids)
        learns = last or told.targets.any_between(start, stop)
        before = state.cache if learns else _detached(state.cache)
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()), attention_outputs(network) as seen:
            (cache,), hidden = feed(network, [before], [chunk])
        if learns:
            part = slice(start - told.first, stop - told.first)
            kept, _ = told.targets.between(start, stop)
            divergences.append(_divergence(network, hidden[0][kept], told.hidden[part][kept]))
            distances.append(_distances(seen, [a[part] for a in told.attended]))
        if not last:
            full = replace(state, cache=_detached(cache), raw=len(chunk), tokens=tuple(chunk))
            closed = engine.condense([full], ratios[len(state.ratios)])[0]
            fresh = closed.cache.slice(state.memory, closed.memory)
            state = replace(closed, cache=state.cache.slice(0, state.memory).append(fresh))
        start = stop
    apart = torch.cat(divergences)
    return apart.mean(), torch.stack(distances).mean()


@contextmanager
def attention_outputs(network: Any) -> Iterator[list[Tensor]]:
    """The output ``[batch, tokens, hidden]`` of every attention block during a forward pass, layer by layer."""
    found: list[Tensor] = []
    with ExitStack() as hooks:
        for layer in network.model.layers:
            hook = layer.self_attn.register_forward_hook(lambda _, args, out: found.append(out[0]))
            hooks.callback(hook.remove)
        yield found


def _divergence(network: Any, hidden: Tensor, aim: Tensor) -> Tensor:
    """KL of each token's prediction, from last hidden states."""
    ours = network.lm_head(hidden).float().log_softmax(-1)
    with torch.no_grad():
        theirs = network.lm_head(aim).float().log_softmax(-1)
    return F.kl_div(ours, theirs, log_target=True, reduction="none").sum(-1)


def _distances(seen: Sequence[Tensor], aims: Sequence[Tensor]) -> Tensor:
    """The relative squared distance of each layer's attention outputs."""
    pairs = [(a[0].float(), b.float()) for a, b in zip(seen, aims)]
    return torch.stack([(a - b).square().sum() / b.square().sum() for a, b in pairs])


def _detached(cache: KVCache) -> KVCache:
    return KVCache(tuple(k.detach() for k in cache.keys), tuple(v.detach() for v in cache.values))
