"""Many intervals in one pass are what they are one by one: the same entries, the same hidden states, less work."""

import pytest
import torch

from harness.inference.forward import shallow
from harness.inference.meter import observe
from harness.plugins.beacon import layout, together
from harness.plugins.beacon.engine import ActivationBeacon
from harness.plugins.beacon.lora_projections import LoraExperts
from harness.plugins.beacon.projections import MultiHeadBeacon
from harness.plugins.beacon.reading import Reading

from .test_condensing import INTERVAL
from .test_lora_experts import random_expert

IDS = torch.randint(5, 250, (400,), generator=torch.Generator().manual_seed(4)).tolist()
RATIOS = [2, 0, 8, 4, 2, 32, 0, 4, 2, 8, 8]


def learned(network):
    weights = MultiHeadBeacon(network, learn=True)
    with torch.no_grad():
        for p in weights.parameters():
            p += 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    return weights


@pytest.fixture(params=["untrained", "copies", "experts"])
def weights(request, tiny):
    if request.param == "experts":
        return LoraExperts({r: random_expert(tiny, r) for r in (2, 4, 8, 32)})
    return learned(tiny.network) if request.param == "copies" else MultiHeadBeacon(tiny.network)


def both(monkeypatch, engine, readings, tokens, ratio):
    """States, hidden states and passes, one interval a pass and many."""
    found = []
    for many in (False, True):
        hidden = {}
        monkeypatch.setattr(together, "possible", lambda _, many=many: many)
        with torch.no_grad(), observe(engine.network, "cpu", len(readings)) as meter:

            def heard(row, at, h, hidden=hidden):
                hidden.setdefault(row, []).append((at, h.clone()))

            states = engine.read(readings, tokens, ratio, heard)
        found.append((states, hidden, meter))
    return found


def alike(one, other):
    assert [(s.memory, s.raw, s.ratios, s.counts, s.tokens) for s in one[0]] == [
        (s.memory, s.raw, s.ratios, s.counts, s.tokens) for s in other[0]
    ]
    for mine, theirs in zip(one[0], other[0]):
        for a, b in zip((*mine.cache.keys, *mine.cache.values), (*theirs.cache.keys, *theirs.cache.values)):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert one[1].keys() == other[1].keys()
    for row, pieces in one[1].items():
        assert [at for at, _ in pieces] == [at for at, _ in other[1][row]]
        for (_, a), (_, b) in zip(pieces, other[1][row]):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("start,sinks", [("end", 0), ("last", 3)])
def test_rows_of_any_length_and_ratio(tiny, monkeypatch, weights, start, sinks):
    engine = ActivationBeacon(tiny.network, weights, INTERVAL, start, sinks)
    begun = engine.read([Reading()], [IDS[:7]], lambda *_: 2)[0]  # a window that is open already
    tokens = [IDS[:330], IDS[50:90], [], IDS[7:120], IDS[:5]]
    readings = [Reading(), Reading(), Reading(), begun, Reading()]
    steps, many = both(monkeypatch, engine, readings, tokens, lambda row, window: RATIOS[window + row])
    alike(steps, many)
    assert many[0][2] is readings[2]
    assert many[2].positions <= steps[2].positions  # nothing is padded
    assert begun.cache.keys[0].shape[1] == 7


@pytest.mark.parametrize("size", [1, 3 * INTERVAL])
def test_more_than_a_pass_takes(tiny, monkeypatch, weights, size):
    monkeypatch.setitem(together.TOGETHER, "cpu", size)
    engine = ActivationBeacon(tiny.network, weights, INTERVAL, "last", 1)
    steps, many = both(monkeypatch, engine, [Reading()], [IDS[:200]], lambda row, window: RATIOS[window])
    alike(steps, many)
    assert many[2].forwards == (3 if size > 1 else 7) < steps[2].forwards


@pytest.mark.parametrize("layers", [None, 1])
@pytest.mark.parametrize("start,sinks", [("end", 0), ("last", 3)])
def test_without_hidden_states_the_same_entries_are_left(tiny, monkeypatch, weights, start, sinks, layers):
    monkeypatch.setitem(together.TOGETHER, "cpu", 3 * INTERVAL)
    engine = ActivationBeacon(tiny.network, weights, INTERVAL, start, sinks)
    tokens = [IDS[:330], IDS[50:90], [], IDS[:5]]
    found = []
    for heard in (lambda *_: None, None):
        with torch.no_grad(), shallow(tiny.network, layers):
            states = engine.read(
                [Reading()] * len(tokens), tokens, lambda row, window: RATIOS[window + row], heard
            )
            # What comes after is read from them as it is.
            found.append((engine.read(states, [[7, 8]] * len(tokens), lambda *_: 2), {}))
    alike(*found)


def test_what_leaves_no_entry_does_not_get_to_the_last_layers(tiny, weights):
    engine = ActivationBeacon(tiny.network, weights, INTERVAL, "last", 1)
    seen = {"mlp": [], "attention": []}
    blocks = tiny.network.model.layers
    hooks = [
        blocks[-2].mlp.register_forward_pre_hook(lambda _, args: seen["mlp"].append(args[0].shape[1])),
        blocks[-1].self_attn.q_proj.register_forward_pre_hook(
            lambda _, args: seen["attention"].append(args[0].shape[1])
        ),
    ]
    with torch.no_grad():
        engine.read([Reading()], [IDS[: 1 + 3 * INTERVAL + 5]], lambda _, window: (4, 0, 2)[window])
    for hook in hooks:
        hook.remove()
    # A sink, the beacons of two windows, a window that stays raw, and what is open.
    assert seen["mlp"] == seen["attention"] == [1 + INTERVAL // 4 + INTERVAL + INTERVAL // 2 + 5]


def test_what_is_kept_takes_no_more_room_than_its_entries(tiny):
    engine = ActivationBeacon(tiny.network, MultiHeadBeacon(tiny.network), INTERVAL)
    with torch.no_grad():
        [state] = engine.read([Reading()], [IDS[:200]], lambda *_: 8)
    assert len(state.cache) == 6 * (INTERVAL // 8) + 200 % INTERVAL
    both_sides = 2 * state.cache.keys[0].nbytes
    assert state.cache.keys[0].untyped_storage().nbytes() == both_sides


def test_nothing_hangs_on_the_model_afterwards_even_if_a_pass_fails(tiny, monkeypatch, weights):
    engine = ActivationBeacon(tiny.network, weights, INTERVAL)

    def hooks():
        modules = list(tiny.network.modules())
        own = sum("forward" in vars(m) for m in modules)
        return own + sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)

    before = hooks()
    with torch.no_grad():
        engine.read([Reading()], [IDS[:100]], lambda *_: 4)
        assert hooks() == before
        monkeypatch.setattr(layout.attention, "scaled", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.read([Reading()], [IDS[:100]], lambda *_: 4)
    assert hooks() == before


def test_what_learns_is_read_one_by_one(tiny):
    weights = learned(tiny.network)
    engine = ActivationBeacon(tiny.network, weights, INTERVAL)
    [state] = engine.read([Reading()], [IDS[:100]], lambda *_: 4)
    state.cache.values[-1].square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in weights.parameters())
