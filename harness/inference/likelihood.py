"""Log-likelihoods of given continuations, under any method that decodes through `harness.inference.decode`.

`score` lets the method answer as always, but while it does the shared `decode` writes the continuation down
token by token instead of choosing tokens, and notes what each would have cost. So a likelihood is over the
very cache an answer would begin from, compressed or not, and is measured like an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..contracts.outputs import Decoding, Likelihood, Scored
from ..errors import HarnessError, UsageError
from .forcing import Continuations, ForcedToken, Forcing, forcing

if TYPE_CHECKING:
    from ..contracts.method import Method
    from ..contracts.outputs import Generation
    from ..contracts.prompt import TokenizedPrompt


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
