"""The parts of a sample's record: truncation, measurement, cost, failure, and the answers to several questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from .outputs import Likelihood


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
class Context:
    """The context of a sample with several questions, and what reading or compressing it cost.

    Attributes
    ----------
    tokens
        Tokens before the questions.
    hash
        Sixteen hex digits of their ids.
    compressions
        How often it was compressed: once for all questions, or for each anew.
    seconds
        Of the one compression, which the questions share; 0 where each question has its own in its `AnswerRecord`.
    positions
        Token positions that it computed.
    """

    tokens: int = 0
    hash: str = ""
    compressions: int = 1
    seconds: float = 0.0
    positions: int = 0


@dataclass(frozen=True)
class AnswerRecord:
    """The answer to one of several questions over a context; fields as in `SampleRecord`.

    `cost` is what came on top of the context's compression, or, where each question had its own, all of it.
    """

    prediction: str | None = None
    references: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    stop_reason: str | None = None
    measured: Measured = Measured()
    declared_kv_tokens: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost = Cost()

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> AnswerRecord:
        """The answer that a record's ``answers`` hold so."""
        plain = ("prediction", "scores", "metadata", "prompt_tokens", "new_tokens", "stop_reason", "details")
        return cls(
            references=tuple(line.get("references") or ()),
            measured=part(Measured, line.get("measured")),
            declared_kv_tokens=(line.get("declared") or {}).get("kv_tokens"),
            cost=part(Cost, line.get("cost")),
            **{name: line[name] for name in plain if line.get(name) is not None},
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, fields always in one order."""
        return {
            "prediction": self.prediction,
            "references": list(self.references),
            "scores": self.scores,
            "metadata": self.metadata,
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "stop_reason": self.stop_reason,
            "measured": dict(vars(self.measured)),
            "declared": {"kv_tokens": self.declared_kv_tokens},
            "details": self.details,
            "cost": dict(vars(self.cost)),
        }


@dataclass(frozen=True)
class Failure:
    """Why a sample has no answer: the type of the error, its message, and the line that raised it."""

    type: str | None = None
    message: str | None = None
    where: str | None = None


_NAMES: dict[type, frozenset[str]] = {
    kind: frozenset(f.name for f in fields(kind))
    for kind in (Truncation, Measured, Cost, Context, Failure, Likelihood)
}

P = TypeVar("P")


def part(kind: type[P], value: Mapping[str, Any] | None) -> P:
    """A part of a record from its JSON object; what it does not have, or has besides, is left out."""
    names = _NAMES[kind]
    return kind(**{name: each for name, each in (value or {}).items() if name in names})
