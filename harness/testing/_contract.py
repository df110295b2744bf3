"""Checks of what a method says of itself before it reads anything: its class, its options, its limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..contracts.method import Method
from ..errors import UsageError
from ..options import RESERVED_FLAGS, Options, describe
from ._results import Failed, raised
from ._trial import Trial


def contract(trial: Trial) -> str:
    """The class says everything the contract asks for."""
    cls = trial.cls
    if not (cls.__doc__ or "").strip():
        raise Failed("the class has no docstring; its first line is what `harness list` shows")
    for name, kind in (("version", str), ("sees_question", bool), ("trainable", bool), ("needs_data", bool)):
        if not isinstance(getattr(cls, name), kind):
            raise Failed(f"{name} is {getattr(cls, name)!r}; make it a {kind.__name__}")
    for attribute in ("Options", "FitOptions"):
        _declared(attribute, getattr(cls, attribute))
    whole = cls.compress_and_generate is not Method.compress_and_generate
    if not whole and not trial.two_phase:
        raise Failed("nothing answers; implement compress and generate, or compress_and_generate as a whole")
    own = {name: getattr(cls, name) is not getattr(Method, name) for name in ("fit", "save", "load")}
    if cls.trainable and not all(own.values()):
        lacking = ", ".join(name for name, there in own.items() if not there)
        raise Failed(
            f"it is trainable but does not implement {lacking}; implement it or set trainable = False"
        )
    if own["fit"] and not cls.trainable:
        raise Failed("it implements fit but trainable is False, so nobody can use it; set trainable = True")
    return f"version {cls.version}; {'compress and generate' if trial.two_phase else 'compress_and_generate'}"


def _declared(attribute: str, options: Any) -> None:
    """An options class: of the right base, every option explained, none named like a flag of every verb."""
    if not (isinstance(options, type) and issubclass(options, Options)):
        raise Failed(f"{attribute} is {options!r}; make it a subclass of harness.Options")
    for row in describe(options):
        if not row["description"]:
            raise Failed(
                f"option {row['name']!r} has no description; give it one with its unit: "
                'pydantic.Field(..., description="...")'
            )
        flag = f"--{row['name'].replace('_', '-')}"
        if flag in RESERVED_FLAGS:
            raise Failed(
                f"option {row['name']!r} would be {flag}, which is a flag of harness itself; rename it"
            )


def options(trial: Trial) -> str:
    """What is out of range, of another type or unknown is refused; nothing else crashes."""
    cls = trial.cls
    given = trial.options.model_dump(exclude_unset=True)
    _refused(cls, {**given, "no_such_option": 1}, "an option that does not exist", "no_such_option")
    tried = 1
    for row in describe(cls.Options):
        for value in _wrong(row):
            _refused(cls, {**given, row["name"]: value}, f"{row['name']}={value!r}", row["name"])
            tried += 1
        if row["type"] in ("int", "float") and not row["range"]:
            for value in (-1, 0):
                _survives(trial, {**given, row["name"]: value}, f"{row['name']}={value}")
                tried += 1
    return f"{tried} values tried"


def _wrong(row: dict[str, Any]) -> list[Any]:
    """Values an option's declaration excludes."""
    found: list[Any] = []
    if row["type"] in ("int", "float"):
        found.append("not-a-number")
    if row["choices"]:
        found.append("no-such-choice")
    for part in (row["range"] or "").split(" and "):
        sign, _, bound = part.partition(" ")
        if bound:
            step = {">": 0, ">=": -1, "<": 0, "<=": 1}[sign]
            found.append(float(bound) + step if row["type"] == "float" else int(float(bound)) + step)
    return found


def _refused(cls: type[Method], values: dict[str, Any], what: str, name: str) -> None:
    try:
        cls.Options.parse(values, "it")
    except UsageError:
        return
    raise Failed(
        f"{what} is accepted; derive Options from harness.Options, leave its model_config alone, and let no "
        f"validator of {name!r} change what is out of range"
    )


def _survives(trial: Trial, values: dict[str, Any], what: str) -> None:
    """An option without declared bounds: every number is refused in one line, or works."""
    try:
        method = trial.cls(trial.model, trial.cls.Options.parse(values, "it"))
        method.prepare([trial.prompts[0]], trial.decoding)
        trial.ask(method, [trial.prompts[0]])
    except UsageError:
        return
    except Exception as error:
        raise Failed(
            f"{what} is accepted and then fails with {raised(error)}; declare the range: pydantic.Field(ge=...)"
        ) from None


def before_weights(trial: Trial) -> str:
    """A run is refused, if it has to be, before the model's weights are read."""
    model = trial.find()
    method = trial.cls(model, trial.options)
    steps: dict[str, Callable[[], object]] = {"__init__": lambda: None}
    if (adapter := trial.adapter) is not None:
        steps["load"] = lambda: method.load(adapter)
    for name in ("context_limit", "default_max_context", "default_adapter"):
        steps[name] = getattr(method, name)
    for name, step in steps.items():
        step()
        if "network" in vars(model):
            raise Failed(
                f"{name} reads the model's weights; use model.config there, and model.network not before "
                "compress or prepare"
            )
    return ""


def limit(trial: Trial) -> str:
    """A prompt as long as the method says it can read is read."""
    method = trial.fresh()
    found = method.context_limit()
    if found is not None and (not isinstance(found, int) or isinstance(found, bool) or found < 1):
        raise Failed(
            f"context_limit() is {found!r}; give the number of tokens it can read, or None for no limit"
        )
    prompt = trial.longest
    method.prepare([prompt], trial.decoding)
    says = "no limit" if found is None else f"{found} tokens"
    try:
        seen = trial.watch(method, prompt)
    except Failed:
        raise
    except Exception as error:
        raise Failed(
            f"context_limit() says {says}, but a prompt of {len(prompt)} tokens fails with {raised(error)}; "
            "lower the limit, or read long prompts in pieces"
        ) from None
    again = method.context_limit()
    if again != found:
        raise Failed(
            f"context_limit() was {found} before an answer and is {again} after it; let it depend on model, "
            "options and adapter alone"
        )
    window = trial.model.context_length
    if found is None and seen.entries > window:
        raise Failed(
            f"context_limit() says no limit, but of a prompt of {len(prompt)} tokens {seen.entries} KV entries stayed, "
            f"more than the window of {window}; return the number of tokens whose entries fit, or keep fewer"
        )
    return f"{says}; {len(prompt)} tokens read, {seen.entries} KV entries kept"
