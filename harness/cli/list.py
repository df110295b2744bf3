"""``harness list``: what there is, with every option, its type, range and default."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import rich_click as click

from ..console.safe_text import visible
from ._output import emit, json_flag, quiet_flag

if TYPE_CHECKING:
    from ..contracts.method import Method
    from ..contracts.task import Task
    from ..registry import Plugin

KINDS = ("methods", "tasks", "recipes", "reports", "suites", "models")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("kind", type=click.Choice(KINDS))
@json_flag("them")
@quiet_flag
def list_(kind: str, as_json: bool) -> None:
    """List methods, tasks, recipes, reports, suites or models with their options."""
    from ._main import complain

    found = {"methods": methods, "tasks": tasks, "recipes": recipes, "reports": reports, "suites": suites}
    rows = {**found, "models": models}[kind]()
    for row in rows:
        if "broken" in row:
            complain(row["broken"], 0)
    if as_json:
        emit({kind: rows})
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    console = Console()

    def show(line: str, inset: int) -> None:
        text = visible(line)
        console.print(Padding(text, (0, 0, 0, inset)) if inset else text, highlight=False)

    for row in rows:
        if "broken" in row:
            continue
        show(f"[bold]{escape(row['name'])}[/bold]  {escape(row['description'])}", 0)
        for note in row.get("notes", ()):
            show(f"[dim]{escape(note)}[/dim]", 4)
        for option in row.get("options", ()):
            show(_line(option, row["flag"]), 4)
        if row.get("fit_options"):
            show("[dim]harness fit:[/dim]", 4)
        for option in row.get("fit_options", ()):
            show(_line(option, row["flag"]), 4)


def _line(option: dict[str, Any], flag: str) -> str:
    """An option as it is typed, and what there is to know about it."""
    from rich.markup import escape

    limits = f" {option['range']}" if option["range"] else ""
    default = "" if option["default"] is None else f", default {option['default']}"
    name = flag + (option["name"].replace("_", "-") if flag == "--" else option["name"])
    facts = escape(f"({option['type']}{limits}{default})")
    return f"{name} [dim]{facts}[/dim] {escape(option['description'])}"


def methods() -> list[dict[str, Any]]:
    """A row for each method."""
    from .. import registry
    from ..options import describe

    def facts(plugin: Plugin[Method]) -> dict[str, Any]:
        cls = plugin.cls
        return {
            "sees_question": cls.sees_question,
            "trainable": cls.trainable,
            "flag": "--",
            "fit_options": describe(cls.FitOptions) if cls.trainable else [],
            "family": cls.family,
            "variants": [f"{plugin.name}:{v}" for v in cls.variants()],
            "notes": [
                f"from {plugin.origin}; {'sees' if cls.sees_question else 'does not see'} the question; "
                f"{'trainable' if cls.trainable else 'nothing to train'}",
                *(
                    [f"write {plugin.name}:{cls.family}: {', '.join(cls.variants())}"]
                    if cls.variants()
                    else []
                ),
            ],
        }

    return _rows(registry.method_names(), registry.listed_method, facts)


def tasks() -> list[dict[str, Any]]:
    """A row for each family of tasks and each of its variants."""
    from .. import registry
    from .._util import entry_points

    def facts(plugin: Plugin[Task]) -> dict[str, Any]:
        cls, name = plugin.cls, plugin.name
        return {
            "metrics": list(cls.metrics),
            "variants": [f"{name}/{v}" for v in cls.variants],
            "group": [f"{name}/{v}" for v in cls.group],
            "flag": f"--set {name}.",
            "notes": [f"variants: {', '.join(cls.variants)}"] * bool(cls.variants)
            + [f"asked for as {name}:NAME, where NAME is {cls.any_variant}"] * bool(cls.any_variant),
        }

    return _rows(entry_points.claims("tasks"), lambda name: registry.task_class(name)[0], facts)


def recipes() -> list[dict[str, Any]]:
    """A row for each recipe of ``harness synth``."""
    from .. import registry
    from .._util import entry_points

    return _rows(
        entry_points.claims("recipes"),
        registry.recipe,
        lambda plugin: {"tasks": dict(plugin.cls.tasks), "flag": "--set ", "notes": []},
    )


def reports() -> list[dict[str, Any]]:
    """A row for each report of ``harness report --kind``."""
    from .. import registry
    from .._util import entry_points

    return _rows(
        entry_points.claims("reports"), registry.report, lambda plugin: {"flag": "option ", "notes": []}
    )


def suites() -> list[dict[str, Any]]:
    """A row for each suite of ``harness reproduce``."""
    from ..suites import document

    return [
        {"name": name, "description": str(document.read(path).content["title"]), "options": []}
        for name, path in document.names().items()
    ]


def _rows(
    names: Iterable[str], find: Callable[[str], Any], facts: Callable[[Any], dict[str, Any]]
) -> list[dict[str, Any]]:
    """What every kind of plugin says of itself, and `facts`; under ``broken`` why one cannot be used."""
    from ..errors import UsageError
    from ..options import describe

    rows: list[dict[str, Any]] = []
    for name in names:
        try:
            plugin = find(name)
        except UsageError as error:
            rows.append({"name": name, "broken": str(error), "options": []})
            continue
        cls: Any = plugin.cls
        common: dict[str, Any] = {"name": name, "description": first_line(cls), "origin": plugin.origin}
        rows.append(
            {
                **common,
                "version": getattr(cls, "version", None),
                **facts(plugin),
                "options": describe(cls.Options),
            }
        )
    return rows


def models() -> list[dict[str, Any]]:
    """A row for each model known by a short name."""
    from dataclasses import asdict

    from ..models.loading import known_models

    return [
        *(asdict(model) for model in known_models()),
        {
            "name": "ORG/NAME, FOLDER or FILE.gguf",
            "description": "any Hub id, local folder or GGUF file of the Llama, Mistral, Qwen2 and Qwen3 families",
        },
    ]


def first_line(cls: type) -> str:
    """The first line of a class's docstring."""
    return (cls.__doc__ or "").strip().partition("\n")[0]
