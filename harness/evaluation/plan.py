"""What a run will ask: names, options, data and budgets checked, prompts truncated and rendered.

Everything that can be refused is refused here, by `plan_run`, before any weights are loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import registry
from .._version import __version__
from ..contracts.budget import Budget
from ..contracts.method import Method
from ..contracts.task import Task
from ..errors import HarnessError, UsageError, in_words
from ..models import adapters
from ..models.loading import load as load_model
from ..models.model import LanguageModel
from ..options import Options
from ..prompts.truncation import AUTO, RULES
from ..results.run_folder import SCHEMA, RunFolder, folder_name
from .batch_limit import BatchLimit
from .collecting import Take, collect_samples, take_samples
from .samples import PreparedSample
from .settings import RunSettings, by_protocol, check_values


@dataclass
class RunPlan:
    """A run that has passed every check; nothing heavy is loaded yet.

    Attributes
    ----------
    tasks
        Those that will be asked.
    unavailable
        Members of groups that cannot be asked here, and why. One that was asked for by its own name is an error.
    known
        What only those know who ran samples, where others did: ``method_facts`` and ``model``.
    answered
        Details of all finished answers, earlier ones of a resumed run included; known at the end.
    data_notes
        What the tasks say of their data: rows that differ in number from the published ones.
    """

    settings: RunSettings
    model: LanguageModel
    method: Method
    method_origin: str
    tasks: list[Task]
    samples: list[PreparedSample]
    identity: dict[str, Any]
    folder: RunFolder
    batches: BatchLimit
    unavailable: dict[str, str] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)
    data_notes: list[str] = field(default_factory=list)
    answered: list[Mapping[str, Any]] = field(default_factory=list)

    def method_facts(self) -> dict[str, Any]:
        """What the method says of itself and of its answers, and what it need not say: that no adapter was loaded."""
        facts = method_facts(self.method, self.identity["adapter"] is not None)
        return {**facts, **self.known.get("method_facts", {}), **self.method.facts_of(self.answered)}


UNTRAINED = "no adapter was loaded: what this method can be trained for was not trained"


def method_facts(method: Method, adapter: bool) -> dict[str, Any]:
    """`Method.facts`, with a warning where weights were never trained; one that has a ``warning`` says it itself."""
    facts = method.facts()
    if method.trainable and method.needs_data and not adapter and "warning" not in facts:
        return {**facts, "warning": UNTRAINED}
    return facts


def plan_run(
    settings: RunSettings,
    note: Callable[[str], None] | None = None,
    load: Callable[..., LanguageModel] = load_model,
    take: Take = take_samples,
) -> RunPlan:
    """Check everything that can be checked before the model's weights are loaded.

    Parameters
    ----------
    note
        Told of what takes more than a moment.
    load
        Called as `harness.models.loading.load` is: who makes several runs may give one model to all of them.
    take
        Makes the samples of a task ready: who plans many runs may draw what they share once.

    Raises
    ------
    UsageError
        For anything wrong with the request, in one line.
    """
    check_values(settings)
    settings = by_protocol(settings)
    plugin = registry.method(settings.method)
    options = plugin.cls.Options.parse(settings.options, f"method {settings.method}")
    tasks = registry.tasks(list(settings.tasks), settings.task_settings)
    model = load(
        settings.model,
        context_length=settings.context_length,
        dtype=settings.dtype,
        device=settings.device,
        device_map=settings.device_map,
        offline=settings.offline,
        chat=settings.chat,
        trust_remote_code=settings.trust_remote_code,
        allow_unused_weights=settings.allow_unused_weights,
        notify=note,
    )
    method = _made(plugin, model, options)
    if settings.device_map is not None and not method.takes_device_map:
        raise UsageError(f"--device-map: method {settings.method} needs the whole model on one device")
    if settings.protocol == "after" and not method.two_phase:
        raise UsageError(
            f"--protocol after: {settings.method} does not compress a context apart from the question; "
            "--protocol before runs it once for each"
        )
    if settings.query_agnostic:
        method.make_query_agnostic()
    adapter = adapters.resolve(settings.adapter, method.default_adapter)
    if adapter is not None:
        method.load(adapter)
    if settings.budget is not None:
        aim(method, settings.budget)
    told: list[str] = []
    samples, unavailable = collect_samples(tasks, method, settings, told.append, note, take)
    drew = {p.task.name: p.task for p in samples}  # where they were shared, the task of the plan before
    tasks = [drew.get(task.name, task) for task in tasks]
    chosen = next((p.task.name for p in samples if p.continuations), None)
    if chosen and method.remote and not method.own_loglikelihood:
        raise UsageError(
            f"task {chosen} asks how likely choices are, which method {settings.method} cannot say: its model runs "
            "elsewhere"
        )
    identity = _identity(settings, method, tasks, adapter)
    if any(
        p.questions for p in samples
    ):  # what room is left for a question may depend on the longest of them
        identity["compressed"] = "once" if settings.share and method.shares_contexts else "for each question"
    if plugin.file_hash is not None:  # a file has no version to go by: another text may give other answers
        identity["method_file"] = plugin.file_hash
    name = folder_name(settings.method, settings.model, identity)
    asked = [task for task in tasks if task.name not in unavailable]
    folder = RunFolder(settings.out / name)
    limit = BatchLimit(settings.batch_size, model)
    return RunPlan(
        settings,
        model,
        method,
        plugin.origin,
        asked,
        samples,
        identity,
        folder,
        limit,
        unavailable,
        data_notes=told,
    )


def aim(method: Method, budget: int | str) -> None:
    """Hold a method to a budget of KV entries or bytes. Raises UsageError if it cannot, or nothing fits."""
    wanted = Budget.parse(budget)
    entries = method.entries_within(wanted.size) if wanted.size is not None else wanted.entries
    assert entries is not None
    if entries < 1:
        raise UsageError(f"--budget {budget} is less than one KV entry of {method.model.name}")
    method.aim(entries)


def _made(plugin: registry.Plugin[Method], model: LanguageModel, options: Options) -> Method:
    """The method. Raises UsageError, with its place, for what its constructor raises: it is whoever wrote it."""
    try:
        return plugin.cls(model, options)
    except HarnessError:
        raise
    except Exception as error:
        raise UsageError(
            f"method {plugin.name} from {plugin.origin} cannot be made ({in_words(error)})"
        ) from error


def method_identity(name: str, method: Method, adapter: Path | None, batch_size: int | str) -> dict[str, Any]:
    """Everything about a method and its model that can change an answer, whoever asks."""
    model = method.model
    return {
        "harness": __version__,
        "method": name,
        "method_version": method.version,
        "options": method.options.model_dump(mode="json"),
        "adapter": None if adapter is None else adapters.fingerprint(adapter),
        "model_hash": model.content_hash,
        "tokenizer_hash": model.tokenizer_hash,
        "context_length": model.context_length,
        "dtype": model.dtype,
        "device": model.device.partition(":")[0],
        "batch_size": batch_size,
        **({} if method.budget is None else {"budget": method.budget}),
        **({"method_identity": dict(own)} if (own := method.identity()) else {}),
    }


def _rule(settings: RunSettings, tasks: Sequence[Task]) -> str:
    """The rule of truncation that all tasks of the run have, else ``auto``."""
    rules = {task.truncation for task in tasks} if settings.truncate == AUTO else {settings.truncate}
    return rules.pop() if len(rules) == 1 and rules <= set(RULES) else AUTO


def _identity(
    settings: RunSettings, method: Method, tasks: Sequence[Task], adapter: Path | None
) -> dict[str, Any]:
    """Everything that can change an answer.

    ``--limit`` cannot where samples are asked one by one, so raising it continues the same run; in batches
    it decides who is in the last one. Nor can ``--share``, but that too changes who is in a batch.
    """
    return {
        "schema": SCHEMA,
        **method_identity(settings.method, method, adapter, settings.batch_size),
        "limit": settings.limit if settings.batch_size != 1 else None,
        "share": settings.share if settings.batch_size != 1 else None,
        "query_agnostic": method.sees_question and method.query_agnostic,
        "truncate": _rule(settings, tasks),
        "max_context": settings.max_context,
        "chat": method.model.chat,
        "trust_remote_code": settings.trust_remote_code,
        **({"allow_unused_weights": True} if settings.allow_unused_weights else {}),
        "seed": settings.seed,
        "tasks": [
            {
                "name": t.name,
                "version": t.version,
                "preset": t.preset,
                "options": t.options.model_dump(mode="json"),
                **({"facts": facts} if (facts := t.facts()) else {}),
            }
            for t in tasks
        ],
    }
