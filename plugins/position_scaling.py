"""`position_scaling`: rotary positions squeezed, so that more tokens fit the positions a model was trained on.

Sources: Position Interpolation (Chen et al., https://arxiv.org/abs/2306.15595) for ``linear``; NTK-aware scaling
(bloc97 and emozilla, 2023; written down in section 3.1 of the YaRN paper) for ``ntk`` and ``dynamic``; YaRN
(Peng et al., https://arxiv.org/abs/2309.00071) for ``yarn``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from harness import Decoding, Generation, Options

from .plain import Plain
from .rotary import base_of, check_scalable, ntk_factor, rotary, turned

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
    ``factor``. The weights are not trained for it: the papers fine-tune for ``linear`` and ``yarn``. A model that
    comes with the ``llama3`` scaling of Llama 3.1 keeps it, and is scaled on top.
    """

    Options = PositionScalingOptions
    options: PositionScalingOptions

    def __init__(self, model: LanguageModel, options: Any) -> None:
        super().__init__(model, options)
        check_scalable("position_scaling", model)

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
        with turned(self.model.network, self._rotary(scale)):
            yield

    def _rotary(self, scale: float) -> Any:
        """A rotary embedding like the model's, with frequencies for `scale`: transformers' own where it has them."""
        window, rope, network = self.model.context_length, self.options.rope, self.model.network
        base = base_of(network.config)
        if rope == "yarn":
            return rotary(network, base, scale, window)
        if rope == "ntk":
            return rotary(network, base * ntk_factor(network.config, scale))
        if rope == "linear":
            made = rotary(network, base)
            made.inv_freq = made.inv_freq / scale
            return made
        # Its own module would change with every pass, and leave older keys behind.
        stretched = self.options.factor * max(1.0, round(scale * window) / window) - self.options.factor + 1
        return rotary(network, base * ntk_factor(network.config, stretched))
