"""How many tokens a model was made for, and where that number comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .reading import json_file

if TYPE_CHECKING:
    from transformers import PretrainedConfig

POSITIONS = "max_position_embeddings"
ORIGINAL = "original_max_position_embeddings"


def rope_of(config: PretrainedConfig) -> dict[str, Any]:
    """The rotary parameters of a configuration; empty if it has none."""
    return dict(getattr(config, "rope_parameters", None) or {})


def positions(config: PretrainedConfig) -> tuple[int, str]:
    """Positions a model can tell apart, and the source of the number.

    YaRN is written down in two ways: with the positions of before, as Qwen does, or with those it makes possible.
    The greater of both is meant. Dynamic scaling gives other frequencies for each length, so that a text read in
    pieces is another one: only the length up to which it changes nothing is used.
    """
    stated = int(config.max_position_embeddings)
    rope = rope_of(config)
    scaled = int(float(rope.get("factor") or 1) * int(rope.get(ORIGINAL) or 0))
    if rope.get("rope_type") == "yarn" and scaled > stated:
        return scaled, f"YaRN, {rope['factor']:g} x {rope[ORIGINAL]}"
    return stated, POSITIONS


def native_length(config: PretrainedConfig) -> int:
    """Tokens a model reads with full attention: its positions, or its sliding window if that is smaller.

    Within the sliding window a sliding-window model is an ordinary one; beyond it a token no longer sees
    the whole prompt, so that no cache could be what it claims to be.
    """
    return min(positions(config)[0], _sliding(config) or positions(config)[0])


def source(config: PretrainedConfig) -> str:
    """Which entry of the configuration `native_length` comes from."""
    most, said = positions(config)
    return said if (_sliding(config) or most) >= most else "sliding_window"


def _sliding(config: PretrainedConfig) -> int | None:
    """The sliding window, if there is one in use."""
    window = getattr(config, "sliding_window", None)
    return None if window is None or not getattr(config, "use_sliding_window", True) else int(window)


def check_said(folder: Path, config: PretrainedConfig, name: str, asked: int | None) -> None:
    """Refuse a window that nobody said: a default of transformers is no property of the model.

    With a length asked for, that is the window.
    """
    if POSITIONS in json_file(folder / "config.json", name):
        return
    if asked is None:
        raise UsageError(
            f"model {name}: its config.json has no {POSITIONS} (transformers would take "
            f"{config.max_position_embeddings}); write it there, or say the window with --context-length"
        )
    config.max_position_embeddings = asked


def check_asked(config: PretrainedConfig, name: str, asked: int | None) -> None:
    """Refuse a window larger than the model's own, or one over which its frequencies would change.

    LongRoPE turns short and long texts by different factors, chosen anew in each pass: a text read in pieces, or a
    cache that grows over the border, would hold keys of both.
    """
    native, said = positions(config)
    if asked is not None and asked > native:
        raise UsageError(
            f"--context-length {asked}: {name} was made for {native} tokens ({said}); "
            "the length can only be made smaller"
        )
    rope = rope_of(config)
    if rope.get("rope_type") == "longrope" and (asked or native_length(config)) > int(rope[ORIGINAL]):
        raise UsageError(
            f"model {name}: its positions are scaled by LongRoPE, whose factors change with the length of a pass "
            f"beyond {rope[ORIGINAL]} tokens; run it within them: --context-length {rope[ORIGINAL]}"
        )
