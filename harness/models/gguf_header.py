"""What a GGUF file says of its model: every key and tensor is known, and reaches the configuration, or is refused.

Transformers reads the keys it knows and is silent about the rest: scaled rotary positions, for one. Here a key
stands in one of the lists below, or the file is not run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError

ABOUT = ("GGUF.", "general.", "tokenizer.", "quantize.", "imatrix.", "split.", "mradermacher.", "training.")
"""Prefixes of keys that say who made the file and how, or belong to the tokenizer, and change no pass."""

SIZES = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "vocab_size": "vocab_size",
    "rope.dimension_count": "head_dim",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
}
"""Keys of an architecture, and the entry of the configuration that must be equal to each."""

ROPE = {
    f"rope.{name}"
    for name in ("freq_base", "scale_linear", "scaling.type", "scaling.factor", "scaling.finetuned")
} | {f"rope.scaling.{name}" for name in ("original_context_length", "yarn_beta_fast", "yarn_beta_slow")}

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "rope.scaling.attn_factor": (0.0, 1.0),
    "rope.scaling.yarn_attn_factor": (1.0,),
    "rope.scaling.yarn_ext_factor": (1.0,),
    "rope.scaling.yarn_log_multiplier": (0.0,),
    "tensor_data_layout": ("Meta AI original pth", "reference"),
    "use_parallel_residual": (False,),
}
"""Keys that change a pass unless they have one of these values."""

FREQUENCIES = "rope_freqs.weight"
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What all Llama 3 models are scaled by, besides the factor itself."""


class Header:
    """The keys of a file, and the names of its tensors."""

    def __init__(self, path: Path) -> None:
        from gguf import GGUFReader

        reader = GGUFReader(path)
        self.path = path
        self.fields: dict[str, Any] = {}
        for name, field in reader.fields.items():
            if not name.startswith("tokenizer."):  # whole vocabularies
                self.fields[name] = field.contents()
        self.architecture = str(self.fields.get("general.architecture", ""))
        prefix = f"{self.architecture}."
        self.own = {k.removeprefix(prefix): v for k, v in self.fields.items() if k.startswith(prefix)}
        self.tensors = [str(tensor.name) for tensor in reader.tensors]
        self.factors: list[float] = next(
            ([float(x) for x in tensor.data] for tensor in reader.tensors if tensor.name == FREQUENCIES), []
        )

    def refuse(self, what: str) -> UsageError:
        """One line that names the file."""
        return UsageError(f"{self.path}: {what}; give the model as a folder of safetensors")

    def check_keys(self) -> None:
        """Refuse a key that is not known, or that asks for something transformers would not do."""
        if self.fields.get("general.type", "model") != "model":
            raise self.refuse(f"holds a {self.fields['general.type']}, not a model")
        if int(self.fields.get("split.count", 0)) > 1:
            raise self.refuse(f"is one of {self.fields['split.count']} parts")
        prefix = f"{self.architecture}."
        for name, value in self.fields.items():
            key = name.removeprefix(prefix) if name.startswith(prefix) else None
            if key in NEUTRAL:
                if value not in NEUTRAL[key]:
                    raise self.refuse(f"{name} = {value} is not supported")
            elif key in SIZES or key in ROPE or (key is None and name.startswith(ABOUT)):
                continue
            else:
                raise self.refuse(f"the key {name} is not known, and may change answers")

    def check_sizes(self, config: Mapping[str, Any]) -> None:
        """Refuse a configuration that is not what the file says."""
        heads = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        for key, entry in SIZES.items():
            if key not in self.own:
                continue
            found = heads if entry == "head_dim" else config.get(entry)
            if found is None or not math.isclose(float(self.own[key]), float(found), rel_tol=1e-6):
                raise self.refuse(
                    f"{self.architecture}.{key} is {self.own[key]}, but transformers reads {found}"
                )

    def check_tensors(self, names: Iterable[str], layers: int) -> None:
        """Refuse tensors that none of the model's weights (`names`, those of transformers) is read from."""
        from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

        architecture = next(k for k, v in MODEL_ARCH_NAMES.items() if v == self.architecture)
        known = get_tensor_name_map(architecture, layers)
        read = {known.get_name(name, (".weight", ".bias")) for name in names} | {FREQUENCIES}
        if unused := sorted(set(self.tensors) - read):
            raise self.refuse(
                f"{len(unused)} of its tensors are not part of the model, first {unused[0]}: its answers "
                "would be others"
            )

    def rope(self, base: float, head_dim: int) -> dict[str, Any] | None:
        """The rotary parameters of the file as transformers names them; None: unscaled.

        As llama.cpp has it: without a type a factor is linear, and without an original length YaRN starts from
        the context length.
        """
        kind = str(self.own.get("rope.scaling.type", "linear"))
        factor = float(self.own.get("rope.scaling.factor", self.own.get("rope.scale_linear", 0)) or 1.0)
        if kind not in ("none", "linear", "yarn"):
            raise self.refuse(f"{self.architecture}.rope.scaling.type = {kind} is not supported")
        if self.factors and any(abs(x - 1) > 1e-6 for x in self.factors):
            if factor != 1:
                raise self.refuse(f"has both {FREQUENCIES} and rope.scaling.factor")
            return self._llama3(base, head_dim)
        if kind == "none" or factor == 1:
            return None
        if kind == "linear":
            return {"rope_type": "linear", "rope_theta": base, "factor": factor}
        original = int(self.own.get("rope.scaling.original_context_length") or self.own["context_length"])
        found = {"rope_type": "yarn", "rope_theta": base, "factor": factor}
        found["original_max_position_embeddings"] = original
        for name in ("beta_fast", "beta_slow"):
            if (value := self.own.get(f"rope.scaling.yarn_{name}")) is not None:
                found[name] = float(value)
        return found

    def _llama3(self, base: float, head_dim: int) -> dict[str, Any]:
        """The Llama 3 parameters that give the file's factors. Raises UsageError if none do."""
        factor = max(self.factors)
        found = {"rope_type": "llama3", "rope_theta": base, "factor": factor, **LLAMA3}
        given = llama3_factors(found, head_dim)
        close = len(given) == len(self.factors) and all(
            math.isclose(a, b, rel_tol=1e-3) for a, b in zip(given, self.factors)
        )
        if not close:
            raise self.refuse(f"{FREQUENCIES} scales rotary positions in a way that is not Llama 3's")
        return found


def llama3_factors(rope: Mapping[str, Any], head_dim: int) -> list[float]:
    """What each frequency is divided by under Llama 3 scaling, from the highest frequency to the lowest."""
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    original, found = float(rope["original_max_position_embeddings"]), []
    for i in range(0, head_dim, 2):
        wave = 2 * math.pi * float(rope["rope_theta"]) ** (i / head_dim)
        smooth = min(1.0, max(0.0, (original / wave - low) / (high - low)))
        found.append(1 / ((1 - smooth) / float(rope["factor"]) + smooth))
    return found
