"""Checks of methods that have `compress` and `generate`, and of those that say they do not see the question."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from ..contracts.outputs import Decoding
from ..contracts.prompt import TokenizedPrompt
from ._entries import begun_from, entries
from ._results import Failed, NotApplicable
from ._snapshot import differences, frozen
from ._trial import Trial

if TYPE_CHECKING:
    from torch import Tensor

    from ..contracts.method import Method

CLOSE = 1e-4
"""Largest difference of KV entries that were computed from the same tokens."""


def two_phase(trial: Trial) -> str:
    """`compress`, then `generate`, give what the whole gives."""
    _needs_two_phases(trial)
    if trial.cls.sees_question:
        raise NotApplicable("compress_and_generate sees the question, compress and generate do not")
    prompts = trial.prompts
    method = trial.fresh(prompts)
    found = method.generate(_states(trial, method, prompts), [p.suffix_ids for p in prompts], trial.decoding)
    for seen, generation in zip(trial.first, found):
        if list(generation.token_ids) != seen.tokens:
            raise Failed(
                "compress and generate, called one after the other, answer otherwise than compress_and_generate; "
                "do the same in both, or drop the whole and let the harness call compress and generate"
            )
        if generation.kv_tokens != seen.generation.kv_tokens:
            raise Failed(
                f"compress and generate keep {generation.kv_tokens} KV entries, the whole {seen.generation.kv_tokens}; "
                "let both compress alike"
            )
    return ""


def shared_state(trial: Trial) -> str:
    """One compressed context serves two questions and is the same afterwards."""
    _needs_two_phases(trial)
    one, other = trial.pair
    method = _made_query_agnostic(trial, [one, other])
    state = _states(trial, method, [one])[0]
    before = frozen(state)
    questions = [one.suffix_ids, other.suffix_ids, one.suffix_ids]
    found = [method.generate([state], [question], trial.decoding)[0] for question in questions]
    changed = differences(before, frozen(state))
    if changed:
        raise Failed(
            f"answering changed the state: {', '.join(changed[:3])}; let generate copy what it extends, so that "
            "one context can serve many questions"
        )
    for prompt, served in ((one, (found[0], found[2])), (other, (found[1],))):
        fresh = _made_query_agnostic(trial, [one, other])
        [alone] = fresh.generate(_states(trial, fresh, [prompt]), [prompt.suffix_ids], trial.decoding)
        if any(alone.token_ids != generation.token_ids for generation in served):
            raise Failed(
                "a question asked of a state that had served another gets another answer; let generate leave "
                "the state and the method as they were"
            )
    return ""


def question(trial: Trial) -> str:
    """A method that says it does not see the question compresses alike whatever the question is."""
    # Over plain sentences too, which hold the words of both questions everywhere: attention is another there.
    _blind(trial, [trial.prompt(len(trial.prompts[1]), 7, question) for question in trial.questions])
    return _blind(trial, trial.pair)


def _blind(trial: Trial, pair: Sequence[TokenizedPrompt]) -> str:
    if trial.cls.sees_question and not trial.two_phase:
        raise NotApplicable("it says that it sees the question")
    if trial.two_phase:
        states = [_states(trial, _made_query_agnostic(trial, [prompt]), [prompt])[0] for prompt in pair]
        if changed := differences(frozen(states[0]), frozen(states[1])):
            raise Failed(
                f"the compressed context is another for another question: {', '.join(changed[:3])}; set "
                "sees_question = True, or let compress use the context alone"
            )
    if trial.cls.sees_question:
        return "compress and generate alone: the whole says that it sees the question"
    sizes, states = [], []
    for prompt in pair:
        with entries(trial.model.network) as kept:
            seen = trial.alone(prompt)
        sizes.append(seen.entries)
        states.append(begun_from(kept, seen.entries))
    if sizes[0] != sizes[1]:
        raise Failed(
            f"{sizes[0]} KV entries are kept for one question and {sizes[1]} for another of the same length; "
            "set sees_question = True, or decide by the context alone"
        )
    for layer, (one, other) in enumerate(zip(*states)):
        early = one.shape[-2] - len(pair[0].suffix_ids) + 1  # the question's own entries come last
        if one.shape != other.shape or not _close(one[..., :early, :], other[..., :early, :]):
            raise Failed(
                f"other entries are kept in layer {layer // 2} for another question; set sees_question = True, or "
                "choose by the context alone"
            )
    return f"{sizes[0]} KV entries whatever is asked"


def share_key(trial: Trial) -> str:
    """Equal keys, equal states: what `share_key` leaves out makes no difference to `compress`."""
    _needs_two_phases(trial)
    prompt = trial.prompts[1]
    reserve, new = len(prompt.suffix_ids), trial.decoding.max_new_tokens
    known: dict[Any, dict[str, str]] = {}
    for room, most in product((reserve, reserve + 9), (new, 3 * new)):
        method, decoding = _made_query_agnostic(trial, [prompt]), Decoding(most)
        key = method.share_key(len(prompt.head_ids), room, decoding)
        [state] = method.compress([prompt.head_ids], [room], decoding)
        if changed := differences(known.setdefault(key, frozen(state)), frozen(state)):
            raise Failed(
                f"share_key is the same for questions of {reserve} and {room} tokens, or answers of {new} and "
                f"{most}, but the state is not: {', '.join(changed[:3])}; put into the key what compress looks at"
            )
    return f"{len(known)} keys"


def _made_query_agnostic(trial: Trial, prompts: Sequence[TokenizedPrompt]) -> Method:
    """A fresh method that works without the question."""
    method = trial.fresh(prompts)
    method.make_query_agnostic()
    return method


def _close(one: Tensor, other: Tensor) -> bool:
    return not one.numel() or float((one.float() - other.float()).abs().max()) <= CLOSE


def _needs_two_phases(trial: Trial) -> None:
    if not trial.two_phase:
        raise NotApplicable("it has no compress and generate")


def _states(trial: Trial, method: Method, prompts: Sequence[TokenizedPrompt]) -> list[Any]:
    found = method.compress(
        [p.head_ids for p in prompts], [len(p.suffix_ids) for p in prompts], trial.decoding
    )
    if not isinstance(found, list) or len(found) != len(prompts):
        raise Failed(
            f"compress gave no list of {len(prompts)} states for {len(prompts)} contexts; give one each"
        )
    return found
