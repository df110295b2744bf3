"""The record of a sample: what a run writes of each, and all that a summary, comparison or report reads.

One line of `samples.jsonl` is one record. Lines are of any version: what a line does not have is None here,
and what is not known here is kept in `SampleRecord.extra`, so that reading and writing loses nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from .outputs import Likelihood

Key = tuple[str, str]
"""A sample's task and id."""


@dataclass(frozen=True)
class Truncation:
    """What was done to one prompt to make it fit.

    Attributes
    ----------
    rule
        The declared rule.
    limit
        Most tokens the raw prompt could keep; None: it was not limited.
    tokens_before, tokens_after
        Tokens of the raw prompt, special tokens included.
    truncated
        Whether anything was cut. (Tokens need not be fewer: a text cut and joined may tokenise a little longer.)
    answer_in_context
        Whether a reference answer stood in the context before; None if there is none to look for.
    answer_survives
        Whether one still does; None where there was none to lose.
    """

    rule: str | None = None
    limit: int | None = None
    tokens_before: int | None = None
    tokens_after: int | None = None
    truncated: bool | None = None
    answer_in_context: bool | None = None
    answer_survives: bool | None = None


@dataclass(frozen=True)
class Measured:
    """What the model was seen holding when the answer began.

    Attributes
    ----------
    kv_tokens
        KV entries; declared ones where none were observed.
    verified
        Whether they were observed.
    compression
        Prompt tokens for each entry that stood for them; None if there was no entry.
    """

    kv_tokens: int = 0
    verified: bool = False
    compression: float | None = None


@dataclass(frozen=True)
class Cost:
    """Time (seconds) and memory (bytes) of one sample: an equal share of its batch, but for the peak memory.

    Attributes
    ----------
    seconds
        Of everything; `compress_seconds`, `prefill_seconds` and `decode_seconds` are parts of it.
    kv_bytes
        Of the KV cache when the answer began; None if that was not seen.
    peak_bytes
        Highest memory of the device (of the process, on a CPU); None if not to be had.
    forwards, positions
        Forward passes, and token positions they computed, padding included.
    batch, row
        Samples of the batch, and this one's place in it.
    questions, saved_seconds
        How many questions shared the compression of their context, and what this one was spared by that.
    """

    seconds: float | None = None
    compress_seconds: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    kv_bytes: int | None = None
    peak_bytes: int | None = None
    forwards: int | None = None
    positions: int | None = None
    batch: int | None = None
    row: int | None = None
    questions: int = 1
    saved_seconds: float = 0.0


@dataclass(frozen=True)
class Failure:
    """Why a sample has no answer: the type of the error, its message, and the line that raised it."""

    type: str | None = None
    message: str | None = None
    where: str | None = None


@dataclass(frozen=True)
class SampleRecord:
    """One sample as a run recorded it. One that failed has an `error` and nothing of what follows it.

    Attributes
    ----------
    status
        ``"ok"``, ``"error"``, ``"oom"`` or ``"timeout"``.
    protocol
        ``"query-aware"`` if compression saw the question, else ``"query-agnostic"``.
    metadata
        The task's facts about the sample: length, depth, classes.
    references
        Accepted answers; None in a recorded baseline, which keeps `references_hash` instead.
    prompt_hash
        Sixteen hex digits of the rendered prompt and its choices.
    context
        Sixteen hex digits of the raw context, before anything was cut: samples that share it are questions about one
        text, and no independent samples. None without a context, and in records of early versions.
    prompt_tokens
        Tokens of the rendered prompt, chat template included.
    answer_token
        The token at which an accepted answer first stands in the context; None if none does.
    answer_sought
        Whether it was looked for: records of early versions do not say.
    prediction
        The answer's text, or the likeliest choice; None in a recorded baseline.
    scores
        By metric, 0..1.
    likelihoods
        Of the sample's choices, in their order.
    new_tokens, stop_reason
        Of the answer; ``"choices"`` where likelihoods were taken.
    declared_kv_tokens
        KV entries the method said it kept; held against `measured`.
    details
        What the method says of the sample: ratio and relevance of each interval, and so on.
    extra
        Fields of the line that are none of these.
    """

    id: str
    task: str
    status: str = "ok"
    protocol: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    references: tuple[str, ...] | None = None
    references_hash: str | None = None
    prompt_hash: str | None = None
    context: str | None = None
    prompt_tokens: int | None = None
    truncation: Truncation = Truncation()
    answer_token: int | None = None
    answer_sought: bool = True
    error: Failure | None = None
    prediction: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    likelihoods: tuple[Likelihood, ...] | None = None
    new_tokens: int | None = None
    stop_reason: str | None = None
    measured: Measured = Measured()
    declared_kv_tokens: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost = Cost()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """The sample's task and id."""
        return self.task, self.id

    @property
    def finished(self) -> bool:
        """Whether there is an answer with its scores."""
        return self.status == "ok"

    @property
    def hash_of_references(self) -> str:
        """Sixteen hex digits over the accepted answers: equal if and only if they are."""
        if self.references_hash is not None:
            return self.references_hash
        text = json.dumps(list(self.references or ()), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> SampleRecord:
        """The record of a line of `samples.jsonl`. Raises KeyError or TypeError if it is none."""
        references, likelihoods, error = (line.get(name) for name in ("references", "likelihoods", "error"))
        return cls(
            id=line["id"],
            task=line["task"],
            status=line["status"],
            references=None if references is None else tuple(references),
            truncation=_part(Truncation, line.get("truncation")),
            answer_sought="answer_token" in line,
            error=None if error is None else _part(Failure, error),
            likelihoods=None if likelihoods is None else tuple(_part(Likelihood, x) for x in likelihoods),
            measured=_part(Measured, line.get("measured")),
            declared_kv_tokens=(line.get("declared") or {}).get("kv_tokens"),
            cost=_part(Cost, line.get("cost")),
            extra={name: value for name, value in line.items() if name not in _FIELDS},
            **{name: value for name in _PLAIN if (value := line.get(name)) is not None},
        )

    def to_json(self) -> dict[str, Any]:
        """The line that says the same: JSON-ready, fields always in one order."""
        line: dict[str, Any] = {
            "id": self.id,
            "task": self.task,
            "status": self.status,
            "protocol": self.protocol,
            "metadata": self.metadata,
            "references": None if self.references is None else list(self.references),
            "prompt_hash": self.prompt_hash,
            **({} if self.context is None else {"context": self.context}),
            "prompt_tokens": self.prompt_tokens,
            "truncation": dict(vars(self.truncation)),
        }
        if self.answer_sought:
            line["answer_token"] = self.answer_token
        if self.error is not None:
            line["error"] = dict(vars(self.error))
        if self.finished:
            line |= {"prediction": self.prediction, "scores": self.scores}
            if self.likelihoods is not None:
                line["likelihoods"] = [dict(vars(x)) for x in self.likelihoods]
            line |= {
                "new_tokens": self.new_tokens,
                "stop_reason": self.stop_reason,
                "measured": dict(vars(self.measured)),
                "declared": {"kv_tokens": self.declared_kv_tokens},
                "details": self.details,
                "cost": dict(vars(self.cost)),
            }
        return {**line, **self.extra}


_PLAIN = (
    "protocol",
    "metadata",
    "references_hash",
    "prompt_hash",
    "context",
    "prompt_tokens",
    "answer_token",
    "prediction",
    "scores",
    "new_tokens",
    "stop_reason",
    "details",
)
"""Fields that are in a line what they are in a record."""
_FIELDS = frozenset(
    (
        "id",
        "task",
        "status",
        "references",
        "truncation",
        "error",
        "likelihoods",
        "measured",
        "declared",
        "cost",
    )
).union(_PLAIN)
_NAMES: dict[type, frozenset[str]] = {
    kind: frozenset(f.name for f in fields(kind))
    for kind in (Truncation, Measured, Cost, Failure, Likelihood)
}

P = TypeVar("P")


def _part(kind: type[P], value: Mapping[str, Any] | None) -> P:
    """A part of a record from its JSON object; what it does not have, or has besides, is left out."""
    names = _NAMES[kind]
    return kind(**{name: each for name, each in (value or {}).items() if name in names})
