"""Options of the lm-eval tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness import Options


class LmEvalOptions(Options):
    """How an lm-eval task is asked."""

    num_fewshot: int | None = Field(
        None, ge=0, description="solved examples in the prompt; default: the task's"
    )
    fewshot_seed: int = Field(1234, description="seed the examples are drawn with; default: lm-eval's")
    include_path: str | None = Field(
        None,
        description="folder with tasks of your own, as lm-eval's YAML; code in it runs under --trust-task-code only",
        json_schema_extra={
            "runs_code": True
        },  # YAML of lm-eval's may name Python functions and data sets' scripts
    )
    apply_chat_template: bool = Field(
        False, description="wrap the prompt as lm-eval does with the model's template"
    )
    fewshot_as_multiturn: bool = Field(True, description="with a template: each example a turn of its own")
    system_instruction: str | None = Field(None, description="text that lm-eval puts before everything")
    split: Literal["auto", "fewshot", "line"] = Field(
        "auto",
        description="where the context ends: after the examples (auto falls back to line without any), "
        "or before the last line",
    )
    metrics: list[str] = Field(
        [], description="which of the task's metrics to keep; default: each that is a mean"
    )
