"""`quantized`: the whole text's KV entries, in fewer bits.

Transformers' own `QuantizedCache`: 8 bits by its fp8 backend (one scale a tensor), 4 and 2 bits by optimum-quanto, in
groups, the newest entries in full precision, after KIVI: Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization
for KV Cache", https://arxiv.org/abs/2402.02750. Memory is really saved: the bytes are measured, scales included.
Entries are not fewer.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Hashable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness import Decoding, Generation, Method, Options, UsageError
from harness.contracts.budget import entry_bytes
from harness.errors import NotInstalled

from ._budget import Condensed, answer

if TYPE_CHECKING:
    from torch import Tensor

    from harness.inference import KVCache
    from harness.models import LanguageModel

FP8, QUANTO = "fp8", "quanto"
SCALES = 4
"""Bytes of scale and shift of a group, in 16 bits each; of 32-bit models twice that."""


class QuantizedOptions(Options):
    """Options of `Quantized`."""

    bits: Literal["8", "4", "2"] = Field(
        "4", description="bits of a number that is kept: 8 (fp8), 4 or 2 (quanto)"
    )
    group: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="numbers that share a scale, for 4 and 2 bits; default: 64, or less if that divides no entry",
    )
    recent: int = Field(
        128,
        ge=1,
        description="newest entries kept in full precision until so many are there, for 4 and 2 bits",
    )


class Quantized(Method):
    """Read the text as it is, and keep its entries in 8, 4 or 2 bits.

    The text is read in full precision; what it leaves is quantised at once, and each later pass reads the entries
    unpacked. With 4 and 2 bits new entries stay in full precision until there are ``recent`` of them, and then all are
    quantised anew. With ``--budget`` the prompt is cut as for `plain`: a budget in bytes holds so many more tokens.
    """

    Options = QuantizedOptions
    options: QuantizedOptions
    aims = True

    def __init__(self, model: LanguageModel, options: Any) -> None:
        super().__init__(model, options)
        if self._backend == QUANTO and not _quanto():
            raise NotInstalled(
                f"method quantized: --bits {self.options.bits} needs optimum-quanto: "
                "pip install 'long-context-harness[quantized]' (--bits 8 needs nothing)"
            )

        numbers = entry_bytes(model.config, "float16") // 4 // int(model.config.num_hidden_layers)
        self.group = self.options.group or next((g for g in (64, 32, 16) if numbers % g == 0), 8)
        if self._backend == QUANTO and numbers % self.group:
            raise UsageError(
                f"method quantized: --group {self.group} does not divide the {numbers} numbers of a layer's entry in "
                f"{model.name}; give a divisor of it"
            )

    @property
    def _backend(self) -> str:
        return FP8 if self.options.bits == "8" else QUANTO

    def identity(self) -> dict[str, Any]:
        """The version of what quantises."""
        from importlib import metadata

        return {} if self._backend == FP8 else {"optimum-quanto": metadata.version("optimum-quanto")}

    def prompt_limit(self) -> int | None:
        """With ``--budget`` the prompt is cut to it, by the task's rule."""
        return self.budget

    def entries_within(self, size: int) -> int:
        """Entries that so many bytes hold in these bits; those of 4 and 2 bits leave room for the newest ones."""
        entry = entry_bytes(self.model.config, self.model.dtype)
        width = {"float32": 4}.get(self.model.dtype, 2)
        numbers = entry // width
        if self._backend == FP8:
            return size // numbers
        packed = numbers * int(self.options.bits) / 8 + numbers / self.group * SCALES * width / 2
        return int((size - self.options.recent * entry) / packed)

    def share_key(self, context: int, reserve: int, decoding: Decoding) -> Hashable:
        """Nothing but the context decides what its cache holds."""
        return None

    def compress(
        self, contexts: Sequence[Sequence[int]], reserve: Sequence[int], decoding: Decoding
    ) -> list[Condensed]:
        """The quantised cache of each context."""
        import torch

        from harness.contracts import phase
        from harness.inference import KVCache, feed

        states, said = [], {"bits": int(self.options.bits)}
        for context in contexts:
            if not context:
                states.append(Condensed(KVCache(), 0, said))
                continue
            with phase("prefill"), torch.no_grad():
                [cache], _ = feed(self.model.network, [self._empty()], [context])
            states.append(Condensed(cache, len(context), said))
        return states

    def _empty(self) -> KVCache:
        from transformers import QuantizedCache

        from harness.inference import OwnCache

        packing: dict[str, int] = {}
        if self._backend == QUANTO:
            _spare_the_compiler(self.model.device)
            packing = {
                "nbits": int(self.options.bits),
                "q_group_size": self.group,
                "residual_length": self.options.recent,
            }
        try:
            return OwnCache(cache=QuantizedCache(self._backend, self.model.network.config, **packing))
        except (ImportError, ValueError, TypeError) as error:
            why = " ".join(str(error).split())[:200]
            raise UsageError(f"method quantized: transformers cannot make its cache here: {why}") from error

    def generate(
        self, states: Sequence[Condensed], questions: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[Generation]:
        return answer(self.model, states, questions, decoding, shortens=False)


def _spare_the_compiler(device: str) -> None:
    """Let optimum-quanto unpack by torch's operations where its extension would first have to be compiled.

    For the CPU the extension is the same operations, but takes a minute and a C++ compiler at first use; a GPU's own
    kernel is compiled where nvcc is there to do it.
    """
    from optimum.quanto.library.extensions.extension import get_extension  # type: ignore[import-untyped]
    from torch.utils.cpp_extension import CUDA_HOME

    on_gpu = device.startswith("cuda")
    if on_gpu and CUDA_HOME is not None:
        return
    extension = get_extension("quanto_cuda" if on_gpu else "quanto_cpp")
    if extension._lib is None:
        extension._lib = SimpleNamespace(unpack=unpack)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Numbers of 4 or 2 bits out of the bytes that hold two or four of them, as ``quanto::unpack`` orders them.

    Parameters
    ----------
    packed
        ``uint8``, of shape ``[rows, ...]``; the result has ``[rows * 8 // bits, ...]``.
    """
    import torch

    return torch.cat([(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)])


def _quanto() -> bool:
    """Whether optimum-quanto is installed."""
    try:
        return importlib.util.find_spec("optimum.quanto") is not None
    except ModuleNotFoundError:
        return False
