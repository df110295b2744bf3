"""Caches whose layers and heads differ: read, decoded, stacked, scored and measured as what they are."""

from functools import partial

import pytest
import torch

import harness
from harness import Decoding, Prompt
from harness.contracts import phase
from harness.errors import MeasurementError
from harness.inference import KVCache, LastQueries, decode, feed, kept, stop_reason
from harness.plugins.kvpress_bridge.attention import attention
from harness.prompts import tokenize
from harness.testing import check_method, tiny_model


def text_of(model):
    return tokenize(
        Prompt("Read. ", "the sky is blue and the sun is yellow " * 8, " Where is it?"), model
    ).ids


@pytest.fixture(scope="module")
def read(tiny):
    """A text's cache, and the tokens after it."""
    ids = text_of(tiny)
    with torch.no_grad():
        [cache], _ = feed(tiny.network, [KVCache()], [ids[:60]])
    return cache, list(ids[60:72])


def hidden_states(model, caches, tokens):
    with torch.no_grad():
        found, hidden = feed(model.network, caches, [tokens] * len(caches))
    return found, hidden


def some(cache, keep):
    """``keep(layer, head)`` says how many of the newest entries stay, beside the first two."""
    n = len(cache)
    return [
        [torch.tensor([0, 1, *range(n - keep(layer, head), n)]) for head in range(keys.shape[0])]
        for layer, keys in enumerate(cache.keys)
    ]


def pyramid(layer, head):
    return 40 - 9 * layer - 4 * head


def masked(cache, chosen):
    """The same choice, but what goes is only hidden."""
    unseen = []
    for layer in chosen:
        gone = torch.ones(len(layer), len(cache), dtype=torch.bool)
        for head, ranks in enumerate(layer):
            gone[head, ranks] = False
        unseen.append(gone)
    return KVCache(cache.keys, cache.values, tuple(unseen))


def test_nothing_hidden_is_an_ordinary_cache(tiny, read):
    cache, tokens = read
    odd = KVCache(
        cache.keys, cache.values, tuple(torch.zeros(k.shape[:2], dtype=torch.bool) for k in cache.keys)
    )
    (plain, one), (same, other) = (hidden_states(tiny, [c], tokens) for c in (cache, odd))
    assert torch.allclose(one, other, atol=1e-5)
    for a, b in zip(plain[0].keys, same[0].keys):
        assert torch.allclose(a, b, atol=1e-5)
    (_, [first]), (_, [second]) = (decode(tiny, [c], [tokens[0]], Decoding(6)) for c in (cache, odd))
    assert first == second


def test_what_is_dropped_is_as_if_it_were_hidden(tiny, read):
    cache, tokens = read
    chosen = some(cache, pyramid)
    dropped, hidden = kept(tiny.network, cache, chosen, gaps=True), masked(cache, chosen)
    assert [k.shape[1] for k in dropped.keys] == [42 - 9 * layer for layer in range(len(cache.keys))]
    assert not dropped.even and dropped.entries < hidden.entries == len(cache)
    (_, one), (_, other) = (hidden_states(tiny, [c], tokens) for c in (dropped, hidden))
    assert torch.allclose(one, other, atol=1e-4)
    (_, [first]), (_, [second]) = (decode(tiny, [c], [tokens[0]], Decoding(8)) for c in (dropped, hidden))
    assert first == second


def test_entries_close_up_to_their_new_ranks(tiny, read):
    cache, tokens = read
    short = [[torch.arange(10, 60)] * k.shape[0] for k in cache.keys]
    closed = kept(tiny.network, cache, short)
    with torch.no_grad():  # a first layer's entries depend on nothing but their token and rank
        [fresh], _ = feed(tiny.network, [KVCache()], [tokens])
        [moved], _ = feed(tiny.network, [closed], [tokens])
    assert len(closed) == 50 and not closed.hidden(0).any()
    [alike] = [
        kept(tiny.network, c, [[torch.arange(len(c))] * k.shape[0] for k in c.keys]) for c in (closed,)
    ]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(alike.keys, closed.keys))
    assert len(fresh) == len(tokens) and len(moved) == 50 + len(tokens)


def test_rows_of_any_shape_stack(tiny, read):
    cache, tokens = read
    rows = [
        kept(tiny.network, cache, some(cache, pyramid)),
        cache,
        kept(tiny.network, cache, some(cache, lambda layer, head: 5 + 7 * layer + head)),
        KVCache(),
    ]
    together, hidden = hidden_states(tiny, rows, tokens)
    _, answers = decode(tiny, rows[:3], tokens[:3], Decoding(6))
    for i, row in enumerate(rows):
        [alone], one = hidden_states(tiny, [row], tokens)
        assert torch.allclose(hidden[i], one[0], atol=1e-4) and alone.entries == together[i].entries
        if i < 3:
            assert decode(tiny, [row], [tokens[i]], Decoding(6))[1] == [answers[i]]
    longer, shorter = feed(tiny.network, rows[:2], [tokens, tokens[:3]])[0]
    assert longer.entries == rows[0].entries + len(tokens) and len(shorter) == len(cache) + 3


class Pyramid(harness.Method):
    """Another number of entries in each layer and head."""

    hide = False
    lie = 0

    def compress(self, contexts, reserve, decoding):
        states = []
        for ids in contexts:
            with torch.no_grad():
                [cache], _ = feed(self.model.network, [KVCache()], [ids])
            chosen = some(cache, pyramid)
            states.append(masked(cache, chosen) if self.hide else kept(self.model.network, cache, chosen))
        return [(state, len(ids)) for state, ids in zip(states, contexts)]

    def generate(self, states, questions, decoding):
        with phase("prefill"), torch.no_grad():
            caches, _ = feed(self.model.network, [s for s, _ in states], [q[:-1] for q in questions])
        with phase("decode"):
            _, answers = decode(self.model, caches, [q[-1] for q in questions], decoding)
        return [
            harness.Generation(
                self.model.tokenizer.decode(a, skip_special_tokens=True),
                a,
                stop_reason(self.model, decoding, a),
                read + len(q),
                cache.entries - self.lie,
            )
            for a, (_, read), q, cache in zip(answers, states, questions, caches)
        ]


class Hidden(Pyramid):
    """Only hides what the other drops."""

    hide = True


class Liar(Pyramid):
    """Says that it keeps fewer."""

    lie = 12


def test_a_method_of_uneven_caches_keeps_to_the_contract():
    results = check_method(Pyramid, model=partial(tiny_model, 256))
    assert not [r for r in results if not r.ok]
    passed = {r.name for r in results if r.status == "ok"}
    assert {"batch", "likelihood", "as-generated", "shared-state", "positions", "declared"} <= passed


def test_a_run_records_entries_by_layer_and_bytes_as_they_are(tiny_folder, tmp_path):
    ran = {}
    for cls in (Pyramid, Hidden, Liar):
        common = {"task": "passkey", "model": str(tiny_folder), "device": "cpu", "out": tmp_path}
        settings = {"task_settings": {"passkey": {"lengths": "190", "depths": "50"}}}
        if cls is Liar:
            with pytest.raises(MeasurementError, match="not to be believed"):
                harness.run(cls, **common, **settings)
            return
        [ran[cls]] = harness.run(cls, **common, **settings).load().records.values()
        record = ran[cls]
        layers = record.extra.get("kv_tokens_by_layer")
        size = record.cost.kv_bytes / record.measured.kv_tokens
        assert record.measured.verified and not record.extra.get("doubts")
        if cls is Pyramid:
            assert layers[0] - layers[1] == 9 and record.measured.kv_tokens == round(
                sum(layers) / len(layers)
            )
            assert record.measured.compression > 2
        else:
            assert record.measured.kv_tokens == record.prompt_tokens - 1
            assert size == pytest.approx(
                ran[Pyramid].cost.kv_bytes / ran[Pyramid].measured.kv_tokens, rel=0.02
            )


def test_the_last_queries_are_those_of_the_models_own_attention(tiny, read):
    cache, tokens = read
    probe = LastQueries(5)
    with torch.no_grad():
        feed(tiny.network, [cache], [tokens], attention_probe=probe)
        ids = torch.tensor(
            [
                tokenize(
                    Prompt("Read. ", "the sky is blue and the sun is yellow " * 8, " Where is it?"), tiny
                ).ids
            ]
        )
        with attention(tiny.network, "eager"):
            expected = tiny.network.model(
                input_ids=ids[:, : 60 + len(tokens)], output_attentions=True
            ).attentions
    for mine, theirs in zip(probe.weights, expected, strict=True):
        heads = mine.shape[1]
        shared = theirs[:, :, -5:].reshape(1, heads, -1, 5, theirs.shape[-1]).mean(2)
        assert torch.allclose(mine, shared, atol=1e-5)
    with torch.no_grad():
        feed(tiny.network, [cache], [tokens[:3]], attention_probe=probe)
    assert probe.weights[0].shape[2] == 3 and len(probe.weights) == len(expected)
