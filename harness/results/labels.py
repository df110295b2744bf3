"""Short names of runs that tell them apart, and what runs have in common and differ in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..contracts.run import LoadedRun


def labelled(runs: Sequence[LoadedRun]) -> list[LoadedRun]:
    """The same runs under short labels that tell them apart: ``two_pass alpha=3``.

    A label is the method, its options that differ between the runs of that method (of a run that is the only
    one of its method: those that were given), and whatever else differs between runs of one name (the model,
    the truncation rule …). Of a label that would be longer than `LONGEST` only as much is kept as tells the runs
    of that method apart, the same in all of them; values are shortened too. Runs that are alike in all this keep one
    name if no task is in both, and else differ in an option of a task, or end in their hash. What a label leaves
    out, `unsaid_options` has.
    """
    told = [_options_told(run, [r for r in runs if r.method == run.method]) for run in runs]
    names = [_joined(run, pairs) for run, pairs in zip(runs, told)]
    alike = {name: [r for r, n in zip(runs, names) if n == name] for name in names}
    told = [[*pairs, *_settings_told(run, alike[n])] for run, pairs, n in zip(runs, told, names)]
    whole = [_joined(run, pairs) for run, pairs in zip(runs, told)]
    short = _shortened(runs, told)
    found = []
    for run, name, label in zip(runs, whole, short):
        clashes = [o for o, n in zip(runs, whole) if n == name and o is not run and _share(run, o)]
        own = [word for o in clashes for word in _tasks_told(run, o)][:1]
        same = [o for o in clashes if _tasks_told(run, o)[:1] == own[:1] and _tasks_told(o, run) == own]
        if clashes and (not own or same):
            own = [f"#{run.hash[:6]}"]
        found.append(replace(run, label=" ".join([label, *own])))
    return [
        replace(run, label=f"{run.label} #{run.hash[:6]}")
        if "#" not in run.label
        and any(o.label == run.label and _share(run, o) for o in found if o is not run)
        else run
        for run in found
    ]


LONGEST = 32
"""Characters of a label from which it says only what is needed to tell runs apart."""
VALUE = 18
"""Characters of a value in a label."""
Told = tuple[str, str]
"""A key, and the words about it: ``("alpha", "alpha=3")``."""


def _share(run: LoadedRun, other: LoadedRun) -> bool:
    return bool({t.name for t in run.tasks} & {t.name for t in other.tasks})


def _joined(run: LoadedRun, pairs: Sequence[Told]) -> str:
    return " ".join([run.method, *(words for _, words in pairs)])


def _options_told(run: LoadedRun, same_method: Sequence[LoadedRun]) -> list[Told]:
    given = given_options(run)
    alone = len({other.hash for other in same_method}) == 1
    shown = {
        name: value
        for name, value in run.options.items()
        if any(other.options.get(name, value) != value for other in same_method) or (name in given and alone)
    }
    return [(name, f"{name}={_short(v)}") for name, v in shown.items() if v is not None]


def _settings_told(run: LoadedRun, alike: Sequence[LoadedRun]) -> list[Told]:
    found = []
    for name in SETTINGS:
        if len({str(setting(r, name)) for r in alike}) > 1 and not (
            name == "weights" and len({r.model for r in alike}) > 1
        ):
            value = _short(setting(run, name))
            if name == "adapter" and len({str(setting(r, name)).partition(":") for r in alike}) == len(
                {str(setting(r, name)).partition(":")[0] for r in alike}
            ):
                value = value.partition(":")[0]  # its name is enough
            found.append((name, WORDS.get(name, f"{name}={{}}").format(value)))
    return found


def _tasks_told(run: LoadedRun, other: LoadedRun) -> list[str]:
    """Options of tasks in which two runs differ, short ones alone: ``samples=500``."""
    found = []
    for task in run.tasks:
        theirs = other.task(task.name)
        for name, value in task.options.items():
            if theirs is not None and theirs.options.get(name) != value and len(_short(value)) < VALUE:
                found.append(f"{name}={_short(value)}")
    return found


def _shortened(runs: Sequence[LoadedRun], told: Sequence[Sequence[Told]]) -> list[str]:
    """A label for each run, equal only where all that is told of two runs is."""
    names = []
    for run, pairs in zip(runs, told):
        mine = [p for r, p in zip(runs, told) if r.method == run.method]
        keys = list(dict.fromkeys(key for each in mine for key, _ in each))
        if max(len(_joined(run, each)) for each in mine) > LONGEST:
            keys = _fewest(mine, keys)
        names.append(" ".join([run.method, *(_cut(words) for key, words in pairs if key in keys)]))
    whole = [_joined(run, pairs) for run, pairs in zip(runs, told)]
    return [
        f"{name} #{run.hash[:6]}" if any(n == name and w != mine for n, w in zip(names, whole)) else name
        for run, name, mine in zip(runs, names, whole)
    ]


def _fewest(told: Sequence[Sequence[Told]], keys: Sequence[str]) -> list[str]:
    """The fewest keys that tell apart what all keys do; of options that always change together the first."""

    def apart(chosen: Sequence[str]) -> int:
        return len({tuple(pair for pair in each if pair[0] in chosen) for each in told})

    kept: list[str] = []
    while apart(kept) < apart(keys):
        kept.append(max((k for k in keys if k not in kept), key=lambda k: apart([*kept, k])))
    return [k for k in keys if k in kept]


def _cut(words: str) -> str:
    key, equals, value = words.rpartition("=")
    if "/" in value:  # of a path its last part says most
        value = value.rstrip("/").rpartition("/")[2]
    return key + equals + (value if len(value) <= VALUE else f"{value[: VALUE - 1]}…")


def in_order(runs: Iterable[LoadedRun]) -> list[LoadedRun]:
    """Runs that nobody has put in an order: `plain` first, then by method, the values of its options, and budget.

    Numbers go as numbers, whatever the folders are called; the first of them is what reports compare with.
    """

    def place(run: LoadedRun) -> tuple[Any, ...]:
        values = [(name, _rank(value)) for name, value in sorted(run.options.items())]
        return (
            run.method != "plain",
            run.method,
            values,
            run.model,
            _rank(run.identity.get("budget")),
            _rank(run.identity.get("seed")),
            run.hash,
        )

    return sorted(runs, key=place)


def _rank(value: Any) -> tuple[int, float, str]:
    if value is None:
        return -1, 0.0, ""
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))


def given_options(run: LoadedRun) -> Mapping[str, Any]:
    """The options that a run was started with, its method's defaults not among them."""
    found: Mapping[str, Any] = run.content["settings"].get("options", {})
    return found


def shared_options(runs: Sequence[LoadedRun]) -> dict[str, str]:
    """By method of which there are several runs: the options given that are the same in all of them."""
    found = {}
    for method in dict.fromkeys(run.method for run in runs):
        same = [run for run in runs if run.method == method]
        given = dict.fromkeys(name for run in same for name in given_options(run))
        values = {name: {_short(run.options.get(name)) for run in same} for name in given}
        shown = [
            f"{name}={next(iter(value))}"
            for name, value in values.items()
            if len(value) == 1 and value != {"None"}
        ]
        if len(same) > 1 and shown:
            found[method] = " ".join(shown)
    return found


def unsaid_options(runs: Sequence[LoadedRun]) -> dict[str, str]:
    """By label: the options a run was given that neither its label nor `shared_options` says."""
    shared = shared_options(runs)
    found = {}
    for run in runs:
        said = f" {run.label} {shared.get(run.method, '')} "
        words = [f"{name}={_short(run.options.get(name))}" for name in given_options(run)]
        if unsaid := [w for w in words if f" {w} " not in said and not w.endswith("=None")]:
            found[run.label] = " ".join(unsaid)
    return found


WORDS = {
    "model": "on {}",
    "context_length": "window={}",
    "dtype": "{}",
    "device": "{}",
    "protocol": "{}",
}
"""How a label says a setting, where not by its own name."""


def setting(run: LoadedRun, name: str) -> Any:
    """One of `SETTINGS`, in a form for people."""
    if name == "model":
        return run.model
    if name == "protocol":
        return run.protocol
    if name == "weights":
        return str(run.identity.get("model_hash"))[:8]
    if name == "adapter":
        given = run.content["settings"].get("adapter")
        digest = run.identity.get("adapter")
        if digest is None:
            return "none"
        name = Path(given).name if given else "shipped"
        if re.search(r"-[0-9a-f]{12}$", name):  # a name that was made, not given: the content says more
            return str(digest)[:8]
        return f"{name}:{str(digest)[:8]}"
    return run.identity.get(name)


SETTINGS = (
    "model",
    "weights",
    "adapter",
    "protocol",
    "budget",
    "method_version",
    "context_length",
    "truncate",
    "max_context",
    "chat",
    "seed",
    "dtype",
    "device",
    "batch_size",
    "harness",
)
"""What two runs of one method and the same options may still differ in, the most telling first."""


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
