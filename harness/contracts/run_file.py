"""What `run.json` holds: the types of its fields. How it is written: `harness.evaluation.run_metadata`."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

Interval = tuple[float, float] | None
Status = Literal["running", "interrupted", "finished", "finished with failures", "failed"]


class TaskIdentity(TypedDict):
    """A task as the run's hash has it."""

    name: str
    version: str
    preset: str
    options: dict[str, Any]
    facts: NotRequired[dict[str, Any]]


class Identity(TypedDict):
    """All that can change an answer, which the run's hash covers; methods may add to it."""

    schema: int
    harness: str
    method: str
    method_version: str
    options: dict[str, Any]
    adapter: str | None
    model_hash: str
    tokenizer_hash: str
    context_length: int | None
    dtype: str
    device: str
    batch_size: int | str
    seed: int
    tasks: list[TaskIdentity]


class MethodFacts(TypedDict):
    """The method: name, where it comes from, whether its compression saw the question, and the most it reads."""

    name: str
    origin: str
    version: str
    sees_question: bool
    protocol: NotRequired[str]
    context_limit: NotRequired[int | None]


class ModelFacts(TypedDict):
    """The model: the name it was asked for by, and what is known of it."""

    name: str


class PromptFacts(TypedDict):
    """The prompts of a task.

    Attributes
    ----------
    preset, hash
        Name of the task's prompt protocol, and a hash of it together with the chat template.
    samples, samples_hash
        How many were planned, and a hash over all their prompts.
    """

    preset: str
    hash: str
    samples: int
    samples_hash: str
    facts: NotRequired[dict[str, Any]]


class TaskRow(TypedDict):
    """A row of the summary: a task's score and what it cost.

    Attributes
    ----------
    metric, score, interval
        The main score, 0..1, and its 95 % interval.
    n, n_ok
        Samples that were asked for, and those that finished.
    scores, breakdown
        Every score of the task, and the main one over parts of it.
    truncated, answer_lost, hit_limit
        Shares 0..1: prompts that were cut, answers that the cut removed, answers that ended at the token limit.
    compression
        Prompt tokens for each KV entry that stood for them.
    kv_bytes, peak_bytes
        Mean bytes of the KV cache; the highest memory.
    compress_seconds, prefill_seconds, decode_seconds
        Means over finished samples.
    """

    task: str
    metric: str
    n: int
    n_ok: int
    score: float | None
    interval: Interval
    scores: NotRequired[dict[str, float | None]]
    breakdown: NotRequired[dict[str, Any]]
    truncated: NotRequired[float | None]
    answer_lost: NotRequired[float | None]
    hit_limit: NotRequired[float | None]
    prompt_tokens: NotRequired[float | None]
    compression: NotRequired[float | None]
    kv_bytes: NotRequired[float | None]
    peak_bytes: NotRequired[int | None]
    compress_seconds: NotRequired[float | None]
    prefill_seconds: NotRequired[float | None]
    decode_seconds: NotRequired[float | None]


class Total(TypedDict):
    """Samples that were asked for, that finished, that failed, and that are missing."""

    n: int
    n_ok: int
    failed: int
    missing: int


class Summary(TypedDict):
    """A row for each task, averages of families, and totals."""

    tasks: list[TaskRow]
    averages: dict[str, dict[str, Any]]
    total: Total


class RunFile(TypedDict):
    """A run: what was asked, under what, and what it came to.

    Attributes
    ----------
    schema
        Version of the format.
    hash, identity
        Twelve hex digits over everything that can change an answer, and all that they cover.
    lines_name_run
        Whether the checksums of the lines cover the run's hash, as they do since they were first told apart.
    settings
        The flags as given.
    method_facts
        What the method says of itself: trained or not, calibration, a warning.
    unavailable
        Tasks of a family that could not be asked, and why.
    metrics
        The main score of each task.
    planned
        Ids that were asked for, by task.
    environment, earlier_environments
        Versions, commit and hardware; those of parts that were answered under others.
    summary, summary_of, summary_sum
        What it came to; digests of the records it was made from, and of itself.
    error
        Present if the method was caught declaring something else than it did.
    """

    schema: Literal[1]
    hash: str
    identity: Identity
    lines_name_run: NotRequired[bool]
    settings: dict[str, Any]
    method: MethodFacts
    model: ModelFacts
    method_facts: NotRequired[dict[str, Any]]
    unavailable: NotRequired[dict[str, str]]
    data_notes: NotRequired[list[str]]
    metrics: NotRequired[dict[str, str]]
    planned: NotRequired[dict[str, list[str]]]
    prompts: dict[str, PromptFacts]
    environment: NotRequired[dict[str, Any]]
    earlier_environments: NotRequired[list[dict[str, Any]]]
    status: Status
    summary: NotRequired[Summary]
    summary_of: NotRequired[str]
    summary_sum: NotRequired[str]
    error: NotRequired[str]
