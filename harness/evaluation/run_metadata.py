"""What `run.json` says of a run: its settings, versions, prompts and hardware."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._util import environment
from ..contracts.prompt import Prompt
from ..contracts.task import Task
from ..prompts.rendering import render
from ..results.record_lines import NAMED
from ..results.run_folder import SCHEMA, identity_hash
from . import run_metadata
from .plan import RunPlan

if TYPE_CHECKING:
    from ..contracts.task import Task
    from ..models.model import LanguageModel


def preset_hash(task: Task, model: LanguageModel) -> dict[str, str]:
    """Name of the task's prompt protocol, and a hash of it together with the model's chat wrapper."""
    wrapped = render(Prompt("prefix ", "context", " suffix"), model, chat=True).text
    content = json.dumps([task.preset, task.version, wrapped, model.chat])
    return {"preset": task.preset, "hash": hashlib.sha256(content.encode()).hexdigest()[:12]}


def run_content(plan: RunPlan) -> dict[str, Any]:
    """The content of `run.json` as it stands from a run's first second on."""
    return {
        "schema": SCHEMA,
        "hash": identity_hash(plan.identity),
        NAMED: True,
        "identity": plan.identity,
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(plan.settings).items()},
        "method": {
            "name": plan.settings.method,
            "origin": plan.method_origin,
            "version": plan.method.version,
            "sees_question": plan.method.sees_question,
            "protocol": plan.method.protocol,
            "context_limit": plan.method.context_limit(),
        },
        "model": plan.model.facts(),
        "method_facts": plan.method_facts(),
        "unavailable": plan.unavailable,
        **({"data_notes": plan.data_notes} if plan.data_notes else {}),
        "metrics": {t.name: t.metrics[0] for t in plan.tasks},
        "planned": planned_ids(plan),
        "prompts": {t.name: _prompt_facts(plan, t) for t in plan.tasks},
        "environment": environment.environment(),
    }


def planned_ids(plan: RunPlan) -> dict[str, list[str]]:
    """The ids that were asked for, by task: what stands in the folder besides is no part of the run's numbers."""
    return {t.name: [p.sample.id for p in plan.samples if p.task is t] for t in plan.tasks}


def _prompt_facts(plan: RunPlan, task: Task) -> dict[str, Any]:
    """The prompt protocol of a task, and a hash over all of its rendered prompts: the data that was asked."""
    hashes = [p.prompt_hash for p in plan.samples if p.task is task]
    whole = hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]
    found = {**run_metadata.preset_hash(task, plan.model), "samples": len(hashes), "samples_hash": whole}
    return {**found, **({"facts": facts} if (facts := task.facts()) else {})}


def dump_prompts(plan: RunPlan) -> None:
    """The first prompt of each task as the model reads it, for people to look at."""
    seen = set()
    for prepared in plan.samples:
        if prepared.task.name not in seen:
            seen.add(prepared.task.name)
            plan.folder.write_text(
                f"prompts/{re.sub('[^A-Za-z0-9._-]', '-', prepared.task.name)}.txt", prepared.rendered.text
            )
