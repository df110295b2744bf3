"""One LoRA a ratio: what it computes, what PEFT makes of it, how the shared phase ends."""

from types import SimpleNamespace

import pytest
import torch

from harness import UsageError
from harness.contracts.fit import Schedule
from harness.models import adapters
from harness.plugins.beacon import checkpoint
from harness.plugins.beacon.engine import ActivationBeacon
from harness.plugins.beacon.lora_method import LoraExperts as Method
from harness.plugins.beacon.lora_method import LoraFitOptions
from harness.plugins.beacon.lora_projections import EMBEDDING, Expert, LoraExperts
from harness.plugins.beacon.method import Beacon
from harness.plugins.beacon.projections import MultiHeadBeacon
from harness.plugins.beacon.reading import Reading
from harness.plugins.beacon.training import PartWays
from harness.plugins.low_rank import places

from ..helpers.fits import INTERVAL, random_examples, same

IDS = random_examples(150)[0].input_ids


def random_expert(model, seed, rank=4, alpha=6.0):
    """An expert that has learned something."""
    expert = Expert(model.network, rank, alpha)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in expert.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    return expert


def memory(model, weights, ratio=4):
    with torch.no_grad():
        engine = ActivationBeacon(model.network, weights, INTERVAL)
        (state,) = engine.read([Reading()], [IDS], lambda row, window: ratio)
    return torch.stack((*state.cache.keys, *state.cache.values))


@pytest.fixture
def adapter(tiny, tmp_path):
    weights = LoraExperts({r: random_expert(tiny, r) for r in (2, 8)})
    checkpoint.write_weights(tmp_path / "adapter", weights, tiny, {}, torch.float32)
    return tmp_path / "adapter"


def method(model, adapter=None, **options):
    made = Method(model, Method.Options(interval=INTERVAL, margin=16, **options))
    if adapter is not None:
        made.load(adapter)
    return made


def test_an_untrained_expert_adds_nothing(tiny):
    experts = checkpoint.new_experts(tiny, (4,), 8, 8.0)
    torch.testing.assert_close(memory(tiny, experts), memory(tiny, MultiHeadBeacon(tiny.network)))
    assert not torch.allclose(memory(tiny, LoraExperts({4: random_expert(tiny, 0)})), memory(tiny, experts))
    assert not any(m._forward_hooks for m in tiny.network.modules())


def test_each_expert_is_a_lora_of_peft(tiny, tiny_folder, adapter):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    experts = checkpoint.read_weights("lora_experts", adapter, tiny)
    for ratio in (2, 8):
        expert = experts.expert(ratio)
        base = AutoModelForCausalLM.from_pretrained(tiny_folder, attn_implementation="eager")
        merged = PeftModel.from_pretrained(base, adapter / f"expert-{ratio}").merge_and_unload()
        assert len(places(tiny.network)) == 2 * 4
        for place in places(tiny.network):
            key = place.replace(".", "/")
            own = tiny.network.model.get_submodule(place).weight
            expected = own + expert.alpha / expert.rank * expert.b[key] @ expert.a[key]
            torch.testing.assert_close(merged.model.get_submodule(place).weight, expected)
        ids = torch.tensor([IDS[:20]])
        with torch.no_grad():
            ours = expert.run(tiny.network.model, input_ids=ids).last_hidden_state
            theirs = merged.model(input_ids=ids).last_hidden_state
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_what_was_written_is_read(tiny, adapter):
    read = checkpoint.read_weights("lora_experts", adapter, tiny)
    assert read.ratios == (2, 8) and adapters.read_card(adapter)["rank"] == 4
    assert not any(p.requires_grad for p in read.parameters())
    for ratio in (2, 8):
        assert torch.equal(read.embedding(ratio), read.expert(ratio).tensors()[EMBEDDING])
    read_again = LoraExperts({2: Expert(tiny.network, 4, 6.0, read.expert(2).tensors())})
    torch.testing.assert_close(memory(tiny, read_again, 2), memory(tiny, read, 2))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop(EMBEDDING), f"{EMBEDDING} is missing or of another width"),
        (lambda t: t.update({EMBEDDING: torch.zeros(3)}), f"{EMBEDDING} is missing or of another width"),
        (lambda t: t.pop("layers.1.self_attn.v_proj.lora_B.weight"), "no LoRA for layers.1.self_attn.v_proj"),
        (
            lambda t: t.update({"layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(5, 64)}),
            "another shape",
        ),
        (lambda t: t.update({"layers.0.mlp.up_proj.lora_A.weight": torch.zeros(4, 64)}), "no place in this"),
    ],
)
def test_tensors_that_do_not_fit(tiny, spoil, message):
    tensors = random_expert(tiny, 0).tensors()
    spoil(tensors)
    with pytest.raises(UsageError, match=message):
        Expert(tiny.network, 4, 6.0, tensors)


def test_a_ratio_without_an_expert(tiny, adapter):
    experts = LoraExperts({2: random_expert(tiny, 0), 8: random_expert(tiny, 1)})
    with pytest.raises(UsageError, match="no LoRA expert for ratio 4; the adapter has 2, 8"):
        experts.expert(4)
    experts.add(4, random_expert(tiny, 2))
    assert experts.ratios == (2, 4, 8) and experts.expert(4)
    with pytest.raises(UsageError, match=r"--ratio 4: the adapter .* has no expert for it; it has 2, 8"):
        method(tiny, adapter, ratio="4")
    assert method(tiny, adapter).usable() == (0, 2, 8)


def test_one_expert_serves_all_until_they_part(tiny):
    experts = checkpoint.new_experts(tiny, (2, 4, 8), 4, 4.0)
    experts.shared = 2
    assert {id(experts.expert(r)) for r in (2, 4, 8)} == {id(experts.expert(2))}
    with torch.no_grad():
        experts.expert(2).beacon_embedding += 1
    parting = PartWays(experts, 3)
    parting.on_step_end(None, SimpleNamespace(global_step=2), None)
    assert experts.shared == 2
    parting.on_step_end(None, SimpleNamespace(global_step=3), None)
    assert experts.shared is None
    assert all(same(experts.expert(r).tensors(), experts.expert(2).tensors()) for r in (4, 8))
    with torch.no_grad():
        experts.expert(4).beacon_embedding += 1
    parting.on_step_end(None, SimpleNamespace(global_step=4), None)
    assert not torch.equal(experts.embedding(4), experts.embedding(8))


def test_the_shared_phase_trains_one_and_then_each_its_own(tiny, tmp_path):
    def fitted(steps):
        made = method(tiny)
        options = LoraFitOptions(train_ratios="2,8", rank=4, shared_steps=2)
        plan = Schedule(tmp_path / str(steps), batch_size=2, learning_rate=0.01, max_steps=steps)
        made.fit(random_examples(*[100] * 8), plan, options)
        return made.weights

    at_the_end = fitted(2)
    assert same(at_the_end.expert(2).tensors(), at_the_end.expert(8).tensors())
    after = fitted(4)
    assert not same(after.expert(2).tensors(), after.expert(8).tensors())


def test_new_weights_come_from_the_seed(tiny, tmp_path):
    def drawn(seed, folder):
        made = method(tiny)
        plan = Schedule(tmp_path / folder, batch_size=1, max_steps=1, learning_rate=1e-9, seed=seed)
        torch.rand(int(torch.randint(1, 9, ())))  # whatever was drawn before makes no difference
        made.fit(random_examples(70), plan, LoraFitOptions(train_ratios="2", rank=4))
        return made.weights.expert(2).tensors()

    first = drawn(1, "a")
    assert same(first, drawn(1, "b")) and not same(first, drawn(2, "c"))


def test_going_on_from_an_adapter(tiny, adapter, tmp_path):
    made = method(tiny, adapter)
    before = checkpoint.read_weights("lora_experts", adapter, tiny)
    weights, callbacks = made.learnable(LoraFitOptions(train_ratios="4,8"))
    assert weights.ratios == (2, 4, 8) and not callbacks
    assert same(weights.expert(4).tensors(), before.expert(2).tensors()), "from the nearest there is"
    assert all(p.requires_grad for p in weights.parameters())
    for bad, message in (
        ({"shared_steps": 3}, "--shared-steps trains one expert in place of all, but --adapter"),
        ({"rank": 8}, "--rank 8: the experts of --adapter have 4"),
        ({"lora_alpha": 1.0}, "--lora-alpha 1.0: the experts of --adapter have 6.0"),
    ):
        with pytest.raises(UsageError, match=message):
            made.learnable(LoraFitOptions(train_ratios="4,8", **bad))


def test_an_adapter_of_the_other_kind(tiny, adapter):
    with pytest.raises(UsageError, match="made for method 'lora_experts', not for beacon"):
        Beacon(tiny, Beacon.Options(interval=INTERVAL)).load(adapter)
