"""What `run --method M` shows if it is told nothing to ask: M beside its rival, on the same short texts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from .. import registry
from ..console.progress import RunDisplay, run_in_words
from ..console.run_tables import notes, row_tables
from ..errors import UsageError
from ..evaluation.plan import RunPlan, plan_run
from ._several_runs import Look, execute_shown

if TYPE_CHECKING:
    from ..comparison.rows import Row
    from ..evaluation.settings import RunSettings
    from ..models.shared import SharedModels

WINDOW = 2048
"""Tokens that the window is cut to, so that a first look takes minutes without a GPU."""

TASK = "passkey"
GRID: dict[str, Any] = {"depths": [0, 20, 40, 60, 80, 100], "trials": 2}
"""Twelve samples: of fewer than six no difference at all is significant at the level of 5 %."""

CHOOSING = ("tasks", "settings", "context_length", "max_context", "limit")
"""Flags that say what to ask. Who types one of them gets the run that was asked for and nothing beside it."""

VERDICTS = {
    "better": "{0} is better",
    "worse": "{0} is worse",
    "indistinguishable": "the two cannot be told apart",
}


@dataclass(frozen=True)
class FirstLook:
    """The method, its rival, and the first held against the second; `native` is the model's own window in tokens."""

    method: Look
    rival: Look
    row: Row
    native: int

    @property
    def failed(self) -> int:
        return self.method.result.failed + self.rival.result.failed

    def to_json(self) -> dict[str, Any]:
        """The method's summary as of any run; the rival's under ``beside``, and what was ``learned``."""
        facts = [look.to_json() for look in (self.method, self.rival)]
        learned = {name: value for name, value in vars(self.row).items() if name != "span"}
        return {**facts[0], "beside": facts[1], "learned": {**learned, "p": self.row.p}}


def rival_of(settings: RunSettings) -> str | None:
    """The method that the settings' own is shown beside; None if there is none."""
    cls = registry.method(settings.method).cls
    return cls.rival(cls.Options.parse(settings.options, f"method {settings.method}"))


def carry_out(settings: RunSettings, rival: str) -> FirstLook:
    """Run the method and its rival on the same samples, with the same adapter.

    Raises
    ------
    UsageError
        Whatever is wrong with either; of the rival it says what to type to do without it.
    """
    from ..comparison import compare
    from ..models.shared import SharedModels
    from ..results.loading import load_run

    models = SharedModels()
    with RunDisplay(run_in_words(f"{settings.method} beside {rival}", settings.model, [TASK])) as display:
        native = _window(settings, models, display)
        cut = WINDOW if native > WINDOW else None
        settings = replace(settings, tasks=(TASK,), task_settings={TASK: GRID}, context_length=cut)
        plan = plan_run(settings, display.note, models)
        beside = _plan_rival(plan, rival, models, display)
    method, other = (Look(each, execute_shown(each)) for each in (plan, beside))
    runs = [load_run(look.result.folder.path) for look in (method, other)]
    return FirstLook(method, other, compare(runs[1], runs[0]).rows[0], native)


def _window(settings: RunSettings, models: SharedModels, display: RunDisplay) -> int:
    """The model's own window in tokens."""
    names = ("dtype", "device", "device_map", "offline", "chat", "trust_remote_code", "allow_unused_weights")
    wanted = {name: getattr(settings, name) for name in names}
    return models(settings.model, context_length=None, notify=display.note, **wanted).context_length


def _plan_rival(plan: RunPlan, rival: str, models: SharedModels, display: RunDisplay) -> RunPlan:
    settings = plan.settings
    options = dict(plan.method.rival_options())
    try:
        return plan_run(replace(settings, method=rival, options=options), display.note, models)
    except UsageError as error:
        alone = f"`--task {TASK}` runs {settings.method} alone"
        raise UsageError(f"{rival}, to be shown beside {settings.method}: {error}; {alone}") from None


def table(look: FirstLook, width: int) -> RenderableType:
    """Both methods' rows, and what must be known to believe them."""
    both = [(x.plan.settings.method, x.result.summary["tasks"][0]) for x in (look.method, look.rival)]
    model = look.method.plan.model
    cut = f"cut to {model.context_length:,} of {look.native:,} tokens"
    window = cut if model.context_length < look.native else f"{look.native:,} tokens"
    head = f"{TASK} on {escape(look.method.plan.settings.model)} (window {window})"
    tables = row_tables("method", both, width)
    return Group(f"[bold]{head}[/bold]", *tables, *notes(look.method.result.summary, look.method.plan))


def closing(look: FirstLook, words: Sequence[str]) -> RenderableType:
    """Where the records are, what to type next, and in the last line what was learned."""
    folders = [str(x.result.folder.path) for x in (look.method, look.rival)]
    ran = look.method.result.ran + look.rival.result.ran
    state = f"{ran} samples run" if ran else "nothing to do: these runs are finished"
    again = shlex.join(["harness", *words])
    following = f"{again} --task {TASK}    # in texts longer than the model's own window"
    if look.failed:
        following = f"{again}    # runs the {look.failed} failed samples again"
    lines = [f"{state}; records in {' and '.join(folders)}", f"next: {following}", learned(look)]
    return Text("\n".join(lines))


def learned(look: FirstLook) -> str:
    """What the samples say of the two methods, with its interval, in one line."""
    row, names = look.row, [x.plan.settings.method for x in (look.method, look.rival)]
    found = (
        f"{names[0]} {100 * row.mean_b:.1f}, {names[1]} {100 * row.mean_a:.1f} on the same {row.n} samples"
    )
    if row.interval is None:
        return f"learned: {found}, too few to tell the two apart"
    low, high = (100 * edge for edge in row.interval)
    shown = f"{100 * row.difference:+.1f} points [{low:+.1f}, {high:+.1f}], p = {row.p:.2g}"
    return f"learned: {found}: {shown}, so {VERDICTS[row.verdict].format(names[0])}"
