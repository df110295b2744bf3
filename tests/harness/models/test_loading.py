"""Models by name: what is refused before anything large is read, and which weights a name stands for."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import UsageError
from harness.models import loading
from harness.testing.tiny import make_model

from ...helpers.loading import edit, refused

# --- a model as found


def test_nothing_heavy_is_imported_with_the_module():
    code = "import sys, harness.models.loading; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_weights_stay_unread_until_they_are_used(tiny_folder):
    model = loading.load(str(tiny_folder), device="cpu")
    assert model.facts()["parameters"] is None
    assert (model.native_length, model.context_length, model.dtype, model.device) == (
        256,
        256,
        "float32",
        "cpu",
    )
    assert model.network is model.network
    assert model.facts()["parameters"] == sum(p.numel() for p in model.network.parameters())


def test_the_network_is_frozen_and_in_the_dtype_asked_for(tiny_folder):
    network = loading.load(str(tiny_folder), device="cpu", dtype="bfloat16").network
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_facts_are_json_and_do_not_change_by_loading(tiny, tiny_folder):
    unread = loading.load(str(tiny_folder), device="cpu").facts()
    read = json.loads(json.dumps(tiny.facts()))
    assert {k: v for k, v in read.items() if k != "parameters"} == {
        k: v for k, v in unread.items() if k != "parameters"
    }
    assert read["architecture"] == "llama" and read["chat"] == "template"


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3"])
def test_the_other_families_load(tmp_path, family):
    model = loading.load(str(make_model(tmp_path, family)), device="cpu")
    assert model.facts()["architecture"] == family == model.network.config.model_type


# --- options out of range


def test_the_context_can_only_be_made_smaller(tiny_folder):
    assert loading.load(str(tiny_folder), device="cpu", context_length=64).context_length == 64
    assert "made for 256 tokens" in refused(tiny_folder, context_length=257)
    assert "at least 1" in refused(tiny_folder, context_length=0)
    assert "at least 1" in refused(tiny_folder, context_length=-5)


def test_wrong_settings_are_named(tiny_folder):
    assert "'float16'" in refused(tiny_folder, dtype="fp16")
    assert "no value of --chat named 'always'" in refused(tiny_folder, chat="always")
    assert "not a device" in refused(tiny_folder, device="toaster")
    if not torch.backends.mps.is_available():
        assert "not available here" in refused(tiny_folder, device="mps")
    if torch.cuda.device_count() < 99:
        assert "CUDA devices" in refused(tiny_folder, device="cuda:98")


# --- names and folders that are refused


def test_unknown_names():
    assert "did you mean 'smollm2'" in refused("smolm2")
    assert "no such folder" in refused("./nowhere/at/all")
    assert "no such file" in refused("nowhere.gguf")
    assert "cannot be fetched from the Hub" in refused("nobody/nothing")
    assert "cannot be fetched from the Hub" in refused("nobody/nothing", offline=True)


def test_another_architecture_is_refused(folder):
    edit(folder / "config.json", model_type="gpt2")
    assert "is a gpt2; supported families: llama" in refused(folder)


def test_quantised_weights_are_refused(folder):
    edit(folder / "config.json", quantization_config={"quant_method": "gptq"})
    assert "quantised" in refused(folder)


def test_a_broken_config_is_refused(folder):
    (folder / "config.json").write_text("{")
    assert "config.json cannot be read: Expecting property name" in refused(folder)
    (folder / "config.json").write_text("{}")
    assert "not a model configuration" in refused(folder)
    (folder / "config.json").unlink()
    assert "no config.json" in refused(folder)


def test_pickled_weights_are_refused_unopened(folder):
    (folder / "model.safetensors").unlink()
    assert "has no weights" in refused(folder)
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    assert "only pickled weights (pytorch_model.bin)" in refused(folder)


def test_a_missing_shard_is_refused(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert "incomplete" in refused(folder) and "model-00002" in refused(folder)


def test_missing_weights_are_not_drawn_at_random(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=r"1 weights are missing .*layers\.1\.mlp\.up_proj"):
        _ = loading.load(str(folder), device="cpu").network


def with_weights(folder, **more):
    """The model's weight file with more tensors in it."""
    path = folder / "model.safetensors"
    save_file({**load_file(path), **more}, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["model.layers.0.self_attn.q_proj.bias"], "1 weights of its files are not in the model"),
        (["model.layers.2.mlp.up_proj.weight"], r"first model\.layers\.2\.mlp"),
        (["score.weight", "score.bias"], "2 weights .* first score.bias"),
        (["model.layers.0.mlp.up_proj.weight_scale_inv"], "weight_scale_inv"),
        (["model.beacon_embed_tokens.weight"], "is a checkpoint of Activation Beacon .*--method beacon"),
    ],
)
def test_weights_that_the_model_does_not_use_are_refused_or_marked(folder, names, words):
    with_weights(folder, **{name: torch.ones(4) for name in names})
    with pytest.raises(UsageError, match=words):
        _ = loading.load(str(folder), device="cpu").network
    model = loading.load(str(folder), device="cpu", allow_unused_weights=True)
    assert "unused_weights" not in model.facts(), "nothing was read yet"
    assert model.network is not None and model.facts()["unused_weights"] == sorted(names)


def test_weights_that_every_model_computes_are_no_loss(folder):
    with_weights(folder, **{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    model = loading.load(str(folder), device="cpu")
    assert model.network is not None and "unused_weights" not in model.facts()


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_numbers_that_need_a_scale_are_refused(folder, dtype):
    name = "model.layers.0.mlp.up_proj.weight"
    with_weights(folder, **{name: load_file(folder / "model.safetensors")[name].to(dtype)})
    with pytest.raises(UsageError, match=r"1 weights of model\.safetensors are quantised"):
        _ = loading.load(str(folder), device="cpu", allow_unused_weights=True).network


def test_damaged_or_foreign_weights_are_refused_in_one_line(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1000])
    with pytest.raises(UsageError, match="cannot be read") as torn:
        _ = loading.load(str(folder), device="cpu").network
    (folder / "model.safetensors").write_bytes(whole)
    edit(folder / "config.json", intermediate_size=128)
    with pytest.raises(UsageError) as foreign:
        _ = loading.load(str(folder), device="cpu").network
    assert "\n" not in str(torn.value) + str(foreign.value)


def test_a_config_that_contradicts_itself_is_refused(folder):
    edit(folder / "config.json", hidden_size="many")
    assert "config.json" in refused(folder) and "hidden_size" in refused(folder)


def test_a_folder_without_tokenizer_is_refused(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UsageError, match="tokenizer"):
        _ = loading.load(str(folder), device="cpu").tokenizer


# --- hashes


def test_the_hash_follows_weights_and_configuration_and_nothing_else(folder, tiny):
    def now():
        return loading.load(str(folder), device="cpu").content_hash

    first = now()
    assert first == tiny.content_hash, "the same model in another place"
    edit(folder / "config.json", transformers_version="0.0.1", _name_or_path="elsewhere")
    assert now() == first
    edit(folder / "config.json", rms_norm_eps=1e-3)
    changed_config = now()
    assert changed_config != first
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert now() not in (first, changed_config)


def test_a_hash_is_remembered_by_path_size_and_time(folder, monkeypatch):
    first = loading.load(str(folder), device="cpu").content_hash
    reads = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: reads.append(a) or digest(*a))
    assert loading.load(str(folder), device="cpu").content_hash == first and not reads
    (folder / "model.safetensors").touch()
    assert loading.load(str(folder), device="cpu").content_hash == first and len(reads) == 1


def test_weights_changed_with_size_and_time_kept_are_noticed(folder):
    file = folder / "model.safetensors"
    before, first = file.stat(), loading.load(str(folder), device="cpu").content_hash
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert loading.load(str(folder), device="cpu").content_hash != first


def test_a_cache_that_cannot_be_written_costs_only_time(folder, tiny, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file" / "cache"))
    assert loading.load(str(folder), device="cpu").content_hash == tiny.content_hash


def test_the_tokenizer_hash_follows_the_template_but_not_the_calls(folder, tiny):
    model = loading.load(str(folder), device="cpu")
    model.tokenizer(["a", "b c"], padding=False, truncation=True, max_length=1)
    assert model.tokenizer_hash == tiny.tokenizer_hash
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}!")
    assert loading.load(str(folder), device="cpu").tokenizer_hash != tiny.tokenizer_hash
    assert loading.load(str(folder), device="cpu").content_hash == tiny.content_hash


def test_a_device_that_computes_nothing_is_refused(tiny_folder):
    assert "--device meta" in refused(str(tiny_folder), device="meta")
