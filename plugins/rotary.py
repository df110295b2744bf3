"""Rotary positions of a model, turned by other frequencies for a while.

Models may come with the ``llama3`` scaling of Llama 3.1 and 3.2: it is kept, and what is asked for is done on top.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness import UsageError

if TYPE_CHECKING:
    from harness.models.model import LanguageModel

SCALABLE = ("default", "llama3")
"""Kinds of rotary positions whose base can be changed."""
FAST, SLOW = 32.0, 1.0
"""Turns within the window above which YaRN leaves a frequency alone, and below which it divides it by the scale."""


def check_scalable(method: str, model: LanguageModel) -> None:
    """Raise UsageError, in one line, for a model whose positions cannot be scaled (further)."""
    config: Any = model.config
    parameters = getattr(config, "rope_parameters", None) or {}
    if "rope_theta" not in parameters:
        raise UsageError(f"method {method}: {model.name} has no rotary positions of one base")
    kind = parameters.get("rope_type", "default")
    if kind not in SCALABLE:
        raise UsageError(
            f"method {method}: the rotary positions of {model.name} are scaled already ({kind}); "
            "use plain, which reads what that gives"
        )
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        raise UsageError(
            f"method {method}: {model.name} attends within a sliding window of {config.sliding_window} "
            "tokens; scaled positions do not widen it"
        )


def base_of(config: Any) -> float:
    """The base of a configuration's frequencies."""
    return float(config.rope_parameters["rope_theta"])


def is_llama3(config: Any) -> bool:
    """Whether the frequencies come with the scaling of Llama 3.1."""
    return bool(config.rope_parameters.get("rope_type", "default") == "llama3")


def ntk_factor(config: Any, scale: float) -> float:
    """What NTK-aware scaling multiplies the base by: ``scale ** (d / (d - 2))``, d channels a head."""
    channels = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return float(scale ** (channels / (channels - 2)))


def changed_config(config: Any, **parameters: Any) -> Any:
    """A copy of a configuration with other rotary parameters."""
    other = copy.deepcopy(config)
    other.rope_parameters = {**config.rope_parameters, **parameters}
    return other


def rotary(network: Any, base: float, yarn: float | None = None, window: int = 0) -> Any:
    """A rotary embedding like the network's with another base; with `yarn`, that scale of `window` by YaRN on top."""
    cls = type(network.model.rotary_emb)
    config = changed_config(network.config, rope_theta=base)
    if yarn is None:
        return cls(config).to(network.device)
    config.max_position_embeddings = window
    if is_llama3(config):
        made = cls(config)
        by_parts(made, yarn, window)
        return made.to(network.device)
    return cls(
        changed_config(config, rope_type="yarn", factor=yarn, original_max_position_embeddings=window)
    ).to(network.device)


def by_parts(made: Any, scale: float, window: int) -> None:
    """Scale the frequencies that an embedding has, whatever they are, by YaRN's rule (section 3.2 of its paper).

    A frequency that turns r times within the window keeps ``(r - 1) / (32 - 1)`` of itself, between 0 and 1, and
    is divided by `scale` for the rest. Transformers' own ``yarn`` is for plain frequencies only.
    """
    if scale == 1:
        return
    own = made.inv_freq
    share = ((window * own / (2 * math.pi) - SLOW) / (FAST - SLOW)).clamp(0, 1)
    made.inv_freq = own * share + own / scale * (1 - share)
    made.attention_scaling = float(made.attention_scaling) * (0.1 * math.log(scale) + 1.0)


@contextmanager
def turned(network: Any, embedding: Any) -> Iterator[None]:
    """Let the network turn queries and keys by `embedding`; afterwards it is as it was."""
    body = network.model
    own = body.rotary_emb
    body.rotary_emb = embedding
    try:
        yield
    finally:
        body.rotary_emb = own
