"""What stands in a model's weight files, held against what the model uses: nothing is left out in silence."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .reading import reading

FLAG = "--allow-unused-weights"

DERIVED = re.compile(r"rotary_emb\.inv_freq$|\.masked_bias$|\.attn\.bias$")
"""Tensors that old checkpoints hold and every model computes for itself."""

BEACON = re.compile(r"\bbeacon_\w+")
"""Names of the weights that Activation Beacon adds."""

PLAIN_TYPES = ("F64", "F32", "F16", "BF16")
"""Types whose numbers are the weights themselves; others need scales, which the supported models do not have."""


def header(file: Path) -> dict[str, Any]:
    """The head of a safetensors file: type and shape by name. Raises ValueError if it is none."""
    with file.open("rb") as stream:
        size = struct.unpack("<Q", stream.read(8).ljust(8, b"\xff"))[0]
        if size > 100_000_000:
            raise ValueError(f"no safetensors file: its header would have {size:,} bytes")
        content = json.loads(stream.read(size))
    if not isinstance(content, dict):
        raise ValueError("no safetensors file")
    content.pop("__metadata__", None)
    return content


def check_types(label: str, files: Iterable[Path]) -> None:
    """Refuse weights that are no plain numbers: quantised ones would be taken for what they stand for."""
    for file in files:
        with reading(label, file.name):
            kinds = {name: str(entry.get("dtype")) for name, entry in header(file).items()}
        odd = sorted(name for name, kind in kinds.items() if kind not in PLAIN_TYPES)
        if odd:
            raise UsageError(
                f"model {label}: {len(odd)} weights of {file.name} are quantised, first {odd[0]} "
                f"({kinds[odd[0]]}); give the unquantised model, or a GGUF file, which is de-quantised"
            )


def unused(info: dict[str, Any]) -> list[str]:
    """Weights of the files that are not in the model; `info` is transformers' loading info."""
    names = sorted(map(str, info.get("unexpected_keys") or ()))
    return [name for name in names if DERIVED.search(name) is None]


def check_used(label: str, names: list[str], allowed: bool) -> None:
    """Refuse a model that is not all of its files, unless that is allowed. Raises UsageError."""
    if allowed or not names:
        return
    beacon = [name for name in names if BEACON.search(name)]
    if beacon:
        raise UsageError(
            f"model {label}: is a checkpoint of Activation Beacon ({len(beacon)} weights such as {beacon[0]}), "
            f"which only its own code uses; for the method use --method beacon with an adapter, or {FLAG} to run "
            "the model without them"
        )
    raise UsageError(
        f"model {label}: {len(names)} weights of its files are not in the model, first {names[0]}: the answers "
        f"would be another model's; mend config.json, or {FLAG} to run it so and have it marked"
    )
