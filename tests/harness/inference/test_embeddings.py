"""Embeddings as input: memory tokens are positions and entries like any other."""

import torch

from harness import Decoding
from harness.inference import KVCache, decode, feed, observe


def test_embeddings_of_tokens_are_the_tokens(tiny):
    ids = [[5, 6, 7, 8, 9], [11, 12]]
    table = tiny.network.get_input_embeddings().weight
    with torch.no_grad():
        plain, one = feed(tiny.network, [KVCache()] * 2, ids)
        given, other = feed(tiny.network, [KVCache()] * 2, [table[ids[0]], ids[1]])
    assert torch.allclose(one[:, -2:], other[:, -2:], atol=1e-5)
    for a, b in zip(plain, given):
        assert len(a) == len(b) and all(torch.allclose(x, y, atol=1e-5) for x, y in zip(a.keys, b.keys))


def test_memory_tokens_are_counted_and_decoded_from(tiny):
    memory = torch.randn(6, tiny.config.hidden_size, generator=torch.Generator().manual_seed(0))
    with observe(tiny.network, tiny.device, 1) as meter, torch.no_grad():
        [cache], _ = feed(tiny.network, [KVCache()], [memory])
        [cache], _ = feed(tiny.network, [cache], [[5, 6]])
        decode(tiny, [cache], [7], Decoding(3))
    assert len(cache) == 8 and meter.started == [8] and meter.positions == 6 + 2 + 3
