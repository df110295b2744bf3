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
    options = {"interval": 16, "ratio": "2"} if method == "beacon" else {}
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
