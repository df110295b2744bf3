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
from harness.training.trainer import train

from .distillation import distillation_loss, lessons
from .engine import ActivationBeacon
from .losses import next_token_loss

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

    @property
    def batched(self) -> bool:
        """Whether several sequences are read in one pass: the objective ``distill`` does."""
        return self.options.objective == "distill"

    def forward(self, input_ids: Tensor | list[Tensor], labels: Tensor | list[Tensor]) -> Tensor:
        """``input_ids``, ``labels`` ``[tokens]``; returns the mean cost in nats per predicted token.

        With the objective ``distill`` the cost is the divergence from the model's own predictions plus the
        relative squared distance of attention outputs, averaged over the draws of ratios. Several sequences are
        then read in one pass, their windows by the same ratios, and the mean of their costs is returned.
        """
        each = input_ids if isinstance(input_ids, list) else [input_ids]
        wanted = labels if isinstance(labels, list) else [labels]
        rows = [self._prepared(i.tolist(), w.tolist()) for i, w in zip(each, wanted)]
        cost = self._distilled(rows) if self.batched else self._next_token(*rows[0])
        if not cost.requires_grad:  # shorter than a window and a token: worth nothing, but no error either
            cost = cost + 0.0 * self.weights.embedding(self.ratios[0]).sum()
        return cost

    def _prepared(self, ids: list[int], wanted: list[int]) -> tuple[list[int], list[int]]:
        """A sequence as it is read, or said twice."""
        if self.options.reconstruct and float(torch.rand(())) < self.options.reconstruct:
            return _again(ids, self.engine.interval)
        return ids, wanted

    def _next_token(self, ids: list[int], wanted: list[int]) -> Tensor:
        total, count = next_token_loss(
            self.engine,
            ids,
            wanted,
            self._drawn(len(ids)),
            skip_first=self.options.skip_first,
            recompute=self.options.recompute,
        )
        return total / max(1, count)

    def _drawn(self, tokens: int) -> list[int]:
        """A ratio for each full window of so many tokens.

        From torch's global generator: its state is in the checkpoints, so a resumed fit draws the same.
        """
        windows = max(0, tokens - self.engine.sinks) // self.engine.interval
        return [self.ratios[d] for d in torch.randint(len(self.ratios), (windows,)).tolist()]

    def _distilled(self, rows: Sequence[tuple[list[int], list[int]]]) -> Tensor:
        """The model reads the sequences raw once, and after that once for each draw of ratios."""
        longest = max(len(ids) for ids, _ in rows)
        drawn = [self._drawn(longest) for _ in range(self.options.draws)]
        told = lessons(self.engine, rows)
        if told is None:
            return torch.zeros((), device=self.engine.network.device)
        costs = [sum(distillation_loss(self.engine, told, ratios)) for ratios in drawn]
        # One that has nothing to predict costs nothing and counts among the others.
        return torch.stack([torch.as_tensor(c) for c in costs]).mean() * (len(told.ids) / len(rows))


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


def check_data(
    model: LanguageModel, data: TrainingData, interval: int, sinks: int, options: BeaconFitOptions
) -> None:
    """Refuse data that nothing could be learned from; needs none of the model's weights.

    Raises
    ------
    UsageError
        If no example is longer than a window (nothing would be condensed), or one is too long for the model to
        read uncompressed where it is to learn from that.
    """
    longest = max(data.lengths, default=0)
    if longest <= sinks + interval + 1:
        after = f" after {sinks} sinks" if sinks else ""
        raise UsageError(
            f"the longest example has {longest} tokens, but the interval is {interval}{after}: nothing would "
            "be condensed; lower --interval or give longer data"
        )
    if options.objective == "distill" and longest > model.context_length:
        raise UsageError(
            f"--objective distill compares with the uncompressed text, but the longest example ({longest} tokens) "
            f"is longer than the window of {model.context_length}; lower --max-length"
        )
