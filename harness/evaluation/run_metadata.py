"""What `run.json` says of a run: its settings, versions, prompts and hardware."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from ..contracts.prompt import Prompt
from ..prompts.render import render

if TYPE_CHECKING:
    from ..contracts.task import Task
    from ..models.model import LanguageModel


def preset_hash(task: Task, model: LanguageModel) -> dict[str, str]:
    """Name of the task's prompt protocol, and a hash of it together with the model's chat wrapper."""
    wrapped = render(Prompt("prefix ", "context", " suffix"), model, chat=True).text
    content = json.dumps([task.preset, task.version, wrapped, model.chat])
    return {"preset": task.preset, "hash": hashlib.sha256(content.encode()).hexdigest()[:12]}
