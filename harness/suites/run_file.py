"""The file of a run: `harness run run.yaml`, every flag by its name, written by ``--save-config``.

.. code-block:: yaml

    method: two_pass          # or several: [plain, {two_pass: {alpha: 2}}]
    options: {alpha: 3}
    tasks: [passkey]
    task_settings: {passkey: {lengths: [4096, 8192]}}
    model: smollm2
    limit: 20

A suite has cells and columns; this is one command line. Plain data, which may be a stranger's: nothing in it makes code
run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .. import registry
from ..errors import UsageError, unknown_name
from ..evaluation.settings import RunSettings
from .matrix import refuse_code, words
from .schema import Suite
from .settings import TYPED, checked_settings, run_fields

OTHER_NAMES = {"method": "methods", "task": "tasks", "set": "task_settings"}
"""What may be said in other words."""

Options = Mapping[str, Any]
EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class RunRequest:
    """What is asked of one or several methods.

    Attributes
    ----------
    methods
        Names, each with the options that are its alone.
    options
        Options of every method here that has them.
    settings
        Fields of `RunSettings` that were said; the others have their defaults.
    source
        Where it stands, for messages.
    """

    methods: tuple[tuple[str, Options], ...] = ()
    options: Options = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: str = "the command line"

    def over(
        self, methods: Sequence[str] = (), options: Options = EMPTY, settings: Mapping[str, Any] = EMPTY
    ) -> RunRequest:
        """The request with what was typed laid over it.

        Methods that are named take the place of those here. Of the options here they keep those that they have.
        """
        found = list(self.methods)
        kept = dict(self.options)
        if methods:
            found = []
            for name in methods:
                found += [each for each in self.methods if each[0] == name] or [(name, {})]
            own = {o for name in methods for o in _options_of(name)}
            kept = {name: value for name, value in kept.items() if name in own}
        mine = tuple((name, {k: v for k, v in own.items() if k not in options}) for name, own in found)
        return RunRequest(mine, {**kept, **options}, {**self.settings, **settings}, self.source)

    def runs(self) -> list[RunSettings]:
        """The settings of each method's run, in order.

        Raises
        ------
        UsageError
            If no method is named, or an option belongs to none of those that are.
        """
        if not self.methods:
            raise UsageError(f"{self.source} names no method")
        known = {name: _options_of(name) for name, _ in self.methods}
        every = set().union(*known.values())
        for name in self.options:
            if name not in every:
                raise unknown_name(f"option of {' or '.join(known)}", name, every)
        return [
            RunSettings(
                method=name,
                options={**{k: v for k, v in self.options.items() if k in known[name]}, **own},
                **self.settings,
            )
            for name, own in self.methods
        ]


def _options_of(method: str) -> set[str]:
    return set(registry.method(method).cls.Options.model_fields)


def is_run(content: Any) -> bool:
    """Whether what a YAML file holds is a run: a mapping with no key that only a suite has."""
    of_suites = set(Suite.model_fields) - run_fields() - {"settings"}
    return isinstance(content, Mapping) and bool(content) and not of_suites & set(content)


def read(path: Path, content: Mapping[str, Any]) -> RunRequest:
    """The run that a file asks for.

    Parameters
    ----------
    path
        The file, for messages.
    content
        What stands in it (see `harness._util.yaml.read_yaml`).

    Raises
    ------
    UsageError
        One line with the file and the key: unknown (with the nearest one), there twice, of another type, or one that
        only whoever types the command may say.
    """
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        name = OTHER_NAMES.get(name, name)
        if name in found:
            raise UsageError(f"{path}: {key} is there twice, under two names")
        if name in TYPED or name in ("plugin", "plugins"):
            raise UsageError(
                f"{path}: {key}: {TYPED.get(name, 'only whoever runs a file may say so: --plugin')}"
            )
        found[name] = value
    methods = _methods(found.pop("methods", []), path)
    options = found.pop("options", {})
    if not isinstance(options, Mapping):
        raise UsageError(f"{path}: options: must be a mapping")
    adapter = found.pop("adapter", None)
    fields = run_fields() | {"adapter"}
    own = set().union(*(_options_of(name) for name, _ in methods))
    flat = {name: found.pop(name) for name in [*found] if name not in fields and name in own}
    for name in found:
        if name not in fields:
            raise UsageError(f"{path}: {unknown_name('key', name, _keys(own))}")
    for name in (*options, *(o for _, mine in methods for o in mine)):
        if methods and name not in own:
            raise UsageError(f"{path}: {unknown_name(f'option of {_named(methods)}', name, own)}")
    settings = _settings(found, path)
    if adapter is not None and adapter != "auto":
        settings["adapter"] = Path(str(adapter)).expanduser()
    return RunRequest(methods, words({**options, **flat}), settings, str(path))


def _keys(options: set[str]) -> set[str]:
    return {
        "method",
        "task",
        "options",
        "adapter",
        *(run_fields() - TYPED.keys()),
        *OTHER_NAMES.values(),
        *options,
    }


def _named(methods: Sequence[tuple[str, Options]]) -> str:
    return " or ".join(dict.fromkeys(name for name, _ in methods))


def _settings(found: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Fields of a run, checked by their types."""
    listed = {k: [v] if k == "tasks" and isinstance(v, str) else v for k, v in found.items()}
    tasks = listed.get("tasks")
    if tasks == []:
        raise UsageError(f"{path}: tasks: name at least one")
    try:
        settings = checked_settings({k: v for k, v in listed.items() if v is not None}, key="")
    except ValueError as error:
        raise UsageError(f"{path}: {str(error).removeprefix('.')}") from None
    try:
        for family, options in settings.get("task_settings", {}).items():
            refuse_code(family, options)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    if "task_settings" in settings:
        settings["task_settings"] = {k: words(v) for k, v in settings["task_settings"].items()}
    return settings


def _methods(given: Any, path: Path) -> tuple[tuple[str, Options], ...]:
    """A name, or a list of names and of mappings of one name to its options."""
    found: list[tuple[str, Options]] = []
    for each in given if isinstance(given, list) else [given]:
        pair = next(iter(each.items())) if isinstance(each, Mapping) and len(each) == 1 else (each, {})
        name, own = pair[0], pair[1] or {}
        if not isinstance(name, str) or not isinstance(own, Mapping):
            raise UsageError(
                f"{path}: method: {each!r} is no method; write a name, or in a list NAME: {{OPTION: VALUE}}"
            )
        found.append((name, words(own)))
    return tuple(found)


def spelled(runs: Sequence[RunSettings]) -> str:
    """The text of a file that asks for these runs, which differ in method and options alone.

    Flags that only whoever runs a file may say are left out, and so is what has no value.
    """
    import yaml

    first = runs[0]
    content: dict[str, Any] = {"method": first.method}
    if len(runs) > 1:
        content = {"methods": [{r.method: dict(r.options)} if r.options else r.method for r in runs]}
    elif first.options:
        content["options"] = dict(first.options)
    for each in dataclasses.fields(RunSettings):
        value = getattr(first, each.name)
        if each.name in ("method", "options") or each.name in TYPED or value is None or value == {}:
            continue
        content[each.name] = _plain(value)
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def save(runs: Sequence[RunSettings], path: Path) -> list[str]:
    """Write the file of these runs; returns the flags that it cannot hold.

    Raises
    ------
    UsageError
        If another file is there, or it cannot be written.
    """
    from .._util.files import write_whole, writes

    text = spelled(runs)
    with writes(path.parent, "choose another --save-config"):
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
            raise UsageError(f"--save-config {path}: another file is there; choose another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    return [name for name in TYPED if getattr(runs[0], name, False)]
