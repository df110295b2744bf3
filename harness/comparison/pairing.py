"""Which samples of two runs can be held against each other, and what must be said beside it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..contracts.record import SampleRecord
from ..contracts.run import LoadedRun
from ..errors import UsageError
from ..results.labels import SETTINGS, setting
from ..stats.bootstrap import clustered


@dataclass
class Pairs:
    """The samples of one task under both runs: scores side by side, in the order of their ids.

    `contexts` names the text that each is a question about; `main` says whether `metric` is the task's main score;
    (a, b) are what each run was asked and finished; `other_question` and `other_prompt` count what
    `same_question` left out, and what it let pass.
    """

    task: str
    metric: str
    main: bool
    a: list[float] = field(default_factory=list)
    b: list[float] = field(default_factory=list)
    contexts: list[Hashable] = field(default_factory=list)
    planned: tuple[int, int] = (0, 0)
    finished: tuple[int, int] = (0, 0)
    other_question: int = 0
    other_prompt: int = 0

    @property
    def on_contexts(self) -> int:
        """How many contexts the samples are on, as many as there are samples where none is shared."""
        return len(set(*clustered([self.a], [self.contexts])))

    @property
    def differences(self) -> list[float]:
        return [y - x for x, y in zip(self.a, self.b)]


def common(a: LoadedRun, b: LoadedRun, wanted: Sequence[str]) -> list[str]:
    """Tasks that both runs have, of those wanted."""
    both = [t.name for t in a.tasks if b.task(t.name) is not None]
    kept = [t for t in both if not wanted or t in wanted or t.partition("/")[0] in wanted]
    if not kept:
        mine, theirs = (", ".join(t.name for t in run.tasks) for run in (a, b))
        asked = f" among {', '.join(wanted)}" if wanted and both else ""
        raise UsageError(
            f"{a.label} and {b.label} have no task in common{asked}: the first has {mine}, the second {theirs}"
        )
    return kept


def pair_up(
    a: LoadedRun, b: LoadedRun, task: str, metric: str | None = None, failed_as_wrong: bool = False
) -> Pairs:
    """The samples of `task` that both runs finished and that asked the same question.

    With `failed_as_wrong` also those that one of them, or both, failed on or was to answer and did not, with a score of
    0: which samples fail is no matter of chance.

    Raises
    ------
    UsageError
        If the task has no score named `metric`.
    """
    first, second = a.task(task), b.task(task)
    assert first is not None and second is not None
    name = metric or first.metric
    ok = [{k: r for k, r in run.of_task(task).items() if r.finished} for run in (a, b)]
    pairs = Pairs(
        task,
        name,
        name == first.metric,
        planned=(first.planned, second.planned),
        finished=(len(ok[0]), len(ok[1])),
    )
    tokenizer, chat = (a.identity.get(key) == b.identity.get(key) for key in ("tokenizer_hash", "chat"))
    paired: list[Mapping[str, SampleRecord]] = [*ok]
    if failed_as_wrong:
        paired = [_with_missing(run, other, task) for run, other in ((a, b), (b, a))]
    for key in sorted(paired[0].keys() & paired[1].keys()):
        x, y = paired[0][key], paired[1][key]
        if MISSING not in (x.status, y.status) and not same_question(x, y, tokenizer, chat):
            pairs.other_question += 1
            continue
        for record in (x, y):
            if record.finished and name not in record.scores:
                raise UsageError(f"task {task} has no score {name!r}; it has {', '.join(record.scores)}")
        pairs.a.append(float(x.scores[name]) if x.finished else 0.0)
        pairs.b.append(float(y.scores[name]) if y.finished else 0.0)
        pairs.contexts.append(x.text_hash or y.text_hash or (task, key))
        pairs.other_prompt += x.prompt_hash != y.prompt_hash
    return pairs


MISSING = "missing"
"""Stands for the status of a sample that a run was to answer and has no record of."""


def _with_missing(run: LoadedRun, other: LoadedRun, task: str) -> dict[str, SampleRecord]:
    """The run's records of a task, and one for each sample it was to answer, which only the other has a record of."""
    mine = run.of_task(task)
    planned = set(run.content.get("planned", {}).get(task, ()))
    gone = [key for key in other.of_task(task) if key in planned and key not in mine]
    return {**mine, **{key: SampleRecord(key, task, MISSING) for key in gone}}


def same_question(x: SampleRecord, y: SampleRecord, same_tokenizer: bool, same_chat: bool) -> bool:
    """Whether two records of one id asked the same thing, as far as records can tell.

    References must be equal. Prompts need not be: methods that read less are cut shorter, and models have
    templates of their own. But under one tokenizer a raw text has one number of tokens, and one that was
    rendered alike and cut alike has one hash: where those differ, the text was another.
    """
    if x.references is not None and y.references is not None:
        if x.references != y.references:
            return False
    elif x.hash_of_references != y.hash_of_references:  # one of a recorded baseline, which keeps no answers
        return False
    if not same_tokenizer or x.prompt_hash == y.prompt_hash:
        return True
    a, b = x.truncation, y.truncation
    if a.tokens_before != b.tokens_before:
        return False
    uncut = not (a.truncated or b.truncated)
    alike = uncut or (a.rule, a.limit, a.truncated) == (b.rule, b.limit, b.truncated)
    return not (same_chat and alike)


def nothing_common(a: LoadedRun, b: LoadedRun, matched: Sequence[Pairs]) -> str:
    """Why two runs with tasks in common have no sample in common."""
    others = sum(p.other_question for p in matched)
    if others:
        return (
            f"{a.label} and {b.label} were not asked the same: all {others} samples of one id have other "
            "references or another text; run both with the same data, seed and task options"
        )
    return f"{a.label} and {b.label} finished no sample in common; run them with the same tasks and --limit"


def caveats(a: LoadedRun, b: LoadedRun, pairs: Sequence[Pairs]) -> list[str]:
    """What a reader must know before believing a verdict on `b` against `a`, in one line each."""
    found = []
    if a.sees_question != b.sees_question:
        who = (a if a.sees_question else b).label
        found.append(f"only {who} sees the question while it compresses")
    for run in (a, b):
        found += [f"{run.label}: {warning}" for warning in run.warnings]
        broken = [f"{p.task} {n} of {m}" for p in pairs for m, n in [_asked(run is b, p)] if n < m]
        if broken:
            found.append(f"{run.label} did not finish all it was asked: {', '.join(broken)}")
    found += _differing_settings(a, b)
    found += _sharing(a, b, pairs)
    for p in pairs:
        found += _differing_tasks(a, b, p)
    for name, what in COUNTS.items():
        if some := ", ".join(f"{p.task} {getattr(p, name)}" for p in pairs if getattr(p, name)):
            found.append(f"{what}: {some}")
    if some := ", ".join(
        f"{p.task} {p.planned[0]} and {p.planned[1]}" for p in pairs if p.planned[0] != p.planned[1]
    ):
        found.append(f"asked different numbers of samples, compared on those in both: {some}")
    return found


def _sharing(a: LoadedRun, b: LoadedRun, pairs: Sequence[Pairs]) -> Iterator[str]:
    """How many contexts stand behind the samples, where questions share them."""
    several = [p for p in pairs if p.on_contexts < len(p.a)]
    if several:
        shown = ", ".join(f"{p.task} {len(p.a)} on {p.on_contexts}" for p in several)
        yield f"questions on one context are tested together: {shown} contexts"
    if single := ", ".join(p.task for p in pairs if len(p.a) > 1 and len({*p.contexts}) == 1):
        yield f"all questions are on one context, and what is said holds for that one: {single}"
    unsaid = [
        p.task
        for p in pairs
        if any(
            r.cost.questions > 1 and not r.text_hash for run in (a, b) for r in run.of_task(p.task).values()
        )
    ]
    if unsaid:
        yield (
            "questions shared contexts and the records, of an earlier version, do not say which: taken as "
            f"independent, which they are not: {', '.join(unsaid)}"
        )


COUNTS = {
    "other_question": "samples left out, for they are not the same question in both runs",
    "other_prompt": "prompts that were cut or rendered differently in the two runs",
}


def with_failures(a: LoadedRun, b: LoadedRun, pairs: Sequence[Pairs]) -> list[str]:
    """What the means would be if samples that failed were wrong, where any did: the other bound of what is shown."""
    found = []
    for p in pairs:
        if not any(not r.finished for run in (a, b) for r in run.of_task(p.task).values()):
            continue
        all_of = pair_up(a, b, p.task, p.metric, failed_as_wrong=True)
        x, y = (100 * sum(scores) / max(1, len(scores)) for scores in (all_of.a, all_of.b))
        found.append(f"{p.task} A {x:.1f}, B {y:.1f}, B - A {y - x:+.1f} (n {len(all_of.a)})")
    return [f"with failed samples counted as wrong: {'; '.join(found)}"] if found else []


def _asked(second: bool, pairs: Pairs) -> tuple[int, int]:
    return pairs.planned[second], pairs.finished[second]


def _differing_settings(a: LoadedRun, b: LoadedRun) -> Iterator[str]:
    for name in SETTINGS:
        if name == "protocol":
            continue  # has a line of its own
        if name == "method_version" and a.method != b.method:
            continue
        if name == "adapter" and a.method != b.method:
            continue  # weights of another method differ as a matter of course
        if name == "weights" and a.model != b.model:
            continue
        x, y = setting(a, name), setting(b, name)
        if x != y:
            yield f"{name.replace('_', ' ')} differs: {_shown(x)} and {_shown(y)}"


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)


def _differing_tasks(a: LoadedRun, b: LoadedRun, p: Pairs) -> Iterator[str]:
    first, second = a.task(p.task), b.task(p.task)
    assert first is not None and second is not None
    for what in ("version", "preset"):
        x, y = getattr(first, what), getattr(second, what)
        if x != y:
            yield f"{p.task}: its {what} differs: {x} and {y}"
    options = [
        n for n in {**first.options, **second.options} if first.options.get(n) != second.options.get(n)
    ]
    if options:
        yield f"{p.task}: its options differ ({', '.join(options)})"
