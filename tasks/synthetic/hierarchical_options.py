"""Options of the recipe `hierarchical`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from harness import Options


class HierarchicalOptions(Options):
    """Options of `Hierarchical`; the counts are the paper's, the sizes fit a generator of 8,192 tokens."""

    documents: Path | None = Field(
        None,
        description='JSON lines with "text" (and "title"), or a folder of .txt and .md files; must be given',
    )
    small: int = Field(512, ge=16, description="most tokens of a small chunk (the paper: 4096)")
    medium: int = Field(1536, ge=16, description="most tokens of a medium chunk (the paper: 12288)")
    hierarchical: int = Field(5, ge=0, description="N1: hierarchical pairs after each document")
    diverse: int = Field(5, ge=0, description="N1: diverse pairs after each document")
    revisit: int = Field(
        9, ge=0, description="N2: diverse pairs about earlier documents, after each but the first"
    )
    follow_up: int = Field(
        3, ge=0, description="N3: hierarchical pairs about an earlier document gone back to"
    )
    probability: float = Field(0.6, ge=0, le=1, description="that an earlier document is gone back to")
    fixed: bool = Field(True, description="off: each of these numbers is drawn from 1 to itself, each time")
    order: Literal["hierarchical", "shuffled"] = Field(
        "hierarchical", description="order of a document's own questions; shuffled is an ablation"
    )
    most_documents: int = Field(
        4,
        ge=1,
        le=64,
        description="documents of the longest sample: pairs are made for so many (the paper: 12)",
    )
    summary_tokens: int = Field(160, ge=8, description="most tokens of a summary")
    qa_tokens: int = Field(96, ge=8, description="most tokens of a question with its answer")
    window: int = Field(8192, ge=256, description="tokens the generator reads, prompt and answer together")
