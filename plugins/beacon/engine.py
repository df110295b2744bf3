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
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.contracts import phase
from harness.contracts.phases import step
from harness.inference import KVCache, decode, end_token_ids, feed, moved, stack
from harness.inference.kvcache import Batch
from harness.inference.tensors import sent

from . import together
from .form import PAPERS_SINKS, PAPERS_START, Start
from .pieces import Kept
from .projections import BeaconWeights
from .ratios import RAW, entries
from .reading import ChooseRatio, Reading


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
    start
        What a beacon is fed.
    sinks
        First tokens of each sequence that stay raw in front of the memory.
    """

    def __init__(
        self,
        network: Any,
        weights: BeaconWeights,
        interval: int,
        start: Start = PAPERS_START,
        sinks: int = PAPERS_SINKS,
    ) -> None:
        self.network = network
        self.weights = weights
        self.interval = interval
        self.start = start
        self.sinks = sinks
        self._sights: dict[int, Tensor] = {}

    def room(self, state: Reading) -> int:
        """Raw tokens until the open window is full; the first one takes the sinks in as well."""
        return self.interval + (0 if state.ratios else self.sinks) - state.raw

    def end_of(self, windows: int) -> int:
        """Tokens read when so many windows have just closed."""
        return self.sinks + windows * self.interval if windows else 0

    def read(
        self,
        readings: Sequence[Reading],
        tokens: Sequence[Sequence[int]],
        ratio: ChooseRatio,
        on_hidden: Callable[[int, int, Tensor], None] | None = None,
        kept: Sequence[Kept] | None = None,
    ) -> list[Reading]:
        """Read `tokens` after each reading; every window that fills is condensed at once.

        Many intervals share a pass where nothing learns from them (see `together`).

        Parameters
        ----------
        readings, tokens
            A state and its new token ids for each row; lengths may differ, empty ones are passed through.
        ratio
            Called for each window as it fills.
        on_hidden
            Called as ``(row, offset, hidden)`` with the last hidden states ``[chunk, hidden]`` of each
            chunk of raw tokens, `offset` counted in the row's new tokens.
        kept
            One a row: gets the raw entries of windows that close, for `again.condensed_again`. Only where intervals
            share passes; elsewhere it stays empty.
        """
        if together.possible(self.network) and any(
            len(new) >= self.room(state) for state, new in zip(readings, tokens)
        ):
            return together.read(self, readings, tokens, ratio, on_hidden, kept)
        states = list(readings)
        done = [0] * len(states)
        while active := [i for i, t in enumerate(tokens) if done[i] < len(t)]:
            longest = max(active, key=lambda i: len(tokens[i]))
            step(done[longest] // self.interval, -(-len(tokens[longest]) // self.interval), "intervals")
            chunks = [tokens[i][done[i] : done[i] + self.room(states[i])] for i in active]
            caches, hidden = feed(self.network, [states[i].cache for i in active], chunks)
            for i, cache, chunk, rows in zip(active, caches, chunks, hidden):
                if on_hidden is not None:
                    on_hidden(i, done[i], rows[len(rows) - len(chunk) :])
                done[i] += len(chunk)
                states[i] = self.extended(states[i], cache, chunk)
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
            if self.room(states[i]) == 0:
                groups.setdefault(ratio(i, len(states[i].ratios)), []).append(i)
        for r, members in groups.items():
            for i, state in zip(members, self.condense([states[i] for i in members], r)):
                states[i] = state

    def extended(self, state: Reading, cache: KVCache, read: Sequence[int]) -> Reading:
        """The state after more raw tokens of the open window."""
        tokens = (*state.tokens, *read) if self.start == "last" else ()
        return replace(state, cache=cache, raw=state.raw + len(read), tokens=tokens)

    def condense(self, states: Sequence[Reading], ratio: int) -> list[Reading]:
        """Close full windows, all by one ratio: raw entries give way to ``interval / ratio`` beacons."""
        # Before the first window closes its sinks were counted among its raw entries.
        before = [s.memory if s.ratios else self.sinks for s in states]
        caches = [s.cache for s in states] if ratio == RAW else self._beacon_pass(states, before, ratio)
        return [self.closed(s, c, memory, ratio) for s, c, memory in zip(states, caches, before)]

    def closed(self, state: Reading, cache: KVCache, before: int, ratio: int) -> Reading:
        """The state once its window has closed onto `before` entries of memory."""
        beacons = entries(ratio, self.interval)
        return Reading(cache, before + beacons, 0, (*state.ratios, ratio), (*state.counts, beacons))

    def _beacon_pass(self, states: Sequence[Reading], before: Sequence[int], ratio: int) -> list[KVCache]:
        """Memory plus new beacons of each state, all in one forward pass."""
        batch = stack([s.cache for s in states])
        fresh = self.beacons(batch, before, [s.tokens for s in states], ratio)
        heads = len(fresh.keys[0]) // len(states)
        return [
            state.cache.slice(0, kept).append(fresh.heads(row * heads, (row + 1) * heads))
            for row, (state, kept) in enumerate(zip(states, before))
        ]

    def beacons(
        self, batch: Batch, before: Sequence[int], tokens: Sequence[Sequence[int]], ratio: int
    ) -> KVCache:
        """One forward pass of the beacons over memory and raw entries of full windows.

        Beacon j (from 1) sees all `before` entries of memory, raw offsets below ``j * ratio``, and of the
        beacons only itself; its position is ``memory + j * ratio`` (step expansion). One that starts as the
        last token it stands for is in that token's place: one position earlier, not seeing the token's own
        raw entry, which it repeats.

        Parameters
        ----------
        batch
            Memory and then the window of each row; it is extended by the beacons.
        before
            Memory entries of each row, sinks included.
        tokens
            Ids of each row's window, the last ones; looked at only where beacons start as the last token.

        Returns
        -------
        KVCache
            The new entries at their ranks, the rows' heads behind each other.
        """
        device, dtype = self.network.device, self.network.dtype
        number, back = self.interval // ratio, int(self.start == "last")
        ends = torch.arange(1, number + 1) * ratio - back
        mask = self.sight(ratio, batch.width - self.interval)
        if len(set(batch.lengths)) > 1:
            mask = mask.repeat(len(batch.lengths), 1, 1, 1)
            for row, n in enumerate(batch.lengths):
                mask[row, ..., : batch.width - n] = torch.finfo(dtype).min
        self.weights.run(
            self.network.model,
            ratio,
            inputs_embeds=self._fed(tokens, ratio).to(dtype),
            attention_mask=mask,
            position_ids=sent(torch.tensor(before)[:, None] + ends, device),
            past_key_values=batch.cache,
            use_cache=True,
        )
        # From the position it was computed at to its rank in the memory.
        shift = sent(torch.arange(number) - ends, device)
        return moved(self.network, _last_of_all(batch.cache, number), shift)

    def sight(self, ratio: int, before: int) -> Tensor:
        """What beacons see of memory, interval and each other: ``[1, 1, beacons, before + interval + beacons]``."""
        if ratio not in self._sights:
            device, dtype = self.network.device, self.network.dtype
            number = self.interval // ratio
            ends = torch.arange(1, number + 1) * ratio - int(self.start == "last")
            seen = torch.arange(self.interval) < ends[:, None]
            seen = torch.cat((seen, torch.eye(number, dtype=torch.bool)), dim=1)
            mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)
            self._sights[ratio] = sent(mask, device)
        own = self._sights[ratio]
        return torch.cat((own.new_zeros(len(own), before), own), dim=1)[None, None]

    def _fed(self, tokens: Sequence[Sequence[int]], ratio: int) -> Tensor:
        """Input embeddings ``[rows, beacons, hidden]`` of the beacons that close these windows."""
        learned = self.weights.embedding(ratio)
        if self.start == "end":
            return learned.expand(len(tokens), self.interval // ratio, -1)
        last = torch.tensor([t[-self.interval :][ratio - 1 :: ratio] for t in tokens])
        embedded: Tensor = self.network.model.embed_tokens(sent(last, self.network.device))
        return embedded + learned.to(torch.promote_types(embedded.dtype, learned.dtype))

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
                room = min(self.room(rows[i]) for i in active)
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
                    read = [last[i], *tokens][: len(cache) - len(rows[i].cache)]
                    rows[i] = self.extended(rows[i], cache, read)
                    answers[i] += tokens
                    last[i] = tokens[-1]
                ends = end_token_ids(model, decoding)
                active = [
                    i for i in active if last[i] not in ends and len(answers[i]) < decoding.max_new_tokens
                ]
                with torch.no_grad():
                    self._close_full(rows, active, ratio)
        return rows, answers


def _last_of_all(cache: Any, number: int) -> KVCache:
    """The last entries of every row of a batch as one cache, the rows' heads behind each other."""
    return KVCache(
        tuple(layer.keys[:, :, -number:].flatten(0, 1) for layer in cache.layers),
        tuple(layer.values[:, :, -number:].flatten(0, 1) for layer in cache.layers),
    )
