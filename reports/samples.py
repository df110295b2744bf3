"""`samples`: a few samples of each run to look at, and for methods in intervals what they kept of the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pydantic import Field

from harness import Options, Report
from harness.contracts.run import LoadedRun, Record
from harness.documents.document import Document, SampleView
from harness.documents.figures import Stretch, Strip

from ._rows import Member, members

LONGEST = 4000
"""Characters of an answer that are shown."""


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
        return Document("samples", "Samples", samples=views)


def _chosen(found: Sequence[Member], most: int) -> list[Member]:
    """One task of each family, then the others, in the run's order."""
    firsts = list({member.task.partition("/")[0]: member for member in reversed(found)}.values())
    ordered = [m for m in found if m in firsts] + [m for m in found if m not in firsts]
    return ordered[:most]


def _views(member: Member) -> Iterator[SampleView]:
    records = [r for r in member.run.of_task(member.task).values() if "prediction" in r or "error" in r]
    tests: Sequence[tuple[str, Callable[[Record], bool]]] = (
        ("full score", lambda r: r["status"] == "ok" and member.score(r) > 0.999),
        ("low score", lambda r: r["status"] == "ok" and member.score(r) < 0.5),
        ("failed", lambda r: r["status"] != "ok"),
    )
    shown = False
    for word, test in tests:
        record = next((r for r in records if test(r)), None)
        if record is not None:
            shown = True
            yield _view(member, record, word)
    if not shown and records:
        yield _view(member, records[0], "in between")


def _view(member: Member, record: Record, word: str) -> SampleView:
    run, name = member.run, str(record["id"])
    texts = [("accepted", "\n".join(map(str, record.get("references") or ())))]
    if "prediction" in record:
        texts.append(("answer", _shortened(str(record["prediction"]))))
    if record.get("error"):
        error = record["error"]
        texts.append(("error", f"{error.get('type')}: {error.get('message')} ({error.get('where')})"))
    title = f"{run.label}, {member.task}: {word}, {name}"
    return SampleView(title, list(_facts(member, record)), texts, strip(run, record, title))


def _shortened(text: str) -> str:
    rest = len(text) - LONGEST
    return text if rest <= 0 else f"{text[:LONGEST]} … and {rest:,} more characters"


def _facts(member: Member, record: Record) -> Iterator[tuple[str, str]]:
    if record["status"] == "ok":
        yield str(member.row["metric"]), f"{100 * member.score(record):.1f}"
    else:
        yield "status", str(record["status"])
    if record.get("prompt_tokens") is not None:
        yield "prompt tokens", f"{record['prompt_tokens']:,}"
    measured = record.get("measured") or {}
    if measured.get("kv_tokens"):
        yield "KV entries", f"{measured['kv_tokens']:,}"
    cut = record.get("truncation") or {}
    if cut.get("truncated"):
        yield "cut", f"from {cut['tokens_before']:,} to {cut['tokens_after']:,} tokens ({cut['rule']})"
    if cut.get("answer_survives") is False:
        yield "answer", "lost by truncation"
    if record.get("stop_reason"):
        yield (
            "stopped by",
            {"length": "the token limit"}.get(record["stop_reason"], str(record["stop_reason"])),
        )


def strip(run: LoadedRun, record: Record, title: str) -> Strip | None:
    """The sample's context by interval; None for a method that tells no ratios."""
    details = record.get("details") or {}
    ratios, size = details.get("ratios"), run.options.get("interval")
    total = record.get("prompt_tokens")
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
        f"strip-{run.hash}-{record['task'].replace('/', '-')}-{record['id']}",
        title,
        "The prompt from left to right, an interval a box. Above, how relevant the method found it; below, how many "
        "tokens one KV entry stands for.",
        stretches,
        answer,
        estimated,
    )


def _answer(record: Record) -> tuple[int | None, bool]:
    """The token at which an accepted answer first stands, and whether it is only estimated.

    Records of earlier versions do not say. A needle put at a depth stands at about that share of the tokens,
    if nothing was cut.
    """
    if record.get("answer_token") is not None:
        return int(record["answer_token"]), False
    depth = (record.get("metadata") or {}).get("depth")
    cut = (record.get("truncation") or {}).get("truncated")
    if "answer_token" in record or not isinstance(depth, int | float) or cut is not False:
        return None, False
    return int((record["prompt_tokens"] - 1) * depth / 100), True
