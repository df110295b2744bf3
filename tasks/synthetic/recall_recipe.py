"""The recipe of `recall` and `recall_dialogues`: rows from documents alone, no generator asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness import Options
from harness.contracts.draft import Dialogue, Draft, Exchange, Part, Passage
from harness.contracts.recipe import Draw, Items, LengthRange, NoItems, Recipe, Stage
from harness.errors import UsageError
from harness.synthesis.documents import Documents

from . import recall, recall_dialogues
from .document_chunks import no_answer, read_documents

ROW = "row"


class RecallOptions(Options):
    """Options of `Recall`."""

    documents: Path | None = Field(
        None,
        description='JSON lines with "text", or a folder of .txt and .md files; must be given',
    )
    form: Literal["contexts", "dialogues"] = Field(
        "contexts", description="contexts: for memories (distillation); dialogues: for rope_scaling"
    )
    interval: int = Field(256, ge=8, description="contexts: tokens that are condensed together")
    sinks: int = Field(1, ge=0, description="contexts: first tokens that stay raw")
    windows: str = Field(
        "1,1,1,1,2", description="contexts: what the number of whole intervals is drawn from, with commas"
    )
    facts: int = Field(2, ge=0, description="contexts: facts put into each interval")
    pieces: str = Field(
        "512,1024,1536", description="dialogues: what the tokens of the text are drawn from, with commas"
    )
    questions: int = Field(5, ge=0, description="dialogues: facts put into the text and asked for")


class Recall(Recipe):
    """Pieces of documents with facts put in, and answers that only a memory of the piece can give. Ours.

    ``contexts``: the answer goes on with the text, answers questions about facts, and repeats a span. ``dialogues``: a
    question or a request each in a turn of its own. The words belong to no evaluation task, and no generator is asked.
    """

    Options = RecallOptions
    tasks: ClassVar[Mapping[str, int]] = {"recall": 4000}
    options: RecallOptions

    def __init__(self, options: RecallOptions) -> None:
        super().__init__(options)
        self._windows = _numbers("windows", options.windows)
        self._pieces = _numbers("pieces", options.pieces)
        self.documents = read_documents("recall", options.documents)
        self._rows: Iterator[dict[str, Any]] = iter(())
        self._next = -1

    def sources(self) -> dict[str, Any]:
        """The documents, by the SHA-256 of what is in them."""
        return {"documents": self.documents.sha256}

    def items(self, count: int, nouns: int) -> int:
        """A row a sample."""
        return count

    def stages(self, items: int, seed: int) -> list[Stage]:
        """The rows."""
        self._seed = seed
        return [Stage(ROW, items, 0, self._ask, no_answer, {"text": ""})]

    def draft(self, task: str, pool: Items, rng: Draw, length: LengthRange | None) -> Draft | Dialogue:
        """The row of the sample's number; if that is out of the range, one at random."""
        usable = pool.usable(ROW)
        if not usable:
            raise NoItems("no row")
        index = rng.choice(usable) if rng.attempt else usable[rng.number % len(usable)]
        row = pool.record(ROW, index) or {}
        text = Part(None, (ROW, index, "text"))
        if "answer" in row:
            facts = {"windows": row["windows"]}
            return Draft(task, "", [Passage((text,))], "", str(row["answer"]), facts=facts)
        exchanges = [
            Exchange("recall", () if number else (text,), (Part(question),), (Part(answer),), (1,))
            for number, (question, answer) in enumerate(row["turns"])
        ]
        return Dialogue(task, exchanges, 1)

    def _ask(self, index: int, pool: Items) -> dict[str, Any]:
        """The row of a number. Rows are drawn one after the other: taken up again, those before are drawn anew."""
        if index != self._next:
            self._rows = islice(self._drawn(pool.tokenizer), index, None)
        self._next = index + 1
        row = next(self._rows)
        if self.options.form == "contexts":
            return {"text": row["prompt"], "answer": row["answer"], "windows": row["windows"]}
        said = [turn["content"] for turn in row["messages"]]
        text, border, question = said[0].rpartition("\n\n")
        questions = [question, *said[2::2]]
        return {"text": text + border, "turns": list(zip(questions, said[1::2]))}

    def _drawn(self, tokenizer: Any) -> Iterator[dict[str, Any]]:
        """Rows without an end."""
        o, texts = self.options, _Texts(self.documents)
        if o.form == "dialogues":
            return recall_dialogues.dialogues(
                texts, tokenizer, None, seed=self._seed, tokens=self._pieces, questions=o.questions
            )
        return recall.rows(
            texts,
            tokenizer,
            None,
            seed=self._seed,
            interval=o.interval,
            sinks=o.sinks,
            windows=self._windows,
            facts=o.facts,
        )


class _Texts(Sequence[str]):
    """Texts of documents, each read as it is asked for."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def __len__(self) -> int:
        return len(self._documents)

    def __getitem__(self, place: Any) -> Any:
        return self._documents[place].text


def _numbers(name: str, given: str) -> list[int]:
    """Whole numbers above 0, with commas between them. Raises UsageError for anything else."""
    try:
        found = [int(part) for part in given.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise UsageError(f"recipe recall: {name}={given}: numbers above 0 with commas, as in 1,1,2")
    return found
