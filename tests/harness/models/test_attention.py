"""The probe must hear exactly what attention computes, in every family, and change nothing by listening."""

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from harness.models import attention, loading
from harness.testing.tiny import make_model

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("families") / request.param, request.param)


@pytest.fixture(scope="module")
def model(folder):
    return loading.load(str(folder), device="cpu")


@pytest.fixture
def ids():
    return torch.randint(4, 300, (2, 12), generator=torch.Generator().manual_seed(1))


class Listener:
    def __init__(self):
        self.heard = []

    def __call__(self, layer, query_last, key, scaling):
        self.heard.append((layer, query_last.clone(), key.clone(), scaling))

    def weights(self):
        """Each layer's attention of the last position: [batch, heads, keys]."""
        for _, query, key, scaling in self.heard:
            key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
            yield torch.softmax(torch.einsum("bhd,bhkd->bhk", query, key) * scaling, dim=-1)


def eager(folder):
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


def test_the_probe_is_called_once_a_layer_with_the_documented_shapes(model, ids):
    listener = Listener()
    model.network.model(ids, attention_probe=listener)
    config = model.config
    assert [layer for layer, *_ in listener.heard] == list(range(config.num_hidden_layers))
    for _, query, key, scaling in listener.heard:
        assert query.shape == (2, config.num_attention_heads, 16)
        assert key.shape == (2, config.num_key_value_heads, 12, 16)
        assert scaling == pytest.approx(16**-0.5)


def test_what_the_probe_hears_gives_the_attention_weights(model, folder, ids):
    listener = Listener()
    model.network.model(ids, attention_probe=listener)
    expected = eager(folder)(ids, output_attentions=True).attentions
    for weights, layer in zip(listener.weights(), expected, strict=True):
        torch.testing.assert_close(weights, layer[:, :, -1], atol=1e-5, rtol=1e-4)
        assert weights.std() > 1e-3, "uniform attention would match by accident"


def test_keys_in_the_cache_are_heard_too(model, folder, ids):
    listener = Listener()
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model.network.model(ids[:, :7], past_key_values=cache)
        model.network.model(ids[:, 7:], past_key_values=cache, attention_probe=listener)
    expected = eager(folder)(ids, output_attentions=True).attentions
    for weights, layer in zip(listener.weights(), expected, strict=True):
        torch.testing.assert_close(weights, layer[:, :, -1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("padding", [0, 4])
def test_logits_are_those_of_plain_sdpa_whether_or_not_anyone_listens(model, folder, ids, padding):
    mask = torch.ones_like(ids)
    mask[1, :padding] = 0
    stock = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    with torch.no_grad():
        expected = stock(ids, attention_mask=mask).logits
        silent = model.network(ids, attention_mask=mask).logits
        heard = model.network(ids, attention_mask=mask, attention_probe=Listener()).logits
    assert torch.equal(silent, expected) and torch.equal(heard, expected)


def test_nothing_is_left_on_the_modules(model, ids):
    listener = Listener()
    model.network.model(ids, attention_probe=listener)
    calls = len(listener.heard)
    model.network.model(ids)
    assert len(listener.heard) == calls


def test_registering_again_changes_nothing(model, ids):
    before = model.network.model(ids).last_hidden_state
    attention.register()
    attention.register()
    assert torch.equal(model.network.model(ids).last_hidden_state, before)


def rotated(queries, keys):
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn(1, heads, n, 16, generator=generator) for heads, n in ((4, queries), (2, keys), (2, keys))
    ]


@pytest.mark.parametrize("queries,keys", [(5, 12), (12, 12), (2, 3)])
def test_a_kernel_with_the_mask_built_in_gives_what_the_mask_gives(model, monkeypatch, queries, keys):
    """On a GPU in sixteen bits; here by the same call, on the CPU."""
    layer, asked = model.network.model.layers[0].self_attn, []
    query, key, value = rotated(queries, keys)
    mask = attention.causal_mask(queries, keys, torch.float32, "cpu")
    expected, _ = attention.attend(layer, query, key, value, mask, scaling=0.25)

    def built_in(_query, given):
        asked.append(given is mask)
        return True

    monkeypatch.setattr(attention, "_built_in", built_in)
    found, _ = attention.attend(layer, query, key, value, mask, scaling=0.25)
    assert asked == [True]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


class OnGpu:
    """What `_built_in` asks of a query on a GPU."""

    is_cuda, dtype = True, torch.bfloat16


def test_only_a_mask_that_nobody_changed_is_known_again():
    def known(mask):
        return attention._built_in(OnGpu(), mask)

    mask = attention.causal_mask(3, 8, torch.bfloat16, "cpu")
    assert known(mask) and not known(mask.clone()) and not known(mask[:, :, 1:])
    mask[..., 0] = torch.finfo(torch.bfloat16).min
    assert not known(mask)
    with torch.inference_mode():  # where nobody counts
        assert not known(attention.causal_mask(3, 8, torch.bfloat16, "cpu"))
    assert not attention._built_in(torch.zeros(1), attention.causal_mask(3, 8, torch.float32, "cpu"))


@pytest.mark.parametrize("kind", ["additive", "boolean"])
@pytest.mark.parametrize("shares", [True, False])
def test_heads_that_share_keys_are_not_copied_and_give_the_same(model, monkeypatch, kind, shares):
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    layer = model.network.model.layers[0].self_attn
    query, key, value = rotated(5, 12)
    mask = attention.causal_mask(5, 12, torch.float32, "cpu").clone()
    mask = mask > -1 if kind == "boolean" else mask
    expected, _ = sdpa_attention_forward(layer, query, key, value, mask, scaling=0.25)
    monkeypatch.setattr(attention, "_shares_heads", lambda _: shares)
    found, _ = attention.attend(layer, query, key, value, mask, scaling=0.25)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
