"""What the recipe `selflong` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from harness.options import Options


class SelfLongOptions(Options):
    """Options of `SelfLong`; the sizes fit a generator of 8,192 tokens."""

    documents: Path | None = Field(
        None,
        description='JSON lines with "text" (and "title"), or a folder of .txt and .md files; must be given',
    )
    retriever: Literal["bm25", "dense", "random"] = Field(
        "bm25", description="how documents are found (the paper: dense, E5-mistral-7b); random is a control"
    )
    dense_model: str = Field("intfloat/e5-small-v2", description="model of retriever=dense")
    chunk_tokens: int = Field(
        512, ge=16, description="most tokens of a chunk that is noted down (the paper: 4096)"
    )
    seed_tokens: int = Field(
        128, ge=8, description="tokens of the random chunk before an instruction is written"
    )
    read_tokens: int = Field(
        4096,
        ge=16,
        description="tokens of found documents that a response is written from; samples may hold more",
    )
    instruction_tokens: int = Field(96, ge=8, description="most tokens of an instruction")
    summary_tokens: int = Field(96, ge=8, description="most tokens of a note")
    response_tokens: int = Field(256, ge=8, description="most tokens of a response")
    output_range: str = Field(
        "200-1500",
        description="tokens of the documents that are written anew on demand (the paper: 2000-32000)",
    )
    learn: Literal["all", "answer"] = Field(
        "all", description="what training learns of a long input: all of it (the paper), or the response only"
    )
    window: int = Field(8192, ge=256, description="tokens the generator reads, prompt and answer together")

    @field_validator("output_range")
    @classmethod
    def _range(cls, value: str) -> str:
        low, _, high = value.partition("-")
        if not (low.isdigit() and high.isdigit() and 0 < int(low) <= int(high)):
            raise ValueError("write LOW-HIGH in tokens, for instance 200-1500")
        return value
