"""Training any module through `transformers.Trainer`, so that it resumes, scales and logs as its users expect.

What is ours here: checkpoints are used only if they are whole, a loss that is no number ends the training at
once with the last good checkpoint kept, and every step's loss is written down.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from .._util.files import write_whole, writes
from .._util.hashing import digest
from ..contracts.fit import Example, FitObserver, FitReport, Schedule, TrainingData
from ..errors import HarnessError, UsageError
from .arguments import arguments
from .checkpoints import WHOLE, is_whole, last_whole

if TYPE_CHECKING:
    from torch.nn import Module


LOG = "log.jsonl"
"""A line for each step as it ends, for whoever wants to watch; what is read back is in the checkpoints."""

CURVE = ("step", "loss", "learning_rate", "grad_norm", "tokens", "seconds")


class TrainingError(HarnessError):
    """Training cannot go on: the loss or a gradient is no number. Checkpoints of before are kept."""


def train(
    module: Module,
    data: TrainingData,
    schedule: Schedule,
    device: str,
    observer: FitObserver | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> FitReport:
    """Train `module` on `data`, going on from the last whole checkpoint in ``schedule.folder``.

    Parameters
    ----------
    module
        ``module(input_ids, labels)`` takes tensors ``[tokens]`` of one sequence and returns its mean loss. With
        ``schedule.micro_batch`` above 1 it takes lists of them and returns the mean of their losses; one that
        can says so by an attribute ``batched = True``.
        Only its parameters are trained, saved and moved between devices; what it draws at random must come
        from torch's global generator, whose state is part of a checkpoint.
    data
        Must give the same examples at the same places when an interrupted training is taken up again.
    device
        Where the module is.
    callbacks
        More of the trainer's own.

    Raises
    ------
    UsageError
        If the folder cannot be written, or an argument of the trainer is unknown.
    TrainingError
        At the first loss or gradient that is not finite, naming step and checkpoint.
    """
    if schedule.micro_batch > 1 and not getattr(module, "batched", False):
        raise UsageError(
            f"--micro-batch {schedule.micro_batch}: what is trained here reads one sequence at a time; leave it out"
        )
    given = arguments(schedule, device)
    checkpoint = last_whole(schedule.folder)
    with writes(schedule.folder, "make room and run again"):
        for path in schedule.folder.glob("checkpoint-*"):
            if given.should_save and not is_whole(path):  # torn by a kill
                shutil.rmtree(path)
        trainer = _Trainer(
            observer=observer,
            settle=schedule.settle,
            model=module,
            args=given,
            train_dataset=_Examples(data),
            data_collator=_collated,
            callbacks=[_Guard(observer), *callbacks],
        )
        trainer.remove_callback(PrinterCallback)
        if checkpoint is None or not trainer.take_end(checkpoint):
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    curve = [
        {name: row[name] for name in CURVE if name in row}
        for row in trainer.state.log_history
        if "loss" in row
    ]
    tail = curve[-max(1, len(curve) // 10) :]
    return FitReport(
        steps=int(trainer.state.global_step),
        loss=sum(row["loss"] for row in tail) / len(tail) if tail else None,
        curve=curve,
        facts={
            "processes": trainer.args.world_size,
            "tokens": int(sum(row["tokens"] for row in curve)),
            "seconds": round(sum(row["seconds"] for row in curve), 1),
        },
    )


def check(schedule: Schedule, device: str) -> None:
    """Refuse what `train` would refuse of a schedule. Raises UsageError."""
    arguments(schedule, device)


class _Examples(torch.utils.data.Dataset[Example]):
    """`TrainingData` as torch's map-style data set."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Example:
        return self.data[index]


class _Alike(LengthGroupedSampler):  # type: ignore[misc]
    """Examples of about one length together, in an order that depends on seed and epoch alone."""

    def __init__(self, batch: int, lengths: Sequence[int], seed: int) -> None:
        super().__init__(batch, lengths=list(lengths), generator=torch.Generator())
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Any:
        self.generator.manual_seed(self.seed + self.epoch)
        return super().__iter__()


def _collated(batch: list[Example]) -> dict[str, Any]:
    ids = [torch.tensor(example.input_ids) for example in batch]
    labels = [torch.tensor(example.labels) for example in batch]
    if len(batch) == 1:
        return {"input_ids": ids[0], "labels": labels[0]}
    return {"input_ids": ids, "labels": labels}


class _Trainer(Trainer):  # type: ignore[misc]
    """`Trainer` that stops at the first loss that is no number and logs what a step cost."""

    def __init__(
        self, *, observer: FitObserver | None, settle: Callable[[], None] | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.observer, self.settle = observer, settle
        self._settling: Any = None
        self._tokens = 0
        self._since = time.monotonic()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        size = self.args.per_device_train_batch_size
        if size == 1:  # nobody is padded to another's length
            return super()._get_train_sampler(train_dataset)
        lengths = self.train_dataset.data.lengths
        return _Alike(size * self.args.world_size, lengths, self.args.seed)

    def take_end(self, checkpoint: Path) -> bool:
        """Take over a checkpoint of the last step; False if there are steps after it.

        `train` would make one more step than was asked for: it looks whether it has made enough only after one.
        """
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if state.global_step < state.max_steps or self.is_deepspeed_enabled or self.is_fsdp_enabled:
            return False
        self._load_from_checkpoint(str(checkpoint))
        self.state = state
        control = self.callback_handler.on_train_begin(self.args, state, TrainerControl())
        self.callback_handler.on_train_end(self.args, state, control)
        return True

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        if self.settle is None:
            return super().training_step(model, *args, **kwargs)
        if self._settling is not model and isinstance(model, DistributedDataParallel):
            # Gradients are waited for before a backward pass ends, while others may need weights for theirs.
            model.register_comm_hook(self.settle, _settled)
            self._settling = model
        loss = super().training_step(model, *args, **kwargs)
        self.settle()  # and begin the next together: who is at one place gathers once
        return loss

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        loss = model(inputs["input_ids"], inputs["labels"])
        _finite("the loss", float(loss.detach()), self.state.global_step, self.args.output_dir)
        ids = inputs["input_ids"]
        self._tokens += len(ids) if isinstance(ids, Tensor) else sum(map(len, ids))
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            now = time.monotonic()
            logs["tokens"] = self._tokens * self.args.world_size
            logs["seconds"] = now - self._since
            self._tokens, self._since = 0, now
            if self.is_world_process_zero():
                with (Path(self.args.output_dir or ".") / LOG).open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"step": self.state.global_step, **logs}) + "\n")
            if self.observer is not None and self.is_world_process_zero():
                self.observer.step(self.state.global_step, logs["loss"], int(logs["tokens"]), logs["seconds"])
        super().log(logs, start_time)


def _settled(settle: Callable[[], None], bucket: Any) -> Any:
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    settle()
    return allreduce_hook(torch.distributed.group.WORLD, bucket)  # type: ignore[arg-type]  # None without a launcher


_settled.__annotations__.clear()  # torch reads them, and takes none that are text


class _Guard(TrainerCallback):  # type: ignore[misc]
    """Refuses a step whose gradient is no number, and marks checkpoints that were written to their end."""

    def __init__(self, observer: FitObserver | None) -> None:
        self.observer = observer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.observer is not None and state.is_world_process_zero:
            self.observer.start(state.max_steps, state.global_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.fp16:
            return  # the scaler expects infinite gradients: it leaves the step out and scales less
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        if gradients:
            norm = float(torch.stack([g.detach().norm() for g in gradients]).norm())
            _finite("the gradient's norm", norm, state.global_step, args.output_dir)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # every process writes the state of its own random generators
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            files = sorted(p for p in folder.rglob("*") if p.is_file())
            digests = {str(p.relative_to(folder)): digest(p) for p in files}
            write_whole(folder / WHOLE, json.dumps(digests))


def _finite(what: str, value: float, done: int, folder: str) -> None:
    if math.isfinite(value):
        return
    kept = last_whole(Path(folder))
    raise TrainingError(
        f"{what} is {value} at step {done + 1}; "
        + (f"the last good checkpoint is {kept}" if kept else "no checkpoint was written before it")
        + "; try a lower --learning-rate"
    )
