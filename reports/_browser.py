"""Every sample of every run, side by side, for the page's sample browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.contracts import LoadedRun, SampleRecord
from harness.documents import BrowsedAnswer, BrowsedSample, Browser

from ._rows import Member, members

MOST = 40_000_000
"""Characters that all texts together may have: what a browser reads in a moment."""
LONGEST, SHORTEST = 4000, 120
"""Characters of a text that are shown; fewer where there are very many samples."""


def browser(runs: Sequence[LoadedRun]) -> Browser | None:
    """None where no run has a record with an answer or an error."""
    found = [{(m.task, name): m for m in members(run) for name in run.of_task(m.task)} for run in runs]
    keys = dict.fromkeys(key for each in found for key in each)
    if not any(
        r.prediction is not None or r.answers or r.error is not None
        for run in runs
        for r in run.records.values()
    ):
        return None
    longest = max(SHORTEST, min(LONGEST, MOST // max(1, len(keys) * (len(runs) + 3))))
    samples = [_sample(key, runs, found, longest) for key in keys]
    return Browser([run.label for run in runs], samples)


def _sample(
    key: tuple[str, str],
    runs: Sequence[LoadedRun],
    found: Sequence[Mapping[tuple[str, str], Member]],
    longest: int,
) -> BrowsedSample:
    task, name = key
    records = [run.of_task(task).get(name) for run in runs]
    known = [r for r in records if r is not None]
    answers = [
        None if record is None else _answer(each[key], record, run, longest)
        for run, each, record in zip(runs, found, records)
    ]
    accepted = next((r.references for r in known if r.references), ())
    excerpt = next((dict(e) for r in known if isinstance(e := r.extra.get("excerpt"), Mapping)), {})
    texts = {
        part: shortened(str(excerpt[part]), longest)
        for part in ("question", "begin", "end")
        if part in excerpt
    }
    return BrowsedSample(
        task,
        name,
        [shortened(str(a), longest) for a in accepted[:20]],
        answers,
        place=_place(known),
        **texts,
    )


def _place(records: Sequence[SampleRecord]) -> str:
    """Where the accepted answer stands, in the prompts of the runs that still hold it."""
    for record in records:
        if record.answer_token is not None and record.prompt_tokens:
            share = 100 * record.answer_token / record.prompt_tokens
            return f"token {record.answer_token:,} of {record.prompt_tokens:,} ({share:.0f} %)"
    if any(r.truncation.answer_survives is False for r in records):
        return "cut away by truncation"
    return ""


def _answer(member: Member, record: SampleRecord, run: LoadedRun, longest: int) -> BrowsedAnswer:
    cut, lost = bool(record.truncation.truncated), record.truncation.answer_survives is False
    if not record.finished:
        error = record.error
        said = record.status if error is None else f"{record.status}: {error.type}: {error.message}"
        return BrowsedAnswer(None, shortened(said, longest), "failed", cut, lost)
    score = 100 * member.score(record)
    state = "right" if score > 99.9 else "wrong" if score < 0.05 else "partly"
    facts = [f"{record.prompt_tokens:,} tokens"] if record.prompt_tokens else []
    if record.measured.kv_tokens:
        facts.append(f"{record.measured.kv_tokens:,} KV entries")
    if record.cost.seconds is not None:
        facts.append(f"{record.cost.seconds:.1f} s")
    if record.stop_reason == "length":
        facts.append("stopped by the token limit")
    ratios = [int(r) for r in record.details.get("ratios") or () if isinstance(r, int | float)]
    size, sinks = run.options.get("interval"), int(run.options.get("sinks") or 0)
    holder = None
    if ratios and isinstance(size, int) and record.answer_token is not None:
        place = max(0, record.answer_token - sinks) // size
        holder = place if place < len(ratios) else None
    said = "\n".join(f"{i}. {a.prediction or ''}" for i, a in enumerate(record.answers, start=1))
    return BrowsedAnswer(
        score,
        shortened(record.prediction or said, longest),
        state,
        cut,
        lost,
        ", ".join(facts),
        ratios,
        holder,
    )


def shortened(text: str, longest: int) -> str:
    """The text, or its beginning and how much is not shown."""
    rest = len(text) - longest
    return text if rest <= 0 else f"{text[:longest]} … and {rest:,} more characters"
