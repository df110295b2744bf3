"""A mixture of sources made: drawn, tokenised, written, and taken up after a kill."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import statistics
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .._util.files import unwritable
from .._util.hashing import digest
from ..errors import UsageError
from .mixture import BATCH, CHARACTERS, FORMAT, Mixture
from .rows import Row
from .sources import HubRows, Progress, Source, parse_spec
from .tokenize import Tokenizing

if TYPE_CHECKING:
    from ..models.model import LanguageModel


def check(specs: Sequence[str]) -> None:
    """Refuse what can be refused without a model: unknown or missing sources, empty files, broken first lines.

    Raises
    ------
    UsageError
        One line, with file and line number where there are any.
    """
    if not specs:
        raise UsageError("no training data given")
    for spec in specs:
        parse_spec(spec).check()


def build(
    specs: Sequence[str],
    model: LanguageModel,
    folder: Path,
    *,
    min_length: int = 1200,
    max_length: int = 8192,
    seed: int = 42,
    split: bool = False,
    chat: bool = False,
    offline: bool = False,
    progress: Progress | None = None,
) -> Mixture:
    """Mix and tokenise sources; the same request finds what an earlier one has left in `folder`.

    Parameters
    ----------
    specs
        ``SOURCE[:COUNT]`` each. SOURCE: a file of JSON lines, a folder with ``data.jsonl``, or
        ``hub:owner/name[/config][@split]``. With a COUNT, so many usable rows are drawn without replacement
        by `seed` (all usable ones, if fewer are); without, all are taken.
    model
        Its tokenizer is used, its weights are not.
    folder
        Where examples are kept, in a sub-folder named after all that they depend on.
    min_length, max_length
        Tokens. Shorter examples are dropped, longer ones truncated.
    seed
        Of what is drawn, of separators, and of the order of the examples.
    split
        Cut a text longer than `max_length` into several examples, instead of truncating it.
    chat
        Wrap prompts in the model's chat template and end answers as it ends turns, instead of a separator
        and the tokenizer's end token.
    offline
        Refuse sources on the Hub.
    progress
        Told of rows done, and of how many there will be if that is known.

    Raises
    ------
    UsageError
        One line: a source is missing, empty, broken (file and line number) or smaller than its COUNT; no
        example is left; lengths make no sense; the model has no chat template; `folder` cannot be written.
    """
    if not 1 <= min_length <= max_length:
        raise UsageError(f"lengths from {min_length} to {max_length} tokens: none can be both; change one")
    if chat and not model.has_chat_template:
        raise UsageError(f"model {model.name} has no chat template: do without it")
    sources = _sources(specs, offline)
    settings = {
        "min_length": min_length,
        "max_length": max_length,
        "seed": seed,
        "split": split,
        "chat": chat,
        "tokenizer_hash": model.tokenizer_hash,
        "format": FORMAT,
    }
    target = folder / _key(sources, settings)
    if not target.is_dir():
        _write(
            sources, Tokenizing(model, min_length, max_length, seed, split, chat), settings, target, progress
        )
    mixture = Mixture(target)
    # The same content may have been given under another name before.
    for fact, spec in zip(mixture.facts["sources"], specs):
        fact["given"] = spec
    return mixture


def _sources(specs: Sequence[str], offline: bool) -> list[Source]:
    """The sources that are named; raises UsageError for none, and for one that would have to be fetched."""
    if not specs:
        raise UsageError("no training data given")
    sources = [parse_spec(spec) for spec in specs]
    if offline and (remote := next((s for s in sources if isinstance(s, HubRows)), None)):
        raise UsageError(f"{remote.given}: on the Hub, and nothing may be fetched; give a file of JSON lines")
    return sources


def _key(sources: Sequence[Source], settings: dict[str, Any]) -> str:
    """Names what examples depend on: contents rather than paths."""
    parts = [
        [s.identity, s.count, [s.repository, s.config, s.split] if isinstance(s, HubRows) else None]
        for s in sources
    ]
    return (
        "mixture-" + hashlib.sha256(json.dumps([parts, settings], sort_keys=True).encode()).hexdigest()[:24]
    )


class _Store:
    """Examples on their way to the disk: ids in a flat file, the rest (a few bytes each) in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.offsets, self.spans = [0], [0]
        self.learnt = array("q")  # start, end, start, end ... of the stretches that are learnt
        self.source: list[int] = []
        self.labelled = 0

    def add(self, ids: list[int], learnt: Sequence[tuple[int, int]], source: int) -> None:
        """Append an example of which these stretches of tokens are learnt."""
        import numpy as np

        self.file.write(np.asarray(ids, dtype="<i4").tobytes())
        self.offsets.append(self.offsets[-1] + len(ids))
        for stretch in learnt:
            self.learnt.extend(stretch)
            self.labelled += stretch[1] - stretch[0]
        self.spans.append(len(self.learnt) // 2)
        self.source.append(source)


@dataclass(frozen=True)
class _Step:
    """Tells of the rows of one source as of `before` more."""

    progress: Progress | None
    before: int
    total: int | None

    def tell(self, done: int) -> None:
        if self.progress is not None:
            self.progress(self.before + done, self.total)


def _write(
    sources: Sequence[Source],
    tokenizing: Tokenizing,
    settings: dict[str, Any],
    target: Path,
    progress: Progress | None,
) -> None:
    """Make all examples in a folder of another name, which becomes `target` when it is whole."""
    import numpy as np

    # Every source is counted and checked before the first is tokenised.
    goals = [s.lines if s.count is None or s.lines is None else min(s.count, s.lines) for s in sources]
    total = None if None in goals else sum(goal or 0 for goal in goals)
    partial: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
        facts, done = [], 0
        with (partial / "tokens.bin").open("wb") as file:
            store = _Store(file)
            for index, source in enumerate(sources):
                step = _Step(progress, done, total)
                facts.append(_take(index, source, tokenizing, store, step))
                done += facts[-1]["taken"] if source.count else facts[-1]["read"]
        _require_some(facts, settings)
        order = list(range(len(store.source)))
        random.Random(settings["seed"]).shuffle(order)
        arrays: dict[str, Sequence[int]] = {
            "offsets": store.offsets,
            "learnt": store.learnt,
            "spans": store.spans,
            "source": store.source,
            "order": order,
        }
        for name, values in arrays.items():
            np.save(partial / f"{name}.npy", np.asarray(values, dtype="<i8"))
        files = {path.name: digest(path) for path in sorted(partial.iterdir())}
        summary = json.dumps({**_summary(facts, store, settings), "files": files}, indent=2)
        (partial / "facts.json").write_text(summary, "utf-8")
        partial.chmod(0o755)
        if not target.is_dir():  # another process may have been faster
            partial.rename(target)
    except OSError as error:
        if target.is_dir():
            return
        if (reason := unwritable(error)) is None:
            raise
        raise UsageError(
            f"{target.parent} cannot be written ({reason}); make room or give another folder"
        ) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _take(index: int, source: Source, tokenizing: Tokenizing, store: _Store, step: _Step) -> dict[str, Any]:
    """Tokenise one source into the store until its count is reached; its facts."""
    tokenizing.dropped.clear()
    tokenizing.spelled = 0
    first, begin, labelled = len(store.source), store.offsets[-1], store.labelled
    read = taken = 0
    rows = source.rows(tokenizing.seed)
    while source.count is None or taken < source.count:
        wanted = BATCH if source.count is None else min(BATCH, source.count - taken)
        if not (batch := _batch(rows, wanted)):
            break
        for examples in tokenizing.examples(batch, source.identity):
            for ids, learnt in examples:
                store.add(ids, learnt, index)
            taken += bool(examples)
        read += len(batch)
        step.tell(taken if source.count else read)
    tokens = store.offsets[-1] - begin
    return {
        "given": source.given,
        ("revision" if isinstance(source, HubRows) else "sha256"): source.identity,
        "lines": source.lines,
        "read": read,
        "taken": taken,
        "dropped": dict(sorted(tokenizing.dropped.items())),
        **({"special_tokens_read_as_text": tokenizing.spelled} if tokenizing.spelled else {}),
        "examples": len(store.source) - first,
        "tokens": tokens,
        "labelled": store.labelled - labelled,
    }


def _batch(rows: Iterator[tuple[int, Row]], most: int) -> list[tuple[int, Row]]:
    """The next rows, fewer than `most` where they are long: their texts and offsets are in memory together."""
    found: list[tuple[int, Row]] = []
    characters = 0
    while len(found) < most and characters < CHARACTERS and (row := next(rows, None)) is not None:
        found.append(row)
        characters += len(row[1].text) + sum(map(len, chain.from_iterable(row[1].exchanges)))
    return found


def _require_some(facts: Sequence[dict[str, Any]], settings: dict[str, Any]) -> None:
    if any(fact["examples"] for fact in facts):
        return
    why = "; ".join(
        f"{fact['given']}: {', '.join(f'{n:,} {reason}' for reason, n in fact['dropped'].items())}"
        for fact in facts
    )
    bounds = f"from {settings['min_length']} to {settings['max_length']} tokens"
    raise UsageError(f"no example {bounds} is left ({why}); change the lengths or give longer texts")


def _summary(facts: list[dict[str, Any]], store: _Store, settings: dict[str, Any]) -> dict[str, Any]:
    sizes = [end - start for start, end in zip(store.offsets, store.offsets[1:])]
    return {
        **settings,
        "sources": facts,
        "examples": len(sizes),
        "tokens": sum(sizes),
        "lengths": {
            "min": min(sizes),
            "median": statistics.median(sizes),
            "mean": round(statistics.fmean(sizes), 1),
            "max": max(sizes),
        },
    }
