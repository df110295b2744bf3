"""A package of the user's own, written from templates: it installs, is listed, and runs at once."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from .. import registry
from .._util import entry_points
from .._util.files import write_whole, writes
from .._version import __version__
from ..errors import UsageError

KINDS = ("method", "task", "recipe", "report")

FILES = {
    "module.py": "{}.py",
    "conformance.py": "test_{}.py",
    "pre-commit-config.yaml": ".pre-commit-config.yaml",
}
"""What templates become that are called after the module."""

SHARED = "shared"
"""Templates of every kind of package."""

CHECKS = {
    "method": "harness check {}",
    "task": "harness check --task {}",
    "report": "pytest -q",
    "recipe": "pytest -q",
}
"""How a package of each kind is held to its contract."""

NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
"""What indexes of packages and Python can both live with, once hyphens are written as underscores."""


@dataclass(frozen=True)
class Names:
    """What one name becomes: in an entry point, as a module, a class and a distribution.

    The module and the distribution carry a prefix, so that a method called ``random`` shadows nothing.
    """

    name: str

    @property
    def module(self) -> str:
        return f"harness_{self.name}"

    @property
    def class_name(self) -> str:
        return "".join(part[:1].upper() + part[1:] for part in self.name.split("_"))

    @property
    def distribution(self) -> str:
        return self.module.replace("_", "-")


def names(kind: str, name: str) -> Names:
    """Check a name for a new plugin.

    Raises
    ------
    UsageError
        If it is no name for a package and a module, or is taken.
    """
    plain = name.replace("-", "_")
    if not NAME.fullmatch(name):
        near = re.sub(r"\W+|_+", "_", registry.snake_case(name)).strip("_").lower()
        hint = f"; for instance {near}" if NAME.fullmatch(near) else ""
        raise UsageError(
            f"{name!r}: write small letters, digits and single underscores, a letter first{hint}"
        )
    if keyword.iskeyword(plain):
        raise UsageError(f"{name!r} is a word of Python itself; choose another name")
    if plain in entry_points.claims(f"{kind}s"):
        raise UsageError(f"a {kind} named {plain!r} is installed already; choose another name")
    return Names(plain)


def write(kind: str, name: str, parent: Path) -> list[Path]:
    """Write the package of a new plugin into a folder of its own; returns its files.

    Parameters
    ----------
    kind
        One of `KINDS`.
    name
        What it will be called by ``harness run``.
    parent
        Where its folder goes; that is named like the distribution.

    Raises
    ------
    UsageError
        For a bad name, or if something is there already: nothing is written over.
    """
    called = names(kind, name)
    folder = parent / called.distribution
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already; choose another name, or another folder with --out")
    values = {
        "name": called.name,
        "module": called.module,
        "class_name": called.class_name,
        "distribution": called.distribution,
        "version": __version__,
        "kind": kind,
        "check": CHECKS[kind].format(called.name),
    }
    written = []
    with writes(folder):
        templates = resources.files(__package__) / "templates"
        for source in sorted(
            (file for folder in (kind, SHARED) for file in (templates / folder).iterdir()),
            key=lambda p: p.name,
        ):
            if source.name.endswith(".tmpl"):
                text = Template(source.read_text(encoding="utf-8")).substitute(values)
                own = source.name.removesuffix(".tmpl")
                target = folder / FILES.get(own, own).format(called.module)
                write_whole(target, text)
                written.append(target)
    return written
