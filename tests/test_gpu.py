"""On a GPU: the answers of the CPU, the type that is native, memory that is seen. Skipped where there is none."""

import pytest
import torch

from harness.inference import memory
from harness.models import loading, precision

from .helpers.running import run, settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
]


@pytest.mark.parametrize("method", ["plain", "streaming", "beacon"])
@pytest.mark.parametrize("batch_size", [1, "auto"])
def test_the_answers_are_those_of_the_cpu(tiny_folder, tmp_path, method, batch_size):
    options = {"beacon": {"interval": 16, "ratio": "2"}, "streaming": {"recent": 60, "chunk": 32}}.get(
        method, {}
    )
    found = []
    for device in ("cpu", "cuda"):
        wanted = settings(
            tiny_folder, tmp_path, method=method, options=options, device=device, dtype="float32",
            batch_size=batch_size,
        )  # fmt: skip
        found.append({key: r["prediction"] for key, r in run(wanted)[1].items()})
    assert found[0] == found[1]


def test_the_type_is_native_and_the_memory_is_known(tiny_folder):
    model = loading.load(str(tiny_folder), device="cuda")
    assert model.dtype == ("bfloat16" if precision.native_bfloat16("cuda") else "float32")
    assert model.network.device.type == "cuda" and memory.free("cuda") > 0


def test_attention_with_the_mask_built_in_is_that_with_the_mask(tiny_folder):
    """An interval read after a memory, in the type and on the kernel that a GPU prefers."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from harness.models import attention

    model = loading.load(str(tiny_folder), device="cuda", dtype="bfloat16")
    layer = model.network.model.layers[0].self_attn
    sizes = ((4, 256), (2, 1280), (2, 1280))
    query, key, value = (torch.randn(1, h, n, 64, device="cuda", dtype=torch.bfloat16) for h, n in sizes)
    mask = attention.causal_mask(256, 1280, torch.bfloat16, "cuda")
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        found, _ = attention.attend(layer, query, key, value, mask, scaling=0.125)
    expected, _ = attention.attend(layer, query, key, value, mask.clone(), scaling=0.125)
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)


def test_reading_by_intervals_makes_nobody_wait(tiny_folder):
    """As `tests/plugins/test_waiting.py`, by torch's own watch over the device."""
    from harness.inference.meter import observe
    from harness.plugins.beacon.engine import ActivationBeacon
    from harness.plugins.beacon.projections import MultiHeadBeacon
    from harness.plugins.beacon.reading import Reading

    model = loading.load(str(tiny_folder), device="cuda")
    engine = ActivationBeacon(model.network, MultiHeadBeacon(model.network), 32)
    ids = list(range(5, 5 + 150))
    with torch.no_grad(), observe(model.network, "cuda", 1):
        engine.read([Reading()], [ids], lambda row, window: 4)  # what is made once may wait
        torch.cuda.set_sync_debug_mode("error")
        try:
            engine.read([Reading()], [ids], lambda row, window: 4)
        finally:
            torch.cuda.set_sync_debug_mode("default")
