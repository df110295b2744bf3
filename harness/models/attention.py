"""Scaled-dot-product attention that a method may listen to.

Some methods need to know what the last token of a forward pass attends to. Asking the model for its
attention weights would materialise ``[batch, heads, queries, keys]`` in every layer and switch the fast
kernels off, so instead the forward may carry a callable, and each layer hands it the one query and the keys
it needs. It travels as an ordinary keyword of the forward: nothing is left on the modules between samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    Listener = Callable[[int, torch.Tensor, torch.Tensor | None], None]

_listener: ContextVar[Listener | None] = ContextVar("attention_listener", default=None)

ATTENTION = "harness_sdpa"
"""The name to give as ``attn_implementation``; known to transformers after `register`."""


class AttentionProbe(Protocol):
    """What may be passed as ``network.model(..., attention_probe=probe)``."""

    def __call__(self, layer: int, query_last: torch.Tensor, key: torch.Tensor, scaling: float) -> None:
        """Called by every layer, in order, before it attends.

        Parameters
        ----------
        layer
            Index of the layer, from 0.
        query_last
            Query of the last position of the pass, rotary embedding applied: ``[batch, heads, head_dim]``.
            With padding on the right the last position of a shorter sample is padding.
        key
            Keys of everything in reach, cache included, rotary embedding applied:
            ``[batch, kv_heads, keys, head_dim]``. Query head ``h`` reads KV head ``h * kv_heads // heads``.
        scaling
            Factor of the scores: the weights are ``softmax(query @ key * scaling)``.
        """
        ...


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Within the block `listener` is told of every layer's attention: (layer, keys, mask); see `report`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(module: torch.nn.Module, key: torch.Tensor, mask: torch.Tensor | None) -> None:
    """Tell whoever measures what a layer is about to attend to.

    An attention function of a method's own has to call this, or what its answers read counts as declared.

    Parameters
    ----------
    module
        The layer's attention module.
    key
        ``[batch, kv_heads, keys, head_dim]``: all keys it will attend to.
    mask
        ``[batch | 1, heads | 1, queries, keys]``, additive or boolean; None: no padding.
    """
    listener = _listener.get()
    if listener is not None:
        listener(int(module.layer_idx), key, mask)  # type: ignore[arg-type]


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    *,
    scaling: float,
    attention_probe: AttentionProbe | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' ``sdpa`` attention, after handing the last query and the keys to `attention_probe`.

    Parameters
    ----------
    module
        The layer's attention module; its ``layer_idx`` is what the probe is told.
    query
        ``[batch, heads, queries, head_dim]``, rotary embedding applied.
    key, value
        ``[batch, kv_heads, keys, head_dim]``, cache included.
    attention_mask
        As transformers' ``sdpa_mask`` builds it, or None for plain causal attention.
    dropout
        As transformers passes it; by place too, where another package has wrapped the function.
    scaling
        Factor of the scores before the softmax.
    attention_probe
        Called with ``(layer, query_last, key, scaling)``; None: nobody listens.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    report(module, key, attention_mask)
    if attention_probe is not None:
        attention_probe(int(module.layer_idx), query[:, :, -1], key, scaling)  # type: ignore[arg-type]
    output: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout, scaling=scaling, **kwargs
    )
    return output


def register() -> None:
    """Make `ATTENTION` known to transformers, with the masks of ``sdpa``. Repeating it changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
