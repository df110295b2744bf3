"""Options of the condensing methods, for a run and for a fit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from harness import Options, UsageError

from .ratios import parse_ratio


class BeaconOptions(Options):
    """Options of `Beacon`."""

    interval: int = Field(1024, ge=2, description="raw tokens condensed together (the paper's window)")
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
    distill: bool = Field(
        False, description="learn the model's own predictions over the uncompressed text, not the text"
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

    def ratios(self, interval: int) -> list[int]:
        """The ratios to train, ascending. Raises UsageError for one that does not divide the interval."""
        found = sorted({parse_ratio(part) for part in self.train_ratios.split(",")})
        if uneven := [r for r in found if interval % r]:
            raise UsageError(f"--train-ratios: {uneven[0]} does not divide the interval of {interval} tokens")
        return found
