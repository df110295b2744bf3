"""The engine: KV caches, forward passes, decoding, likelihoods, and the meter that watches them."""

from ..contracts.phases import phase
from .decoding import decode
from .forward import feed, moved
from .kvcache import KVCache, stack
from .likelihood import loglikelihood
from .meter import Meter, observe
from .stopping import end_token_ids, stop_reason

# fmt: off
__all__ = [
    "KVCache", "Meter", "decode", "end_token_ids", "feed", "loglikelihood", "moved", "observe", "phase",
    "stack", "stop_reason",
]
# fmt: on
