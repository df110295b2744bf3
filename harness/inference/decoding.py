"""Greedy decoding from caches of unequal length."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

import torch

from ..contracts.outputs import Decoding
from . import forcing
from .kvcache import OwnCache, stack
from .stopping import end_token_ids
from .uneven import shaped

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from ..models.model import LanguageModel
    from .kvcache import KVCache


@torch.no_grad()
def decode(
    model: LanguageModel,
    rows: Sequence[KVCache],
    last_tokens: Sequence[int],
    decoding: Decoding,
    *,
    produced: int = 0,
    at_most: int | None = None,
) -> tuple[list[KVCache], list[list[int]]]:
    """Continue greedily from each cache with `transformers`' own `generate`.

    While `harness.inference.likelihood` scores given continuations, these are read and nothing is generated.

    Parameters
    ----------
    rows
        Caches holding everything before `last_tokens`.
    last_tokens
        For each row the one token not yet read.
    produced
        New tokens these rows have already (they count against the limits of `decoding`).
    at_most
        Stop after so many tokens although the answer may go on; None: only the limits of `decoding` count.

    Returns
    -------
    list of KVCache
        The caches after reading the last token and every new token but the newest.
    list of list of int
        New tokens of each row, up to and including its first end token.
    """
    if (scoring := forcing.current()) is not None:
        return scoring.decode(model, rows, last_tokens, decoding, produced, at_most)
    if len(rows) > 1 and any(isinstance(row, OwnCache) for row in rows):
        pairs = [
            decode(model, [row], [last], decoding, produced=produced, at_most=at_most)
            for row, last in zip(rows, last_tokens)
        ]
        return [cache for [cache], _ in pairs], [answer for _, [answer] in pairs]
    from .growing import GrowingLayer

    ends = end_token_ids(model, decoding)
    limit = decoding.max_new_tokens - produced
    if at_most is not None:
        limit = min(limit, at_most)
    batch = stack(rows)
    if not batch.own:
        batch.cache.layers = [GrowingLayer.of(layer) for layer in batch.cache.layers]
    device = model.network.device
    mask = batch.padding_mask([1] * len(rows), device)
    # Left-padding the ids to the cache's width makes them as long as the mask, which every transformers
    # 5 release reads as "the whole sequence so far": it then feeds only what the cache does not hold.
    ids = torch.full((len(rows), batch.width + 1), model.pad_id, dtype=torch.long, device=device)
    ids[:, -1] = torch.as_tensor(list(last_tokens), dtype=torch.long, device=device)
    with shaped(batch.shapes):
        out = model.network.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=batch.cache,
            generation_config=_greedy(model, decoding, produced, limit, ends),
        )
    fresh = out[:, batch.width + 1 :].tolist()
    answers = []
    for tokens in fresh:
        stop = next((i for i, t in enumerate(tokens) if t in ends), len(tokens) - 1)
        answers.append(tokens[: stop + 1])
    steps = len(fresh[0])
    return [batch.row(i, steps).without_last(steps - len(a)) for i, a in enumerate(answers)], answers


@torch.no_grad()
def write(model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
    """Let the model write something that is not the answer: a summary, a plan, a query.

    For methods that generate before they answer. Greedy; called within ``phase("compress")`` its time is booked there.
    What is written while likelihoods are taken is generated as always: only `decode` stands for the answer.

    Parameters
    ----------
    prompts
        Token ids of each, at least one; lengths may differ.
    max_new_tokens
        Most tokens to write.

    Returns
    -------
    list of list of int
        What was written to each, without the end token.
    """
    ends = end_token_ids(model, Decoding(max_new_tokens))
    longest, device = max(map(len, prompts)), model.network.device
    ids = torch.full((len(prompts), longest), model.pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.as_tensor(list(prompt), dtype=torch.long)
        mask[row, longest - len(prompt) :] = 1
    config = _greedy(model, Decoding(max_new_tokens), 0, max_new_tokens, ends)
    out = model.network.generate(
        input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config
    )
    return [list(takewhile(lambda token: token not in ends, row)) for row in out[:, longest:].tolist()]


def _greedy(
    model: LanguageModel, decoding: Decoding, produced: int, limit: int, ends: Sequence[int]
) -> GenerationConfig:
    """Greedy decoding of at most `limit` tokens. Every setting is given: transformers fills gaps from the model."""
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=limit,
        min_new_tokens=min(limit, max(0, decoding.min_new_tokens - produced)),
        use_cache=True,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        temperature=1.0,
        top_k=50,
        top_p=1.0,
        eos_token_id=list(ends) or None,
        pad_token_id=model.pad_id,
        bos_token_id=None,
    )
