"""What is trained, and on what, when a method that condenses windows into beacons is fitted.

The defaults are Activation Beacon v1's (arXiv 2401.03462v1): a ratio drawn for each window, the cost of every
window's tokens, gradients through all later windows, nothing but the beacons' own parameters trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from harness import UsageError
from harness.contracts import FitReport, Schedule, TrainingData
from harness.inference import KVCache, feed
from harness.training.trainer import train

from .engine import ActivationBeacon

if TYPE_CHECKING:
    from harness.models import LanguageModel

    from .lora_projections import LoraExperts
    from .options import BeaconFitOptions


class BeaconTraining(torch.nn.Module):
    """Mean cost of a sequence's predicted tokens, each of its full windows condensed by a ratio drawn for it.

    Parameters
    ----------
    engine
        Its `weights` are a module, the only thing trained here.
    ratios
        What is drawn from, each as likely as the others.
    options
        How the cost is counted.
    """

    def __init__(self, engine: ActivationBeacon, ratios: Sequence[int], options: BeaconFitOptions) -> None:
        super().__init__()
        assert isinstance(engine.weights, torch.nn.Module)
        self.weights = engine.weights
        self.engine = engine
        self.ratios = tuple(ratios)
        self.options = options

    def forward(self, input_ids: Tensor, labels: Tensor) -> Tensor:
        """``input_ids``, ``labels`` ``[tokens]``; returns the mean cost in nats per predicted token."""
        options, interval = self.options, self.engine.interval
        ids, wanted = input_ids.tolist(), labels.tolist()
        if options.reconstruct and float(torch.rand(())) < options.reconstruct:
            ids, wanted = _again(ids, interval)
        # From torch's global generator: its state is in the checkpoints, so a resumed fit draws the same.
        drawn = torch.randint(len(self.ratios), (len(ids) // interval,)).tolist()
        teacher = None
        if options.distill:
            with torch.no_grad():
                teacher = feed(self.engine.network, [KVCache()], [ids])[1][0]
        total, count = self.engine.loss(
            ids,
            wanted,
            [self.ratios[d] for d in drawn],
            skip_first=options.skip_first,
            teacher=teacher,
            recompute=options.recompute,
        )
        if not total.requires_grad:  # shorter than a window and a token: worth nothing, but no error either
            total = total + 0.0 * self.weights.embedding(self.ratios[0]).sum()
        return total / max(1, count)


def _again(ids: list[int], interval: int) -> tuple[list[int], list[int]]:
    """The first half of a sequence, in whole windows, and then the same once more, which alone is predicted."""
    half = max(interval, len(ids) // 2 // interval * interval)
    first = ids[:half]
    return first + first, [-100] * len(first) + first


class PartWays(TrainerCallback):  # type: ignore[misc]
    """Ends the shared phase of `LoraExperts` after so many steps."""

    def __init__(self, experts: LoraExperts, steps: int) -> None:
        self.experts, self.steps = experts, steps

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= self.steps:
            self.experts.shared = None  # resumed: the checkpoint holds what each has learned since

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.steps and self.experts.shared is not None:
            self.experts.part_ways()


def fit_beacons(
    model: LanguageModel,
    engine: ActivationBeacon,
    ratios: Sequence[int],
    data: TrainingData,
    schedule: Schedule,
    options: BeaconFitOptions,
    callbacks: Sequence[TrainerCallback] = (),
) -> FitReport:
    """Train the engine's weights on data that `check_data` has passed; the base model stays as it is.

    Raises
    ------
    TrainingError
        See `harness.training.trainer.train`.
    """
    model.network.requires_grad_(False)
    # Dropout is nowhere in the supported models; evaluation mode makes sure of it.
    model.network.eval()
    module = BeaconTraining(engine, ratios, options)
    return train(module, data, schedule, str(model.network.device), schedule.observer, callbacks)


def check_data(model: LanguageModel, data: TrainingData, interval: int, options: BeaconFitOptions) -> None:
    """Refuse data that nothing could be learned from; needs none of the model's weights.

    Raises
    ------
    UsageError
        If no example is longer than a window (nothing would be condensed), or one is too long for a teacher.
    """
    longest = max(data.lengths, default=0)
    if longest <= interval + 1:
        raise UsageError(
            f"the longest example has {longest} tokens, but the interval is {interval}: nothing would "
            "be condensed; lower --interval or give longer data"
        )
    if options.distill and longest > model.context_length:
        raise UsageError(
            f"--distill compares with the uncompressed text, but the longest example ({longest} tokens) is "
            f"longer than the window of {model.context_length}; lower --max-length"
        )
