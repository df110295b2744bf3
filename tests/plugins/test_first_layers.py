"""A first pass by the model's first layers: what those layers attend to in a whole pass, for a part of its cost."""

import pytest
import torch

from harness import Decoding, UsageError
from harness._util import artifacts
from harness.inference.forward import shallow
from harness.models import adapters
from harness.plugins.beacon import together
from harness.plugins.beacon.engine import ActivationBeacon
from harness.plugins.beacon.projections import MultiHeadBeacon
from harness.plugins.beacon.reading import Reading
from harness.plugins.two_pass import layers
from harness.plugins.two_pass.options import TwoPassFitOptions, TwoPassOptions
from harness.plugins.two_pass.relevance import BeaconAttention

from .test_condensing import INTERVAL, ask, beacon, prompt, two_pass


def shares(engine, ids, first, stop):
    """What each layer that runs and counts attends to, the mean of its heads."""
    with torch.no_grad(), shallow(engine.network, stop):
        states = engine.read([Reading()], [ids[:-1]], lambda row, window: 4)
        probe = BeaconAttention(states, first)
        engine.probe(states, [ids[-1]], probe)
    return torch.stack(probe._shares[0])


@pytest.mark.parametrize("many", [True, False])
def test_the_first_layers_attend_as_they_do_in_a_whole_pass(tiny, monkeypatch, many):
    monkeypatch.setattr(together, "possible", lambda _: many)
    engine = ActivationBeacon(tiny.network, MultiHeadBeacon(tiny.network), INTERVAL)
    ids = list(prompt(tiny, 80).ids)
    whole, first, last = (shares(engine, ids, *part) for part in ((0, None), (0, 1), (1, 2)))
    assert len(whole) == 2 and len(first) == len(last) == 1
    torch.testing.assert_close(first, whole[:1], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(last, whole[1:], atol=1e-6, rtol=1e-5)


def test_all_layers_run_again_afterwards_even_if_a_pass_fails(tiny):
    there = tiny.network.config.num_hidden_layers
    with pytest.raises(ZeroDivisionError), shallow(tiny.network, 1):
        assert tiny.network.config.num_hidden_layers == 1
        raise ZeroDivisionError
    assert tiny.network.config.num_hidden_layers == there


def test_it_answers_from_a_whole_second_pass_with_a_calibration_of_its_own(tiny, empty_cache):
    one = prompt(tiny, 150)
    half, whole = two_pass(tiny, first_layers="1-1"), two_pass(tiny)
    [answer], [other] = ask(half, [one]), ask(whole, [one])
    assert answer.details["relevance"] != other.details["relevance"]
    with torch.no_grad():
        states = half.engine.read([Reading()], [one.ids[:-1]], lambda _, i: answer.details["ratios"][i])
    assert answer.kv_tokens == len(states[0].cache) and len(states[0].cache.keys) == len(
        tiny.network.model.layers
    )
    assert half._key(8, 2, None) != whole._key(8, 2, None)
    assert half.tokens_to_process(len(one), Decoding(1)) < whole.tokens_to_process(len(one), Decoding(1))


def test_it_costs_less(tiny, empty_cache):
    one, layers = prompt(tiny, 150), tiny.network.model.layers

    def ran(method):
        method.prepare([one], Decoding(1))
        calls = []
        hooks = [layer.register_forward_hook(lambda *_: calls.append(1)) for layer in layers]
        try:
            method.run([one], Decoding(1))
        finally:
            for hook in hooks:
                hook.remove()
        return len(calls)

    first, whole = ran(two_pass(tiny, first_layers="1-1")), ran(two_pass(tiny))
    assert first < whole


def test_runs_that_do_not_use_it_keep_their_names(tiny):
    written = TwoPassOptions().model_dump(mode="json")
    assert "first_layers" not in written and not {"start", "sinks"} & set(written)
    assert written["interval"] == 1024  # the paper's, as runs of before wrote it
    assert TwoPassOptions(first_layers="1-2").model_dump(mode="json")["first_layers"] == "1-2"
    assert "layers" not in two_pass(tiny)._key(8, 2, None)


def test_more_layers_than_there_are_is_said_at_once(tiny):
    with pytest.raises(UsageError, match=r"--first-layers 2-9: .* has 2 layers"):
        two_pass(tiny, first_layers="2-9")


@pytest.mark.parametrize("said", ["", "3", "0-2", "4-3", "1-", "a-b", "-1-2", "1-2-3"])
def test_what_is_no_range_of_layers_is_refused(said):
    with pytest.raises(ValueError, match="is no range of layers"):
        TwoPassOptions(first_layers=said)


def settled(tiny, folder, **options):
    method = two_pass(tiny, compressor="beacon", **options)
    method.load(folder)
    return method.options.first_layers


@pytest.fixture
def weights(tiny, tmp_path, empty_cache):
    beacon(tiny).save(tmp_path / "weights", {})
    return tmp_path / "weights"


def test_layers_recorded_for_the_adapter_are_the_default(tiny, weights):
    assert settled(tiny, weights) is None
    known = adapters.fingerprint(weights)
    artifacts.store(layers.KIND, layers.record_name(known), layers.record(known, "1-1", "a test"))
    assert settled(tiny, weights) == "1-1"
    assert settled(tiny, weights, first_layers="2-2") == "2-2"
    assert two_pass(tiny, compressor="beacon").options.first_layers is None
    # All layers go by the name that runs of before have; nothing else needs them, or they are needed.
    for options in (
        {"first_layers": "all"},
        {"reuse": "raw"},
        {"retrieval": "bm25"},
        {"retrieval": "random"},
    ):
        assert settled(tiny, weights, **options) is None


def test_a_damaged_record_is_said_in_one_line(tiny, weights):
    known = adapters.fingerprint(weights)
    texts = (
        "",
        "[]",
        '{"first_layers": "1-1"}',
        layers.record(known, "x", ""),
        layers.record(known, "3-2", ""),
    )
    for text in texts:
        artifacts.store(layers.KIND, layers.record_name(known), text)
        with pytest.raises(UsageError, match=r"record of layers .* is damaged"):
            settled(tiny, weights)
        assert settled(tiny, weights, first_layers="2-2") == "2-2"
    artifacts.store(layers.KIND, layers.record_name(known), layers.record(known, "1-9", ""))
    with pytest.raises(UsageError, match=r"--first-layers 1-9: .* has 2 layers"):
        settled(tiny, weights)


def test_a_record_for_other_weights_counts_for_nothing(tiny, weights):
    known = adapters.fingerprint(weights)
    artifacts.store(layers.KIND, layers.record_name(known), layers.record(known[:24] + "0" * 40, "1-1", ""))
    assert settled(tiny, weights) is None


def test_a_calibration_that_is_loaded_says_its_layers(tiny, weights, tmp_path):
    known = adapters.fingerprint(weights)
    artifacts.store(layers.KIND, layers.record_name(known), layers.record(known, "2-2", "a test"))
    for said in ("1-1", "all"):
        method = two_pass(tiny, compressor="beacon", first_layers=said)
        method.load(weights)
        method.fit(None, None, TwoPassFitOptions(intervals="8", contexts=2))
        method.save(tmp_path / said, {})
        assert settled(tiny, tmp_path / said) == (None if said == "all" else said)
    assert settled(tiny, tmp_path / "1-1", first_layers="all") is None
