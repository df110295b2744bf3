"""The record of a sample: what a run writes of each, and all that a summary, comparison or report reads.

One line of `samples.jsonl` is one record. Lines are of any version: what a line does not have is None here,
and what is not known here is kept in `SampleRecord.extra`, so that reading and writing loses nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .outputs import Likelihood
from .record_parts import AnswerRecord, Context, Cost, Failure, Measured, Truncation, part

__all__ = ["AnswerRecord", "Context", "Cost", "Failure", "Key", "Measured", "SampleRecord", "Truncation"]

Key = tuple[str, str]
"""A sample's task and id."""


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
    text_hash
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
    context, answers
        Of a sample with several questions: its context, and each answer. Its `scores` are then the means over the
        answers, `prompt_tokens`, `measured` and `declared_kv_tokens` too, `new_tokens` and `cost` the sums, and
        there is no one `prediction`. Of a sample that failed: the answers that were there, one of `prediction` None
        for each other question; none if nothing was answered.
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
    text_hash: str | None = None
    prompt_tokens: int | None = None
    truncation: Truncation = field(default_factory=Truncation)
    answer_token: int | None = None
    answer_sought: bool = True
    error: Failure | None = None
    prediction: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    likelihoods: tuple[Likelihood, ...] | None = None
    new_tokens: int | None = None
    stop_reason: str | None = None
    measured: Measured = field(default_factory=Measured)
    declared_kv_tokens: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    context: Context | None = None
    answers: tuple[AnswerRecord, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stop_reasons(self) -> tuple[str | None, ...]:
        """Why the answer, or each of several, ended."""
        return tuple(a.stop_reason for a in self.answers) or (self.stop_reason,)

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
            truncation=part(Truncation, line.get("truncation")),
            answer_sought="answer_token" in line,
            error=None if error is None else part(Failure, error),
            likelihoods=None if likelihoods is None else tuple(part(Likelihood, x) for x in likelihoods),
            measured=part(Measured, line.get("measured")),
            declared_kv_tokens=(line.get("declared") or {}).get("kv_tokens"),
            cost=part(Cost, line.get("cost")),
            context=part(Context, line["context"]) if line.get("context") else None,
            answers=tuple(AnswerRecord.from_json(each) for each in line.get("answers") or ()),
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
            **({} if self.text_hash is None else {"text_hash": self.text_hash}),
            "prompt_tokens": self.prompt_tokens,
            "truncation": dict(vars(self.truncation)),
        }
        if self.answer_sought:
            line["answer_token"] = self.answer_token
        if self.error is not None:
            line["error"] = dict(vars(self.error))
        if self.finished:
            line |= {} if self.answers else {"prediction": self.prediction}
            line["scores"] = self.scores
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
            if self.context is not None:
                line["context"] = dict(vars(self.context))
        if self.answers:  # of a failed sample those that were there, and empty ones
            line["answers"] = [a.to_json() for a in self.answers]
        return {**line, **self.extra}


_PLAIN = (
    "protocol",
    "metadata",
    "references_hash",
    "prompt_hash",
    "text_hash",
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
        "context",
        "answers",
    )
).union(_PLAIN)
