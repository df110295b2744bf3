"""A layer that grows in place holds what transformers' holds, and writes over nothing that anybody was given."""

import pytest
import torch
from transformers.cache_utils import DynamicLayer

from harness import Decoding
from harness.inference import KVCache, decode, feed
from harness.inference.growing import ROOM, GrowingLayer


def entries(count, seed):
    made = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, count, 8, generator=made), torch.randn(2, 3, count, 4, generator=made)


def begun(count):
    layer = DynamicLayer()
    if count:
        layer.update(*entries(count, 0))
    return layer


@pytest.mark.parametrize("before", [0, 5])
def test_it_holds_what_transformers_layer_holds(before):
    wanted, found = begun(before), GrowingLayer.of(begun(before))
    for step in range(2 * ROOM):
        new = entries(1 + step % 3, step + 1)
        for one, other in zip(found.update(*new), wanted.update(*new)):
            assert torch.equal(one, other)
        assert found.get_seq_length() == wanted.get_seq_length()
        if step % 50 == 49:
            found.crop(-2)
            wanted.crop(-2)


def test_nothing_that_was_given_out_changes():
    first = begun(5)
    layer = GrowingLayer.of(first)
    given = [(first.keys, first.values), *(layer.update(*entries(1, step)) for step in range(ROOM + 5))]
    known = [tuple(side.clone() for side in pair) for pair in given]
    layer.update(*entries(9, 1000))
    for pair, copies in zip(given, known):
        assert all(torch.equal(side, copy) for side, copy in zip(pair, copies))


def test_entries_are_copied_once_for_many_tokens():
    layer = GrowingLayer.of(begun(5))
    places = {layer.update(*entries(1, step))[0].data_ptr() for step in range(ROOM)}
    assert len(places) == 1


def test_what_others_put_into_it_is_what_it_goes_on_from():
    layer = GrowingLayer.of(begun(5))
    layer.update(*entries(1, 1))
    layer.batch_select_indices(torch.tensor([1]))
    kept = layer.keys.clone()
    keys, _ = layer.update(*(side[:1] for side in entries(1, 2)))
    assert keys.shape == (1, 3, 7, 8)
    assert torch.equal(keys[:, :, :6], kept)


def test_answers_and_caches_are_those_of_transformers_layer(tiny, monkeypatch):
    texts = [list(range(20, 31)), list(range(40, 47))]
    rows, _ = feed(tiny.network, [KVCache(), KVCache()], texts)
    decoding = Decoding(max_new_tokens=12, min_new_tokens=12)
    kept = [row.keys[0].clone() for row in rows]
    caches, answers = decode(tiny, rows, [7, 9], decoding)
    assert all(torch.equal(row.keys[0], before) for row, before in zip(rows, kept))
    monkeypatch.setattr(GrowingLayer, "of", staticmethod(lambda layer: layer))
    plain_caches, plain_answers = decode(tiny, rows, [7, 9], decoding)
    assert answers == plain_answers
    for one, other in zip(caches, plain_caches):
        assert all(torch.equal(a, b) for a, b in zip((*one.keys, *one.values), (*other.keys, *other.values)))
