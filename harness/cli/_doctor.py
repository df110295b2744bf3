"""What a run will find on this machine: versions, devices, memory, what is missing and how to get it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from .._util.files import cache_dir
from ..errors import UsageError

PROJECT = "long-context-harness"

GROUPS = ("methods", "tasks", "recipes", "reports")


def examine() -> dict[str, Any]:
    """Everything there is to know, JSON-ready; nothing is fetched, and no model is loaded.

    Returns
    -------
    dict
        ``environment`` (versions, commit, hardware), ``devices`` (name, bytes in all and free), ``bfloat16``
        (kinds of device, and whether they compute it natively), ``memory`` (bytes of the machine, and free),
        ``cache`` (folder, bytes free there, models in it), ``missing`` (packages that are not installed: name,
        extra or None, pip line), ``broken`` (plugins that cannot be used, a line each).
    """
    from .._util import environment
    from ..models import loading, precision

    folder = cache_dir()
    return {
        "environment": environment.environment(),
        "devices": list(_devices()),
        "bfloat16": {kind: precision.native_bfloat16(kind) for kind in _kinds()},
        "memory": _memory(),
        "cache": {
            "folder": str(folder),
            "free": shutil.disk_usage(_existing(folder)).free,
            "models": [model.name for model in loading.known_models() if model.cached],
        },
        "missing": list(missing()),
        "broken": list(_broken()),
    }


DEVELOPERS = ("dev", "docs")
"""Extras that no run needs."""
APART = ("kvpress",)
"""Extras that cannot be installed beside the newest transformers."""


def missing() -> Iterator[dict[str, str | None]]:
    """Declared packages that are not installed: what needs them and the line that gets them."""
    for requirement in metadata.requires(PROJECT) or ():
        found = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        if found is None or _installed(found[0]) or (extra and extra[1] in DEVELOPERS):
            continue
        wanted = f"{PROJECT}[{extra[1]}]" if extra else requirement.partition(";")[0].strip()
        line = f"pip install '{wanted}'"
        if extra and extra[1] in APART:
            line += " in an environment of its own, which gets an older transformers"
        yield {"name": found[0], "extra": extra[1] if extra else None, "pip": line}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _kinds() -> tuple[str, ...]:
    import torch

    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def _devices() -> Iterator[dict[str, Any]]:
    import torch

    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield {"device": f"cuda:{index}", "name": name, "total": total, "free": free}


def _memory() -> dict[str, int | None]:
    """Bytes of the machine's memory; what is free is known on Linux only."""
    from ..inference import memory

    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return {"total": None, "free": None}
    return {"total": total, "free": memory.free("cpu")}


def _existing(folder: Path) -> Path:
    """The folder, or its nearest ancestor that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _broken() -> Iterator[str]:
    """A line for each plugin that cannot be used."""
    from .. import registry
    from .._util import entry_points

    find: dict[str, Any] = {
        "methods": registry.listed_method,
        "tasks": registry.task_class,
        "recipes": registry.recipe,
        "reports": registry.report,
    }
    for group in GROUPS:
        for name in entry_points.claims(group):
            try:
                find[group](name)
            except UsageError as error:
                yield str(error)
