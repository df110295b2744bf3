"""The two kinds of beacon weights, as what is trained, stored and loaded: `beacon` (MHA^b) and `lora_experts`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness import UsageError
from harness.models import adapters

from ..low_rank import PROJECTIONS, places
from .adapter_card import Kind, trained_ratios
from .form import PAPERS_START, Start
from .lora_projections import EMBEDDING, Expert, LoraExperts
from .projections import MultiHeadBeacon

if TYPE_CHECKING:
    from harness.models import LanguageModel

FILE = "weights.safetensors"
_PEFT = "base_model.model.model."


def read_weights(kind: Kind, folder: Path, model: LanguageModel, *, learn: bool = False) -> torch.nn.Module:
    """The weights in an adapter folder that `adapters.check` has passed.

    Raises
    ------
    UsageError
        If a file is missing or does not fit the model.
    """
    if kind == "beacon":
        return MultiHeadBeacon(model.network, adapters.read(folder, FILE), learn=learn)
    card = adapters.read_card(folder)
    if bad := [n for n in ("rank", "lora_alpha") if not isinstance(card.get(n), int | float) or card[n] <= 0]:
        raise UsageError(f"--adapter {folder}: its card has no number {bad[0]!r}")
    found = {}
    for ratio in trained_ratios(kind, folder) or ():
        tensors = {
            name.removeprefix(_PEFT): t
            for name, t in adapters.read(folder, f"expert-{ratio}/adapter_model.safetensors").items()
        }
        tensors |= adapters.read(folder, f"expert-{ratio}/{EMBEDDING}.safetensors")
        try:
            found[ratio] = Expert(model.network, card["rank"], card["lora_alpha"], tensors)
        except UsageError as error:
            raise UsageError(f"--adapter {folder}: ratio {ratio}: {error}") from None
    experts = LoraExperts(found)
    return experts.requires_grad_(learn)


def untrained(model: LanguageModel, start: Start = PAPERS_START) -> MultiHeadBeacon:
    """The state before training, which is the same for both kinds: the model's own projections."""
    return MultiHeadBeacon(model.network, start=start)


def new_experts(
    model: LanguageModel, ratios: Sequence[int], rank: int, alpha: float, start: Start = PAPERS_START
) -> LoraExperts:
    """Experts that add nothing yet, one a ratio."""
    return LoraExperts({r: Expert(model.network, rank, alpha, start=start) for r in ratios})


def write_weights(
    folder: Path,
    weights: torch.nn.Module,
    model: LanguageModel,
    facts: dict[str, Any],
    dtype: torch.dtype,
    *,
    method: str | None = None,
    texts: dict[str, str] | None = None,
) -> None:
    """Write weights as an adapter folder: `MultiHeadBeacon` by the official names, experts as PEFT has them.

    Each expert is a folder of its own that ``peft.PeftModel.from_pretrained`` takes, with the beacon embedding
    beside it (PEFT has no place for one).
    """
    if isinstance(weights, MultiHeadBeacon):
        files = {FILE: _cast(weights.tensors(model.network), dtype)}
        adapters.write(folder, method or "beacon", model, files, facts, texts)
        return
    assert isinstance(weights, LoraExperts)
    files, configs = {}, dict(texts or {})
    for ratio in weights.ratios:
        expert = weights.expert(ratio)
        tensors = _cast(expert.tensors(), dtype)
        files[f"expert-{ratio}/{EMBEDDING}.safetensors"] = {EMBEDDING: tensors.pop(EMBEDDING)}
        files[f"expert-{ratio}/adapter_model.safetensors"] = {f"{_PEFT}{k}": t for k, t in tensors.items()}
        configs[f"expert-{ratio}/adapter_config.json"] = _peft_config(expert, model)
    shape = {"experts": list(weights.ratios), "rank": expert.rank, "lora_alpha": expert.alpha}
    adapters.write(folder, method or "lora_experts", model, files, {**facts, **shape}, configs)


def _cast(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: t.detach().to(dtype) for name, t in tensors.items()}


def _peft_config(expert: Expert, model: LanguageModel) -> str:
    from peft import LoraConfig

    config = LoraConfig(
        r=expert.rank,
        lora_alpha=expert.alpha,
        target_modules=list(PROJECTIONS),
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=model.name,
        inference_mode=True,
    ).to_dict()
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    return json.dumps(plain, indent=2, sort_keys=True, default=str) + "\n"


LLAMA_2 = {  # hidden width, MLP width, layers, heads: of the published configurations
    "Llama-2-7B": (4096, 11008, 32, 32),
    "Llama-2-13B": (5120, 13824, 40, 40),
}


def parameter_table(network: Any, name: str, ratios: Sequence[int], rank: int) -> list[dict[str, Any]]:
    """Trained parameters of both kinds on this model and on the papers', whose weights are not needed.

    A row for each model: ``model, base, beacon, lora_experts`` (all the experts of `ratios` together).
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    rows = [_counted(name, network, ratios, rank)]
    for paper, (hidden, mlp, layers, heads) in LLAMA_2.items():
        config = LlamaConfig(
            hidden_size=hidden,
            intermediate_size=mlp,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            vocab_size=32000,
        )
        with torch.device("meta"):  # shapes without storage
            rows.append(_counted(paper, LlamaForCausalLM(config), ratios, rank))
    return rows


def _counted(name: str, network: Any, ratios: Sequence[int], rank: int) -> dict[str, Any]:
    shapes = places(network).values()
    hidden = network.config.hidden_size
    return {
        "model": name,
        "base": sum(p.numel() for p in network.parameters()),
        "beacon": hidden + sum(i * o for i, o in shapes),
        "lora_experts": len(ratios) * (hidden + sum(rank * (i + o) for i, o in shapes)),
    }
