"""What of a folder of lm-eval tasks would run code: found before lm-eval reads it, and refused unless that was allowed.

A file of lm-eval's YAML may name Python functions and classes, data sets that come with a script, metrics that are
downloaded as code, and templates, which lm-eval renders without a sandbox.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from harness import Sample
from harness.errors import Unavailable

FLAG = "--trust-task-code"
BUILDERS = frozenset(("json", "csv", "parquet", "arrow", "text"))
"""Kinds of data files that are read and never run."""
_KEYS = {
    "class": "names a Python class",
    "custom_dataset": "names a function that makes the data",
    "use_prompt": "names prompts of another package",
}
_PLAIN = "tag:yaml.org,2002:"


def refuse_code(name: str, path: Path, config: Mapping[str, Any], library: Path) -> None:
    """Raise Unavailable, with what it was, if a task's files would run code.

    Parameters
    ----------
    name
        The task.
    path
        The file it stands in; those that it includes are read too.
    config
        The file's content, what it includes merged in.
    library
        lm-eval's own folder of tasks: whatever lies in it was installed, and is trusted as a package is.
    """
    if path.is_relative_to(library):
        return
    found = next(_in_file(path, library, set()), None) or next(_in_config(config), None)
    if found:
        raise Unavailable(
            f"lm-eval's task {name} {found}: that is code of whoever wrote the file; if you trust it, say {FLAG}"
        )


def _in_file(path: Path, library: Path, seen: set[Path]) -> Iterator[str]:
    """Tags that make Python objects, in a file and in what it includes."""
    path = path.resolve()
    if path in seen or path.is_relative_to(library):
        return
    seen.add(path)
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        yield f"includes {path}, which cannot be read"
        return
    for node in _nodes(root):
        if not node.tag.startswith(_PLAIN):
            yield f"holds {node.tag} {node.value if isinstance(node.value, str) else ''}".rstrip()
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "include":
            for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                yield from _in_file(path.parent / str(part.value), library, seen)


def _nodes(root: Any) -> Iterator[Any]:
    """Every node once: aliases may point to the same ones again and again."""
    waiting, seen = [root] if root is not None else [], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]


def _in_config(config: Mapping[str, Any]) -> Iterator[str]:
    """Settings that would have lm-eval or the libraries below it run code."""
    for key, why in _KEYS.items():
        if config.get(key) is not None:
            yield f"{why} ({key})"
    data = config.get("dataset_path")
    if isinstance(data, str) and data not in BUILDERS and not _on_the_hub(data):
        yield f"reads its data by {data!r}, not by one of {', '.join(sorted(BUILDERS))} or from the Hub (dataset_path)"
    given = config.get("dataset_kwargs")
    if isinstance(given, Mapping) and given.get("trust_remote_code"):
        yield "trusts code that comes with its data (dataset_kwargs.trust_remote_code)"
    for metric in config.get("metric_list") or ():
        if isinstance(metric, Mapping) and (
            metric.get("hf_evaluate") or not _known_metric(metric.get("metric"))
        ):
            yield f"wants the metric {metric.get('metric')!r}, which is fetched as code (metric_list)"


def _on_the_hub(name: str) -> bool:
    """Whether a data set's name can only be that of one on the Hub, whose scripts `datasets` does not run."""
    owner, slash, rest = name.partition("/")
    return (
        bool(slash and owner and rest)
        and "/" not in rest
        and not Path(name).exists()
        and "." not in owner[:1]
    )


def _known_metric(name: Any) -> bool:
    from lm_eval.api import metrics  # noqa: F401  (which registers them)
    from lm_eval.api.registry import metric_registry

    return isinstance(name, str) and name in metric_registry


def guarded(name: str, samples: Iterator[Sample]) -> Iterator[Sample]:
    """`samples`; a template that would leave its sandbox makes the task unavailable."""
    from jinja2.exceptions import SecurityError

    try:
        yield from samples
    except SecurityError as error:
        raise Unavailable(
            f"task {name}: a template wants what no template should ({error}); if you trust whoever wrote it, "
            f"say {FLAG}"
        ) from None


def sandbox(on: bool) -> None:
    """Render lm-eval's templates in a sandbox from now on, or as lm-eval does."""
    from jinja2 import Environment
    from jinja2.sandbox import SandboxedEnvironment
    from lm_eval import utils

    before: Any = utils.env
    if isinstance(before, SandboxedEnvironment) == on:
        return
    kind = SandboxedEnvironment if on else Environment
    made = kind(
        loader=before.loader, undefined=before.undefined, keep_trailing_newline=before.keep_trailing_newline
    )
    made.filters.update(before.filters)
    utils.env = made
