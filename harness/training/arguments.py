"""What of `transformers.TrainingArguments` is decided here, what a user may decide, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import TrainingArguments

from .._util.processes import launched
from ..contracts.fit import Schedule
from ..errors import UsageError

FLAGS = {
    "output_dir": "--out",
    "per_device_train_batch_size": "--micro-batch",
    "gradient_accumulation_steps": "--batch-size",
    "learning_rate": "--learning-rate",
    "warmup_steps": "--warmup-steps",
    "num_train_epochs": "--epochs",
    "max_steps": "--max-steps",
    "save_steps": "--save-every",
    "seed": "--seed",
}
"""Arguments of the trainer that are flags of their own."""

_SWITCHES = "bf16 fp16 tf32 full_determinism dataloader_persistent_workers dataloader_pin_memory".split()
_NUMBERS = "adam_beta1 adam_beta2 adam_epsilon max_grad_norm weight_decay".split()
_COUNTS = {
    "data_seed": 0,
    "dataloader_num_workers": 0,
    "dataloader_prefetch_factor": 1,
    "save_total_limit": 1,
    "torch_empty_cache_steps": 1,
}
_WORDS = "log_level lr_scheduler_type optim optim_args run_name".split()

ALLOWED = frozenset((*_SWITCHES, *_NUMBERS, *_COUNTS, *_WORDS, "lr_scheduler_kwargs", "report_to"))
"""Arguments of the trainer that are handed on: those that were seen to do here what they say."""

REFUSED = {
    "save_only_model": "a checkpoint without the optimizer cannot be gone on from",
    "ignore_data_skip": "a fit that goes on would read other data than one that was not stopped",
    "resume_from_checkpoint": "the same command goes on from the last whole checkpoint in --out",
    **dict.fromkeys(
        ("gradient_checkpointing", "gradient_checkpointing_kwargs"),
        "give --recompute, where `harness fit --method NAME --help` has it: methods know themselves what to keep",
    ),
    "label_smoothing_factor": "methods compute their own loss",
    "eval_strategy": "a fit evaluates nothing; run the adapter",
    **dict.fromkeys(
        ("deepspeed", "fsdp", "fsdp_config"),
        "it splits what is trained, and checkpoints and adapters here are made of whole weights; "
        "--shard-base splits the base model among the processes",
    ),
    "ddp_find_unused_parameters": "it is on: a step uses the weights of the ratios it drew, and no others",
    **dict.fromkeys(("logging_steps", "logging_strategy", "logging_first_step"), "every step is logged"),
}
"""Why some arguments that people try are not handed on."""


def arguments(schedule: Schedule, device: str) -> TrainingArguments:
    """The trainer's arguments for a schedule; raises UsageError for what is unknown, a flag, or refused."""
    processes = int(torch.distributed.get_world_size()) if torch.distributed.is_initialized() else launched()
    values: dict[str, Any] = {
        "output_dir": str(schedule.folder),
        "per_device_train_batch_size": schedule.micro_batch,
        "gradient_accumulation_steps": schedule.passes(processes),
        "learning_rate": schedule.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": schedule.warmup_steps,
        "weight_decay": 0.0,
        "num_train_epochs": schedule.epochs,
        "max_steps": -1 if schedule.max_steps is None else schedule.max_steps,
        "save_strategy": "steps",
        "save_steps": schedule.save_every,
        "save_total_limit": 2,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": [],
        "disable_tqdm": True,
        "seed": schedule.seed,
        "remove_unused_columns": False,
        "use_cpu": device.partition(":")[0] == "cpu",
        "ddp_find_unused_parameters": True,  # a step uses the experts of the ratios it drew, and no others
        "dataloader_pin_memory": device.startswith("cuda"),
    }
    if unknown := sorted(set(schedule.trainer) - set(TrainingArguments.__dataclass_fields__)):
        raise UsageError(f"--trainer {unknown[0]}: transformers.TrainingArguments has no such argument")
    if own := sorted(set(schedule.trainer) & set(FLAGS)):
        raise UsageError(f"--trainer {own[0]}: give {FLAGS[own[0]]} instead")
    if other := sorted(set(schedule.trainer) - ALLOWED):
        why = REFUSED.get(other[0], "nothing here depends on it, or what it does was never tried")
        raise UsageError(f"--trainer {other[0]}: {why}; handed on are {', '.join(sorted(ALLOWED))}")
    for name, value in schedule.trainer.items():
        if wanted := _misfit(name, value):
            raise UsageError(f"--trainer {name}={value}: must be {wanted}")
    try:
        made = TrainingArguments(**{**values, **schedule.trainer})
        if schedule.trainer:
            _try(made, device)
    except Exception as error:  # transformers, torch and what they call have all kinds of words for it
        given = ", ".join(f"{name}={value}" for name, value in schedule.trainer.items())
        raise UsageError(f"--trainer {given}: {' '.join(str(error).split())[:300]}") from None
    return made


def _misfit(name: str, value: Any) -> str:
    """What a value must be that it is not; empty if it is right. Null is what the trainer does by itself."""
    if value is None and name not in (*_SWITCHES, *_NUMBERS):
        return ""
    if name in _SWITCHES:
        return "" if isinstance(value, bool) or (name == "tf32" and value is None) else "true or false"
    if name in _NUMBERS:
        right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
        return "" if right else "a number, 0 or more"
    if name in _COUNTS:
        right = isinstance(value, int) and not isinstance(value, bool) and value >= _COUNTS[name]
        return "" if right else f"a whole number, {_COUNTS[name]} or more"
    if name == "lr_scheduler_type" and value == "reduce_lr_on_plateau":
        return "another: this one follows an evaluation, and a fit evaluates nothing"
    if name == "lr_scheduler_kwargs":
        return "" if isinstance(value, dict) else 'an object, as {"num_cycles": 2}'
    return "" if isinstance(value, str) else "text"


def _try(made: TrainingArguments, device: str) -> None:
    """One step of the optimizer and schedule on a parameter of its own: a value they refuse is found before the data.

    Raises whatever they raise, and ValueError for a step that leaves no number.
    """
    from transformers import Trainer, get_scheduler
    from transformers.integrations.integration_utils import get_reporting_integration_callbacks

    made.get_process_log_level()
    get_reporting_integration_callbacks(made.report_to)
    place = device if device.startswith("cuda") else "cpu"
    parameter = torch.nn.Parameter(torch.ones(4, 4, device=place))
    parameter.grad = torch.full_like(parameter, 0.5)
    kind, settings = Trainer.get_optimizer_cls_and_kwargs(made, None)
    asked = [pair.partition("=")[0].strip() for pair in (made.optim_args or "").split(",") if pair.strip()]
    if ignored := [name for name in asked if name not in settings]:
        raise ValueError(f"{made.optim} takes no {ignored[0]!r}")
    optimizer = kind([{"params": [parameter], "weight_decay": made.weight_decay}], **settings)
    schedule = get_scheduler(
        made.lr_scheduler_type,
        optimizer=optimizer,
        num_warmup_steps=0,
        num_training_steps=10,
        scheduler_specific_kwargs=made.lr_scheduler_kwargs,
    )
    optimizer.step()
    schedule.step()
    if not bool(torch.isfinite(parameter).all()):
        raise ValueError("a step of the optimizer leaves no number")
