"""What methods that shorten the text itself have in common: how much of it may stay, and the answer from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness import Decoding, Generation, UsageError

if TYPE_CHECKING:
    from harness.inference import KVCache
    from harness.models import LanguageModel


NOT_CONDENSED = "nothing was condensed: the model read the text as it is"
"""Said of an answer to a text that fits, or that is too short to be shortened: it tells nothing of the method."""


def noted(details: dict[str, Any], held: int, read: int) -> dict[str, Any]:
    """The details of an answer that began from `held` entries of `read` tokens, the last of them not yet read."""
    if held < read - 1:
        return details
    return {**details, "notes": [*details.get("notes", ()), NOT_CONDENSED]}


def room(method: str, model: LanguageModel, budget: int | None, around: int, decoding: Decoding) -> int:
    """Tokens of a context that may stay beside `around` tokens: in the window, with the answer, and in the `budget`.

    Raises
    ------
    UsageError
        If they leave no room at all.
    """
    most = model.context_length - around - decoding.max_new_tokens
    if most < 1:
        raise UsageError(
            f"method {method}: instruction and question ({around} tokens) and the answer ({decoding.max_new_tokens}) "
            f"leave no room in the window of {model.context_length} tokens of {model.name}"
        )
    if budget is not None and budget <= around:
        raise UsageError(
            f"method {method}: instruction and question are {around} tokens, which leave nothing of a --budget of "
            f"{budget} entries to the text"
        )
    return most if budget is None else min(budget - around, most)


def pieces(ids: Sequence[int], size: int) -> list[Sequence[int]]:
    """`ids` cut into pieces of `size` tokens; the last may be shorter."""
    return [ids[start : start + size] for start in range(0, len(ids), size)]


@dataclass(frozen=True)
class Condensed:
    """A context that was read: what is held of it, how many tokens it was, and what the record says of it."""

    cache: KVCache
    read: int
    details: dict[str, Any]


def answer(
    model: LanguageModel,
    states: Sequence[Condensed],
    questions: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    shortens: bool = True,
) -> list[Generation]:
    """Read each question after its state and answer.

    `shortens`: the method saves entries, so that an answer that began from all of them tells nothing of it.
    """
    import torch

    from harness.contracts import phase
    from harness.inference import decode, feed, stop_reason

    longer = [i for i, question in enumerate(questions) if len(question) > 1]
    found = [state.cache for state in states]
    if longer:
        with phase("prefill"), torch.no_grad():
            fed, _ = feed(model.network, [found[i] for i in longer], [questions[i][:-1] for i in longer])
        for i, cache in zip(longer, fed):
            found[i] = cache
    with phase("decode"):
        _, answers = decode(model, found, [question[-1] for question in questions], decoding)
    return [
        Generation(
            text=model.tokenizer.decode(tokens, skip_special_tokens=True),
            token_ids=tokens,
            stop_reason=stop_reason(model, decoding, tokens),
            prompt_tokens=state.read + len(question),
            kv_tokens=len(cache),
            details=noted(state.details, len(cache), state.read + len(question))
            if shortens
            else state.details,
        )
        for tokens, state, question, cache in zip(answers, states, questions, found)
    ]
