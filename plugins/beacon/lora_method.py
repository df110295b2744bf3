"""`lora_experts`: Activation Beacon with one low-rank adapter for each condensing ratio.

Source: Li et al., "Long Context Understanding using Self-Generated Synthetic Data" (MIT and MIT-IBM Watson AI
Lab), section 2.2. Everything else is `beacon`'s: the expert is chosen by the input's length, so that all fits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from harness import Options, UsageError

from .adapter_card import EXPERT_RATIOS, LORA_RANK, Kind
from .method import Beacon
from .options import BeaconFitOptions

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import TrainerCallback

    from .lora_projections import LoraExperts as Experts


class LoraFitOptions(BeaconFitOptions):
    """Options of fitting `LoraExperts`; the ratios are the paper's, the rank gives its parameter count."""

    train_ratios: str = Field(
        ",".join(map(str, EXPERT_RATIOS)),
        description="ratios to train an expert for, comma-separated; each window draws one",
    )
    rank: int = Field(LORA_RANK, ge=1, description="rank of each expert")
    lora_alpha: float | None = Field(
        None, gt=0, description="what is learned is scaled by alpha / rank; default: rank"
    )
    shared_steps: int = Field(
        0, ge=0, description="so many first steps train one expert in place of all, then each goes on from it"
    )

    @model_validator(mode="after")
    def _given(self) -> LoraFitOptions:
        if self.lora_alpha is None:
            object.__setattr__(self, "lora_alpha", float(self.rank))
        return self


class LoraExperts(Beacon):
    """Condense like `beacon`, by a LoRA on q, k, v and o of the beacon tokens that knows one ratio only.

    Ratios without an expert are never chosen. Without an adapter nothing is added to the model's own
    projections, which is `beacon` untrained, and the record says so.
    """

    FitOptions: ClassVar[type[Options]] = LoraFitOptions

    @property
    def kind(self) -> Kind:
        return "lora_experts"

    def _trained(self, adapter: Path, options: LoraFitOptions) -> Experts:
        """The adapter's experts; raises UsageError for options that only new ones can have."""
        from . import checkpoint
        from .lora_projections import LoraExperts as Experts

        if options.shared_steps:
            raise UsageError(
                "--shared-steps trains one expert in place of all, but --adapter gives them already"
            )
        experts = checkpoint.read_weights(self.kind, adapter, self.model, learn=True)
        assert isinstance(experts, Experts)
        first = experts.expert(experts.ratios[0])
        for flag, there in (("rank", first.rank), ("lora_alpha", first.alpha)):
            if flag in options.model_fields_set and getattr(options, flag) != there:
                raise UsageError(
                    f"--{flag.replace('_', '-')} {getattr(options, flag)}: the experts of --adapter have {there}"
                )
        return experts

    def learnable(self, options: Any) -> tuple[Any, list[TrainerCallback]]:
        from . import checkpoint
        from .lora_projections import Expert
        from .training import PartWays

        wanted = options.ratios(self.interval)
        if self._adapter is None:
            experts = checkpoint.new_experts(self.model, wanted, options.rank, options.lora_alpha, self.start)
        else:
            experts = self._trained(self._adapter, options)
            for ratio in sorted(set(wanted) - set(experts.ratios)):  # from its nearest neighbour on
                near = experts.expert(min(experts.ratios, key=lambda r: abs(math.log2(r / ratio))))
                experts.add(ratio, Expert(self.model.network, near.rank, near.alpha, near.tensors()))
        if not options.shared_steps:
            return experts, []
        experts.shared = min(wanted)
        return experts, [PartWays(experts, options.shared_steps)]
