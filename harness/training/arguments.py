"""What of `transformers.TrainingArguments` is decided here, what a user may decide, and what is refused."""

from __future__ import annotations

import os
from typing import Any

import torch
from transformers import TrainingArguments

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

ALLOWED = frozenset(
    ("adam_beta1 adam_beta2 adam_epsilon bf16 data_seed dataloader_num_workers dataloader_persistent_workers "
     "dataloader_pin_memory dataloader_prefetch_factor fp16 full_determinism log_level lr_scheduler_kwargs "
     "lr_scheduler_type max_grad_norm optim optim_args report_to run_name save_total_limit tf32 "
     "torch_empty_cache_steps weight_decay").split()
)  # fmt: skip
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
        "it splits weights among processes, and checkpoints and adapters here are made of whole ones; "
        "`accelerate launch` shares each batch among processes that hold the model whole",
    ),
    "ddp_find_unused_parameters": "it is on: a step uses the weights of the ratios it drew, and no others",
    **dict.fromkeys(("logging_steps", "logging_strategy", "logging_first_step"), "every step is logged"),
}
"""Why some arguments that people try are not handed on."""


def arguments(schedule: Schedule, device: str) -> TrainingArguments:
    """The trainer's arguments for a schedule; raises UsageError for what is unknown, a flag, or refused."""
    processes = int(torch.distributed.get_world_size()) if torch.distributed.is_initialized() else _launched()
    if schedule.batch_size % processes:
        raise UsageError(
            f"--batch-size {schedule.batch_size} cannot be shared evenly by {processes} processes"
        )
    if schedule.batch_size // processes % schedule.micro_batch:
        raise UsageError(
            f"--batch-size {schedule.batch_size} is no multiple of --micro-batch {schedule.micro_batch}"
            + (f" on {processes} processes" if processes > 1 else "")
        )
    values: dict[str, Any] = {
        "output_dir": str(schedule.folder),
        "per_device_train_batch_size": schedule.micro_batch,
        "gradient_accumulation_steps": schedule.batch_size // processes // schedule.micro_batch,
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
    try:
        return TrainingArguments(**{**values, **schedule.trainer})
    except (TypeError, ValueError, ImportError) as error:
        raise UsageError(f"--trainer: {' '.join(str(error).split())[:300]}") from None


def _launched() -> int:
    """Processes started together by `accelerate launch` or `torchrun`."""
    return int(os.environ.get("WORLD_SIZE", "1"))
