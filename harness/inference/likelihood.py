"""Log-likelihoods of given continuations, under any method that decodes through `harness.inference.decode`.

`score` lets the method answer as always, but while it does the shared `decode` writes the continuation down
token by token instead of choosing tokens, and notes what each would have cost. So a likelihood is over the
very cache an answer would begin from, compressed or not, and is measured like an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..contracts.outputs import Decoding, Likelihood, Scored
from ..errors import HarnessError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ..contracts.method import Method
    from ..contracts.outputs import Generation
    from ..contracts.prompt import TokenizedPrompt
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
    """A continuation and what is known of it so far."""

    tokens: Sequence[int]
    logprob: float = 0.0
    greedy: bool = True
    scored: int = 0

    @property
    def done(self) -> bool:
        return self.scored == len(self.tokens)

    def add(self, logits: Tensor) -> None:
        """Score the next ``len(logits)`` tokens by ``logits [tokens, vocabulary]``."""
        import torch

        wanted = torch.tensor(
            [int(t) for t in self.tokens[self.scored : self.scored + len(logits)]], device=logits.device
        )
        costs = torch.log_softmax(logits.float(), dim=-1).gather(1, wanted[:, None])
        self.logprob += float(costs.double().sum())
        self.greedy = self.greedy and bool((logits.argmax(-1) == wanted).all())
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
                "it has to override loglikelihood"
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


def loglikelihood(
    method: Method, prompts: Sequence[TokenizedPrompt], continuations: Continuations
) -> list[Scored]:
    """How likely continuations are under a method; one `Scored` for each prompt, in order.

    By the method's own `loglikelihood` where it overrides it, else `by_decoding`.

    Parameters
    ----------
    prompts
        As in `Method.compress_and_generate`.
    continuations
        For each prompt the token ids of one or more continuations, none of them empty.

    Raises
    ------
    UsageError
        If the method does not decode through `harness.inference.decode` and has no `loglikelihood` of its own.
    """
    if len(prompts) != len(continuations):
        raise ValueError(f"{len(prompts)} prompts, but continuations for {len(continuations)}")
    if method.own_loglikelihood:
        return method.loglikelihood(prompts, continuations)
    return by_decoding(method, prompts, continuations)


def by_decoding(
    method: Method, prompts: Sequence[TokenizedPrompt], continuations: Continuations
) -> list[Scored]:
    """Likelihoods of any method that decodes through `harness.inference.decode`, whatever it overrides.

    The method generates as always, and the continuation is written down in place of what it would have chosen.
    Context and question are read once for all continuations of a prompt, unless one fills an interval on the way.
    """

    def answer(rows: Sequence[int], decoding: Decoding) -> list[Generation]:
        return method.run([prompts[i] for i in rows], decoding)

    return score(type(method).__name__, answer, continuations)


def score(
    name: str,
    answer: Callable[[Sequence[int], Decoding], list[Generation]],
    continuations: Continuations,
) -> list[Scored]:
    """Score continuations of each row by letting a method answer it (see `by_decoding`).

    Parameters
    ----------
    name
        The method's, for messages.
    answer
        Answers the rows it is given the indices of, in their order.
    continuations
        For each row.

    Raises
    ------
    UsageError
        If the method does not decode through `harness.inference.decode`.
    HarnessError
        If it mixes the rows of a batch, or stops before a continuation was scored to its end.
    """
    from .meter import settle

    if not all(row and all(row) for row in continuations):
        raise ValueError("each prompt needs at least one continuation, and each continuation a token")
    decoding = Decoding(max(len(tokens) for row in continuations for tokens in row))
    found: list[list[Likelihood | None]] = [[None] * len(row) for row in continuations]
    results: dict[int, Generation] = {}
    while pending := [i for i, row in enumerate(found) if None in row]:
        unscored = [[j for j, known in enumerate(found[i]) if known is None] for i in pending]
        with forcing([[continuations[i][j] for j in js] for i, js in zip(pending, unscored)]) as state:
            answers = answer(pending, decoding)
        _check(name, state, answers)
        for i, js, choices, given in zip(pending, unscored, state.choices, answers):
            results.setdefault(i, given)
            for j, c in zip(js, choices):
                if c.done:
                    found[i][j] = Likelihood(c.logprob, c.greedy, len(c.tokens))
        settle()  # what follows is the same answer again, for continuations that filled an interval
    return [
        Scored([x for x in row if x is not None], g.prompt_tokens, g.kv_tokens, g.details)
        for row, g in zip(found, (results[i] for i in range(len(found))))
    ]


def _check(name: str, state: Forcing, answers: Sequence[Generation]) -> None:
    if not state.begun:
        raise UsageError(
            f"method {name} does not decode through harness.inference.decode, so that likelihoods cannot be taken "
            "from it; let it override loglikelihood"
        )
    if len(answers) != len(state.choices) or not all(row[0].done for row in state.choices):
        raise HarnessError(f"method {name} stopped before a continuation was read; override loglikelihood")
    if len(answers) > 1 and any(
        not isinstance(t, ForcedToken) or t.row != i for i, a in enumerate(answers) for t in a.token_ids[:1]
    ):
        raise HarnessError(
            f"method {name} decodes a batch in an order of its own; ask its samples one by one "
            "(--batch-size 1), or let it override loglikelihood"
        )
