"""`position_scaling`: rotary positions squeezed, so that more tokens fit the positions a model was trained on.

Sources: Position Interpolation (Chen et al., https://arxiv.org/abs/2306.15595) for ``linear``; NTK-aware scaling
(bloc97 and emozilla, 2023; written down in section 3.1 of the YaRN paper) for ``ntk`` and ``dynamic``; YaRN
(Peng et al., https://arxiv.org/abs/2309.00071) for ``yarn``. The frequencies are transformers' own.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from harness import Decoding, Generation, Options, UsageError

from .plain import Plain

if TYPE_CHECKING:
    from harness.inference import KVCache
    from harness.models import LanguageModel


class PositionScalingOptions(Options):
    """Options of `PositionScaling`."""

    rope: Literal["linear", "ntk", "dynamic", "yarn"] = Field(
        "yarn",
        description="which frequencies: linear (Position Interpolation), ntk (the base raised once), dynamic (NTK, "
        "by the length of each prompt with its answer) or yarn",
    )
    factor: float = Field(
        4.0, gt=1, le=1024, description="windows that can be read: a window of W tokens becomes factor x W"
    )
    adapt: bool = Field(
        False,
        description="scale each prompt only as far as it and its answer need, --factor at most; off: all alike",
    )

    @model_validator(mode="after")
    def _once(self) -> PositionScalingOptions:
        if self.adapt and self.rope == "dynamic":
            raise ValueError("dynamic follows the length of the prompt already; leave --adapt out")
        return self


@dataclass(frozen=True)
class Scaled:
    """A context that was read: its cache, and what its positions were scaled by."""

    cache: KVCache
    scale: float


class PositionScaling(Plain):
    """Full attention over up to factor windows, by linear, NTK-aware or YaRN scaling of rotary positions.

    Nothing is compressed and no memory is saved: the KV cache holds the whole prompt. With ``ntk`` the base of the
    frequencies is multiplied by ``scale ** (d / (d - 2))``, d channels a head. What ``dynamic`` and ``--adapt``
    scale by is settled once for a prompt, from its length and the most tokens its answer may have, so that the
    keys of one cache were all turned alike; without them every prompt, short ones included, is scaled by
    ``factor``. The weights are not trained for it: the papers fine-tune for ``linear`` and ``yarn``.
    """

    Options = PositionScalingOptions
    options: PositionScalingOptions

    def __init__(self, model: LanguageModel, options: Any) -> None:
        super().__init__(model, options)
        config: Any = model.config
        kind = config.rope_parameters.get("rope_type", "default")
        if kind != "default":
            raise UsageError(
                f"method position_scaling: the rotary positions of {model.name} are scaled already ({kind}); "
                "use plain, which reads what that gives"
            )
        if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
            raise UsageError(
                f"method position_scaling: {model.name} attends within a sliding window of {config.sliding_window} "
                "tokens; scaled positions do not widen it"
            )

    def context_limit(self) -> int:
        """The model's window, `factor` times."""
        return int(self.model.context_length * self.options.factor)

    def default_max_context(self) -> None:
        """No habit of the literature: whatever fits."""

    def facts(self) -> dict[str, Any]:
        followed = self.options.adapt or self.options.rope == "dynamic"
        return {"scaled_by": "the length of each prompt" if followed else self.options.factor}

    def scale(self, tokens: int) -> float:
        """What the positions of a prompt are scaled by, if it has `tokens` together with its answer.

        For ``dynamic`` in windows it fills, at least one; else the factor of the frequencies.
        """
        if not self.options.adapt and self.options.rope != "dynamic":
            return self.options.factor
        return max(1.0, tokens / self.model.context_length)

    def share_key(self, context: int, reserve: int, decoding: Decoding) -> Hashable:
        """What the positions are scaled by: with a scale that follows the prompt, the question's length counts."""
        return self.scale(context + reserve + decoding.max_new_tokens)

    def compress(
        self, contexts: Sequence[Sequence[int]], reserve: Sequence[int], decoding: Decoding
    ) -> list[Any]:
        """Nothing is compressed: the states (`Scaled`) are the full caches, and how their keys were scaled."""
        scales = [self.scale(len(c) + r + decoding.max_new_tokens) for c, r in zip(contexts, reserve)]
        states: list[Scaled] = []
        for scale, rows in groupby(range(len(contexts)), key=scales.__getitem__):
            mine = list(rows)
            with self.scaled(scale):
                caches = super().compress([contexts[i] for i in mine], [reserve[i] for i in mine], decoding)
            states += [Scaled(cache, scale) for cache in caches]
        return states

    def generate(
        self, states: Sequence[Any], questions: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[Generation]:
        """Answer from the caches, those of one scale together."""
        answers = []
        for scale, rows in groupby(range(len(states)), key=lambda i: float(states[i].scale)):
            mine = list(rows)
            with self.scaled(scale):
                found = super().generate(
                    [states[i].cache for i in mine], [questions[i] for i in mine], decoding
                )
            for generation in found:
                generation.details["scale"] = scale
            answers += found
        return answers

    @contextmanager
    def scaled(self, scale: float) -> Iterator[None]:
        """Let the model turn queries and keys by the scaled frequencies; afterwards it is as it was."""
        body: Any = self.model.network.model
        own = body.rotary_emb
        body.rotary_emb = self._rotary(type(own), scale)
        try:
            yield
        finally:
            body.rotary_emb = own

    def _rotary(self, cls: Any, scale: float) -> Any:
        """A rotary embedding like the model's, with frequencies transformers computes for `scale`."""
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        window, rope, network = self.model.context_length, self.options.rope, self.model.network
        config: Any = copy.deepcopy(network.config)
        config.max_position_embeddings = window
        plain = dict(config.rope_parameters)
        if rope in ("linear", "yarn"):
            config.rope_parameters = {**plain, "rope_type": rope, "factor": scale}
            if rope == "yarn":
                config.rope_parameters["original_max_position_embeddings"] = window
        elif rope == "ntk":
            channels = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            config.rope_parameters = {
                **plain,
                "rope_theta": plain["rope_theta"] * scale ** (channels / (channels - 2)),
            }
        rotary = cls(config)
        if rope == "dynamic":  # its own module would change with every pass, and leave older keys behind
            config.rope_parameters = {**plain, "rope_type": rope, "factor": self.options.factor}
            frequencies = ROPE_INIT_FUNCTIONS[rope](config, seq_len=round(scale * window))
            rotary.inv_freq, rotary.attention_scaling = frequencies
        return rotary.to(network.device)
