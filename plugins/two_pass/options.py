"""What a user may ask of `two_pass`, to answer and to be calibrated."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from harness import Options

from ..beacon.options import CondensingOptions
from ..beacon.ratios import parse_ratio
from .layers import ALL, span


class TwoPassOptions(CondensingOptions):
    """Options of `TwoPass`."""

    came_later = (*CondensingOptions.came_later, "first_layers", "reuse")

    adapter_scale: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of what the compressor's adapter learned that the second pass adds: 1: all; 0: none, "
        "untrained; the first pass always adds all, as its calibration did",
    )
    alpha: float = Field(3.0, gt=0, le=100, description="exponent of the relevance: higher trusts it more")
    retrieval: Literal["attention", "bm25", "random"] = Field(
        "attention", description="how relevance is found; attention needs the first pass"
    )
    top_k: int | None = Field(
        None, ge=1, description="instead of --alpha: so many most relevant intervals get --relevant-ratio"
    )
    relevant_ratio: str = Field("2", description="ratio of the --top-k intervals: raw, 1, 2, 4 ... 1024")
    first_ratio: str | None = Field(
        None,
        description="ratio of the first pass: 2, 4 ... 1024; default: the lowest under which the prompt fits, "
        "8 at least with --start last",
    )
    first_layers: str | None = Field(
        None,
        description="layers whose attention is relevance, as 13-18, counted from 1, or all: the first pass reads no "
        "further than the last of them; default: those recorded for the adapter, else all",
    )
    reuse: Literal["none", "raw"] = Field(
        "none",
        description="what the second pass takes of the first: raw keeps keys and values of all tokens in memory and "
        "reads no interval again; with none only leading intervals of the same ratio are not",
    )
    compressor: Literal["beacon", "lora_experts"] = Field(
        "lora_experts", description="what condenses; the thesis used beacon, the default model ships experts"
    )
    standardise: Literal["thesis", "smooth"] | None = Field(
        None,
        description="thesis: attention against its calibration interval by interval; smooth (ours): over "
        "neighbours, and others get what an interval cannot use; default: smooth with --start last",
    )
    calibration_contexts: int = Field(
        8, ge=2, description="contexts a missing calibration is computed from (the thesis: 50)"
    )
    retrieval_seed: int = Field(42, ge=0, description="seed of --retrieval random")

    @field_validator("relevant_ratio", "first_ratio")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            parse_ratio(value)
        return value

    @model_validator(mode="after")
    def _one_way(self) -> TwoPassOptions:
        given = self.model_fields_set
        if self.top_k is None and "relevant_ratio" in given:
            raise ValueError("relevant_ratio has a meaning only together with top_k")
        if self.top_k is not None and "alpha" in given:
            raise ValueError("alpha and top_k are two ways of allocating; give one")
        if self.reuse != "none" and self.retrieval != "attention":
            raise ValueError(
                f"reuse {self.reuse} needs a first pass, which retrieval {self.retrieval} has not"
            )
        if self.reuse != "none" and self.adapter_scale != 1:
            raise ValueError(
                "reuse takes beacons of the first pass, whose adapter_scale is 1; give one of the two"
            )
        if self.reuse != "none" and self.first_layers not in (None, ALL):
            raise ValueError("reuse needs a first pass by all layers; leave out first_layers or reuse")
        return self

    @field_validator("first_layers")
    @classmethod
    def _layers(cls, value: str | None) -> str | None:
        if value is not None:
            span(value)
        return value

    @property
    def listened(self) -> tuple[int, int] | None:
        """The first of `first_layers`, counted from 0, and one more than the last; None: all."""
        return None if self.first_layers is None else span(self.first_layers)

    @property
    def takes_layers(self) -> bool:
        """Whether a first pass by some of the layers will do: only its attention is used."""
        return self.retrieval == "attention" and self.reuse == "none"

    @field_validator("first_ratio")
    @classmethod
    def _condenses(cls, value: str | None) -> str | None:
        if value is not None and parse_ratio(value) < 2:
            raise ValueError("the first pass must condense; choose 2, 4 ... 1024")
        return value


class TwoPassFitOptions(Options):
    """Options of fitting `TwoPass`, which is its calibration; the defaults are the thesis's."""

    intervals: str = Field(
        "2-15", description="numbers of intervals to calibrate for: a range, or a comma-separated list"
    )
    contexts: int = Field(50, ge=2, description="contexts for each number of intervals")
    choose_layers: int = Field(
        0,
        ge=0,
        description="plant so many facts in texts of the highest number of intervals, and calibrate for the layers "
        "whose attention finds them best (ours); 0: for those of --first-layers",
    )

    @field_validator("intervals")
    @classmethod
    def _readable(cls, value: str) -> str:
        cls.numbers_of(value)
        return value

    @staticmethod
    def numbers_of(value: str) -> list[int]:
        """``"2-4"`` or ``"2,3,4"`` to ``[2, 3, 4]``. Raises ValueError for anything else."""
        first, dash, last = value.partition("-")
        parts = [first, last] if dash else value.split(",")
        if not all(part.strip().isdecimal() and int(part) >= 1 for part in parts):
            raise ValueError(f"{value!r} is neither a range like 2-15 nor a list like 2,3,4")
        numbers = [int(part) for part in parts]
        if dash and numbers[0] > numbers[1]:
            raise ValueError(f"{value!r} is a range that ends before it begins")
        return list(range(numbers[0], numbers[1] + 1)) if dash else sorted(set(numbers))
