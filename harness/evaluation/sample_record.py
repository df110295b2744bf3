"""The record of a sample: answered, scored, or failed."""

from __future__ import annotations

import math
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..contracts.outputs import Generation, Scored
from ..contracts.record import Failure, SampleRecord
from .choices import cut_at
from .generate import MeasuredOutput
from .plan import RunPlan
from .samples import PreparedSample
from .timeouts import SampleTimeout

OUT_OF_MEMORY = ("out of memory", "DefaultCPUAllocator: can't allocate memory", "STATUS_ALLOC_FAILED")
"""What a RuntimeError says when memory ran out."""


def record_head(plan: RunPlan, prepared: PreparedSample) -> SampleRecord:
    """What is known of a sample before it is run."""
    return SampleRecord(
        id=prepared.sample.id,
        task=prepared.task.name,
        protocol=plan.method.protocol,
        metadata=_metadata(prepared),
        references=tuple(prepared.sample.references),
        prompt_hash=prepared.prompt_hash,
        text_hash=prepared.text_hash,
        prompt_tokens=prepared.tokens,
        truncation=prepared.truncation,
        answer_token=prepared.answer_token,
        extra={"excerpt": _excerpt(prepared)},
    )


EXCERPT = 300
"""Characters of the question and of either end of the context that a record keeps for people to look at."""


def _excerpt(prepared: PreparedSample) -> dict[str, str]:
    """The question, and how the context begins and ends as the method reads it; no score depends on it."""
    prompt = prepared.rendered
    question = (prompt.question or prompt.suffix).strip()
    context = prompt.context.strip()
    found = {"question": question[-EXCERPT:], "begin": context[:EXCERPT]}
    return {**found, "end": context[-EXCERPT:]} if len(context) > EXCERPT else found


def _metadata(prepared: PreparedSample) -> dict[str, Any]:
    """What the task says of a sample, and the rules that were needed to read it."""
    return {
        **prepared.sample.metadata,
        **({"choices_tokenised_alone": list(prepared.alone)} if prepared.alone else {}),
        **({"special_tokens_read_as_text": True} if prepared.spelled else {}),
    }


def answered(head: SampleRecord, prepared: PreparedSample, output: MeasuredOutput) -> SampleRecord:
    """The record of a sample with its answer and scores. Raises whatever the task's scoring raises."""
    given = output.generation
    said = _chosen(prepared, given) if isinstance(given, Scored) else _generated(prepared, given)
    return replace(
        head,
        **said,
        measured=output.measured,
        declared_kv_tokens=given.kv_tokens,
        details=given.details,
        cost=output.cost,
        extra={
            **head.extra,
            **({"doubts": output.doubts} if output.doubts else {}),
            **({"kv_tokens_by_layer": list(output.by_layer)} if output.by_layer else {}),
        },
    )


def failed(head: SampleRecord, error: Exception) -> SampleRecord:
    """The record of a sample that failed: ``timeout``, ``oom`` if memory ran out, or ``error``; and where."""
    import torch

    # On a CPU, and in CUDA's libraries, memory that cannot be had is an ordinary RuntimeError.
    memory = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    )
    where = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    return replace(
        head,
        status="timeout" if isinstance(error, SampleTimeout) else "oom" if memory else "error",
        error=Failure(
            type(error).__name__,
            str(error)[:2000],
            f"{Path(where.filename).name}:{where.lineno}" if where else None,
        ),
    )


def _generated(prepared: PreparedSample, generation: Generation) -> dict[str, Any]:
    """What the record holds of a generated answer."""
    text = cut_at(generation.text, prepared.sample.until)
    return {
        "prediction": text,
        "scores": checked(prepared, prepared.task.score(prepared.sample, text)),
        "new_tokens": len(generation.token_ids),
        "stop_reason": generation.stop_reason,
    }


def _chosen(prepared: PreparedSample, scored: Scored) -> dict[str, Any]:
    """What the record holds where choices were asked for: their likelihoods; the likeliest is the prediction."""
    likelihoods = scored.likelihoods
    best = max(range(len(likelihoods)), key=lambda i: likelihoods[i].logprob)
    return {
        "prediction": prepared.sample.choices[best],
        "scores": checked(prepared, prepared.task.score_choices(prepared.sample, likelihoods)),
        "likelihoods": tuple(likelihoods),
        "new_tokens": 0,
        "stop_reason": "choices",
    }


def checked(prepared: PreparedSample, given: dict[str, float]) -> dict[str, float]:
    """The task's scores of one answer, held to the contract: every metric, each 0..1."""
    scores = {k: float(v) for k, v in given.items()}
    for metric in prepared.task.metrics:
        if metric not in scores:
            raise ValueError(f"task {prepared.task.name} gave no score {metric!r}")
    for metric, value in scores.items():
        if not (math.isfinite(value) and -1e-9 <= value <= 1 + 1e-9):
            raise ValueError(f"task {prepared.task.name} gave {metric} = {value}, which is not 0..1")
    return scores
