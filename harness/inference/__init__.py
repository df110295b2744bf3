"""The engine: KV caches, forward passes, decoding, likelihoods, and the meter that watches them."""

from typing import TYPE_CHECKING

from .._util.lazy import lazily
from ..contracts.phases import phase

if TYPE_CHECKING:
    from .decoding import decode, write
    from .eviction import kept
    from .forward import feed, moved
    from .kvcache import KVCache, OwnCache, stack
    from .likelihood import loglikelihood
    from .meter import Meter, observe
    from .queries import LastQueries
    from .stopping import end_token_ids, stop_reason

# fmt: off
__all__ = [
    "KVCache", "LastQueries", "Meter", "OwnCache", "decode", "end_token_ids", "feed", "kept", "loglikelihood", "moved",
    "observe", "phase", "stack", "stop_reason", "write",
]
# fmt: on

__getattr__ = lazily(  # most of these import torch
    __name__,
    {
        **dict.fromkeys(("KVCache", "OwnCache", "stack"), ".kvcache"),
        **dict.fromkeys(("Meter", "observe"), ".meter"),
        **dict.fromkeys(("feed", "moved"), ".forward"),
        **dict.fromkeys(("end_token_ids", "stop_reason"), ".stopping"),
        **dict.fromkeys(("decode", "write"), ".decoding"),
        "loglikelihood": ".likelihood",
        "LastQueries": ".queries",
        "kept": ".eviction",
    },
)
