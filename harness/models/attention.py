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


class Shapes(Protocol):
    """What the layers of a cache hold where they differ (`harness.inference.uneven`)."""

    def masks(self, layer: int, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What each query sees, and what each row holds."""
        ...

    def entries(self, length: int) -> list[list[int]]:
        """For each row the entries of each layer."""
        ...


_shapes: ContextVar[Shapes | None] = ContextVar("attention_shapes", default=None)


def shapes() -> Shapes | None:
    """What the cache of the pass under way holds, where its layers or heads differ."""
    return _shapes.get()


@contextmanager
def shaped_by(found: Shapes) -> Iterator[None]:
    """Within the block every layer attends by masks of its own."""
    token = _shapes.set(found)
    try:
        yield
    finally:
        _shapes.reset(token)


ATTENTION = "harness_sdpa"
"""The name to give as ``attn_implementation``; known to transformers after `register`."""

_PLAIN = "_harness_plainly_causal"
"""On a mask of `causal_mask`: how often it had been written to when it was made."""


class AttentionProbe(Protocol):
    """What may be passed as ``network.model(..., attention_probe=probe)``, or to `harness.inference.feed`.

    One that has an attribute ``queries = n`` is handed the last n queries in place of the last one:
    ``[batch, heads, n, head_dim]`` (`harness.inference.LastQueries` is such a probe).
    """

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


class AttentionPattern(Protocol):
    """What may be passed as ``network.model(..., attention_pattern=pattern)``: who attends to what, by code."""

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """Attend in place of the layer's own attention, by `scaled` where it can.

        Keys that are not of this pass have to be told by `report`; those of the pass are.

        Parameters
        ----------
        module
            The layer's attention module.
        query
            ``[batch, heads, positions, head_dim]``, rotary embedding applied.
        key, value
            ``[batch, kv_heads, positions, head_dim]``: the pass's own, or a cache's and its own.
        scaling
            Factor of the scores.

        Returns
        -------
        Tensor
            ``[batch, positions, heads, head_dim]``.
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


def causal_mask(queries: int, keys: int, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    """Additive mask ``[1, 1, queries, keys]``: the last query sees every key, each one before it one key less.

    `attend` knows it again, and need not read it where a kernel has such a mask built in. Masked places hold the
    type's lowest finite value.
    """
    import torch

    mask = torch.full((queries, keys), torch.finfo(dtype).min, dtype=dtype, device=device)
    return marked_causal(mask.triu_(keys - queries + 1)[None, None])


def marked_causal(mask: torch.Tensor) -> torch.Tensor:
    """The same tensor, to be known again as one of `causal_mask`: it has to hold what that makes."""
    setattr(mask, _PLAIN, _written(mask))
    return mask


def _written(mask: torch.Tensor) -> int | None:
    """How often a tensor was written to in place; None where torch does not count (`torch.inference_mode`)."""
    return None if mask.is_inference() else int(mask._version)


def known_causal(mask: torch.Tensor) -> bool:
    """Whether a tensor is one of `causal_mask`, and was not written to since."""
    made = getattr(mask, _PLAIN, None)
    return made is not None and made == _written(mask)


def _built_in(query: torch.Tensor, mask: torch.Tensor) -> bool:
    """Whether a GPU's flash kernel takes the place of a mask: it has plain causal attention with an offset built in.

    An additive mask of any kind would keep attention off that kernel.
    """
    import torch

    return known_causal(mask) and query.is_cuda and query.dtype in (torch.float16, torch.bfloat16)


def _shares_heads(query: torch.Tensor) -> bool:
    """Whether a device's kernels under a mask know of heads that share keys."""
    return not query.is_cuda


def scaled(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """Attention under a mask by the fastest kernel a device has for it, without copying keys that heads share.

    Parameters
    ----------
    query
        ``[batch, heads, queries, head_dim]``.
    key, value
        ``[batch, kv_heads, keys, head_dim]``.
    mask
        ``[batch | 1, 1, queries, keys]``, boolean or additive; None: each query sees the keys up to its own, and there
        are as many of both.
    scaling
        Factor of the scores.

    Returns
    -------
    Tensor
        ``[batch, heads, queries, head_dim]``.
    """
    from torch.nn.attention.bias import causal_lower_right
    from torch.nn.functional import scaled_dot_product_attention

    from .attention_by_products import by_products, suits

    if suits(query, key, value):
        causal = mask is None or known_causal(mask)
        return by_products(query, key, value, None if causal else mask, scaling)
    heads, shared = query.shape[1], query.shape[1] // key.shape[1]
    if mask is None:
        return scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=shared > 1
        )
    if _built_in(query, mask):
        bias: Any = causal_lower_right(query.shape[2], key.shape[2])
        return scaled_dot_product_attention(query, key, value, bias, scale=scaling, enable_gqa=True)
    if shared > 1 and not _shares_heads(query):  # queries of the heads that share a key become rows
        rows = query.reshape(query.shape[0], key.shape[1], shared * query.shape[2], query.shape[3])
        found = scaled_dot_product_attention(rows, key, value, mask.repeat(1, 1, shared, 1), scale=scaling)
        return found.view(query.shape[0], heads, query.shape[2], value.shape[3])
    return scaled_dot_product_attention(query, key, value, mask, scale=scaling, enable_gqa=shared > 1)


def _plain(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    kwargs: dict[str, Any],
) -> bool:
    """Whether a layer asks for nothing but what `scaled` does.

    Single tokens are packed by transformers itself, but for those that are faster by products.
    """
    from .attention_by_products import suits

    single = query.shape[2] == 1
    if mask is not None:
        known = mask.shape[1] == 1
    else:  # each query sees the keys up to its own; torch's kernels know that by themselves
        known = single or (query.shape[2] == key.shape[2] and getattr(module, "is_causal", True))
    return (
        known
        and (not single or suits(query, key, value))
        and query.device.type in ("cpu", "cuda")
        and not dropout
        and all(kwargs.get(name) is None for name in ("position_bias", "softcap", "cache", "is_causal"))
    )


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
    attention_pattern: AttentionPattern | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers' ``sdpa`` attention gives, after handing the last query and the keys to `attention_probe`.

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
    attention_pattern
        Attends in place of what follows; None: under `attention_mask`.

    Notes
    -----
    Where layers or heads of the cache differ, each layer's mask is made here (`shaped_by`).
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    layer = int(module.layer_idx)  # type: ignore[arg-type]
    told = attention_mask
    if (own := _shapes.get()) is not None:
        attention_mask, told = own.masks(layer, query, key)
    report(module, key, told)
    if attention_probe is not None:
        last = getattr(attention_probe, "queries", None)
        attention_probe(layer, query[:, :, -1] if last is None else query[:, :, -last:], key, scaling)
    if attention_pattern is not None:
        return attention_pattern(module, query, key, value, scaling), None
    if _plain(module, query, key, value, attention_mask, dropout, kwargs):
        found = scaled(query, key, value, attention_mask, scaling)
        return found.transpose(1, 2).contiguous(), None
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
