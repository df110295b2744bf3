"""On a GPU nothing waits for the device once an interval, a layer or a token: the launches run ahead of it."""

import pytest
import torch

from harness import Decoding
from harness.inference.forcing import _Choice
from harness.inference.meter import observe
from harness.plugins.beacon.distillation import distillation_loss, lessons
from harness.plugins.beacon.engine import ActivationBeacon
from harness.plugins.beacon.lora_projections import LoraExperts
from harness.plugins.beacon.losses import next_token_loss
from harness.plugins.beacon.projections import MultiHeadBeacon
from harness.plugins.beacon.reading import Reading
from harness.plugins.two_pass.relevance import BeaconAttention

from ..helpers.waiting import Waits
from .test_condensing import INTERVAL, beacon, prompt
from .test_lora_experts import random_expert

RATIO = 4


@pytest.fixture(params=["end", "last"])
def engine(tiny, request):
    experts = LoraExperts({RATIO: random_expert(tiny, RATIO)})
    return ActivationBeacon(tiny.network, experts, INTERVAL, request.param, sinks=1)


def reading(engine, intervals, rows):
    """Waits while so many intervals are read in rows of unequal length, measured as a run measures."""
    ids = [list(range(5, 5 + intervals * INTERVAL + 2 - row)) for row in range(rows)]
    with torch.no_grad(), observe(engine.network, "cpu", rows), Waits() as waits:
        engine.read([Reading()] * rows, ids, lambda row, window: RATIO)
    return waits


@pytest.mark.parametrize("rows", [1, 2])
def test_reading_waits_for_no_interval(engine, rows):
    few, many = reading(engine, 2, rows), reading(engine, 5, rows)
    assert many.total == few.total, many.found
    assert not many.within("/plugins/") and not many.within("/harness/"), many.found


def test_the_probe_waits_once_and_not_in_every_layer(engine):
    ids = list(range(5, 5 + 3 * INTERVAL))
    with torch.no_grad():
        states = engine.read([Reading()], [ids], lambda row, window: RATIO)
        probe = BeaconAttention(states)
        with Waits() as waits:
            engine.probe(states, [9], probe)
        assert waits.total == 0, waits.found
        with Waits() as waits:
            probe.relevance()
    assert waits.total == 2  # all layers to the CPU, and the list


@pytest.mark.parametrize("recompute", [False, True])
def test_training_waits_for_no_interval(tiny, recompute):
    engine = ActivationBeacon(tiny.network, MultiHeadBeacon(tiny.network, learn=True), INTERVAL)

    def waits(intervals):
        ids = list(range(5, 5 + intervals * INTERVAL + 9))
        with Waits() as found:
            cost, _ = next_token_loss(engine, ids, ids, [RATIO] * intervals, recompute=recompute)
            cost.backward()
        return found

    few, many = waits(2), waits(5)
    assert many.total == few.total, many.found


def test_distilling_waits_for_no_interval(tiny):
    engine = ActivationBeacon(tiny.network, MultiHeadBeacon(tiny.network, learn=True), INTERVAL)

    def waits(intervals):
        ids = list(range(5, 5 + intervals * INTERVAL + 9))
        with Waits() as found:
            cost, apart = distillation_loss(engine, lessons(engine, [(ids, ids)]), [RATIO] * intervals)
            (cost + apart).backward()
        return found

    few, many = waits(2), waits(5)
    assert many.total == few.total, many.found


def test_a_token_makes_nobody_here_wait(tiny):
    method, one = beacon(tiny, ratio="4"), prompt(tiny, 60)

    def waits(new):
        decoding = Decoding(max_new_tokens=new, min_new_tokens=new)
        with observe(tiny.network, "cpu", 1), Waits() as found:
            method.run([one], decoding)
        return found

    few, many = waits(2), waits(9)
    ours = "/harness/", "/plugins/"
    assert [many.within(part) for part in ours] == [few.within(part) for part in ours], many.found


def test_likelihoods_are_asked_for_when_all_is_read():
    """A continuation over several intervals is scored in pieces."""
    choice, logits = _Choice([1, 2, 0]), torch.eye(3)
    with Waits() as waits:
        choice.add(logits[1:])
        choice.add(logits[:1])
    assert not waits.total, waits.found
    assert choice.greedy and choice.done
    assert choice.logprob == pytest.approx(3 * float(torch.eye(3)[0].log_softmax(0)[0]))


def test_the_counter_counts():
    values = torch.arange(4)
    with Waits() as waits:
        values.tolist()
        values[values > 1]
        bool(values[0] == 0)
        torch.tensor([1, 2], device="cpu")
    assert waits.total == 4
