"""NoLiMa: needles that share no word with their question, at every depth of books."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from harness.contracts import Prompt, Sample, ScoredSample, Task, TaskEnvironment
from harness.errors import Unavailable, UsageError
from harness.options import Options

from .._grid import checked_depths, checked_lengths, part_means
from .._rows import file_fingerprint
from .needles import NAME, OWN_TEMPLATE, Asked, checked, drawn, filled, places, read, template
from .placing import Book

COMMIT = "7532e4e"
NEW_TOKENS = 192
LENGTHS = (250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000)
BASE_LENGTHS = (250, 500, 1000)
PLACES = 26
METRICS = ("contains", "EM", "lastline_contains", "lastline_EM")


class NolimaOptions(Options):
    """Options of `Nolima`: the grid, which of the user's files, and how an answer is compared."""

    lengths: list[int] | None = Field(
        None,
        description="tokens of book without the needle; by default 250, 500, 1000, 2000 ... up to the model's window",
    )
    depths: list[float] | None = Field(
        None, description="places of the needle in percent; by default 26 equal steps from 0 to 100"
    )
    needle_set: str = Field(
        "needle_set", description="which file of needlesets/ in --data-dir, without .json"
    )
    books: int = Field(5, ge=1, description="books of haystack/ that are taken, in the order of their names")
    template: Literal["official", "own"] = Field(
        "official",
        description="the prompt: official, from the user's copy of the code; own, words of this harness",
    )
    metric: Literal["contains", "EM", "lastline_contains", "lastline_EM"] = Field(
        "contains", description="how an answer is compared; lastline for sets that ask for reasons first"
    )

    static_depth: float | None = Field(
        None,
        ge=0,
        le=100,
        description="percent of the whole book at which the needle stands at every depth of the text",
    )

    _lengths = field_validator("lengths")(checked_lengths)
    _depths = field_validator("depths")(checked_depths)


class Nolima(Task):
    """NoLiMa (https://arxiv.org/abs/2502.05167): needles that share no word with their question, in books.

    Needle sets, books and template are read from files that the user has fetched: their licence is for non-commercial
    research, and nothing of them comes with the harness. Placement, names and comparison are those of the official
    code.
    """

    Options = NolimaOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = (f"1: placement and scores of adobe-research/NoLiMa @{COMMIT}",)
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    options: NolimaOptions

    def __init__(self, options: NolimaOptions, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.preset = f"nolima-{self.options.template}@1 {COMMIT}"
        self._facts: dict[str, Any] = {}

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the grid: for each book and length every question at every depth.

        With a limit lengths come in turns, so that the first few samples hold each of them.

        Raises
        ------
        UsageError
            If a file is missing or broken, or a book is too short.
        """
        if env.data_dir is None:
            raise Unavailable(
                "nolima: give --data-dir a folder with needlesets/, haystack/ and run_tests.py, fetched from the hub "
                "(amodaresi/NoLiMa) and adobe-research/NoLiMa; their licence allows non-commercial research only"
            )
        sets = env.data_dir / "needlesets" / f"{self.options.needle_set}.json"
        questions = read(sets)
        whole = OWN_TEMPLATE if self.options.template == "own" else template(env.data_dir)
        paths = self._books(env.data_dir)
        self._facts = {
            "needles": file_fingerprint(sets),
            "books": [file_fingerprint(path) for path in paths],
            "template": whole if self.options.template == "own" else "official",
        }
        lengths = self.options.lengths or [n for n in LENGTHS if n < env.context_length]
        depths = self.options.depths or [100 * step / (PLACES - 1) for step in range(PLACES)]
        books = [(Book(_text(path), env.tokenizer, path.name), path.stem) for path in paths]
        names = {
            (asked.test, number): drawn(asked, number, len(depths))
            for asked in questions
            for number in range(len(books))
        }
        cells = product(enumerate(books), questions, enumerate(depths), lengths)
        for taken, ((number, (book, stem)), asked, (place, depth), length) in enumerate(cells):
            if taken == env.limit:
                return
            yield self._sample(asked, book, stem, names[asked.test, number][place], length, depth, whole)

    def facts(self) -> dict[str, Any]:
        """Fingerprints of needle set and books, and whose template was used."""
        return self._facts

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """1 if an accepted answer is (or stands in) the answer or its last line, letter for letter; else 0."""
        return {"score": float(right(self.options.metric, prediction, sample.references))}

    def aggregate(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The official headline: the mean over the tests (needle, question, book) of their means over depths.

        Tests that ask directly are left out, if there are others. With several lengths it is the mean over those.
        """
        if not scored:
            return {}
        chosen = [each for each in scored if not each.metadata["direct"]] or list(scored)
        lengths = sorted({each.metadata["length"] for each in chosen})
        values = [_over_tests([e for e in chosen if e.metadata["length"] == length]) for length in lengths]
        return {"score": sum(values) / len(values)}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The headline at each length, the base score, and the effective length in thousands of 1,000 tokens."""
        chosen = [each for each in scored if not each.metadata["direct"]] or list(scored)
        lengths = sorted({each.metadata["length"] for each in chosen})
        by_length = {n: _over_tests([e for e in chosen if e.metadata["length"] == n]) for n in lengths}
        found = {f"length {length}": value for length, value in by_length.items()}
        if (base := base_score(chosen)) is not None:
            found["base"] = base
        return {**found, **part_means(chosen, "score", ("depth",))}

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with, by ``contains``: ``answers`` is a list of strings, or one string.

        Of a string every character is an answer, as officially.
        """
        given = row.get("answers", row.get("answer"))
        if not isinstance(given, str | list) or not given or not all(isinstance(each, str) for each in given):
            raise UsageError("field 'answers' must be a list of strings")
        if isinstance(given, list) and not all(each.strip() for each in given):
            raise UsageError("field 'answers' must hold no empty answer")
        return Sample(str(row.get("id", "")), Prompt("", "", ""), tuple(given), NEW_TOKENS)

    def _books(self, folder: Path) -> list[Path]:
        found = sorted((folder / "haystack").rglob("*.txt"))[: self.options.books]
        if not found:
            raise Unavailable(f"nolima: no books (*.txt) in {folder / 'haystack'}")
        return found

    def _sample(
        self, asked: Asked, book: Book, stem: str, name: str, length: int, depth: float, whole: str
    ) -> Sample:
        needle = asked.needle.replace(NAME, name)
        if self.options.static_depth is None:
            made = book.placed(needle, length, depth / 100)
        else:
            made = book.placed_at(needle, length, depth / 100, self.options.static_depth / 100)
        text = asked.template or whole
        [place] = places(checked(text, asked.test)) - {"question"}
        before, _, after = text.partition(f"{{{place}}}")
        question = asked.question.replace(NAME, name)
        given = {"question": question}
        facts = {"length": length, "depth": depth, "test": asked.test, "book": stem, "direct": asked.direct}
        return Sample(
            f"{asked.test}-{stem}-{length}-{depth:g}",
            Prompt(filled(before, given), made.text, filled(after, given), question),
            asked.answers or (name,),
            NEW_TOKENS,
            metadata={**facts, "window": made.window},
        )


def right(metric: str, response: str, answers: Sequence[str]) -> bool:
    """The official ``_evaluate_response``: raw strings, case and all."""
    if metric.startswith("lastline"):
        response = response.strip().split("\n")[-1]
    if metric.endswith("contains"):
        return any(answer in response for answer in answers)
    return response.strip() in answers


def base_score(scored: Sequence[ScoredSample]) -> float | None:
    """The paper's: for each needle and question the best of its means at 250, 500 and 1,000 tokens; their mean.

    None if one of the three lengths was not run.
    """
    if not {each.metadata["length"] for each in scored} >= set(BASE_LENGTHS):
        return None
    cells: dict[str, dict[int, list[float]]] = {}
    for each in scored:
        if (length := each.metadata["length"]) in BASE_LENGTHS:
            cells.setdefault(each.metadata["test"], {}).setdefault(length, []).append(each.scores["score"])
    best = [max(sum(values) / len(values) for values in by.values()) for by in cells.values()]
    return sum(best) / len(best)


def _over_tests(scored: Sequence[ScoredSample]) -> float:
    """Mean over tests and books of the means over depths."""
    files: dict[tuple[str, str], list[float]] = {}
    for each in scored:
        files.setdefault((each.metadata["test"], each.metadata["book"]), []).append(each.scores["score"])
    means = [sum(values) / len(values) for values in files.values()]
    return sum(means) / len(means) if means else 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"nolima: {path} is no UTF-8 text or cannot be read ({error})") from None
