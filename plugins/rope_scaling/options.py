"""What `rope_scaling` can be told, and the rules from which a base follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from harness import Options, UsageError

from ..rotary import base_of, ntk_factor

Rule = Literal["x4", "ntk", "yarn"]
RULES = (
    "x4 (the base times 4 for each doubling, as in SelfLong), ntk (times scale ** (d / (d - 2)), d channels a head) "
    "or yarn (the base stays, YaRN's frequencies)"
)


class RopeOptions(Options):
    """Options of `RopeScaling`: which scaling a model is asked with if there is no adapter to say it."""

    window: int | None = Field(
        None, ge=2, description="tokens that can be read; default: the adapter's, else the model's"
    )
    theta: float | None = Field(
        None, gt=1, description="base of the frequencies; default: the adapter's, else by --rule"
    )
    rule: Rule | None = Field(
        None,
        description=f"how the base follows from the window: {RULES}; default: the adapter's, else x4",
    )

    @model_validator(mode="after")
    def _one(self) -> RopeOptions:
        if self.theta is not None and self.rule is not None:
            raise ValueError("a base and a rule for it; give one of --theta and --rule")
        return self


class RopeFitOptions(Options):
    """Options of fitting `RopeScaling`: the target of the stage, and how it is reached."""

    to_window: int | None = Field(
        None, ge=2, description="tokens to train for; default: --window, else the adapter's or the model's"
    )
    to_theta: float | None = Field(None, gt=1, description="base to train with; default: by --to-rule")
    to_rule: Rule | None = Field(
        None, description=f"how the base follows from what it was: {RULES}; default: the adapter's, else x4"
    )
    train: Literal["lora", "full"] = Field(
        "lora",
        description="what is trained: a LoRA on q, k, v and o, or all weights (of a copy in float32: with Adam 16 "
        "bytes a parameter)",
    )
    rank: int = Field(16, ge=1, description="rank of the LoRA")
    lora_alpha: float | None = Field(None, gt=0, description="alpha of the LoRA; default: its rank")
    recompute: bool = Field(
        False, description="keep one activation a layer and compute the rest again: for long sequences"
    )
    pose: int = Field(
        0,
        ge=0,
        le=64,
        description="PoSE: read each example in so many chunks whose positions jump inside --to-window; 0: off",
    )
    save_dtype: Literal["bfloat16", "float32"] = Field("float32", description="type of the saved weights")

    @model_validator(mode="after")
    def _possible(self) -> RopeFitOptions:
        if self.to_theta is not None and self.to_rule is not None:
            raise ValueError("a base and a rule for it; give one of --to-theta and --to-rule")
        if self.pose == 1:
            raise ValueError("one chunk has nowhere to jump; give --pose 2 or more, or 0")
        return self


@dataclass(frozen=True)
class Scaling:
    """A window with the frequencies it is read by.

    Attributes
    ----------
    window
        Tokens.
    theta
        The base.
    rule
        How it came about: ``"x4"``, ``"ntk"``, ``"yarn"``, or ``"given"``.
    """

    window: int
    theta: float
    rule: str

    def extended(self, config: Any, window: int, theta: float | None, rule: str | None) -> Scaling:
        """From here to a longer window, by a base or a rule; by this one's rule if neither is given.

        Raises
        ------
        UsageError
            If YaRN's frequencies and a changed base would be mixed.
        """
        if theta is not None:
            chosen = "given"
        else:
            chosen = rule or (self.rule if self.rule in ("ntk", "yarn") else "x4")
        if self.rule == "yarn" and chosen != "yarn":
            raise UsageError(
                "the adapter was trained with YaRN's frequencies, which another base would break; go on with yarn"
            )
        if chosen == "yarn" and self.rule not in ("own", "yarn"):
            raise UsageError(
                f"the adapter was trained with the base {self.theta:,.0f}, and YaRN's frequencies are those of the "
                "model's own; go on with x4, ntk or --to-theta"
            )
        scale = window / self.window
        if theta is None:
            factor = {"x4": scale**2, "ntk": ntk_factor(config, scale), "yarn": 1.0}[chosen]
            theta = self.theta * factor
        return Scaling(window, theta, chosen)


def own_scaling(config: Any, window: int) -> Scaling:
    """What the model comes with."""
    return Scaling(window, base_of(config), "own")
