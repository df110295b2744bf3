"""What is taken from lm-eval: its index of tasks, a task with its data, its filters and metrics.

The only module that touches lm-eval's objects. Written for lm-eval 0.4.13.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import TaskEnvironment, UsageError
from harness._util.network import hub_answers, offline
from harness.errors import Unavailable, unknown_name
from harness.interop import lm_eval_names as names
from harness.interop.lm_eval_names import check_name, folder_of

from .trust import FLAG, refuse_code, sandbox

if TYPE_CHECKING:
    from .options import LmEvalOptions

KINDS = ("multiple_choice", "loglikelihood", "generate_until")


@dataclass
class Loaded:
    """One lm-eval task with its data.

    Attributes
    ----------
    task
        lm-eval's object.
    lm_eval
        lm-eval's version.
    metrics
        Names of the metrics that are kept; with several filters ``metric,filter`` as in lm-eval's results.
    facts
        For the record: versions, hash, examples, metrics that were left out.
    docs
        What was asked, by number, filled as samples are made; scoring needs it.
    """

    task: Any
    lm_eval: str
    metrics: tuple[str, ...]
    facts: dict[str, Any]
    docs: dict[int, tuple[Any, list[tuple[Any, ...]]]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """lm-eval's output type."""
        return str(self.task.OUTPUT_TYPE)

    def score(self, number: int, responses: Sequence[Any]) -> dict[str, float]:
        """lm-eval's filters and metrics over the responses to one document, in the order of its requests.

        Raises
        ------
        ValueError
            If a metric that was kept gives no single number.
        """
        from lm_eval.api.instance import Instance

        doc, requests = self.docs[number]
        repeats = self.task.config.repeats or 1
        kind = "loglikelihood" if self.kind == "multiple_choice" else self.kind
        instances = [
            Instance(
                kind, doc, arguments, i, (self.task.task_name, number, repeats), resps=[response] * repeats
            )
            for i, (arguments, response) in enumerate(zip(requests, responses, strict=True))
        ]
        found: dict[str, Any] = {}
        for ensemble in self.task._filters:
            ensemble.apply(instances)
            answers = [i.filtered_resps[ensemble.name] for i in instances]
            for name, value in self.task.process_results(doc, answers).items():
                found[_label(name, ensemble.name, len(self.task._filters))] = value
        return {name: _number(name, found) for name in self.metrics}


def _label(metric: str, filtered: str, filters: int) -> str:
    return metric if filters == 1 else f"{metric},{filtered}"


def _number(name: str, found: Mapping[str, Any]) -> float:
    value = found.get(name)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"lm-eval's metric {name} gave {value!r}, no number") from None
    if not 0 <= number <= 1:
        raise ValueError(
            f"lm-eval's metric {name} gave {number}, which is no share; keep others with --set lm_eval.metrics="
        )
    return number


def members(name: str, include_path: str | None) -> tuple[str, ...]:
    """The tasks a name stands for: itself, or those of a group or tag, groups within it included.

    Raises
    ------
    UsageError
        For a name lm-eval does not know, or a group that asks its members otherwise than alone.
    """
    index = _index(name, include_path)
    if name not in index:
        raise unknown_name("lm-eval task", name, index)
    found = tuple(dict.fromkeys(_expand(name, index)))
    if not found:
        raise UsageError(f"lm-eval's group {name} has no tasks")
    return found


def _expand(name: str, index: Mapping[str, Any]) -> Iterator[str]:
    entry = index[name]
    if entry.kind.name == "TAG":
        yield from sorted(entry.tags)
    elif entry.kind.name != "GROUP":
        yield name
    else:
        from lm_eval.tasks._factory import GROUP_FIELD_NAMES

        changed = set(entry.cfg) - GROUP_FIELD_NAMES
        for item in entry.cfg.get("task") or ():
            key = item if isinstance(item, str) else item.get("task", item.get("group"))
            if changed or key not in index or (not isinstance(item, str) and len(item) > 1):
                raise UsageError(
                    f"lm-eval's group {name} changes the settings of its members, which is not supported; "
                    f"name the tasks themselves, for instance lm_eval:{key}"
                )
            yield from _expand(key, index)


def _index(name: str, include_path: str | None) -> Mapping[str, Any]:
    """lm-eval's index of names, of the user's folder alone where that will do: reading all takes long."""
    if include_path is not None:
        if not Path(include_path).is_dir():
            raise UsageError(f"--set lm_eval.include_path={include_path}: no such folder")
        own: Mapping[str, Any] = _manager(include_path, False).task_index
        if _complete(name, own):
            return own
        check_name(name, own)
        return _whole(include_path)
    check_name(name)
    if (folder := folder_of(name)) is not None:
        near: Mapping[str, Any] = _manager(str(folder), False).task_index
        if _complete(name, near):
            return near
    return _whole(None)


def _complete(name: str, index: Mapping[str, Any]) -> bool:
    """Whether an index of one folder has a name and all that it stands for."""
    with contextlib.suppress(KeyError, UsageError):
        return name in index and all(member in index for member in _expand(name, index))
    return False


def _whole(include_path: str | None) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _manager(include_path, True).task_index
    return found


_MANAGERS: list[Any] = []
"""Every index that was read, with what loads from it."""


@cache
def _manager(include_path: str | None, defaults: bool) -> Any:
    from lm_eval.tasks import TaskManager

    with _quiet():
        _MANAGERS.append(TaskManager(include_path=include_path, include_defaults=defaults))
    return _MANAGERS[-1]


def _trusted(name: str, entry: Any, trust: bool) -> None:
    """Let a task's files be read: in a sandbox, and only if they run no code, unless that was allowed."""
    library = names.folder()
    if not trust and library is not None and entry.yaml_path is not None:
        refuse_code(name, Path(entry.yaml_path).resolve(), entry.cfg or {}, library.resolve())
    sandbox(not trust)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval tells its progress in hundreds of lines; what matters becomes one line of ours."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def load(name: str, options: LmEvalOptions, env: TaskEnvironment) -> Loaded:
    """Load one task with its data, its examples drawn as lm-eval would with that seed.

    Raises
    ------
    Unavailable
        In one line: data that cannot be had, a kind of task that cannot be asked here, no metric to keep.
    """
    if members(name, options.include_path) != (name,):
        raise UsageError(f"{name} is a group of lm-eval's: ask for lm_eval:{name}")
    index = _index(name, options.include_path)
    manager = next(m for m in _MANAGERS if m.task_index is index)
    _trusted(name, index[name], env.trust_task_code)
    try:
        with _quiet(), offline(env.offline or not hub_answers()):
            task = manager.load([name])["tasks"][name]
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if type(error).__name__ == "SecurityError":
            line += f"; a template wants what no template should; if you trust whoever wrote it, say {FLAG}"
        raise Unavailable(f"lm-eval's task {name} cannot be loaded: {line}") from error
    _refuse(name, task)
    shots = task.config.num_fewshot or 0
    # As lm-eval: an example count of 0 in a task's own configuration is never overruled.
    if options.num_fewshot is not None and task.config.num_fewshot != 0:
        shots = options.num_fewshot
    task.set_config(key="num_fewshot", value=shots)
    if shots and not hasattr(task, "sampler"):
        raise UsageError(f"lm-eval's task {name} has no examples to draw from; set lm_eval.num_fewshot=0")
    task.set_fewshot_seed(seed=options.fewshot_seed)
    # A choice without its context is no question to a method.
    getattr(task, "_metric_fn_list", {}).pop("acc_mutual_info", None)
    kept, dropped = _metrics(name, task, options.metrics)
    version = metadata.version("lm_eval")
    return Loaded(task, version, kept, {**_facts(task, version, shots, dropped), "metrics": list(kept)})


def _refuse(name: str, task: Any) -> None:
    """Raise Unavailable for what cannot be asked, or must not be."""
    if task.OUTPUT_TYPE not in KINDS:
        raise Unavailable(
            f"lm-eval's task {name} asks for {task.OUTPUT_TYPE}, the likelihood of whole texts; only "
            f"{', '.join(KINDS)} can be asked of a method"
        )
    if getattr(task, "MULTIMODAL", False):
        raise Unavailable(f"lm-eval's task {name} shows pictures or sounds; prompts are text only")
    if getattr(task, "UNSAFE_CODE", False):
        raise Unavailable(f"lm-eval's task {name} runs code the model wrote, which the harness does not do")
    if getattr(task, "multiple_input", 0):
        raise Unavailable(
            f"lm-eval's task {name} puts each choice into a context of its own; "
            "ask it through the other door: harness lm-eval run --model harness"
        )
    if not hasattr(task, "_aggregation_list"):
        raise Unavailable(
            f"lm-eval's task {name} is a class of its own, not a configuration; it is not supported"
        )


def _metrics(name: str, task: Any, asked: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Metrics that are means over samples, and the others."""
    from lm_eval.api.registry import get_aggregation

    average = get_aggregation("mean")
    filters = [f.name for f in task._filters]
    every = [_label(m, f, len(filters)) for f in filters for m in task._metric_fn_list]
    means = {m for m, how in task._aggregation_list.items() if how is average}
    kept = [label for label in every if label.partition(",")[0] in means]
    if asked:
        unknown = [m for m in asked if m not in kept]
        if unknown:
            raise unknown_name(f"metric of lm-eval's task {name} that is a mean", unknown[0], kept)
        kept = list(asked)
    if not kept:
        raise Unavailable(
            f"lm-eval's task {name} has no metric that is a mean over samples, only {', '.join(every)}; "
            "ask it through the other door: harness lm-eval run --model harness"
        )
    return tuple(kept), [label for label in every if label not in kept]


def _facts(task: Any, version: str, shots: int, dropped: list[str]) -> dict[str, Any]:
    config = {k: v for k, v in task.dump_config().items() if k != "metadata"}
    text = json.dumps(config, sort_keys=True, default=_named)
    known = task.config.metadata or {}
    return {
        "lm_eval": version,
        "task_version": known.get("version", getattr(task, "VERSION", None)),
        "task_hash": hashlib.sha256(text.encode()).hexdigest()[:16],
        "num_fewshot": shots,
        "metrics_left_out": dropped,
        "data": _data(task, shots),
        **({"sampling": "asked for by the task, not done: greedy"} if _samples(task) else {}),
    }


def _data(task: Any, shots: int) -> str:
    """A fingerprint of every document, examples included: a configuration names its data and does not hold it."""
    docs = [*(task.eval_docs or ()), *((task.fewshot_docs() or ()) if shots else ())]
    text = "".join(json.dumps(doc, sort_keys=True, default=str) for doc in docs)  # ASCII
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _samples(task: Any) -> bool:
    wanted = task.config.generation_kwargs or {}
    return bool(task.OUTPUT_TYPE == "generate_until" and wanted.get("do_sample"))


def _named(value: Any) -> str:
    """A function in a configuration by its name and, if it can be had, its source."""
    import inspect

    try:
        return f"{getattr(value, '__qualname__', type(value).__name__)} {inspect.getsource(value)}"
    except (OSError, TypeError):
        return str(getattr(value, "__qualname__", type(value).__name__))
