"""The window of a model: by which entry of its configuration, and one over which two passes are as good as one."""

import pytest
import torch

from harness.inference.forward import feed
from harness.inference.kvcache import KVCache
from harness.models import loading
from harness.testing.tiny import make_model

from ...helpers.loading import edit, refused

HALF = 8  # frequencies of a head
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
    "short_factor": [1.0] * HALF,
    "long_factor": [1.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0],
}
LLAMA3 = {**YARN, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def made(folder, rope, window=256, family="llama", **asked):
    path = make_model(folder, family, max_position_embeddings=window, rope_parameters=rope)
    return loading.load(str(path), device="cpu", **asked)


@pytest.mark.parametrize(
    ("rope", "window", "expected", "source"),
    [
        (YARN, 128, 512, "YaRN, 4 x 128"),
        (YARN, 512, 512, "max_position_embeddings"),
        (YARN, 600, 600, "max_position_embeddings"),
        ({**YARN, "rope_type": "linear"}, 256, 256, "max_position_embeddings"),
        ({**YARN, "rope_type": "dynamic"}, 256, 256, "max_position_embeddings"),
        (LLAMA3, 256, 256, "max_position_embeddings"),
    ],
)
def test_the_window_and_its_source(tmp_path, rope, window, expected, source):
    model = made(tmp_path, rope, window, "qwen2")
    assert model.native_length == model.context_length == expected
    assert model.facts()["reading"]["native_length"] == source
    message = refused(tmp_path, context_length=expected + 1)
    assert f"was made for {expected} tokens ({source})" in message


def test_a_window_that_nobody_said_is_refused(folder):
    edit(folder / "config.json")
    content = (folder / "config.json").read_text().replace('"max_position_embeddings": 256,', "")
    (folder / "config.json").write_text(content)
    assert "has no max_position_embeddings (transformers would take 2048)" in refused(folder)
    model = loading.load(str(folder), device="cpu", context_length=200)
    assert model.native_length == model.context_length == 200


def test_longrope_is_read_within_the_length_that_its_factors_keep(tmp_path):
    make_model(tmp_path, max_position_embeddings=512, rope_parameters=LONG)
    assert "LongRoPE" in refused(tmp_path) and "--context-length 128" in refused(tmp_path)
    assert "LongRoPE" in refused(tmp_path, context_length=129)
    assert loading.load(str(tmp_path), device="cpu", context_length=128).context_length == 128


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "default", "rope_theta": 10000.0},
        {**YARN, "rope_type": "linear"},
        {**YARN, "rope_type": "dynamic"},
        YARN,
        LLAMA3,
        LONG,
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_two_passes_are_one_over_the_whole_window(tmp_path, rope):
    kind = rope["rope_type"]
    asked = {"context_length": 128} if kind == "longrope" else {}
    model = made(tmp_path, rope, 512 if kind == "longrope" else 256, **asked)
    ids = [10 + i * 7 % 390 for i in range(model.context_length)]
    with torch.no_grad():
        whole = model.network.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        for split in (len(ids) // 2, len(ids) - 30):
            caches, _ = feed(model.network, [KVCache()], [ids[:split]])
            _, hidden = feed(model.network, caches, [ids[split:]])
            torch.testing.assert_close(hidden[0][-1], whole[-1], rtol=1e-3, atol=1e-3)
