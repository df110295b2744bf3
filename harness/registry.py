"""Methods, tasks, recipes and reports by name, through entry points: ours come in by the same door as anybody's.

Nothing is imported until it is asked for by name. A plugin that cannot be imported is an error only for
whoever asks for it, and the message names the distribution it came from.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from ._util.entry_points import claims, origin
from ._util.sources import source_hash
from .contracts.method import Method
from .contracts.recipe import Recipe
from .contracts.report import Report
from .contracts.task import Task
from .errors import UsageError, unknown_name
from .options import Options

T = TypeVar("T")


@dataclass(frozen=True)
class Plugin(Generic[T]):
    """A registered class: its name, where it came from, the class itself, and the hash of a loose file."""

    name: str
    origin: str
    cls: type[T]
    file_hash: str | None = None


_local_methods: dict[str, Plugin[Method]] = {}


@cache
def _load(kind: str, name: str, base: type[T]) -> Plugin[T]:
    points = claims(f"{kind}s")
    if name not in points:
        raise unknown_name(kind, name, points)
    point, *others = points[name]
    if others:
        owners = " and ".join(origin(other) for other in (point, *others))
        raise UsageError(f"{kind} {name!r} is claimed by {owners}; uninstall all but one")
    try:
        cls = point.load()
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{kind} {name!r} from {origin(point)} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise UsageError(f"{kind} {name!r} from {origin(point)} is no {base.__name__}: {point.value}")
    _usable(cls, f"{kind} {name!r} from {origin(point)}")
    return Plugin(name, origin(point), cls)


def _usable(cls: type, owner: str) -> None:
    """Refuse a class that cannot be made, or whose options are none. Raises UsageError."""
    if inspect.isabstract(cls):
        lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise UsageError(f"{owner}: {cls.__name__} does not implement {lacking}; implement it")
    for name in ("Options", "FitOptions"):
        found = getattr(cls, name, Options)
        if not (isinstance(found, type) and issubclass(found, Options)):
            raise UsageError(
                f"{owner}: {cls.__name__}.{name} is {found!r:.80}; make it a subclass of harness.Options"
            )


def method(name: str) -> Plugin[Method]:
    """The method of that name; ``family:variant`` is made by the family.

    Raises
    ------
    UsageError
        For a name nobody has, or that of a family alone.
    """
    if name in _local_methods:
        return _local_methods[name]
    first, colon, rest = name.partition(":")
    plugin = _load("method", first, Method) if first in claims("methods") else None
    if plugin is None or (colon and plugin.cls.family is None):
        raise unknown_name("method", name, method_names())
    if plugin.cls.family is None:
        return plugin
    if not rest:
        raise UsageError(
            f"method {first!r} is a family: write {first}:{plugin.cls.family}; `harness list methods` shows them"
        )
    return Plugin(name, plugin.origin, plugin.cls.variant(rest))


def listed_method(name: str) -> Plugin[Method]:
    """Like `method`, but a family alone is itself: for those who list what there is."""
    return _local_methods.get(name) or _load("method", name, Method)


def method_names() -> list[str]:
    """Every method by name, sorted; asking for one may still tell what is wrong with it."""
    return sorted({*claims("methods"), *_local_methods})


def recipe(name: str) -> Plugin[Recipe]:
    """The recipe of that name."""
    return _load("recipe", name, Recipe)


def report(name: str) -> Plugin[Report]:
    """The report of that name."""
    return _load("report", name, Report)


def task_class(name: str) -> tuple[Plugin[Task], str | None]:
    """The class behind ``family``, ``family/variant`` or ``family:NAME``, and the variant.

    Names of a family with `any_variant` are not looked up here: that may take the task's options, and time.
    """
    family, colon, variant = name.partition(":")
    if not colon:
        family, _, variant = name.partition("/")
    plugin = _load("task", family, Task)
    if plugin.cls.any_variant:
        return plugin, variant or None
    if colon:
        raise UsageError(f"task {family} has no names after a colon; its tasks are written {family}/VARIANT")
    if variant and variant not in plugin.cls.variants:
        raise unknown_name("task", name, [f"{family}/{v}" for v in plugin.cls.variants] or [family])
    return plugin, variant or None


def task_names() -> list[str]:
    """Every family, and every ``family/variant``, sorted; of a family that is broken only its own name."""
    names = []
    for family in sorted(claims("tasks")):
        names.append(family)
        with contextlib.suppress(UsageError):
            names += [f"{family}/{v}" for v in _load("task", family, Task).cls.variants]
    return names


def tasks(names: list[str], settings: dict[str, dict[str, Any]]) -> list[Task]:
    """Build the tasks asked for, families expanded to their group, in order and without repetition.

    Parameters
    ----------
    names
        As given to ``--task``.
    settings
        ``{family: {option: value}}`` from ``--set``.

    Raises
    ------
    UsageError
        For an unknown name or option, or a setting for a family that is not asked for.
    """
    built: dict[str, Task] = {}
    families = {task_class(name)[0].name for name in names}
    for family in settings:
        if family not in families:
            raise unknown_name("task to --set options of", family, families)
    for name in names:
        plugin, variant = task_class(name)
        options = plugin.cls.Options.parse(settings.get(plugin.name, {}), f"task {plugin.name}")
        if plugin.cls.any_variant and variant is None:
            raise UsageError(f"task {name}: write {plugin.name}:NAME, where NAME is {plugin.cls.any_variant}")
        if plugin.cls.any_variant and variant and ":" in name:
            members = [f"{plugin.name}/{v}" for v in plugin.cls.members(variant, options)]
        elif variant is None and plugin.cls.group:
            members = [f"{plugin.name}/{v}" for v in plugin.cls.group]
        else:
            members = [name if variant else plugin.name]  # ``passkey/`` is no other task than ``passkey``
        for member in members:
            built.setdefault(member, plugin.cls(options, member, member.partition("/")[2] or None))
    return list(built.values())


def register_file(path: Path) -> list[str]:
    """Make the methods defined in a Python file available under their class names, in snake case.

    Returns the names. Raises UsageError for a file that defines no method, or one whose name is taken.
    """
    if not path.is_file():
        raise UsageError(f"--plugin {path}: no such file")
    name = f"harness_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UsageError(f"--plugin {path}: {type(error).__name__}: {error}") from error
    names = []
    digest = source_hash(path)
    for cls in vars(module).values():
        if isinstance(cls, type) and issubclass(cls, Method) and cls.__module__ == name:
            _usable(cls, f"--plugin {path}")
            key = getattr(cls, "name", None) or snake_case(cls.__name__)
            if key in claims("methods"):
                raise UsageError(
                    f"--plugin {path}: its method {key!r} has the name of an installed one; rename it"
                )
            other = _local_methods.get(key)
            if other is not None and other.origin != f"file {path}" and other.file_hash != digest:
                raise UsageError(f"--plugin {path}: its method {key!r} is also defined by {other.origin}")
            _local_methods[key] = Plugin(key, f"file {path}", cls, digest)
            names.append(key)
    if not names:
        raise UsageError(f"--plugin {path}: defines no subclass of harness.Method")
    return names


def register_class(cls: type[Method]) -> str:
    """Make a method's class available, as one written in a notebook's cell, and return its name.

    An installed method keeps its name. Another is known by the hash of its source: a run of it goes on only where the
    source is equal. A class of the same name that is defined again takes the place of the first.

    Raises
    ------
    UsageError
        If it cannot be made, has the name of an installed method, or its source cannot be read.
    """
    for name in claims("methods"):
        point = claims("methods")[name][0]
        if point.value.partition(":")[0] == cls.__module__ and point.value.rpartition(":")[2] == cls.__name__:
            return name
    key = getattr(cls, "name", None) or snake_case(cls.__name__)
    known = _local_methods.get(key)
    if known is not None and known.cls is cls:
        return key
    _usable(cls, f"method {cls.__name__}")
    if key in claims("methods"):
        raise UsageError(
            f"method {cls.__name__}: {key!r} is the name of an installed method; rename the class"
        )
    digest = hashlib.sha256(class_source(cls).encode()).hexdigest()
    _local_methods[key] = Plugin(key, f"class {cls.__qualname__} of {cls.__module__}", cls, digest)
    return key


def class_source(cls: type) -> str:
    """All that a class is written as: its functions' sources and its values, those of its own bases included.

    What stands outside of the class, such as a function it calls, is not in it. Raises UsageError if a source cannot
    be read.
    """
    parts = [class_source(base) for base in cls.__bases__ if base.__module__ in ("__main__", cls.__module__)]
    for name, value in sorted(vars(cls).items()):
        inner = getattr(value, "__func__", value.fget if isinstance(value, property) else value)
        if inspect.isfunction(inner):
            try:
                parts.append(inspect.getsource(inner))
            except (OSError, TypeError):
                raise UsageError(
                    f"method {cls.__name__}: the source of its {name} cannot be read, so a run of it could not be "
                    "told from one of another; write it in a cell or a file"
                ) from None
        elif isinstance(value, type) and issubclass(value, Options):
            parts.append(json.dumps(value.model_json_schema(), sort_keys=True, default=str))
        elif isinstance(value, str | int | float | bool | tuple | None) and name not in ("__firstlineno__",):
            parts.append(f"{name} = {value!r}")
    return "\n".join(parts)


def snake_case(name: str) -> str:
    """``TwoPass`` to ``two_pass``."""
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
