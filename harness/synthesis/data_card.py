"""The card beside synthetic data: what it is, how it was made, what was dropped, as JSON and as text."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._util.files import write_whole
from .._version import __version__
from ..contracts.draft import Dialogue, Draft
from ..contracts.recipe import LengthRange
from ..errors import UsageError
from .assembly import Layout

if TYPE_CHECKING:
    from .settings import SynthPlan

CARD = "card.json"
README = "README.md"
BARS = 10
LICENCE = (
    "These texts were written by a language model. The licence and the terms of use of that model govern what "
    "may be done with them; see the model's own card."
)


@dataclass
class DataFacts:
    """What is known of the data file once it is written; counts are samples unless they say otherwise."""

    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    passages: int = 0
    repeated_passages: int = 0
    with_repeats: int = 0
    below_range: int = 0
    documents: int = 0
    missing_questions: int = 0
    questions: Counter[str] = field(default_factory=Counter)
    sha256: str = ""
    bytes: int = 0

    def add(self, task: str, draft: Draft | Dialogue, measured: Layout, length: LengthRange | None) -> None:
        """Count one sample."""
        self.counts[task] += 1
        self.kinds[f"{task}: {draft.kind}"] += 1
        self.lengths.append(measured.tokens)
        self.below_range += length is not None and measured.tokens < length.low
        if isinstance(draft, Dialogue):
            self.documents += draft.documents
            self.missing_questions += draft.missing
            self.questions.update(exchange.kind for exchange in draft.exchanges)
            return
        self.passages += len(draft.passages)
        self.repeated_passages += draft.repeats
        self.with_repeats += draft.repeats > 0


def digest(value: Any) -> str:
    """SHA-256 (hex) of JSON-ready data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def make(plan: SynthPlan, request: dict[str, Any], facts: DataFacts) -> dict[str, Any]:
    """The card. It holds no times and no paths: the same data has the same card."""
    pool = plan.pool
    stages = {}
    for stage in plan.stages:
        with pool.path(stage.name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        made, usable = pool.made(stage.name), len(pool.usable(stage.name))
        stages[stage.name] = {
            "items": made,
            "usable": usable,
            "dropped": pool.dropped(stage.name),
            "origins": pool.origins(stage.name),
            "sha256": content,
        }
    identity = plan.identity
    return {
        "format": identity["format"],
        "harness": __version__,
        "recipe": identity["recipe"],
        "recipe_version": identity["recipe_version"],
        "model": identity["model"],
        "generator": identity["generator"],
        **{name: identity[name] for name in ("allow_unused_weights",) if name in identity},
        "tokenizer_hash": identity["tokenizer_hash"],
        "seed": request["seed"],
        "options": identity["options"],
        **({"sources": identity["sources"]} if "sources" in identity else {}),
        "length_range": request["length"],
        "nouns": {"count": identity["nouns"], "sha256": identity["nouns_sha256"]},
        "pool": {
            "items": identity["items"],
            "seed": identity["seed"],
            "sha256": digest({name: stage["sha256"] for name, stage in stages.items()}),
            "stages": stages,
        },
        "samples": {
            "asked": plan.counts,
            "made": {task: facts.counts[task] for task in plan.counts},
            "kinds": dict(sorted(facts.kinds.items())),
            "below_length_range": facts.below_range,
            "passages": facts.passages,
            "repeated_passages": facts.repeated_passages,
            "samples_with_repeated_passages": facts.with_repeats,
            **(_dialogues(facts) if facts.documents else {}),
        },
        "lengths": histogram(facts.lengths),
        "data": {"file": "data.jsonl", "bytes": facts.bytes, "sha256": facts.sha256},
        "licence": LICENCE,
        "request": request,
    }


def _contents(samples: dict[str, Any]) -> list[str]:
    found = [
        f"Of {samples['passages']:,} passages {samples['repeated_passages']:,} stand in their context a second "
        f"time ({samples['samples_with_repeated_passages']} samples), because the pool could not fill the "
        f"length; {samples['below_length_range']} samples are shorter than was asked for."
    ]
    if "documents" in samples:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in samples["questions"].items())
        found.append(
            f"Dialogues read {samples['documents']:,} documents and ask {kinds}; {samples['missing_questions']:,} "
            "questions are missing, because the pool had none left."
        )
    return found


def _dialogues(facts: DataFacts) -> dict[str, Any]:
    return {
        "documents": facts.documents,
        "questions": dict(sorted(facts.questions.items())),
        "missing_questions": facts.missing_questions,
    }


def histogram(lengths: Sequence[int]) -> dict[str, Any]:
    """Shortest, longest and mean length in tokens, and how many samples in each of ten equal stretches."""
    low, high = min(lengths), max(lengths)
    width = max(1, -(-(high - low + 1) // BARS))
    bars = Counter((length - low) // width for length in lengths)
    return {
        "min": low,
        "max": high,
        "mean": round(sum(lengths) / len(lengths), 1),
        "histogram": [
            {"from": low + n * width, "below": low + (n + 1) * width, "samples": bars[n]} for n in range(BARS)
        ],
    }


def read(folder: Path) -> dict[str, Any] | None:
    """The card in a folder; None if there is none. Raises UsageError if it is damaged."""
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged ({error}); choose another --out") from None


def write(folder: Path, card: dict[str, Any]) -> None:
    """Both forms of the card."""
    write_whole(folder / README, text(card))
    write_whole(folder / CARD, json.dumps(card, indent=2, ensure_ascii=False) + "\n")


def text(card: dict[str, Any]) -> str:
    """The card for people, as Markdown."""
    samples, lengths, data = card["samples"], card["lengths"], card["data"]
    writer = card["generator"].get("content_hash") or card["generator"].get("address")
    lines = [
        f"# Synthetic long-context data: recipe {card['recipe']} (version {card['recipe_version']})",
        "",
        f"{sum(samples['made'].values())} samples written by {card['model']} ({writer}), seed {card['seed']}; "
        f"{lengths['min']:,} to {lengths['max']:,} tokens, {lengths['mean']:,} on average, prompt and answer "
        "together, in the model's tokens.",
        "",
        f"`{data['file']}`: {data['bytes']:,} bytes, SHA-256 `{data['sha256']}`",
        "",
        f"Options: {', '.join(f'{k}={v}' for k, v in card['options'].items())}.",
        "",
        *([f"Sources: {json.dumps(card['sources'])}.", ""] if "sources" in card else []),
        "| task | asked for | made |",
        "| --- | --- | --- |",
        *(f"| {task} | {asked} | {samples['made'][task]} |" for task, asked in samples["asked"].items()),
        "",
        *_contents(samples),
        "",
        "## Pool",
        "",
        "| items | generated | usable | of these | dropped |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, stage in card["pool"]["stages"].items():
        dropped = ", ".join(f"{n} {reason}" for reason, n in stage["dropped"].items()) or "none"
        origins = ", ".join(f"{n} {origin}" for origin, n in stage["origins"].items())
        lines.append(f"| {name} | {stage['items']} | {stage['usable']} | {origins} | {dropped} |")
    lines += ["", "## Lengths", "", "| tokens | samples |", "| --- | --- |"]
    lines += [f"| {b['from']:,} – {b['below'] - 1:,} | {b['samples']} |" for b in lengths["histogram"]]
    return "\n".join([*lines, "", "## Licence", "", card["licence"], ""])
