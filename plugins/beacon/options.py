"""Options of the condensing methods, for a run and for a fit."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from harness import Options, UsageError

from .form import PAPERS_INTERVAL, PAPERS_SINKS, PAPERS_START, Start
from .ratios import parse_ratio


class CondensingOptions(Options):
    """What every method that condenses by beacons can be asked; what is None is settled by `form.settle`."""

    came_later: ClassVar[tuple[str, ...]] = ("adapter_scale",)
    """Options of a method that are written down only where they are used: a run of before keeps its hash."""

    interval: int | None = Field(
        None, ge=2, description="raw tokens condensed together; default: the adapter's, else the paper's 1024"
    )
    start: Start | None = Field(
        None,
        description="what a beacon is fed: end (the paper's) or last (the last token it stands for, ours); "
        "default: the adapter's, else end",
    )
    sinks: int | None = Field(
        None, ge=0, description="first tokens that are never condensed; default: the adapter's, else 0"
    )
    adapter_scale: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of what the adapter learned that is added: 1: all; 0: none, untrained",
    )

    @model_serializer(mode="wrap")
    def _as_before_there_was_a_choice(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without start and sinks where they are the paper's, nor what `came_later` and is not used.

        The one serializer of all subclasses: pydantic calls no other where a class has its own.
        """
        values: dict[str, Any] = handler(self)
        if "interval" in values and values["interval"] is None:
            values["interval"] = PAPERS_INTERVAL
        later = {name: type(self).model_fields[name].default for name in self.came_later}
        absent = {"start": PAPERS_START, "sinks": PAPERS_SINKS, **later}
        return {n: v for n, v in values.items() if n not in absent or v not in (None, absent[n])}


class BeaconOptions(CondensingOptions):
    """Options of `Beacon`."""

    ratio: str = Field(
        "adapt",
        description="tokens per beacon: raw, 1, 2, 4 ... 1024, or adapt (the lowest under which everything "
        "fits), or a comma-separated list, one for each interval, the last repeated",
    )
    margin: int = Field(1024, ge=0, description="tokens that adapt keeps free for the answer, at least")

    @field_validator("ratio")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != "adapt":
            for part in value.split(","):
                parse_ratio(part)
        return value


class BeaconFitOptions(Options):
    """Options of fitting `Beacon`; the defaults are the paper's."""

    train_ratios: str = Field(
        "2,4,8,16,32,64,128", description="ratios to train, comma-separated; each window draws one"
    )
    skip_first: bool = Field(
        False, description="leave each sequence's first window out of the loss: it depends on no memory"
    )
    objective: Literal["next-token", "distill"] = Field(
        "next-token",
        description="next-token (the papers'): predict the text; distill (ours): predict what the model "
        "itself does over the uncompressed text, and attend alike",
    )
    distill: bool = Field(False, description="the same as --objective distill")
    draws: int = Field(
        1, ge=1, le=64, description="with distill: how often each sequence is condensed, by ratios drawn anew"
    )
    reconstruct: float = Field(
        0.0, ge=0, le=1, description="share of sequences turned into: half the text, then the same half again"
    )
    recompute: bool = Field(
        False, description="gradient checkpointing: each window is computed twice, its activations not kept"
    )
    beacon_token: str | None = Field(
        None, description="text whose first token's embedding the beacons begin from; default: the end token"
    )
    save_dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="type of the saved weights")

    @field_validator("train_ratios")
    @classmethod
    def _condense(cls, value: str) -> str:
        for part in value.split(","):
            if parse_ratio(part) < 2:
                raise ValueError(f"{part.strip()!r} condenses nothing; choose from 2, 4 ... 1024")
        return value

    @model_validator(mode="after")
    def _one_objective(self) -> BeaconFitOptions:
        if self.distill and "objective" in self.model_fields_set and self.objective != "distill":
            raise ValueError(f"--distill and --objective {self.objective} contradict each other; give one")
        if self.distill:
            object.__setattr__(self, "objective", "distill")
        if self.objective == "distill" and self.recompute:
            raise ValueError("--recompute belongs to --objective next-token; leave it out")
        if self.objective != "distill" and self.draws > 1:
            raise ValueError("--draws belongs to --objective distill")
        return self

    def ratios(self, interval: int) -> list[int]:
        """The ratios to train, ascending. Raises UsageError for one that does not divide the interval."""
        found = sorted({parse_ratio(part) for part in self.train_ratios.split(",")})
        if uneven := [r for r in found if interval % r]:
            raise UsageError(f"--train-ratios: {uneven[0]} does not divide the interval of {interval} tokens")
        return found
