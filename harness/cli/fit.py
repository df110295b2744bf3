"""``harness fit``: train or calibrate a method."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import rich_click as click

from ..errors import UsageError
from ._flags import MethodCommand, chosen, listed, names
from ._once import check_new
from ._output import emit, json_flag, quiet_flag


class FitCommand(MethodCommand):
    """`fit`, with the options of whatever ``--method`` names as flags of its own."""

    kinds = (("fit_", "FitOptions", "How to learn"), ("option_", "Options", "Options of the method"))


@click.command(cls=FitCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-m",
    "--method",
    required=True,
    shell_complete=names("methods"),
    help="Method to fit; `harness list methods` shows them.",
)
@click.option(
    "--data",
    multiple=True,
    metavar="SOURCE[:COUNT]",
    help="What to learn from, repeatable: a JSONL file, a folder of `harness synth`, or hub:owner/name.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the adapter; a fit resumes there.",
)
@click.option("--model", default="smollm2", show_default=True, help="Name, Hub id, folder or .gguf file.")
@click.option("--adapter", type=click.Path(path_type=Path), help="Adapter to go on from.")
@click.option(
    "--min-length", type=int, default=1200, show_default=True, help="Shorter examples are left out."
)
@click.option(
    "--max-length", type=int, default=8192, show_default=True, help="Longer examples are truncated."
)
@click.option("--split-documents", is_flag=True, help="Cut longer texts into several examples instead.")
@click.option("--chat-prompts", is_flag=True, help="Wrap prompts in the model's chat template.")
@click.option("--batch-size", type=int, default=8, show_default=True, help="Sequences of an optimiser step.")
@click.option(
    "--micro-batch",
    type=int,
    default=1,
    show_default=True,
    help="Of these so many are read in one pass: faster on a GPU.",
)
@click.option("--learning-rate", type=float, default=5e-5, show_default=True, help="Falls linearly to 0.")
@click.option(
    "--warmup-steps", type=int, default=0, show_default=True, help="Steps over which it rises first."
)
@click.option("--epochs", type=float, default=1.0, show_default=True, help="How often the data is read.")
@click.option("--max-steps", type=int, help="Optimiser steps, whatever the epochs.")
@click.option("--save-every", type=int, default=100, show_default=True, help="Steps between checkpoints.")
@click.option("--seed", type=int, default=42, show_default=True, help="Source of everything random.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@click.option("--offline", is_flag=True, help="Fetch nothing.")
@click.option(
    "--shard-base",
    is_flag=True,
    help="Split the frozen base model's weights among the processes, as FSDP does.",
)
@click.option(
    "--trainer", "trainer", multiple=True, metavar="NAME=VALUE", help="One of transformers.TrainingArguments."
)
@click.option(
    "--track",
    multiple=True,
    callback=listed,
    metavar="NAME",
    help="Send the curve to wandb, mlflow, trackio or tensorboard, with commas or repeated.",
)
@click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="Python file with a method."
)
@click.option(
    "--trust-remote-code", is_flag=True, help="Run code that comes with a model. Only for one you trust."
)
@click.option(
    "--allow-unused-weights",
    is_flag=True,
    help="Use a model although its files hold weights that it does not use; the card is marked.",
)
@json_flag("the adapter's card")
@quiet_flag
def fit(method: str, trainer: tuple[str, ...], plugins: tuple[Path, ...], as_json: bool, **flags: Any) -> int:
    """Train a method, or calibrate it; a fit that was interrupted goes on from its last checkpoint.

    The options of a method are shown by `harness fit --method NAME --help`. Under `accelerate launch -m
    harness fit ...` several processes share each batch.
    """
    from ..console.fit_tables import fit_tables
    from ..console.progress import FitDisplay
    from ..training.plan import plan_fit
    from ..training.run import execute
    from ..training.settings import FitSettings

    settings = FitSettings(
        method=method,
        fit_options=chosen(flags, "fit_"),
        options=chosen(flags, "option_"),
        trainer=_arguments(trainer),
        **flags,
    )
    display = FitDisplay()
    with display:
        result = execute(plan_fit(settings, display.note), display)
    first = int(os.environ.get("RANK", "0")) == 0  # of several processes one speaks
    if as_json and first:
        emit(result.card)
    elif first:
        for part in fit_tables(result):
            display.show(part, copied=True)
    return 0


def _arguments(pairs: tuple[str, ...]) -> dict[str, Any]:
    """``("bf16=true",)`` to ``{"bf16": True}``. Raises UsageError for another form."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name):
            raise UsageError(f"--trainer {pair}: write NAME=VALUE, for instance bf16=true")
        check_new(found, name, "--trainer")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
