"""What a task sees of a model when it makes its samples: one way of building it for every verb."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..contracts.prompt import Prompt
from ..contracts.task import TaskEnvironment
from ..errors import UsageError
from ..prompts.rendering import render, tokenize

if TYPE_CHECKING:
    from ..models.model import LanguageModel


def task_environment(
    model: LanguageModel,
    *,
    seed: int = 42,
    data_dir: Path | None = None,
    offline: bool = False,
    limit: int | None = None,
    notify: Callable[[str], None] | None = None,
    trust_task_code: bool = False,
) -> TaskEnvironment:
    """The environment of a task that will be asked of `model`; the weights stay unread.

    Parameters
    ----------
    model
        Its tokenizer, chat template and window decide how long prompts are.
    seed, data_dir, offline, limit, notify, trust_task_code
        As in `TaskEnvironment`.

    Raises
    ------
    UsageError
        If `data_dir` is no folder.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise UsageError(f"--data-dir {data_dir}: no such folder")

    def count(prompt: Prompt, chat: bool, answer_prefix: str) -> int:
        # Through the very functions that make the model's input: no second way of counting can disagree.
        return len(tokenize(render(prompt, model, chat=chat, answer_prefix=answer_prefix), model))

    return TaskEnvironment(
        tokenizer=model.tokenizer,
        context_length=model.context_length,
        count=count,
        seed=seed,
        data_dir=data_dir,
        offline=offline,
        limit=limit,
        chat=model.has_chat_template,
        notify=notify,
        trust_task_code=trust_task_code,
    )
