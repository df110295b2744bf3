"""Attention by products gives what torch's kernel gives, for every mask, and is taken only where it is faster."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from harness.models import attention, attention_by_products, loading
from harness.models.attention_by_products import by_products
from harness.testing.tiny import make_model

pytestmark = pytest.mark.skipif(
    not hasattr(torch.backends.mkldnn, "matmul"), reason="a torch that cannot be told to take oneDNN"
)
BFLOAT16 = torch.bfloat16


@pytest.fixture
def faster(monkeypatch):
    """As on a processor where it is faster, in blocks small enough that there are several."""
    monkeypatch.setattr(attention_by_products, "faster_here", lambda: True)
    monkeypatch.setattr(attention_by_products, "SCORES", 400)


def drawn(batch, queries, keys, heads=6, shared=2, width=16, value_width=16):
    made = torch.Generator().manual_seed(queries * 1000 + keys)
    shapes = (
        (batch, heads, queries, width),
        (batch, shared, keys, width),
        (batch, shared, keys, value_width),
    )
    return [torch.randn(shape, generator=made).to(BFLOAT16) for shape in shapes]


def exact(query, key, value, mask, scaling):
    given = (t.double() for t in (query, key, value, mask))
    return scaled_dot_product_attention(*given, scale=scaling, enable_gqa=True)


def close(found, wanted):
    """As close as bfloat16 comes to it: weights and sums are rounded once each."""
    assert found.dtype == BFLOAT16 and found.shape == wanted.shape
    torch.testing.assert_close(found.double(), wanted, atol=8e-3, rtol=8e-3)


@pytest.mark.parametrize(("queries", "keys"), [(1, 50), (2, 2), (29, 29), (29, 64), (7, 200)])
def test_a_causal_mask_is_known_and_not_read(faster, queries, keys):
    query, key, value = drawn(1, queries, keys)
    mask = attention.causal_mask(queries, keys, BFLOAT16, "cpu")
    wanted = exact(query, key, value, mask, 0.25)
    close(by_products(query, key, value, None, 0.25), wanted)
    close(attention.scaled(query, key, value, mask, 0.25), wanted)
    if queries == keys:
        close(attention.scaled(query, key, value, None, 0.25), wanted)


@pytest.mark.parametrize("scores", [400, 1 << 20])
@pytest.mark.parametrize("masks", [1, 3])
def test_any_other_mask_is_added_row_by_row(faster, monkeypatch, masks, scores):
    monkeypatch.setattr(attention_by_products, "SCORES", scores)
    query, key, value = drawn(3, 21, 40, value_width=8)
    seen = torch.rand(masks, 1, 21, 40, generator=torch.Generator().manual_seed(1)) < 0.4
    seen[..., 0] = True
    mask = torch.zeros(seen.shape, dtype=BFLOAT16).masked_fill_(~seen, torch.finfo(BFLOAT16).min)
    wanted = exact(query, key, value, mask, 0.25)
    close(attention.scaled(query, key, value, mask, 0.25), wanted)
    close(attention.scaled(query, key, value, seen, 0.25), wanted)


def test_of_no_queries_there_is_nothing(faster):
    query, key, value = drawn(2, 0, 5)
    mask = attention.causal_mask(0, 5, BFLOAT16, "cpu")
    assert attention.scaled(query, key, value, mask, 0.25).shape == (2, 6, 0, 16)


def test_rows_of_padding_that_see_nothing_stay_finite(faster):
    query, key, value = drawn(1, 4, 9)
    mask = torch.full((1, 1, 4, 9), torch.finfo(BFLOAT16).min, dtype=BFLOAT16)
    assert attention.scaled(query, key, value, mask, 0.25).isfinite().all()


def test_blocks_change_nothing_but_the_last_digit(monkeypatch):
    query, key, value = drawn(1, 64, 100)
    whole = by_products(query, key, value, None, 0.25)
    monkeypatch.setattr(attention_by_products, "SCORES", 1)
    monkeypatch.setattr(attention_by_products, "ROWS", 5)
    torch.testing.assert_close(by_products(query, key, value, None, 0.25), whole, atol=8e-3, rtol=8e-3)


def test_what_learns_or_is_of_another_type_is_left_to_torch(faster, monkeypatch):
    def called(*_):
        raise AssertionError("attention by products")

    monkeypatch.setattr(attention_by_products, "by_products", called)
    query, key, value = drawn(1, 5, 5)
    mask = attention.causal_mask(5, 5, BFLOAT16, "cpu")
    attention.scaled(query.float(), key.float(), value.float(), mask.float(), 0.25)
    attention.scaled(query.requires_grad_(), key, value, mask, 0.25).sum().backward()
    assert query.grad is not None
    with torch.no_grad(), pytest.raises(AssertionError, match="by products"):
        attention.scaled(query, key, value, mask, 0.25)


def test_the_choice_of_products_ends_with_the_pass_even_if_it_fails(faster):
    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    query, key, value = drawn(1, 5, 5)
    by_products(query, key, value, None, 0.25)
    assert products.fp32_precision == before
    with pytest.raises(RuntimeError):
        by_products(query, key, value[:, :, :3], None, 0.25)
    assert products.fp32_precision == before


def test_a_model_is_no_further_from_its_float32_than_with_the_kernel(tmp_path, monkeypatch):
    folder = str(make_model(tmp_path / "model"))
    model, exact_model = (
        loading.load(folder, dtype=dtype, device="cpu") for dtype in ("bfloat16", "float32")
    )
    ids = torch.randint(4, 300, (2, 40), generator=torch.Generator().manual_seed(1))
    calls = []

    def counted(*given):
        calls.append(given)
        return by_products(*given)

    monkeypatch.setattr(attention_by_products, "by_products", counted)
    errors = []
    with torch.no_grad():
        wanted = exact_model.network(ids).logits
        for faster in (False, True):
            monkeypatch.setattr(attention_by_products, "faster_here", lambda faster=faster: faster)
            errors.append((model.network(ids).logits - wanted).abs().mean())
    assert len(calls) == model.config.num_hidden_layers
    assert errors[1] < 1.1 * errors[0]
