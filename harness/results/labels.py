"""Short names of runs that tell them apart, and what runs have in common and differ in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..contracts.run import LoadedRun


def labelled(runs: Sequence[LoadedRun]) -> list[LoadedRun]:
    """The same runs under labels that tell them apart: ``two_pass alpha=3``.

    A label is the method, its options that differ between the runs of that method (of a run that is the only
    one of its method: those that were given), and whatever else differs between runs of one name (the model,
    the truncation rule …). Runs that are alike in all this keep one name if no task is in both, and else end
    in their hash. What runs of one method have in common is not in their labels: `shared_options` has it.
    """
    names = [_name(run, [r for r in runs if r.method == run.method]) for run in runs]
    alike = {name: [r for r, n in zip(runs, names) if n == name] for name in names}
    names = [" ".join([n, *_differences(run, alike[n])]) for run, n in zip(runs, names)]
    found = []
    for run, name in zip(runs, names):
        others = [r for r, n in zip(runs, names) if n == name and r is not run]
        tasks = {t.name for t in run.tasks}
        clash = any(tasks & {t.name for t in other.tasks} for other in others)
        found.append(replace(run, label=f"{name} #{run.hash[:6]}" if clash else name))
    return found


def _name(run: LoadedRun, same_method: Sequence[LoadedRun]) -> str:
    given = given_options(run)
    shown = {
        name: value
        for name, value in run.options.items()
        if any(other.options.get(name, value) != value for other in same_method)
        or (name in given and len({other.hash for other in same_method}) == 1)
    }
    return " ".join([run.method, *(f"{name}={_short(v)}" for name, v in shown.items() if v is not None)])


def in_order(runs: Iterable[LoadedRun]) -> list[LoadedRun]:
    """Runs that nobody has put in an order: `plain` first, then by method and the values of its options.

    Numbers go as numbers, whatever the folders are called; the first of them is what reports compare with.
    """

    def place(run: LoadedRun) -> tuple[Any, ...]:
        values = [(name, _rank(value)) for name, value in sorted(run.options.items())]
        return (
            run.method != "plain",
            run.method,
            values,
            run.model,
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
        return "none" if digest is None else f"{Path(given).name if given else 'shipped'}:{str(digest)[:8]}"
    return run.identity.get(name)


SETTINGS = (
    "model",
    "weights",
    "adapter",
    "protocol",
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


def _differences(run: LoadedRun, alike: Sequence[LoadedRun]) -> list[str]:
    found = []
    for name in SETTINGS:
        if len({str(setting(r, name)) for r in alike}) > 1 and not (
            name == "weights" and len({r.model for r in alike}) > 1
        ):
            found.append(f"on {run.model}" if name == "model" else f"{name}={_short(setting(run, name))}")
    return found


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
