"""What a user asks of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..contracts import tracker
from ..contracts.budget import Budget
from ..errors import UsageError
from ..prompts.truncation import AUTO, RULES
from . import engines, timeouts
from .batch_limit import AUTO as BY_MEMORY

MOST = 2**40
"""Of samples and tokens: more than there will be anywhere, and a number that all of Python takes."""


PROTOCOLS = ("auto", "after", "before")
"""When questions come: after compression, before it, or as the method has it."""


@dataclass(frozen=True)
class RunSettings:
    """What a user asks for; the flags of ``harness run`` under the same names."""

    method: str = "plain"
    options: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ("passkey",)
    task_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    model: str = "smollm2"
    adapter: Path | None = None  # None: what ships for the model, if anything
    context_length: int | None = None
    max_context: int | None = None
    truncate: str = AUTO
    chat: str = "auto"
    limit: int | None = None
    seed: int = 42
    dtype: str = "auto"
    device: str = "auto"
    device_map: str | None = None  # None: all on one device
    batch_size: int | Literal["auto"] = 1
    query_agnostic: bool = False
    protocol: str = "auto"
    budget: int | str | None = None  # KV entries, or bytes with a unit
    share: bool = True  # False: protocol "before", as it was called
    data_dir: Path | None = None
    offline: bool = False
    sample_timeout: float | None = None  # seconds
    join: bool = False
    engine: str = "local"
    workers: int | None = None  # None: one for each device
    address: str | None = None  # None: this machine
    out: Path = Path("runs")
    trust_remote_code: bool = False
    allow_unused_weights: bool = False
    skip_unavailable: bool = False
    trust_task_code: bool = False
    track: tuple[str, ...] = ()  # trackers, by name


def by_protocol(settings: RunSettings) -> RunSettings:
    """The settings with what the protocol stands for: one compression without the question, or one for each."""
    if settings.protocol == "after":
        return replace(settings, query_agnostic=True)
    if settings.protocol == "before":
        return replace(settings, share=False)
    return settings


def check_values(settings: RunSettings) -> None:
    """Refuse numbers and words that no run can have, whatever its method and model. Raises UsageError."""
    if settings.protocol not in PROTOCOLS:
        raise UsageError(f"--protocol {settings.protocol}: choose from {', '.join(PROTOCOLS)}")
    if settings.protocol == "before" and settings.query_agnostic:
        raise UsageError(
            "--protocol before lets the method see each question, --query-agnostic does not: choose one"
        )
    if settings.protocol == "after" and not settings.share:
        raise UsageError(
            "--protocol after compresses a context once, --no-share for each question: choose one"
        )
    if settings.truncate not in (*RULES, AUTO):
        raise UsageError(f"--truncate {settings.truncate}: choose from {', '.join(RULES)}")
    if isinstance(settings.batch_size, str) and settings.batch_size != BY_MEMORY:
        raise UsageError(f"--batch-size {settings.batch_size}: give a number of samples, or auto")
    for flag, value in (
        ("limit", settings.limit),
        ("batch-size", None if settings.batch_size == BY_MEMORY else settings.batch_size),
        ("max-context", settings.max_context),
    ):
        if value is not None and value < 1:
            raise UsageError(f"--{flag} must be at least 1, not {value}")
        if value is not None and value > MOST:
            raise UsageError(f"--{flag} must be at most {MOST:,}, not {value}")
    if not -(2**63) <= settings.seed < 2**63:
        raise UsageError(f"--seed {settings.seed}: must fit in 64 bits")
    if settings.budget is not None:
        Budget.parse(settings.budget)
    if settings.device_map is not None and settings.engine != "local":
        raise UsageError(
            f"--device-map gives one process several devices, --engine {settings.engine} each process one: choose one"
        )
    tracker.check(settings.track)
    timeouts.check(settings.sample_timeout)
    engines.check(settings.engine, settings.workers, settings.address, settings.join, settings.device)
