"""What a run may hold in memory when an answer begins: a number of KV entries, or bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
MOST = 2**40
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(KiB|MiB|GiB)?", re.IGNORECASE)
_NUMBER_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Budget:
    """``--budget``: one of the two numbers is set.

    Attributes
    ----------
    entries
        KV entries of a sample, the mean over layers.
    size
        Bytes of a sample's KV cache.
    """

    entries: int | None = None
    size: int | None = None

    @classmethod
    def parse(cls, text: int | str) -> Budget:
        """``1024`` or ``16MiB``. Raises UsageError for anything else."""
        found = _FORM.fullmatch(str(text).strip())
        if found is None:
            raise UsageError(f"--budget {text}: give KV entries (1024) or bytes (64KiB, 16MiB, 1GiB)")
        number, unit = found.groups()
        if unit is None and "." in number:
            raise UsageError(f"--budget {text}: KV entries are a whole number; bytes have a unit (1.5MiB)")
        scale = (
            1 if unit is None else next(size for name, size in UNITS.items() if name.lower() == unit.lower())
        )
        value = int(float(number) * scale) if "." in number else int(number) * scale
        if not 1 <= value <= MOST:
            raise UsageError(f"--budget {text}: must be at least 1 and at most {MOST:,}")
        return cls(entries=value) if unit is None else cls(size=value)


def entry_bytes(config: PretrainedConfig, dtype: str) -> int:
    """Bytes of one KV entry over all layers: a key and a value for each KV head, in the model's type."""
    heads = int(config.num_attention_heads)
    head = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    groups = int(getattr(config, "num_key_value_heads", None) or heads)
    return 2 * int(config.num_hidden_layers) * groups * head * _NUMBER_BYTES[dtype]
