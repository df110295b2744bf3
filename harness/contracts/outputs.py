"""What a method returns: answers and likelihoods, with what it declares about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Decoding:
    """How answers are decoded. Greedy always: the harness compares methods, not samplers.

    Attributes
    ----------
    max_new_tokens
        Most tokens an answer may have.
    min_new_tokens
        Fewest tokens before an end token is allowed.
    stop_ids
        Token ids that end an answer besides the model's own end tokens (LongBench's newline).
    """

    max_new_tokens: int
    min_new_tokens: int = 0
    stop_ids: tuple[int, ...] = ()


@dataclass
class Generation:
    """One answer, and what the method declares about how it came about.

    Attributes
    ----------
    text
        The decoded new tokens, special tokens skipped, otherwise untouched.
    token_ids
        The new tokens, the end token (if one was produced) included.
    stop_reason
        ``"eos"`` (an end token of the model), ``"stop"`` (one of `Decoding.stop_ids`) or ``"length"``.
    prompt_tokens
        Tokens of the prompt the method was given.
    kv_tokens
        KV entries of this sample resident when the answer began: what the prompt was compressed to. The
        runner fails the run if the model was seen attending to another number. Layers and heads may hold different
        numbers: this is their mean, rounded. A method with `Method.remote` says 0: nobody knows.
    details
        JSON-ready facts for the record: ratio of each interval, relevance, and so on. A list of sentences under
        ``notes`` is what a reader must know of this answer: tables say how many answers each stands beside.
    """

    text: str
    token_ids: list[int]
    stop_reason: str
    prompt_tokens: int
    kv_tokens: int
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Likelihood:
    """How likely one continuation is.

    Attributes
    ----------
    logprob
        Natural logarithm of its probability: the sum over its tokens, each given all before it.
    greedy
        Whether greedy decoding would have given exactly these tokens.
    tokens
        How many they are.
    """

    logprob: float
    greedy: bool
    tokens: int


@dataclass
class Scored:
    """Likelihoods of the continuations of one prompt, and what `Generation` declares of an answer.

    Attributes
    ----------
    likelihoods
        One for each continuation, in order.
    prompt_tokens, kv_tokens, details
        As in `Generation`; held against what was measured in the same way.
    """

    likelihoods: list[Likelihood]
    prompt_tokens: int
    kv_tokens: int
    details: dict[str, Any] = field(default_factory=dict)
