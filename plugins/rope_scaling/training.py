"""What is trained for a longer window: the cost of a whole sequence, in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PART = 1024
"""Positions whose logits are in memory together."""


class LongTraining(torch.nn.Module):
    """Mean cost of a sequence's predicted tokens, read by the network as it is at that moment.

    Parameters
    ----------
    network
        Base model, with its frequencies turned and its LoRA (if any) hooked in.
    trained
        The module whose parameters are learnt: a `LowRank`, or `all_of` the network.
    window
        Tokens that positions may lie in, for `pose`.
    pose
        Chunks of PoSE; 0: positions as they are.
    """

    def __init__(self, network: Any, trained: torch.nn.Module, window: int, pose: int) -> None:
        super().__init__()
        self.trained = trained
        self._network = [network]  # not a part of what is saved
        self.window, self.pose = window, pose

    def forward(self, input_ids: Tensor, labels: Tensor) -> Tensor:
        """``input_ids``, ``labels`` ``[tokens]``; returns the mean cost in nats per predicted token."""
        (network,) = self._network
        device = network.device
        inputs: dict[str, Any] = {"input_ids": input_ids[None].to(device)}
        if self.pose:
            size = len(input_ids)
            inputs["position_ids"] = skipped(size, self.window, self.pose)[None].to(device)
            # Without a mask transformers takes a jump of the positions for the start of another text.
            inputs["attention_mask"] = torch.ones(1, 1, size, size, dtype=torch.bool, device=device).tril()
        hidden = network.model(**inputs, use_cache=False).last_hidden_state[0]
        wanted = (labels[1:] != -100).nonzero().squeeze(-1)
        total = hidden.new_zeros((), dtype=torch.float32)
        for part in torch.split(wanted, PART):
            goal = labels[part + 1].to(device)
            total = total + checkpoint(
                _cost, network.lm_head, hidden[part.to(device)], goal, use_reentrant=False
            )
        if not total.requires_grad:  # nothing to predict: worth nothing, but no error either
            total = total + 0.0 * sum(p.sum() for p in self.trained.parameters())
        mean: Tensor = total / max(1, len(wanted))
        return mean


def all_of(network: Any) -> torch.nn.ParameterDict:
    """All parameters of a network, each once: tied ones have two names, which no checkpoint could hold."""
    return torch.nn.ParameterDict({name.replace(".", "/"): p for name, p in network.named_parameters()})


def _cost(head: Any, hidden: Tensor, goal: Tensor) -> Tensor:
    return F.cross_entropy(head(hidden).float(), goal, reduction="sum")


def skipped(tokens: int, window: int, chunks: int) -> Tensor:
    """Positions of a sequence cut into chunks at random, each moved on by a jump of its own (PoSE, arXiv 2309.10400).

    The first chunk begins at 0, positions only rise, and none reaches `window`; each jump is drawn evenly from what
    the ones before it left. Draws come from torch's global generator, whose state is part of a checkpoint.
    """
    positions = torch.arange(tokens)
    cuts = sorted((torch.randperm(max(0, tokens - 1))[: chunks - 1] + 1).tolist())
    before = 0
    for start in cuts:
        jump = int(torch.randint(before, max(before, window - tokens) + 1, ()))
        positions[start:] += jump - before
        before = jump
    return positions


@contextmanager
def recomputing(network: Any, wanted: bool) -> Iterator[None]:
    """While it lasts each layer keeps its input only, and is run again for its gradients; then as it was."""
    with ExitStack() as undo:
        for layer in network.model.layers if wanted else ():
            own = layer.forward

            def again(*args: Any, _own: Any = own, **kwargs: Any) -> Any:
                return checkpoint(_own, *args, use_reentrant=False, **kwargs)

            layer.forward = again
            undo.callback(delattr, layer, "forward")
        yield
