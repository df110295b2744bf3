"""Which floating-point type a model computes in when the user leaves it open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

DTYPES = ("float32", "bfloat16", "float16")
NARROW = 512
"""Hidden size below which a processor is no faster in bfloat16.

Measured with one thread of an Intel Xeon with AMX: a linear layer of 512 inputs takes the same time for one
token in both types, a narrower one up to ten times as long in bfloat16.
"""


def automatic(device: str, config: PretrainedConfig) -> str:
    """What ``--dtype auto`` means: bfloat16 where it is computed natively and pays, else float32.

    Parameters
    ----------
    device
        As torch writes it, checked.
    config
        The model's configuration: on a CPU a model narrower than `NARROW` stays in float32.
    """
    kind = device.partition(":")[0]
    if not native_bfloat16(kind) or (kind == "cpu" and config.hidden_size < NARROW):
        return "float32"
    return "bfloat16"


def processor_has(feature: str) -> bool:
    """Whether torch says that the processor has ``amx_tile``, ``avx512_bf16`` ..."""
    import torch

    # Not part of torch's public interface: a release without them says no more than "unknown".
    return bool(getattr(torch.cpu, f"_is_{feature}_supported", bool)())


def native_bfloat16(kind: str) -> bool:
    """Whether a kind of device multiplies bfloat16 matrices in hardware: of CPUs those with AMX or
    AVX512-BF16, of NVIDIA's GPUs those since Ampere."""
    import torch

    if kind == "cpu":
        return processor_has("amx_tile") or processor_has("avx512_bf16")
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    module: Any = getattr(torch, kind, None)
    asked = getattr(module, "is_bf16_supported", None)
    return bool(asked()) if callable(asked) else False
