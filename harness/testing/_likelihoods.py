"""Checks of log-likelihoods: each is of its own continuation, and they are those of the method's own answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..contracts.method import Method
from ..contracts.outputs import Likelihood, Scored
from ..errors import HarnessError, MeasurementError, UsageError
from ..inference.likelihood import loglikelihood
from ..inference.meter import observe
from ..inference.verification import check
from ._answers import same
from ._results import Failed, NotApplicable
from ._trial import NEW_TOKENS, Seen, Trial

SHORTEST, LONGEST = 0, 2
"""The prompts that likelihoods are asked for, as indices of `Trial.prompts`."""

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Choices:
    """Continuations of one prompt, made from the method's own answer to it.

    Attributes
    ----------
    answer, first
        The answer, and its first token alone.
    bent, other
        The answer with another last token, and another first token alone.
    longest
        Tokens at random. As many as an answer may have, so that a method leaves room for as many here.
    """

    answer: Tokens
    first: Tokens
    bent: Tokens
    other: Tokens
    longest: Tokens

    @property
    def all(self) -> list[Tokens]:
        """Each of them once, the longest neither first nor last."""
        return list(dict.fromkeys((self.answer, self.other, self.longest, self.bent, self.first)))


def choices(trial: Trial, index: int) -> Choices:
    """Continuations of prompt `index`."""
    answer = tuple(trial.first[index].tokens)
    plain = [t for t in range(len(trial.model.tokenizer)) if t not in (*trial.model.end_ids, *answer)]
    middle = len(plain) // 2
    return Choices(
        answer,
        answer[:1],
        (*answer[:-1], plain[middle]),
        (plain[middle + 1],),
        tuple(plain[-NEW_TOKENS:]),
    )


def likelihood(trial: Trial) -> str:
    """Each likelihood is finite, of its own continuation, and the same whatever else is asked."""
    every = choices(trial, SHORTEST).all
    prompt, scored = trial.prompts[SHORTEST], alone(trial, SHORTEST)
    _whole(len(prompt), scored, every)
    method = trial.shared[f"scored {SHORTEST}"]
    assert isinstance(method, Method)
    advice = "leave nothing of what was scored on the method or the model"
    same(trial, trial.first[SHORTEST], trial.watch(method, prompt), "asked after likelihoods", advice)
    # The longest is always among them: a method may leave room for the longest continuation.
    some = [tokens for tokens in reversed(every) if tokens != choices(trial, SHORTEST).first]
    [again] = ask(trial, method, [SHORTEST], [some])
    _agree(
        trial, (every, scored), (some, again), "with other continuations, in another order, after an answer"
    )
    both = [choices(trial, index).all for index in (SHORTEST, LONGEST)]
    together = ask(trial, trial.fresh(trial.prompts), [SHORTEST, LONGEST], both)
    for index, given, found in zip((SHORTEST, LONGEST), both, together):
        _agree(trial, (given, alone(trial, index)), (given, found), "in a batch")
    return f"{len(every)} continuations"


def as_generated(trial: Trial) -> str:
    """A continuation costs what the method was seen to give it while it answered, over the same KV entries."""
    steps = 0
    for index in (SHORTEST, LONGEST):
        seen, scored, given = trial.first[index], alone(trial, index), choices(trial, index)
        if scored.kv_tokens != seen.generation.kv_tokens:
            raise Failed(
                f"likelihoods are over {scored.kv_tokens} KV entries, an answer begins from "
                f"{seen.generation.kv_tokens}; compress alike for both"
            )
        found = dict(zip(given.all, scored.likelihoods))
        rows = _rows(seen)
        if rows is None:
            _likelier(trial, given, found)
            continue
        steps += len(rows)
        for tokens in (given.answer, given.first, given.bent, given.other):
            _priced(trial, tokens, rows, found[tokens])
    return f"{steps} tokens held against the logits they were chosen from" if steps else ""


def _rows(seen: Seen) -> list[Any] | None:
    """Logits each answer token was chosen from; None if the model's head was not seen to give them."""
    rows = seen.logits[-len(seen.tokens) :]
    fits = [int(row.argmax()) for row in rows] == seen.tokens
    return rows if fits else None


def _priced(trial: Trial, tokens: Tokens, rows: Sequence[Any], found: Likelihood) -> None:
    """Hold a likelihood against the logits of an answer that agrees with it in all tokens but the last."""
    due = sum(float(row.double().log_softmax(-1)[token]) for token, row in zip(tokens, rows))
    if abs(due - found.logprob) > 2 * trial.tolerance * len(tokens):
        raise Failed(
            f"a continuation of {len(tokens)} tokens has log-likelihood {found.logprob:.4f}, but while answering "
            f"the model was seen to give it {due:.4f}; sum log_softmax over its tokens (no mean, no shift), read "
            "from the cache an answer begins from"
        )
    top = [row.topk(2).values for row in rows[: len(tokens)]]
    if min(float(best - second) for best, second in top) <= 2 * trial.tolerance:
        return  # too close to say which token is the likeliest
    greedy = all(int(row.argmax()) == token for token, row in zip(tokens, rows))
    if found.greedy != greedy:
        raise Failed(
            f"greedy is {found.greedy} for a continuation that {'is' if greedy else 'is not'} how the method's own "
            "answer begins; it says whether each token is the likeliest after those before it"
        )


def _likelier(trial: Trial, given: Choices, found: dict[Tokens, Likelihood]) -> None:
    """Without logits: what the method answered is no less likely than the same with another token."""
    for chosen, other in ((given.answer, given.bent), (given.first, given.other)):
        if found[chosen].logprob < found[other].logprob - 2 * trial.tolerance * len(chosen):
            raise Failed(
                f"the method's own answer is less likely ({found[chosen].logprob:.4f}) than one with another last "
                f"token ({found[other].logprob:.4f}); score over the cache an answer begins from"
            )


def alone(trial: Trial, index: int) -> Scored:
    """Likelihoods of all `choices` of one prompt by a newly made method, which is kept; taken once for all checks."""
    known = trial.shared.get(f"likelihoods {index}")
    if isinstance(known, Scored):
        return known
    with trial.odd():
        method = trial.fresh([trial.prompts[index]])
        [found] = ask(trial, method, [index], [choices(trial, index).all])
    trial.shared |= {f"likelihoods {index}": found, f"scored {index}": method}
    return found


def ask(
    trial: Trial, method: Method, indices: Sequence[int], continuations: Sequence[Sequence[Tokens]]
) -> list[Scored]:
    """Likelihoods of continuations of some of the prompts, held against what the model was seen doing.

    Raises
    ------
    Failed
        If there are not as many as prompts, or something else was kept than is said.
    NotApplicable
        If the method says that it has none to give.
    """
    prompts = [trial.prompts[index] for index in indices]
    try:
        with observe(method.model.network, method.model.device, len(prompts)) as meter:
            found = loglikelihood(method, prompts, [[list(c) for c in row] for row in continuations])
    except UsageError as error:
        raise NotApplicable(str(error)) from None
    except HarnessError as error:
        raise Failed(f"{len(prompts)} prompts cannot be scored ({error}); override loglikelihood") from None
    if not isinstance(found, list) or [type(scored) for scored in found] != [Scored] * len(prompts):
        raise Failed(f"loglikelihood of {len(prompts)} prompts gave {str(found)[:60]}; give one Scored each")
    for row, (prompt, scored) in enumerate(zip(prompts, found)):
        try:
            check(scored, meter, row, len(prompt))
        except MeasurementError as error:
            said = str(error).partition("; the run")[0]
            raise Failed(
                f"while scoring, {said}; count what is there before a continuation is read"
            ) from None
    return found


def _whole(tokens: int, scored: Scored, given: Sequence[Tokens]) -> None:
    rows = scored.likelihoods
    if len(rows) != len(given):
        raise Failed(f"{len(given)} continuations have {len(rows)} likelihoods; give one each, in order")
    for one, continuation in zip(rows, given):
        if not isinstance(one.logprob, float) or not math.isfinite(one.logprob) or one.logprob > 0:
            raise Failed(
                f"a log-likelihood is {one.logprob!r}; give the natural logarithm of a probability, a finite "
                "float that is at most 0"
            )
        if type(one.greedy) is not bool:
            raise Failed(f"greedy is {one.greedy!r}; give a plain bool")
        if one.tokens != len(continuation):
            raise Failed(
                f"tokens is {one.tokens} for a continuation of {len(continuation)}; count its tokens"
            )
    if scored.prompt_tokens != tokens:
        raise Failed(
            f"prompt_tokens is {scored.prompt_tokens}, the prompt has {tokens}; count what was given, not what was "
            "kept, and no continuation"
        )


def _agree(
    trial: Trial, one: tuple[Sequence[Tokens], Scored], other: tuple[Sequence[Tokens], Scored], when: str
) -> None:
    """Raise Failed if a continuation that was scored twice has two likelihoods."""
    known = dict(zip(one[0], one[1].likelihoods))
    if len(other[0]) != len(other[1].likelihoods):
        raise Failed(
            f"{len(other[0])} continuations have {len(other[1].likelihoods)} likelihoods when asked {when}; give "
            "one each"
        )
    for tokens, found in zip(*(other[0], other[1].likelihoods)):
        apart = abs(found.logprob - known[tokens].logprob)
        if apart > 2 * trial.tolerance * len(tokens):
            raise Failed(
                f"a continuation has log-likelihood {known[tokens].logprob:.4f} alone and {found.logprob:.4f} when "
                f"asked {when}; let each be read from a copy of the same cache, and answer in the order of the "
                "continuations"
            )
    if one[1].kv_tokens != other[1].kv_tokens:
        raise Failed(
            f"likelihoods are over {one[1].kv_tokens} KV entries, but over {other[1].kv_tokens} when asked {when}; "
            "decide for each sample by itself"
        )
