"""``harness synth``: long-context samples that a model writes for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from ..console.quiet import QUIET
from ..errors import UsageError
from ._once import check_new
from ._output import emit, json_flag, quiet_flag, say


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--recipe", required=True, help="thesis, experts, hierarchical, selflong, or an installed one.")
@click.option("--count", type=int, help="Samples in all, in the paper's proportions (default: the paper's).")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the data and its card."
)
@click.option(
    "--length-range", "length", metavar="LOW-HIGH", help="Tokens of a sample, or a bin by name: 8K-16K."
)
@click.option("--pool", type=click.Path(path_type=Path), help="Pool of items to use (default: OUT/pool).")
@click.option("--items", type=int, help="Items to generate (default: enough for the count).")
@click.option("--nouns", type=click.Path(path_type=Path), help="File with one noun a line.")
@click.option("--set", "settings", multiple=True, metavar="OPTION=VALUE", help="Option of the recipe.")
@click.option("--model", default="smollm2", show_default=True, help="Who writes, and whose tokens count.")
@click.option("--generator", metavar="URL", help="OpenAI-compatible endpoint that writes instead.")
@click.option("--generator-model", metavar="NAME", help="Name of the endpoint's model (default: --model).")
@click.option("--seed", type=int, default=42, show_default=True, help="Source of everything random.")
@click.option("--batch-size", type=int, default=16, show_default=True, help="Items generated together.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@click.option("--offline", is_flag=True, help="Fetch nothing.")
@click.option(
    "--allow-unused-weights",
    is_flag=True,
    help="Use a model although its files hold weights that it does not use; the card is marked.",
)
@json_flag("the card")
@quiet_flag
def synth(settings: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Generate synthetic long-context data; an interrupted command goes on where it stopped.

    Items (stories, questions, summaries) go to a pool first; samples of any length are then put together
    from it, so that other lengths (--length-range, another --out, --pool) cost no new generation.
    """
    from ..console.progress import SynthDisplay
    from ..synthesis.plan import plan_synthesis
    from ..synthesis.run import estimate, execute
    from ..synthesis.settings import SynthSettings

    plan = plan_synthesis(SynthSettings(options=_options(settings), **flags))
    if not QUIET.get():
        say(estimate(plan), err=True)
    with SynthDisplay() as progress:
        card = execute(plan, progress)
    made, asked = card["samples"]["made"], card["samples"]["asked"]
    if as_json:
        emit(card)
    else:
        _say(card, flags["out"])
    return 1 if made != asked else 0


def _options(pairs: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name):
            raise UsageError(f"--set {pair}: write OPTION=VALUE, for instance story_tokens=300")
        check_new(found, name := name.replace("-", "_"), "--set")
        found[name] = value
    return found


def _say(card: dict[str, Any], out: Path) -> None:
    samples, lengths = card["samples"], card["lengths"]
    tasks = ", ".join(f"{n} {task}" for task, n in samples["made"].items())
    say(f"{sum(samples['made'].values())} samples ({tasks}) in {out}")
    say(f"{lengths['min']:,} to {lengths['max']:,} tokens, {lengths['mean']:,} on average")
    for name, stage in card["pool"]["stages"].items():
        dropped = ", ".join(f"{n} {reason}" for reason, n in stage["dropped"].items())
        origins = ", ".join(f"{n} {origin}" for origin, n in stage["origins"].items())
        say(
            f"  {name}: {stage['usable']} of {stage['items']} usable"
            + (f": {origins}" if origins else "")
            + (f" ({dropped})" if dropped else "")
        )
    if samples["repeated_passages"]:
        say(
            f"note: {samples['repeated_passages']:,} of {samples['passages']:,} passages are repetitions: the "
            "pool is too small for these lengths; --items makes it larger"
        )
    if samples["below_length_range"]:
        say(f"note: {samples['below_length_range']} samples are shorter than the range asked for")
    if samples.get("missing_questions"):
        say(
            f"note: {samples['missing_questions']:,} questions are missing in the dialogues: the pool had none left "
            "for their documents"
        )
    for task, asked in samples["asked"].items():
        if samples["made"][task] < asked:
            say(f"note: {task}: {samples['made'][task]} of {asked}: no usable items for the rest")
