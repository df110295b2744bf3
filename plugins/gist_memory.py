"""What `gist` learns, how a segment becomes memory by it, and the cost that it is learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from harness import UsageError
from harness.inference import KVCache, feed, moved
from harness.models.sharding import row

from .low_rank import LowRank

if TYPE_CHECKING:
    from harness.models import LanguageModel

TOKENS = "memory_tokens"


class Memory(torch.nn.Module):
    """Embeddings of the memory tokens ``[memory, hidden]``, and the LoRA by which the model writes their entries.

    Parameters
    ----------
    tensors
        What `tensors` gave; None: before training (end tokens, a LoRA that adds nothing).

    Raises
    ------
    UsageError
        If a tensor is missing, or has another shape than model, `memory` and `rank` ask for.
    """

    def __init__(
        self, model: LanguageModel, memory: int, rank: int, tensors: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        network: Any = model.network
        table = network.get_input_embeddings().weight
        if tensors is None:
            tokens = row(table, model.end_ids[0]).detach().float().repeat(memory, 1)
            others = None
        else:
            if TOKENS not in tensors or tensors[TOKENS].shape != (memory, table.shape[1]):
                raise UsageError(f"the adapter has no {memory} memory tokens of this model's width")
            tokens = tensors[TOKENS].float()
            others = {name: tensor for name, tensor in tensors.items() if name != TOKENS}
        self.tokens = Parameter(tokens.to(network.device))
        self.lora = LowRank(network, rank, float(rank), others)
        self.requires_grad_(False)

    def tensors(self) -> dict[str, Tensor]:
        """Everything by the names the constructor takes."""
        return {TOKENS: self.tokens, **self.lora.tensors()}


def condense(network: Any, weights: Memory, cache: KVCache, segment: Sequence[int], memory: int) -> KVCache:
    """`cache` with the entries of the first so many memory tokens, read after it and the segment, at its end."""
    ids = torch.as_tensor(list(segment), device=network.device)
    embedded = network.get_input_embeddings()(ids)
    with weights.lora.added(network.model):
        [after], _ = feed(network, [cache], [torch.cat((embedded, weights.tokens[:memory].to(embedded)))])
    written = after.slice(len(after) - memory, len(after))
    return cache.append(moved(network, written, torch.full((memory,), -len(segment))))


class GistTraining(torch.nn.Module):
    """Mean cost of a sequence's tokens from its second segment on, each segment read after the memory of those before.

    Parameters
    ----------
    network
        The base model, which stays as it is and reads segments without the LoRA.
    nested
        Whether the number of memory tokens is drawn for each sequence: all of them, half, a quarter ...
    """

    def __init__(self, network: Any, weights: Memory, segment: int, nested: bool) -> None:
        super().__init__()
        self.weights = weights
        self._network = [network]  # not a part of what is saved
        self.segment, self.nested = segment, nested

    def forward(self, input_ids: Tensor, labels: Tensor) -> Tensor:
        """``input_ids``, ``labels`` ``[tokens]``; returns the mean cost in nats per predicted token."""
        (network,) = self._network
        memory = len(self.weights.tokens)
        if self.nested:  # from torch's global generator: its state is in the checkpoints
            memory = max(1, memory >> int(torch.randint(memory.bit_length(), ())))
        cache, count = KVCache(), 0
        total = 0.0 * self.weights.tokens.sum()
        starts = range(0, len(input_ids), self.segment)
        for start in starts:
            ids = input_ids[start : start + self.segment].tolist()
            if start:
                _, [hidden] = feed(network, [cache], [ids])
                wanted = labels[start + 1 : start + len(ids)].to(hidden.device)
                at = (wanted != -100).nonzero().squeeze(-1)
                total = total + F.cross_entropy(
                    network.lm_head(hidden[at]).float(), wanted[at], reduction="sum"
                )
                count += len(at)
            if start != starts[-1]:
                cache = condense(network, self.weights, cache, ids, memory)
        return total / max(1, count)
