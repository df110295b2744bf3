"""Which samples run in one go: a batch, or all questions over one context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..contracts.method import Method
from ..contracts.outputs import Decoding
from .apart import apart

if TYPE_CHECKING:
    from .samples import PreparedSample


@dataclass
class SampleBatch:
    """Samples that are asked in one go: a batch, or all questions over one context, compressed once."""

    samples: list[PreparedSample] = field(default_factory=list)
    shared: bool = False


def sample_batches(
    method: Method,
    samples: Sequence[PreparedSample],
    batch_size: int,
    share: bool,
    longest_first: bool = False,
) -> Iterator[SampleBatch]:
    """Put samples of one task together, always in the same way whatever has been finished already.

    Questions over one context form a group where the method can serve them from one state without any answer
    being another than it would be alone. All others form batches of up to `batch_size` with one decoding.

    `longest_first` sorts by kind and length before: rows of a batch are then of nearly equal length, and a batch too
    large for the memory comes first.
    """
    if longest_first:
        places = {kind: place for place, kind in enumerate(dict.fromkeys(map(_kind, samples)))}
        samples = sorted(samples, key=lambda p: (places[_kind(p)], -p.tokens))
    groups: dict[Any, list[PreparedSample]] = {}
    if share and method.shares_contexts:
        for prepared in (p for p in samples if not p.questions):
            groups.setdefault(_share_key(method, prepared), []).append(prepared)
    several = {id(p): group for group in groups.values() if len(group) > 1 for p in group}
    batch: list[PreparedSample] = []
    for prepared in samples:
        group = several.get(id(prepared))
        if group is not None:
            if prepared is group[0]:
                yield SampleBatch(group, shared=True)
            continue
        if batch and (
            len(batch) == batch_size
            or prepared.questions
            or batch[0].questions
            or _kind(batch[0]) != _kind(prepared)
        ):
            yield SampleBatch(batch)
            batch = []
        batch.append(prepared)
    if batch:
        yield SampleBatch(batch)


def _kind(prepared: PreparedSample) -> tuple[Decoding, bool, int]:
    """What all samples of a batch have in common: how they are decoded, and whether likelihoods are asked for.

    One with several questions is a batch of its own.
    """
    return prepared.decoding, bool(prepared.continuations), id(prepared) if prepared.questions else 0


def _share_key(method: Method, prepared: PreparedSample) -> Any:
    context = prepared.tokens - prepared.question_tokens
    if context == 0:
        return id(prepared)  # nothing that could be shared
    if prepared.continuations and method.own_loglikelihood:
        return id(prepared)  # a method with its own way of taking likelihoods is asked in that way
    key = apart(method.share_key, context, prepared.question_tokens, prepared.decoding)
    return prepared.context_hash, _kind(prepared), key
