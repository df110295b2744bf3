"""Activation Beacon v1: the engine shared by every method that condenses windows into beacons.

Source: Zhang et al., "Soaring from 4K to 400K" (arXiv 2401.03462v1), and the behaviour of its official
code at FlagOpen/FlagEmbedding commit 6747f708.

Two observations make it ordinary `transformers` code, with no copied model file:

* Raw tokens never see the beacons of their own window, so a window is two plain forward passes: the raw
  tokens through the model as it is, then the beacons with q, k, v, o swapped for the beacon projections
  (`torch.func.functional_call`, which puts everything back whatever happens).
* An entry's final place in the memory never changes once it is condensed. A beacon's key is computed at
  the position after its last raw token and needs one more rotation, to its rank, to become an entry like
  any other. The compressed cache is then an ordinary one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from harness.contracts import phase
from harness.inference import KVCache, decode, end_token_ids, feed, moved, stack

from .projections import BeaconWeights
from .ratios import RAW, entries


@dataclass(frozen=True)
class Reading:
    """How far one sequence has been read: condensed memory, then the raw entries of the open window.

    Attributes
    ----------
    cache
        ``memory + raw`` entries, rotated for their ranks.
    memory, raw
        Entries of each kind; ``raw`` is less than the interval.
    ratios
        The ratio of every window closed so far, in order (0: kept raw).
    counts
        Entries each of those windows holds in the memory.
    """

    cache: KVCache = field(default_factory=KVCache)
    memory: int = 0
    raw: int = 0
    ratios: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()


ChooseRatio = Callable[[int, int], int]
"""``(row, window index) -> ratio`` for the window of that row that has just filled."""


class ActivationBeacon:
    """Reads sequences interval by interval and condenses each full one.

    Parameters
    ----------
    network
        A `transformers` causal language model of the Llama family tree. Never changed.
    weights
        Embedding and projections of the beacons.
    interval
        Raw tokens of a window; a ratio r leaves ``interval / r`` beacons of them.
    """

    def __init__(self, network: Any, weights: BeaconWeights, interval: int) -> None:
        self.network = network
        self.weights = weights
        self.interval = interval

    def read(
        self,
        readings: Sequence[Reading],
        tokens: Sequence[Sequence[int]],
        ratio: ChooseRatio,
        on_hidden: Callable[[int, int, Tensor], None] | None = None,
    ) -> list[Reading]:
        """Read `tokens` after each reading; every window that fills is condensed at once.

        Parameters
        ----------
        readings, tokens
            A state and its new token ids for each row; lengths may differ, empty ones are passed through.
        ratio
            Called for each window as it fills.
        on_hidden
            Called as ``(row, offset, hidden)`` with the last hidden states ``[chunk, hidden]`` of each
            chunk of raw tokens, `offset` counted in the row's new tokens.
        """
        states = list(readings)
        done = [0] * len(states)
        while active := [i for i, t in enumerate(tokens) if done[i] < len(t)]:
            chunks = [tokens[i][done[i] : done[i] + self.interval - states[i].raw] for i in active]
            caches, hidden = feed(self.network, [states[i].cache for i in active], chunks)
            for i, cache, chunk, rows in zip(active, caches, chunks, hidden):
                if on_hidden is not None:
                    on_hidden(i, done[i], rows[len(rows) - len(chunk) :])
                done[i] += len(chunk)
                states[i] = _with(states[i], cache=cache, raw=states[i].raw + len(chunk))
            self._close_full(states, active, ratio)
        return states

    def probe(self, states: Sequence[Reading], last_tokens: Sequence[int], attention_probe: Any) -> None:
        """Read one more token a row only to see what it attends to; the states stay as they are."""
        feed(
            self.network,
            [s.cache for s in states],
            [[t] for t in last_tokens],
            attention_probe=attention_probe,
        )

    def _close_full(self, states: list[Reading], rows: Sequence[int], ratio: ChooseRatio) -> None:
        """Close the window of each of `rows` that is full; rows of one ratio share a forward pass."""
        groups: dict[int, list[int]] = {}
        for i in rows:
            if states[i].raw == self.interval:
                groups.setdefault(ratio(i, len(states[i].ratios)), []).append(i)
        for r, members in groups.items():
            for i, state in zip(members, self.condense([states[i] for i in members], r)):
                states[i] = state

    def condense(self, states: Sequence[Reading], ratio: int) -> list[Reading]:
        """Close full windows, all by one ratio: raw entries give way to ``interval / ratio`` beacons."""
        beacons = entries(ratio, self.interval)
        caches = [s.cache for s in states] if ratio == RAW else self._beacon_pass(states, ratio)
        return [
            Reading(c, s.memory + beacons, 0, (*s.ratios, ratio), (*s.counts, beacons))
            for s, c in zip(states, caches)
        ]

    def _beacon_pass(self, states: Sequence[Reading], ratio: int) -> list[KVCache]:
        """One forward pass of the beacons over memory and raw entries; returns memory plus new beacons.

        Beacon j (from 1) sees the whole memory, raw offsets below ``j * ratio``, and of the beacons only
        itself; its position is ``memory + j * ratio`` (step expansion).
        """
        device = self.network.device
        number = self.interval // ratio
        step = torch.arange(1, number + 1, device=device)
        batch = stack([s.cache for s in states])
        seen = torch.zeros(len(states), 1, number, batch.width + number, dtype=torch.bool, device=device)
        offsets = torch.arange(self.interval, device=device)
        for row, state in enumerate(states):
            seen[row, 0, :, batch.width - len(state.cache) : batch.width - self.interval] = True
            seen[row, 0, :, batch.width - self.interval : batch.width] = offsets < step[:, None] * ratio
        seen[:, 0, :, batch.width :] = torch.eye(number, dtype=torch.bool, device=device)
        dtype = self.network.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, torch.finfo(dtype).min)
        memory = torch.tensor([s.memory for s in states], device=device)
        embedding = self.weights.embedding(ratio).to(dtype)
        self.weights.run(
            self.network.model,
            ratio,
            inputs_embeds=embedding.expand(len(states), number, -1),
            attention_mask=mask,
            position_ids=memory[:, None] + step * ratio,
            past_key_values=batch.cache,
            use_cache=True,
        )
        shift = step - 1 - step * ratio  # from the position it was computed at to its rank in the memory
        caches = []
        for row, state in enumerate(states):
            fresh = batch.row(row, number).slice(len(state.cache), len(state.cache) + number)
            caches.append(state.cache.slice(0, state.memory).append(moved(self.network, fresh, shift)))
        return caches

    def generate(
        self,
        model: Any,
        states: Sequence[Reading],
        last_tokens: Sequence[int],
        decoding: Any,
        ratio: ChooseRatio,
    ) -> tuple[list[Reading], list[list[int]]]:
        """Answer greedily from each state; a window that fills on the way is condensed like any other.

        `last_tokens` holds for each row the one token not yet read. Returns the final states and the new
        tokens, the end token (if any) included.
        """
        rows = list(states)
        last = list(last_tokens)
        answers: list[list[int]] = [[] for _ in rows]
        active = list(range(len(rows)))
        with phase("decode"):
            while active:
                room = min(self.interval - rows[i].raw for i in active)
                produced = len(answers[active[0]])
                caches, fresh = decode(
                    model,
                    [rows[i].cache for i in active],
                    [last[i] for i in active],
                    decoding,
                    produced=produced,
                    at_most=room,
                )
                for i, cache, tokens in zip(active, caches, fresh):
                    read = len(cache) - len(rows[i].cache)
                    rows[i] = _with(rows[i], cache=cache, raw=rows[i].raw + read)
                    answers[i] += tokens
                    last[i] = tokens[-1]
                ends = end_token_ids(model, decoding)
                active = [
                    i for i in active if last[i] not in ends and len(answers[i]) < decoding.max_new_tokens
                ]
                with torch.no_grad():
                    self._close_full(rows, active, ratio)
        return rows, answers

    def loss(
        self,
        input_ids: Sequence[int],
        labels: Sequence[int],
        ratios: Sequence[int],
        *,
        skip_first: bool = False,
        teacher: Tensor | None = None,
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
        teacher
            Last hidden states ``[tokens, hidden]`` of the same model reading the same tokens uncompressed. If
            given, a token costs the divergence KL(teacher || student) in place of its cross-entropy.
        recompute
            Keep no activations but those between windows; each window is computed again for its gradient.
        """
        device = self.network.device
        shifted = torch.as_tensor([*labels[1:], -100], dtype=torch.long, device=device)
        if skip_first:
            shifted[: self.interval] = -100
        counted = torch.nonzero(shifted != -100).flatten()
        if not len(counted):
            return torch.zeros((), device=device), 0
        ids = list(input_ids[: int(counted[-1]) + 1])

        def cost(start: int, hidden: Tensor) -> Tensor:
            target = shifted[start : start + len(hidden)]
            kept = target != -100
            logits = self.network.lm_head(hidden[kept]).float()
            if teacher is None:
                return F.cross_entropy(logits, target[kept], reduction="sum")
            with torch.no_grad():
                aim = self.network.lm_head(teacher[start : start + len(hidden)][kept]).float()
            return F.kl_div(logits.log_softmax(-1), aim.log_softmax(-1), log_target=True, reduction="sum")

        def window(start: int, keys: Any, values: Any, memory: int) -> tuple[Any, Any, Tensor]:
            """Cost of the window at `start`, and the memory after it; the last window is not condensed."""
            chunk = ids[start : start + self.interval]
            (cache,), hidden = feed(self.network, [KVCache(keys, values)], [chunk])
            if start + self.interval < len(ids):
                full = Reading(cache, memory, self.interval)
                cache = self.condense([full], ratios[start // self.interval])[0].cache
            return cache.keys, cache.values, cost(start, hidden[0])

        keys: tuple[Tensor, ...] = ()
        values: tuple[Tensor, ...] = ()
        sums, memory = [], 0
        for start in range(0, len(ids), self.interval):
            if recompute:
                keys, values, found = checkpoint(window, start, keys, values, memory, use_reentrant=False)
            else:
                keys, values, found = window(start, keys, values, memory)
            memory = keys[0].shape[1]
            sums.append(found)
        return torch.stack(sums).sum(), len(counted)


def _with(state: Reading, *, cache: KVCache, raw: int) -> Reading:
    return Reading(cache, state.memory, raw, state.ratios, state.counts)
