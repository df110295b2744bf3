"""Synthetic data from a recipe: everything checked, the pool generated or resumed, samples put together.

A kill at any moment loses one batch of items at most. The same command with the same seed gives the same
bytes, whether or not it was interrupted: batches are fixed by the items' numbers, and each item draws from a
random source of its own.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .._util.files import writes
from ..contracts.draft import Dialogue, Draft
from ..contracts.recipe import Draw, Dropped, NoItems, Request, Stage, TooShort
from ..errors import HarnessError, UsageError
from . import data_card
from .assembly import DataFile, Layout, layout
from .plan import DATA, check_out, request_of
from .pool import NOT_ASKED
from .settings import SynthPlan

if TYPE_CHECKING:
    pass

PARTIAL = ".data.jsonl.partial"
DRAWS = 40
"""Times a sample is drawn anew if it does not come out within the range."""
ASSUMED_SPEED = 100.0
"""New tokens a second, where it cannot be measured."""


class Watcher(Protocol):
    """Who is told how far the work is."""

    def start(self, what: str, total: int, done: int) -> None:
        """A new stretch of work, `done` of which is there already."""
        ...

    def step(self, number: int, rate: str = "") -> None:
        """So many more are there."""
        ...


def estimate(plan: SynthPlan) -> str:
    """What is left to generate, in one line: items, tokens, and minutes at a speed measured now or assumed."""
    batch = plan.generator.batch_size
    with plan.pool.open():
        left = {s: max(0, whole(s.size, batch) - plan.pool.load(s, batch)) for s in plan.stages}
    items, tokens = sum(left.values()), sum(number * stage.expected for stage, number in left.items())
    if not items:
        return f"nothing to generate: the pool {plan.pool.folder} is complete"
    if not tokens:
        return f"nothing to generate: {items:,} items are made from the documents themselves"
    measured = plan.generator.speed()
    speed = measured or ASSUMED_SPEED
    return (
        f"to generate: {items:,} items in {sum(n > 0 for n in left.values())} stages, about {tokens:,} new tokens; "
        f"{tokens / speed / 60:,.1f} minutes and the reading of prompts at {speed:,.0f} tokens/s "
        f"({'measured' if measured else 'assumed'})"
    )


def execute(plan: SynthPlan, watcher: Watcher) -> dict[str, Any]:
    """Generate what the pool lacks, put the samples together, write data and card; returns the card.

    Raises
    ------
    UsageError
        If the folder holds another data set, or cannot be written.
    HarnessError
        If the generator wrote nothing usable; the line names the counts.
    """
    request = request_of(plan)
    check_out(plan.settings.out, request)
    with plan.pool.open():
        plan.pool.write_identity(plan.identity)
        for stage in plan.stages:
            _generate(plan, stage, watcher)
        _require_items(plan)
        out = plan.settings.out
        partial = out / PARTIAL
        with _errors_of(out):
            try:
                facts = _write_samples(plan, watcher, partial)
                card = data_card.make(plan, request, facts)
                # The data comes last: a kill between the two leaves a card that the same command replaces.
                data_card.write(out, card)
                partial.replace(out / DATA)
            finally:
                partial.unlink(missing_ok=True)
    return card


def whole(size: int, batch: int) -> int:
    """A number of items rounded up to whole batches: every item is generated in a full one."""
    return -(-size // batch) * batch


def _generate(plan: SynthPlan, stage: Stage, watcher: Watcher) -> None:
    pool, generator, seed = plan.pool, plan.generator, int(plan.identity["seed"])
    batch = generator.batch_size
    size = whole(stage.size, batch)
    done = pool.load(stage, batch)
    watcher.start(stage.name, size, min(done, size))
    for start in range(done, size, batch):
        asked = {i: stage.ask(i, pool) for i in range(start, start + batch)}
        requests = [request for request in asked.values() if isinstance(request, Request)]
        began = time.perf_counter()
        answers = iter(generator.generate(requests, seed) if requests else [])
        seconds = time.perf_counter() - began
        records: list[dict[str, Any]] = []
        tokens = 0
        for index, request in asked.items():
            if request is None:
                records.append({"i": index, "dropped": NOT_ASKED})
                continue
            if not isinstance(request, Request):
                records.append({"i": index, **request})
                continue
            answer = next(answers)
            tokens += answer.tokens
            made = stage.judge(index, pool, answer)
            if isinstance(made, Dropped):
                records.append({"i": index, "dropped": made.reason, "written": answer.text})
            else:
                records.append({"i": index, **made})
        pool.append(stage, records)
        watcher.step(batch, f"{tokens / seconds:,.0f} tok/s" if tokens else "")


def _require_items(plan: SynthPlan) -> None:
    if not plan.pool.usable(plan.stages[0].name):
        raise HarnessError(f"{plan.identity['model']} wrote nothing usable: {_reasons(plan, plan.stages)}")


def _reasons(plan: SynthPlan, stages: Sequence[Stage]) -> str:
    said = []
    for stage in stages:
        made = plan.pool.made(stage.name)
        dropped = ", ".join(f"{n} {reason}" for reason, n in plan.pool.dropped(stage.name).items())
        said.append(f"{stage.name}: {made} items" + (f", of these {dropped}" if dropped else ""))
    return "; ".join(said)


def _write_samples(plan: SynthPlan, watcher: Watcher, path: Path) -> data_card.DataFacts:
    """All samples in one file, in an order that mixes the tasks."""
    order = [(task, number) for task, count in plan.counts.items() for number in range(count)]
    random.Random(f"{plan.settings.seed}-order").shuffle(order)
    watcher.start("samples", len(order), 0)
    facts = data_card.DataFacts()
    impossible: set[str] = set()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        file = DataFile(stream)
        for task, number in order:
            if task in impossible or (drawn := _draw(plan, task, number)) is None:
                impossible.add(task)
                continue
            draft, measured = drawn
            file.write(f"{plan.settings.recipe}-{task}-{number:06d}", task, draft, measured, plan.pool)
            facts.add(task, draft, measured, plan.length)
            watcher.step(1)
        stream.flush()
        os.fsync(stream.fileno())
    if not facts.counts:
        raise HarnessError(
            f"{plan.identity['model']} wrote nothing usable for any task: {_reasons(plan, plan.stages)}"
        )
    facts.sha256, facts.bytes = file.sha256, file.bytes
    return facts


def _draw(plan: SynthPlan, task: str, number: int) -> tuple[Draft | Dialogue, Layout] | None:
    """A sample within the range; None if the pool has no item of a kind that the task needs.

    One that is shorter than the range (a pool without anything that fits) is better than none, and counted.
    """
    least, short = 0, None
    for attempt in range(DRAWS):
        rng = Draw(f"{plan.settings.seed}-{task}-{number}-{attempt}")
        rng.number, rng.attempt = number, attempt
        try:
            draft = plan.recipe.draft(task, plan.pool, rng, plan.length)
        except TooShort as error:
            least = min(least or error.tokens, error.tokens)
            continue
        except NoItems:
            return None
        measured = layout(draft, plan.pool)
        if plan.length is None or plan.length.low <= measured.tokens <= plan.length.high:
            return draft, measured
        if measured.tokens < plan.length.low:
            short = draft, measured
        else:
            least = min(least or measured.tokens, measured.tokens)
    if short is not None:
        return short
    raise UsageError(
        f"--length-range {plan.settings.length}: too short for {task}, which takes about {least} tokens at "
        "least; items of the pool are shorter with --set (see harness synth --help)"
    )


def _errors_of(folder: Path) -> AbstractContextManager[None]:
    return writes(folder, "make room or choose another --out. The pool is kept: the same command resumes")
