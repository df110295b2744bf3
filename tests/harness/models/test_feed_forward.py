"""Feed-forwards that write over their own tensors: same bits, for every supported family, and only where they may."""

import pytest
import torch

from harness.models import feed_forward
from harness.models.loaded import LoadedModel

X = torch.linspace(-4, 4, 5 * 64).cos().view(1, 5, 64)


class Gated(torch.nn.Module):
    """The parts of a gated feed-forward."""

    def __init__(self, activation):
        super().__init__()
        self.gate_proj, self.up_proj = torch.nn.Linear(64, 96), torch.nn.Linear(64, 96)
        self.down_proj, self.act_fn = torch.nn.Linear(96, 64), activation

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class More(Gated):
    """The same parts, and something added."""

    def forward(self, x):
        return super().forward(x) + 1


def changed(module):
    before = type(module)
    feed_forward.write_over(module)
    return type(module) is not before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", [torch.nn.SiLU, torch.nn.GELU, torch.nn.ReLU, torch.nn.Identity])
def test_the_same_bits(activation, dtype):
    torch.manual_seed(0)
    module = Gated(activation()).to(dtype).eval()
    with torch.no_grad():
        before = module(X.to(dtype))
        assert changed(module) and not changed(module) and isinstance(module, Gated)
        given = X.to(dtype)
        assert torch.equal(module(given), before) and torch.equal(given, X.to(dtype))
    assert type(module).__name__ == "Gated"


def test_what_a_changed_class_computes_is_known():
    module = Gated(torch.nn.SiLU())
    assert feed_forward.written_by(Gated) is Gated
    assert changed(module) and feed_forward.written_by(type(module)) is Gated


def test_one_that_does_more_is_left_alone():
    assert not changed(More(torch.nn.SiLU()))


def test_what_learns_learns_the_same():
    torch.manual_seed(0)
    module = Gated(torch.nn.SiLU())
    module(X).square().sum().backward()
    before = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    assert changed(module)
    module(X).square().sum().backward()
    assert all(torch.equal(p.grad, own) for p, own in zip(module.parameters(), before))


def test_fewer_tensors_are_made():
    torch.manual_seed(0)
    module = Gated(torch.nn.SiLU()).eval()

    def made():
        with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
            module(X)
        return sum(max(0, event.self_cpu_memory_usage) for event in profile.key_averages())

    made()  # whatever is made once
    before = made()
    assert changed(module)
    assert before - made() >= 2 * 5 * 96 * 4


def test_a_network_in_memory_keeps_its_own(tiny):
    network = tiny.network
    own = type(network).from_pretrained(tiny.folder)
    kinds = {type(m) for m in own.modules()}
    loaded = LoadedModel(own, tiny.tokenizer)
    mlp = loaded.network.model.layers[0].mlp
    assert {type(m) for m in own.modules()} == kinds and type(mlp) not in kinds
    assert isinstance(mlp, type(own.model.layers[0].mlp))
    LoadedModel(loaded.network, tiny.tokenizer)  # and may be given again
