"""``harness data``: look at what a task asks, and get data and models ahead of a run without network."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from .. import registry
from .._util import entry_points
from ..console.quiet import QUIET
from ..console.safe_text import visible
from ..errors import UsageError, unknown_name
from ._output import emit, json_flag, quiet_flag, say
from .run import task_settings

if TYPE_CHECKING:
    from ..contracts.prompt import Prompt
    from ..contracts.task import Sample, TaskEnvironment
    from ..models.model import LanguageModel

SHOWN = 1000
"""Characters shown of each end of a long part."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def data() -> None:
    """Look at a task's samples, and fetch data and models."""


@data.command()
@click.argument("task")
@click.option("--limit", default=1, show_default=True, type=click.IntRange(1, 10**6), help="Samples to show.")
@click.option("--model", default="smollm2", show_default=True, help="Whose tokens to count.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder with the task's data files.")
@click.option("--seed", default=42, show_default=True, help="Source of everything random in the task.")
@click.option("--set", "settings", multiple=True, metavar="TASK.OPTION=VALUE", help="Set a task's option.")
@click.option("--offline", is_flag=True, help="Fetch nothing.")
@click.option("--trust-task-code", is_flag=True, help="Run code that a task's own files name.")
@click.option("--full", is_flag=True, help="Show long texts whole.")
@json_flag("whole samples")
@quiet_flag
@click.pass_context
def show(
    ctx: click.Context,
    task: str,
    limit: int,
    model: str,
    data_dir: Path | None,
    seed: int,
    settings: tuple[str, ...],
    offline: bool,
    trust_task_code: bool,
    full: bool,
    as_json: bool,
) -> None:
    """Print samples of TASK: prompt in its parts, accepted answers, facts.

    A model that was not asked for and cannot be had costs the token counts only, unless the task needs them.
    """
    chosen = registry.tasks([task], task_settings(settings))
    asked_for = ctx.get_parameter_source("model") is not ParameterSource.DEFAULT
    env, missing = _environment(model, asked_for, seed, data_dir, offline, limit)
    env = replace(env, trust_task_code=trust_task_code)
    found: list[dict[str, Any]] = []
    for each in chosen:
        for number, sample in enumerate(each.samples(env), start=1):
            if as_json:
                count = None if missing else env.count(sample.prompt, sample.chat, sample.answer_prefix)
                found.append({"task": each.name, **asdict(sample), "prompt_tokens": count})
                if number == limit:
                    break
                continue
            tokens = missing or f"{env.count(sample.prompt, sample.chat, sample.answer_prefix):,} for {model}"
            click.echo("\n".join(_lines(f"{each.name}, sample {number}: {sample.id}", sample, tokens, full)))
            if number == limit:
                break
    if as_json:
        emit({"model": model, "samples": found})


@data.command()
@click.argument("name")
@json_flag("where it is")
@quiet_flag
def fetch(name: str, as_json: bool) -> None:
    """Get the data of a task family, or a model, so that later runs can be --offline."""
    from ..models import loading

    families = entry_points.entry_points("tasks")
    family = name.partition("/")[0]
    if family in families:
        plugin, _ = registry.task_class(name)
        getter: Any = getattr(plugin.cls, "fetch", None)
        if getter is None:
            raise UsageError(f"task {family} makes its samples itself: nothing to fetch")
        _fetched(getter(offline=False), as_json)
        return
    known = [*families, *(model.name for model in loading.known_models())]
    if "/" not in name and name not in known and not Path(name).exists():
        raise unknown_name("task or model", name, known)
    model = loading.load(name, notify=_note)
    _fetched(model.folder, as_json)


def _note(line: str) -> None:
    if not QUIET.get():
        say(line, err=True)


def _fetched(place: Any, as_json: bool) -> None:
    if as_json:
        emit({"path": str(place)})
    else:
        say(str(place), copied=True)


def _environment(
    name: str, asked_for: bool, seed: int, data_dir: Path | None, offline: bool, limit: int
) -> tuple[TaskEnvironment, str]:
    """The environment, and why it cannot count tokens (empty if it can)."""
    from ..contracts.task import TaskEnvironment
    from ..evaluation.task_environment import task_environment
    from ..models import loading

    try:
        model: LanguageModel = loading.load(name, offline=offline, device="cpu")
        _ = model.tokenizer  # made on first use: now, while a failure can still be answered
    except UsageError as error:
        if asked_for:
            raise
        reason = f"unknown: {error}"
    else:
        return task_environment(model, seed=seed, data_dir=data_dir, offline=offline, limit=limit), ""

    def count(prompt: Prompt, chat: bool, answer_prefix: str) -> int:
        raise UsageError(f"this task counts tokens, and they are {reason}")

    return TaskEnvironment(None, 0, count, seed, data_dir, offline, limit), reason


def _lines(title: str, sample: Sample, tokens: str, full: bool) -> list[str]:
    prompt = sample.prompt
    lines = [click.style(visible(title), bold=True)]
    for name, text in (("prefix", prompt.prefix), ("context", prompt.context), ("suffix", prompt.suffix)):
        lines += [_mark(f"{name}, {len(text):,} characters"), _shown(text, full)]
    lines.append(_mark("end of prompt"))
    for number, asked in enumerate(sample.questions, start=1):
        lines += [_mark(f"question {number} of {len(sample.questions)}"), _shown(asked.suffix, full)]
        lines.append(f"references: {_shown(json.dumps(asked.references, ensure_ascii=False), full)}")
    if sample.questions:
        lines.append(f"questions follow each other: {sample.turns}")
    if prompt.turns:
        lines.append(f"turns: {len(prompt.turns)}, {', '.join(t.role for t in prompt.turns[:4])} ...")
    facts = {
        "references": sample.references,
        "metadata": sample.metadata,
        "chat template": "as the model has it" if sample.chat else "never",
        "answer prefix": sample.answer_prefix,
        "new tokens": sample.new_tokens,
        "fewest new tokens": sample.min_new_tokens,
        "stop": sample.stop,
    }
    for name, value in facts.items():
        text = json.dumps(value, ensure_ascii=False)
        lines.append(f"{name}: {_shown(text, full)}")
    return [*lines, visible(f"prompt tokens: {tokens}"), ""]


def _mark(text: str) -> str:
    return click.style(f"--- {text} ---", dim=True)


def _shown(text: str, full: bool) -> str:
    """`text` for a terminal, with the middle left out if it is long and not wanted in `full`."""
    left_out = len(text) - 2 * SHOWN
    if full or left_out <= 0:
        return visible(text)
    mark = _mark(f"{left_out:,} characters left out; --full shows them")
    return f"{visible(text[:SHOWN])}\n{mark}\n{visible(text[-SHOWN:])}"
