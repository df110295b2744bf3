"""What the file of a run asks `harness.run` for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError, unknown_name


def asked_in(
    path: Path, methods: Sequence[str], given: Mapping[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """Method and arguments of each run that a file asks for, with what was given laid over it.

    Parameters
    ----------
    methods
        Take the place of those in the file, if there are any.
    given
        Fields of a run and options of methods; None: not given.

    Raises
    ------
    UsageError
        Whatever is wrong with the file, in a line with its name; an argument that nothing here has.
    """
    from .. import registry
    from .._util.yaml import read_yaml
    from ..suites.run_file import is_run, read
    from ..suites.settings import run_fields

    content = read_yaml(path)
    if not is_run(content):
        raise UsageError(
            f"{path}: not the file of a run, which has 'method:'; suites are for harness run FILE.yaml"
        )
    request = read(path, content)
    fields = {*run_fields(), "adapter"}
    named = methods or [name for name, _ in request.methods]
    options = {o for name in named for o in registry.method(name).cls.Options.model_fields}
    for name in given:
        if name not in fields | options:
            raise unknown_name(
                "argument of run(config=...)", name, {"task", "plugin", "progress", *fields, *options}
            )
    said = {name: value for name, value in given.items() if value is not None}
    found = []
    for wanted in request.over(methods, {k: v for k, v in said.items() if k not in fields}).runs():
        settings = {**request.settings, **{k: v for k, v in said.items() if k in fields}}
        task = {"task": settings.pop("tasks")} if "tasks" in settings else {}
        found.append((wanted.method, {**task, **settings, **wanted.options}))
    return found
