"""Checks of a method's answers: what they are, that they are the same whatever else is asked."""

from __future__ import annotations

import hashlib
from typing import Any

from ..contracts.outputs import Decoding, Generation
from ..evaluation.collecting import writable
from ..inference.proof import TOLERANCE_TOKENS
from ._results import Failed, NotApplicable
from ._trial import NEW_TOKENS, Seen, Trial

STOPS = ("eos", "stop", "length")


def answers(trial: Trial) -> str:
    """Each answer is a `Generation` whose parts agree with each other."""
    for prompt, seen in zip(trial.prompts, trial.first):
        _whole(trial, len(prompt), seen.generation)
    try:
        writable(trial.fresh().facts())
    except (TypeError, ValueError) as error:
        raise Failed(
            f"facts() cannot be written as JSON ({error}); give numbers, text, lists and dicts"
        ) from None
    trial.shared["answers"] = hashlib.sha256(repr([seen.tokens for seen in trial.first]).encode()).hexdigest()
    return f"prompts of {', '.join(str(len(p)) for p in trial.prompts)} tokens"


def _whole(trial: Trial, tokens: int, found: Any) -> None:
    if not isinstance(found, Generation):
        raise Failed(f"an answer is a {type(found).__name__}; return harness.Generation")
    ids, model = found.token_ids, trial.model
    size = len(model.tokenizer)
    if not isinstance(ids, list) or not ids or not all(type(i) is int and 0 <= i < size for i in ids):
        raise Failed(f"token_ids is {str(ids)[:60]}; give a list of at least one token id, as plain int")
    if trial.cls.remote:
        _elsewhere(found)
    elif found.text != (text := model.tokenizer.decode(ids, skip_special_tokens=True)):
        raise Failed(
            f"text {found.text[:40]!r} is not what token_ids say ({str(text)[:40]!r}); decode them with "
            "skip_special_tokens=True and leave the text as it is"
        )
    due = "eos" if ids[-1] in model.end_ids else "length"
    if not trial.cls.remote and found.stop_reason != due:
        raise Failed(
            f"stop_reason is {found.stop_reason!r}, due is {due!r}; harness.inference.stopping.stop_reason says it"
        )
    if found.prompt_tokens != tokens:
        raise Failed(
            f"prompt_tokens is {found.prompt_tokens}, the prompt has {tokens}; count what was given, not what was kept"
        )
    if type(found.kv_tokens) is not int or found.kv_tokens < 0:
        raise Failed(f"kv_tokens is {found.kv_tokens!r}; give the number of KV entries the answer began from")
    try:
        writable(found.details)
    except (TypeError, ValueError) as error:
        raise Failed(
            f"details cannot be written as JSON ({error}); give numbers, text, lists and dicts"
        ) from None


def _elsewhere(found: Generation) -> None:
    """Of an answer from elsewhere the text and its end are what the server says."""
    if not isinstance(found.text, str):
        raise Failed(f"text is {found.text!r}; give the text that came back")
    if found.stop_reason not in STOPS:
        raise Failed(f"stop_reason is {found.stop_reason!r}; give one of {', '.join(STOPS)}")
    if found.kv_tokens != 0:
        raise Failed(f"kv_tokens is {found.kv_tokens}, which nobody could see; a remote method says 0")


def decoding(trial: Trial) -> str:
    """An answer is as long as `Decoding` lets it be, and ends where that says."""
    prompt, base = trial.prompts[0], trial.first[0].tokens
    for most in (1, 3):
        tokens = trial.alone(prompt, Decoding(most)).tokens
        if len(tokens) > most:
            raise Failed(
                f"{len(tokens)} tokens were answered where max_new_tokens is {most}; pass decoding on"
            )
    stop = base[min(1, len(base) - 1)]
    if stop in trial.model.end_ids:
        raise NotApplicable("the model ended its answer at once, so there is no token to stop at")
    found = trial.alone(prompt, Decoding(NEW_TOKENS, stop_ids=(stop,))).generation
    due = base[: base.index(stop) + 1]
    if list(found.token_ids) != due or found.stop_reason != "stop":
        raise Failed(
            f"with stop_ids the answer should have ended after {len(due)} tokens for 'stop', but it has "
            f"{len(found.token_ids)} and ended for {found.stop_reason!r}; pass decoding.stop_ids on"
        )
    least = len(due) + 1
    found = trial.alone(prompt, Decoding(NEW_TOKENS, min_new_tokens=least, stop_ids=(stop,))).generation
    if len(found.token_ids) < least:
        raise Failed(
            f"the answer has {len(found.token_ids)} tokens where min_new_tokens is {least}; pass it on"
        )
    return ""


def every_sample(trial: Trial) -> str:
    """Three samples in a row are each compressed as if they were the first."""
    for number, (first, seen) in enumerate(trial.in_a_row[: len(trial.prompts)], start=1):
        found = seen.entries
        if abs(found - first.entries) > TOLERANCE_TOKENS:
            raise Failed(
                f"sample {number} of three in a row began its answer from {found} KV entries, but from "
                f"{first.entries} when it was the first; something is used up or left behind by the sample before "
                "(a flag, a counter, a hook, a cache): make it anew in every call"
            )
    return "KV entries of tokens: " + ", ".join(
        f"{seen.entries} of {len(prompt)}" for prompt, seen in zip(trial.prompts, trial.first)
    )


def repeat(trial: Trial) -> str:
    """The same prompt gets the same answer again."""
    for prompt, first in zip(trial.prompts, trial.first):
        same(
            trial,
            first,
            trial.alone(prompt),
            "asked a second time",
            "seed what is random, from options and tokens",
        )
    return ""


def order(trial: Trial) -> str:
    """Answers do not depend on what was asked before."""
    advice = "keep nothing of a sample on the method or the model"
    for alone, seen in trial.in_a_row:
        same(trial, alone, seen, "asked after other samples", advice)
    first, other = trial.first[:2]
    told = ("texts of as many tokens", "text"), ("questions", "question")
    for (what, one), (twin, _) in zip(told, trial.in_a_row[-3:-1]):
        if _identical(first, twin) and not _identical(first, other):
            raise Failed(
                f"two {what} got the same logits to the last bit; the {one} is not read, or something is remembered "
                "for the whole process under a key that does not tell them apart: put all that it depends on there"
            )
    return ""


def _identical(one: Seen, other: Seen) -> bool:
    """Whether two answers were chosen from the very same logits."""
    pairs = list(zip(one.logits, other.logits))
    return (
        bool(pairs) and len(one.logits) == len(other.logits) and all(bool((a == b).all()) for a, b in pairs)
    )


def batch(trial: Trial) -> str:
    """A batch of prompts of different length gets the answers they get alone."""
    advice = "pad on the left, mask the padding, and let nothing depend on the other rows"
    for first, seen in zip(trial.first, trial.together):
        generation = seen.generation
        same(trial, first, seen, "asked in a batch", advice)
        if generation.kv_tokens != first.generation.kv_tokens:
            raise Failed(
                f"a sample keeps {first.generation.kv_tokens} KV entries alone and {generation.kv_tokens} in a "
                "batch; decide for each row by itself, and do not count padding"
            )
    return ""


def same(trial: Trial, one: Seen, other: Seen, when: str, advice: str) -> None:
    """Raise Failed if two answers to one prompt differ, or the logits they were chosen from."""
    if one.tokens != other.tokens:
        place = next((i for i, (a, b) in enumerate(zip(one.tokens, other.tokens)) if a != b), -1)
        raise Failed(
            f"a prompt got another answer when {when} (token {place + 1} of {len(one.tokens)} is the first that "
            f"differs); {advice}"
        )
    # What was seen before the answer's own logits (of a prompt, of a probe) may come in another number.
    pairs = list(zip(reversed(one.logits), reversed(other.logits)))[: len(one.tokens)]
    apart = max((float((a - b).abs().max()) for a, b in pairs), default=0.0)
    if apart > trial.tolerance:
        raise Failed(
            f"a prompt got the same answer when {when}, but from logits that differ by up to {apart:.2g}, so that "
            f"others will get another; {advice}"
        )
