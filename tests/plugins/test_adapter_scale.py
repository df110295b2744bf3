"""How much of what an adapter learned is added: all is the adapter, none is before training."""

import pytest
import torch

from harness import Decoding, UsageError
from harness.plugins.beacon import checkpoint
from harness.plugins.beacon.form import Start
from harness.plugins.beacon.lora_method import LoraExperts
from harness.plugins.beacon.lora_projections import LoraExperts as Experts
from harness.plugins.beacon.method import Beacon
from harness.plugins.beacon.projections import MultiHeadBeacon
from harness.plugins.beacon.reading import Reading
from harness.plugins.two_pass.method import TwoPass
from harness.plugins.two_pass.options import TwoPassFitOptions, TwoPassOptions

from ..helpers.asking import ask, prompt
from ..helpers.fits import INTERVAL
from .test_lora_experts import memory, random_expert
from .test_start_and_sinks import engine


def copy_that_learned(model, start: Start) -> MultiHeadBeacon:
    begun = MultiHeadBeacon(model.network, start=start).tensors(model.network)
    generator = torch.Generator().manual_seed(0)
    learned = {n: t + 0.1 * torch.randn(t.shape, generator=generator) for n, t in begun.items()}
    return MultiHeadBeacon(model.network, learned)


def experts_that_learned(model, start: Start) -> Experts:
    experts = Experts({r: random_expert(model, r) for r in (4, 8)})
    if start == "end":  # as much as was learned, from the end token's on
        begun = MultiHeadBeacon(model.network, start=start).embedding(4)
        for ratio in experts.ratios:
            experts.expert(ratio).beacon_embedding.data += begun
    return experts


@pytest.fixture
def adapter(tiny, tmp_path):
    weights = Experts({r: random_expert(tiny, r) for r in (2, 4, 8)})
    checkpoint.write_weights(
        tmp_path / "adapter", weights, tiny, {"sinks": 1, "start": "last"}, torch.float32
    )
    return tmp_path / "adapter"


@pytest.mark.parametrize("start", ["end", "last"])
@pytest.mark.parametrize("learned", [copy_that_learned, experts_that_learned])
def test_from_untrained_to_all_that_was_learned(tiny, learned, start):
    weights = learned(tiny, start)
    before = memory(tiny, MultiHeadBeacon(tiny.network, start=start))
    torch.testing.assert_close(memory(tiny, weights.scaled(tiny.network, 0, start)), before)
    torch.testing.assert_close(memory(tiny, weights.scaled(tiny.network, 1, start)), memory(tiny, weights))
    far = [
        float((memory(tiny, weights.scaled(tiny.network, s, start)) - before).norm()) for s in (0.1, 0.5, 1)
    ]
    assert 0 < far[0] < far[1] < far[2]


def test_what_an_expert_adds_is_scaled_and_the_expert_itself_is_not(tiny):
    expert = random_expert(tiny, 1)
    half = Experts({4: expert}).scaled(tiny.network, 0.5, "last").expert(4)
    x = torch.randn(1, 3, tiny.network.config.hidden_size)
    module = tiny.network.model.layers[0].self_attn.q_proj
    with torch.no_grad():
        plain = module(x)
        with expert.added(tiny.network.model):
            whole = module(x) - plain
        with half.added(tiny.network.model):
            torch.testing.assert_close(module(x) - plain, whole / 2)
    torch.testing.assert_close(half.beacon_embedding, expert.beacon_embedding / 2)
    assert expert.alpha == 6.0 and not any(p.requires_grad for p in half.parameters())


def test_a_run_condenses_by_scaled_weights(tiny, adapter):
    def kept(**options):
        method = LoraExperts(tiny, LoraExperts.Options(interval=INTERVAL, margin=16, ratio="4", **options))
        method.load(adapter)
        return method.compress([prompt(tiny, 150).ids], [4], Decoding(4))[0][0].cache.keys[1]

    half = kept(adapter_scale=0.5)
    weights = checkpoint.read_weights("lora_experts", adapter, tiny)
    with torch.no_grad():
        [state] = engine(tiny, weights=weights.scaled(tiny.network, 0.5, "last")).read(
            [Reading()],
            [prompt(tiny, 150).ids],
            lambda *_: 4,
        )
    torch.testing.assert_close(half, state.cache.keys[1])
    assert not torch.allclose(half, kept()) and not torch.allclose(half, kept(adapter_scale=0.0))


def test_two_passes_find_by_all_of_it_and_condense_by_a_share(tiny, adapter, empty_cache):
    def answered(**options):
        method = TwoPass(tiny, TwoPassOptions(interval=INTERVAL, calibration_contexts=2, **options))
        method.load(adapter)
        [answer], _ = ask(method, [prompt(tiny, 150)])
        return method, answer

    (half, scaled), (_, whole) = answered(adapter_scale=0.5), answered()
    for told in ("relevance", "z", "ratios"):  # all of the first pass's, with its calibration
        assert scaled.details[told] == whole.details[told]
    assert half.first_engine is not half.engine and half.first_engine.weights is half.weights
    assert half.rival_options()["adapter_scale"] == 0.5


def test_runs_that_add_all_keep_their_names():
    for options in (TwoPassOptions, Beacon.Options, LoraExperts.Options):
        assert "adapter_scale" not in options().model_dump(mode="json")
        assert options(adapter_scale=0.5).model_dump(mode="json")["adapter_scale"] == 0.5


@pytest.mark.parametrize("scale", [-0.1, 1.5, float("nan")])
def test_a_share_that_there_cannot_be_is_refused(scale):
    with pytest.raises(ValueError):
        TwoPassOptions(adapter_scale=scale)


def test_what_makes_no_sense_is_said(tiny, empty_cache):
    untrained = Beacon(tiny, Beacon.Options(interval=INTERVAL, margin=16, adapter_scale=0.5))
    with pytest.raises(UsageError, match=r"--adapter-scale 0\.5: without an adapter nothing was learned"):
        untrained.prepare([], Decoding(1))
    for made, fit in (
        (untrained, Beacon.FitOptions()),
        (TwoPass(tiny, TwoPassOptions(interval=INTERVAL, adapter_scale=0.5)), TwoPassFitOptions()),
    ):
        with pytest.raises(UsageError, match=r"--adapter-scale 0\.5 is for answering"):
            made.check_fit(fit)
    with pytest.raises(ValueError, match="reuse takes beacons of the first pass"):
        TwoPassOptions(reuse="raw", adapter_scale=0.5)
