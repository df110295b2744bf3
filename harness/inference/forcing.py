"""Continuations written down in place of an answer, and what each of their tokens would have cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..contracts.outputs import Decoding
from ..errors import HarnessError
from .tensors import sent

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.model import LanguageModel
    from .kvcache import KVCache


_current: ContextVar[Forcing | None] = ContextVar("forcing", default=None)


Continuations = Sequence[Sequence[Sequence[int]]]
"""For each prompt its continuations, each a sequence of token ids."""


class ForcedToken(int):
    """A token that was written down for a method: it knows the row it belongs to, whatever order rows take.

    Attributes
    ----------
    row
        Index of the prompt whose continuation it is of.
    place
        Index in that continuation.
    """

    row: int
    place: int


def forced(value: int, row: int, place: int) -> ForcedToken:
    """A `ForcedToken` of that value."""
    token = ForcedToken(value)
    token.row, token.place = row, place
    return token


@dataclass
class _Choice:
    """A continuation and what is known of it so far; asked for only once all is read, so that no pass waits."""

    tokens: Sequence[int]
    scored: int = 0
    found: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def logprob(self) -> float:
        """Log-likelihood of what was scored, in nats."""
        return sum((float(costs) for costs, _ in self.found), 0.0)

    @property
    def greedy(self) -> bool:
        """Whether every scored token was the likeliest."""
        return all(bool(same) for _, same in self.found)

    @property
    def done(self) -> bool:
        return self.scored == len(self.tokens)

    def add(self, logits: Tensor) -> None:
        """Score the next ``len(logits)`` tokens by ``logits [tokens, vocabulary]``."""
        import torch

        meant = [int(t) for t in self.tokens[self.scored : self.scored + len(logits)]]
        wanted = sent(torch.tensor(meant), logits.device)
        costs = torch.log_softmax(logits.float(), dim=-1).gather(1, wanted[:, None])
        self.found.append((costs.double().sum(), (logits.argmax(-1) == wanted).all()))
        self.scored += len(logits)


class Forcing:
    """Continuations to be scored in one call of a method.

    Parameters
    ----------
    continuations
        For each row the continuations that are still to be scored, at least one.
    """

    def __init__(self, continuations: Continuations) -> None:
        self.choices = [[_Choice(tokens) for tokens in row] for row in continuations]
        self.begun = 0

    def decode(
        self,
        model: LanguageModel,
        rows: Sequence[KVCache],
        last_tokens: Sequence[int],
        decoding: Decoding,
        produced: int,
        at_most: int | None,
    ) -> tuple[list[KVCache], list[list[int]]]:
        """What `kvcache.decode` does while continuations are scored; same parameters, same results.

        The first continuation of each row is written down, in pieces if the method asks for pieces. The
        others are read from the same cache if all of them fits the first piece; if not they stay unscored.
        A continuation ends with an end token in place of its last one, so that no method goes on.
        """
        from .forward import feed
        from .stopping import end_token_ids

        limit = decoding.max_new_tokens - produced
        allowed = limit if at_most is None else min(limit, at_most)
        places = [self._place(token, produced) for token in last_tokens]
        # The token a method hands back may stand for another (see `_answer`): read the one that was meant.
        last = [self.choices[r][0].tokens[p - 1] if p else t for (r, p), t in zip(places, last_tokens)]
        caches, hidden = feed(model.network, rows, [[int(t)] for t in last])
        begin = _logits(model, hidden[:, -1:])
        pieces = [list(self.choices[r][0].tokens[p : p + allowed]) for r, p in places]
        first = [self.choices[r][0] for r, _ in places]
        ahead = _read(model, caches, first, pieces, begin)
        if produced == 0:
            self._others(model, caches, [r for r, _ in places], begin, allowed)
        ends = end_token_ids(model, decoding)
        return ahead, [_answer(c, r, p, piece, ends) for c, (r, p), piece in zip(first, places, pieces)]

    def _place(self, token: int, produced: int) -> tuple[int, int]:
        """Row of a last token, and how many tokens of its continuation are written down already."""
        if produced and isinstance(token, ForcedToken):
            return token.row, token.place + 1
        if produced or self.begun == len(self.choices):
            raise HarnessError(
                "likelihoods: the method decodes its rows more than once, or not from the tokens it was given; "
                "harness.inference.decode is "
                "for the answer alone: write what comes before it with harness.inference.write, or override "
                "loglikelihood"
            )
        self.begun += 1
        return self.begun - 1, 0

    def _others(
        self,
        model: LanguageModel,
        caches: Sequence[KVCache],
        rows: Sequence[int],
        begin: Sequence[Tensor],
        allowed: int,
    ) -> None:
        """Score every further continuation that fits, from the same caches, which stay as they are."""
        fitting = [[c for c in self.choices[r][1:] if len(c.tokens) <= allowed] for r in rows]
        for k in range(max(map(len, fitting))):
            mine = [i for i, choices in enumerate(fitting) if k < len(choices)]
            choices = [fitting[i][k] for i in mine]
            _read(
                model,
                [caches[i] for i in mine],
                choices,
                [c.tokens for c in choices],
                [begin[i] for i in mine],
            )


def _logits(model: LanguageModel, hidden: Tensor) -> list[Tensor]:
    """For each row ``[positions, vocabulary]`` from last hidden states ``[batch, positions, hidden]``."""
    network: Any = model.network
    return [network.lm_head(row) for row in hidden]


def _read(
    model: LanguageModel,
    caches: Sequence[KVCache],
    choices: Sequence[_Choice],
    pieces: Sequence[Sequence[int]],
    begin: Sequence[Tensor],
) -> list[KVCache]:
    """Score the next piece of each choice; `begin` holds the logits of its first token.

    Returns the caches after each piece but its last token.
    """
    from .forward import feed

    after = list(caches)
    longer = [i for i, piece in enumerate(pieces) if len(piece) > 1]
    rest: dict[int, Tensor] = {}
    if longer:
        read, hidden = feed(model.network, [caches[i] for i in longer], [pieces[i][:-1] for i in longer])
        for i, cache, states in zip(longer, read, hidden):
            after[i] = cache
            rest[i] = states[len(states) - len(pieces[i]) + 1 :]
    for i, (choice, piece) in enumerate(zip(choices, pieces)):
        if piece:
            choice.add(begin[i])
        if i in rest:
            choice.add(_logits(model, rest[i][None])[0])
    return after


def _answer(choice: _Choice, row: int, place: int, piece: Sequence[int], ends: Sequence[int]) -> list[int]:
    """A piece as the method shall see it: an end token stands at the end of the continuation, and only there."""
    neutral = next(n for n in range(len(ends) + 1) if n not in ends)
    values = [neutral if t in ends else int(t) for t in piece]
    if choice.done:
        values = [*values[:-1], ends[0]]
    return [forced(value, row, place + k) for k, value in enumerate(values)]


@contextmanager
def forcing(continuations: Continuations) -> Iterator[Forcing]:
    """Within the block `harness.inference.decode` scores these continuations instead of answering."""
    token = _current.set(found := Forcing(continuations))
    try:
        yield found
    finally:
        _current.reset(token)


def current() -> Forcing | None:
    """What is being scored here and now; None: answers are generated."""
    return _current.get()
