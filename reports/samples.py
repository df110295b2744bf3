"""`samples`: a few samples of each run to look at, and for methods in intervals what they kept of the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pydantic import Field

from harness import Options, Report
from harness.contracts import LoadedRun, SampleRecord
from harness.documents import Document, SampleView, Stretch, Strip

from ._browser import LONGEST, browser, shortened
from ._rows import Member, members


class SamplesOptions(Options):
    """Options of `Samples`."""

    tasks: int = Field(4, ge=1, description="tasks of each run that samples are shown of")


class Samples(Report):
    """Of each task the first sample with full score, the first with a low one, and the first that failed."""

    Options = SamplesOptions
    options: SamplesOptions

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        views = [
            view
            for run in runs
            for member in _chosen(members(run), self.options.tasks)
            for view in _views(member)
        ]
        return Document("samples", "Samples", samples=views, browser=browser(runs))


def _chosen(found: Sequence[Member], most: int) -> list[Member]:
    """One task of each family, then the others, in the run's order."""
    firsts = list({member.task.partition("/")[0]: member for member in reversed(found)}.values())
    ordered = [m for m in found if m in firsts] + [m for m in found if m not in firsts]
    return ordered[:most]


def _views(member: Member) -> Iterator[SampleView]:
    records = [
        r
        for r in member.run.of_task(member.task).values()
        if r.prediction is not None or r.answers or r.error is not None
    ]
    tests: Sequence[tuple[str, Callable[[SampleRecord], bool]]] = (
        ("full score", lambda r: r.finished and member.score(r) > 0.999),
        ("low score", lambda r: r.finished and member.score(r) < 0.5),
        ("failed", lambda r: not r.finished),
    )
    shown = False
    for word, test in tests:
        record = next((r for r in records if test(r)), None)
        if record is not None:
            shown = True
            yield _view(member, record, word)
    if not shown and records:
        yield _view(member, records[0], "in between")


def _view(member: Member, record: SampleRecord, word: str) -> SampleView:
    run, name = member.run, record.id
    texts = [("accepted", "\n".join(map(str, record.references or ())))]
    if record.prediction is not None:
        texts.append(("answer", shortened(record.prediction, LONGEST)))
    for number, answer in enumerate(record.answers, start=1):
        accepted = "\n".join(answer.references)
        said = shortened(answer.prediction or "", LONGEST)
        texts.append((f"answer {number}", f"{said}\n[accepted: {accepted}]"))
    if (error := record.error) is not None:
        texts.append(("error", f"{error.type}: {error.message} ({error.where})"))
    title = f"{run.label}, {member.task}: {word}, {name}"
    return SampleView(title, list(_facts(member, record)), texts, strip(run, record, title))


def _facts(member: Member, record: SampleRecord) -> Iterator[tuple[str, str]]:
    if record.finished:
        yield str(member.row["metric"]), f"{100 * member.score(record):.1f}"
    else:
        yield "status", record.status
    if record.prompt_tokens is not None:
        yield "prompt tokens", f"{record.prompt_tokens:,}"
    if record.measured.kv_tokens:
        yield "KV entries", f"{record.measured.kv_tokens:,}"
    cut = record.truncation
    if cut.truncated:
        yield "cut", f"from {cut.tokens_before or 0:,} to {cut.tokens_after or 0:,} tokens ({cut.rule})"
    if cut.answer_survives is False:
        yield "accepted answer", "lost by truncation"
    if record.stop_reason:
        yield "stopped by", {"length": "the token limit"}.get(record.stop_reason, record.stop_reason)


def strip(run: LoadedRun, record: SampleRecord, title: str) -> Strip | None:
    """The sample's context by interval; None for a method that tells no ratios."""
    details = record.details
    ratios, size = details.get("ratios"), run.options.get("interval")
    total = record.prompt_tokens
    if not ratios or not isinstance(size, int) or not isinstance(total, int):
        return None
    relevance, z = details.get("relevance") or [], details.get("z") or []
    sinks = int(run.options.get("sinks") or 0)  # the first box holds them too
    stretches = [
        Stretch(
            sinks + i * size if i else 0,
            sinks + (i + 1) * size,
            (size if ratio == 0 else max(1, size // ratio)) + (0 if i else sinks),
            int(ratio),
            relevance[i] if i < len(relevance) else None,
            z[i] if i < len(z) else None,
        )
        for i, ratio in enumerate(ratios)
    ]
    end = sinks + len(ratios) * size
    if end < total:
        stretches.append(Stretch(end, total, total - end, None))
    answer, estimated = _answer(record)
    return Strip(
        f"strip-{run.hash}-{record.task.replace('/', '-')}-{record.id}",
        title,
        "The prompt from left to right, an interval a box. Above, how relevant the method found it; below, how many "
        "tokens one KV entry stands for.",
        stretches,
        answer,
        estimated,
    )


def _answer(record: SampleRecord) -> tuple[int | None, bool]:
    """The token at which an accepted answer first stands, and whether it is only estimated.

    Records of earlier versions do not say. A needle put at a depth stands at about that share of the tokens,
    if nothing was cut.
    """
    if record.answer_token is not None:
        return record.answer_token, False
    depth, cut = record.metadata.get("depth"), record.truncation.truncated
    if record.answer_sought or not isinstance(depth, int | float) or cut is not False:
        return None, False
    return int(((record.prompt_tokens or 1) - 1) * depth / 100), True
