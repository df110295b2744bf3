"""Foreign modules are heard of wherever they can run, and modules are called the fast way where none can."""

import pytest
import torch
from transformers import DynamicCache

from harness import Decoding
from harness.inference import KVCache, decode, feed
from harness.inference.closed_pass import modules_of
from harness.inference.meter import observe

IDS = torch.tensor([[5, 6, 7]])


class Adapter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.weight


class Keeping(DynamicCache):
    """A cache of a method's own, which runs something."""

    def update(self, keys, values, layer, *args, **kwargs):
        return super().update(Adapter()(keys), values, layer, *args, **kwargs)


def foreign(network, *passes):
    with torch.no_grad(), observe(network, "cpu") as meter:
        for each in passes:
            each(network)
    return meter.witness.foreign


def listeners():
    return len(torch.nn.modules.module._global_forward_pre_hooks)


def plainly(network):
    network.model(input_ids=IDS, past_key_values=DynamicCache())


def test_nobody_listens_while_only_the_models_own_code_can_run(tiny, monkeypatch):
    during, real = [], torch.nn.functional.scaled_dot_product_attention
    counting = lambda *args, **kwargs: during.append(listeners()) or real(*args, **kwargs)  # noqa: E731
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    with torch.no_grad(), observe(tiny.network, "cpu"):
        plainly(tiny.network)
        after = listeners()
    assert set(during) == {0} and after == 1 and listeners() == 0


def test_nobody_listens_while_tokens_are_decoded(tiny, monkeypatch):
    rows, _ = feed(tiny.network, [KVCache()], [[5, 6, 7]])
    during, real = [], torch.nn.functional.scaled_dot_product_attention
    counting = lambda *args, **kwargs: during.append(listeners()) or real(*args, **kwargs)  # noqa: E731
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    with observe(tiny.network, "cpu"):
        decode(tiny, rows, [8], Decoding(max_new_tokens=3, min_new_tokens=3))
    assert len(during) == 3 * tiny.config.num_hidden_layers and set(during) == {0}


def through_cache(network):
    network.model(input_ids=IDS, past_key_values=Keeping())


def through_probe(network):
    adapter = Adapter()
    network.model(input_ids=IDS, attention_probe=lambda layer, query, key, scaling: adapter(query))


def through_hook(network):
    hook = network.model.layers[0].register_forward_hook(lambda module, args, output: Adapter()(output))
    try:
        plainly(network)
    finally:
        hook.remove()


def through_part(network):
    """A module of the model replaced for one pass."""
    layer, own = network.model.layers[0], network.model.layers[0].mlp

    class Wrapped(Adapter):
        def forward(self, x):
            return own(super().forward(x))

    layer.mlp = Wrapped()
    try:
        plainly(network)
    finally:
        layer.mlp = own


def through_class(network):
    """The forward of a class of the model replaced for one pass."""
    kind = type(network.model.norm)
    own = kind.forward
    kind.forward = lambda self, x: own(self, Adapter()(x))
    try:
        plainly(network)
    finally:
        kind.forward = own


def between(network):
    plainly(network)
    Adapter()(torch.ones(1))


def after_failing(network):
    with pytest.raises(IndexError):
        network.model(input_ids=torch.tensor([[10**6]]), past_key_values=DynamicCache())
    Adapter()(torch.ones(1))


WAYS = [through_cache, through_probe, through_hook, through_part, through_class, between, after_failing]


@pytest.mark.parametrize("way", WAYS)
def test_a_foreign_module_is_heard_of_whichever_way_it_runs(tiny, way):
    [name] = foreign(tiny.network, plainly, way)
    assert name in ("Adapter", "Wrapped")
    assert listeners() == 0


def test_one_that_hung_on_the_model_before_is_heard_of(tiny):
    def hung(module, args):
        Adapter()(args[0])

    hook = tiny.network.model.layers[1].register_forward_pre_hook(hung)
    try:
        assert foreign(tiny.network, plainly) == ["Adapter"]
    finally:
        hook.remove()
    assert foreign(tiny.network, plainly) == []


def test_the_modules_are_those_that_torch_lists(tiny):
    assert {id(m) for m in modules_of(tiny.network)} == {id(m) for m in tiny.network.modules()}
    assert modules_of(object()) == []
