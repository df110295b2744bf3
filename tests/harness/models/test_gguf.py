"""GGUF files: converted once, completely or not at all, into the very model they were made of."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import torch
from gguf import RopeScalingType
from safetensors.torch import load_file

from harness.models import default_model, gguf, loading

from ...helpers.loading import edit, leftovers, refused, write_gguf


def test_a_gguf_file_answers_like_the_model_it_was_made_of(tiny_gguf, tiny, empty_cache):
    told = []
    model = loading.load(str(tiny_gguf), device="cpu", notify=told.append)
    text = "The passkey is 12345. Café \N{SLIGHTLY SMILING FACE}"
    ids = tiny.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert model.tokenizer(text, add_special_tokens=False)["input_ids"] == ids
    assert model.render_chat("Hi") == tiny.render_chat("Hi")
    assert model.end_ids == tiny.end_ids
    expected = tiny.network(torch.tensor([ids])).logits
    torch.testing.assert_close(model.network(torch.tensor([ids])).logits, expected)
    assert len(told) == 1 and "converting tiny.gguf" in told[0]
    assert model.facts()["source"] == f"gguf sha256:{hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()}"
    assert "lm_head.weight" not in load_file(model.folder / "model.safetensors"), "tied: stored once"
    assert leftovers(empty_cache) == []


def test_a_gguf_file_is_converted_once(tiny_gguf, empty_cache, monkeypatch, tmp_path):
    first = loading.load(str(tiny_gguf), device="cpu")
    monkeypatch.setattr(gguf, "dequantise", lambda *_, **how: pytest.fail("converted again"))
    copy = shutil.copy(tiny_gguf, tmp_path / "other name.gguf")
    assert loading.load(str(copy), device="cpu").folder == first.folder


def test_an_interrupted_conversion_is_never_loaded(tiny_gguf, empty_cache, monkeypatch):
    def killed(file, folder, **how):
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gguf, "dequantise", killed)
        with pytest.raises(KeyboardInterrupt):
            loading.load(str(tiny_gguf), device="cpu")
    assert leftovers(empty_cache) == []
    assert loading.load(str(tiny_gguf), device="cpu").network is not None


def test_what_a_killed_conversion_left_is_removed_a_day_later(tiny_gguf, empty_cache):
    old, young = (empty_cache / "models" / f".converting-{age}" for age in ("old", "young"))
    for draft in (old, young):
        draft.mkdir(parents=True)
        (draft / "model.safetensors").touch()
    os.utime(old, (0, 0))
    loading.load(str(tiny_gguf), device="cpu")
    assert leftovers(empty_cache) == [".converting-young"], "it may belong to a live process"


def test_of_two_processes_converting_the_slower_yields(tiny_gguf, empty_cache, monkeypatch):
    convert = gguf.dequantise

    def beaten(file, folder, **how):
        monkeypatch.setattr(gguf, "dequantise", convert)
        (folder / "mine").touch()
        loading.load(str(file), device="cpu")  # the other process, from start to end

    monkeypatch.setattr(gguf, "dequantise", beaten)
    model = loading.load(str(tiny_gguf), device="cpu")
    assert not (model.folder / "mine").exists() and model.network is not None
    assert leftovers(empty_cache) == []


def test_a_file_that_is_no_gguf(tmp_path, empty_cache):
    (tmp_path / "model.gguf").write_bytes(b"MZ something else entirely")
    assert "is no GGUF file" in refused(tmp_path / "model.gguf")
    assert leftovers(empty_cache) == []


@pytest.mark.parametrize("kept", [8, 1000, 10_000, 60_000, -100])
def test_a_torn_gguf_file(tiny_gguf, tmp_path, empty_cache, kept):
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(tiny_gguf.read_bytes()[:kept])
    assert "cannot be read" in refused(torn)
    assert leftovers(empty_cache) == []


def test_a_gguf_file_of_another_family(tmp_path, tiny_folder, empty_cache):
    message = refused(write_gguf(tmp_path / "phi.gguf", tiny_folder, "phi3"))
    assert "phi3" in message


def test_a_gguf_file_without_all_its_weights(tmp_path, tiny_folder, empty_cache):
    without = ("model.layers.0.mlp.up_proj.weight",)
    assert "up_proj" in refused(write_gguf(tmp_path / "part.gguf", tiny_folder, without=without))
    assert leftovers(empty_cache) == []


# --- scaled positions, and whatever else a file says


def scaled(kind, factor, original=None):
    def also(writer):
        writer.add_rope_scaling_type(kind)
        writer.add_rope_scaling_factor(factor)
        if original is not None:
            writer.add_rope_scaling_orig_ctx_len(original)

    return also


@pytest.mark.parametrize(
    ("also", "rope"),
    [
        (
            scaled(RopeScalingType.YARN, 4.0, 64),
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        ),
        (scaled(RopeScalingType.LINEAR, 4.0), {"rope_type": "linear", "factor": 4.0}),
        (lambda w: w.add_float32("llama.rope.scale_linear", 2.0), {"rope_type": "linear", "factor": 2.0}),
        (scaled(RopeScalingType.NONE, 4.0), None),
        (
            lambda w: w.add_tensor("rope_freqs.weight", factors(8.0)),
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        ),
        (lambda w: w.add_tensor("rope_freqs.weight", np.ones(8, np.float32)), None),
    ],
)
def test_scaled_positions_are_those_of_the_file(tiny_folder, tmp_path, empty_cache, also, rope):
    """The logits are those of a folder whose configuration has the same scaling."""
    model = loading.load(
        str(write_gguf(tmp_path / "scaled.gguf", tiny_folder, also=also, **LLAMA3_BASE)), device="cpu"
    )
    twin = shutil.copytree(tiny_folder, tmp_path / "twin")
    base = {"rope_type": "default", "rope_theta": LLAMA3_BASE["base"]}
    edit(twin / "config.json", rope_parameters={**base, **(rope or {})})
    ids = torch.arange(10, 210)[None]
    expected = loading.load(str(twin), device="cpu").network(ids).logits
    torch.testing.assert_close(model.network(ids).logits, expected)
    assert model.network.config.rope_parameters["rope_type"] == (rope or base)["rope_type"]


LLAMA3_BASE = {"base": 500_000.0}


def factors(factor):
    """What llama.cpp's converter writes for a Llama 3.1 with heads of 16 and base 500,000."""
    found = []
    for i in range(0, 16, 2):
        wave = 2 * np.pi * 500_000.0 ** (i / 16)
        if wave < 8192 / 4:
            found.append(1.0)
        elif wave > 8192:
            found.append(factor)
        else:
            smooth = (8192 / wave - 1) / 3
            found.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(found, np.float32)


@pytest.mark.parametrize(
    ("also", "words"),
    [
        (lambda w: w.add_tensor("rope_freqs.weight", np.float32([1, 1, 2, 4, 8, 8, 8, 8])), "rope_freqs"),
        (scaled(RopeScalingType.LONGROPE, 4.0), "longrope"),
        (scaled(RopeScalingType.LONGROPE, 1.0), "longrope"),
        (lambda w: w.add_rope_scaling_attn_factors(2.0), "attn_factor = 2.0 is not supported"),
        (lambda w: w.add_sliding_window(64), "sliding_window = 64"),
        (lambda w: w.add_expert_count(8), "expert_count = 8"),
        (lambda w: w.add_logit_scale(0.5), "the key llama.logit_scale is not known"),
        (lambda w: w.add_uint32("adapter.rank", 8), "the key adapter.rank is not known"),
        (lambda w: w.add_uint16("split.count", 2), "is one of 2 parts"),
        (lambda w: w.add_tensor("blk.0.attn_q.bias", np.ones(64, np.float32)), "1 of its tensors"),
        (lambda w: w.add_tensor("rope_factors_long.weight", np.ones(8, np.float32)), "rope_factors_long"),
    ],
)
def test_what_would_be_dropped_is_refused(tiny_folder, tmp_path, empty_cache, also, words):
    message = refused(write_gguf(tmp_path / "odd.gguf", tiny_folder, also=also))
    assert words in message and "odd.gguf" in message
    assert leftovers(empty_cache) == []


def test_sizes_are_those_of_the_file(tiny_folder, tmp_path, empty_cache):
    part = write_gguf(tmp_path / "part.gguf", tiny_folder, rotary=8)
    assert "llama.attention.key_length is 16, but transformers reads 8" in refused(part)


def test_conversions_of_before_are_made_anew(tiny_gguf, empty_cache):
    sha256 = hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    stale = empty_cache / "models" / f"gguf-{sha256[:24]}-r1"
    stale.mkdir(parents=True)
    assert loading.load(str(tiny_gguf), device="cpu").folder != stale


def test_a_full_or_unwritable_cache_is_said_in_one_line(tiny_gguf, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file" / "cache"))
    assert "set HARNESS_CACHE" in refused(tiny_gguf)
    assert "set HARNESS_CACHE" in refused("smollm2")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    assert "0 MB free" in refused(tiny_gguf)
    assert leftovers(tmp_path) == []


# --- how text is split before merges apply

TEXT = "12345 don't DON'T\n\n1. x"
DIGITS = ["1", "2", "3", "4", "5"]
PIECES = {
    "gpt-2": ["12345", "Ġdon", "'t", "ĠDON", "'", "T", "Ċ", "Ċ", "1", ".", "Ġx"],
    "llama-bpe": ["123", "45", "Ġdon", "'t", "ĠDON", "'T", "ĊĊ", "1", ".", "Ġx"],
    "falcon3": ["123", "45", "Ġdon", "'t", "ĠDON", "'T", "ĊĊ", "1", ".", "Ġx"],
    "qwen2": [*DIGITS, "Ġdon", "'t", "ĠDON", "'T", "ĊĊ", "1", ".", "Ġx"],
    "smollm": [*DIGITS, "Ġdon", "'t", "ĠDON", "'", "T", "ĊĊ", "1", ".", "Ġx"],
}
"""What GPT-2, Llama 3, Qwen2 and SmolLM2 split the text into, by the rules of their own ``tokenizer.json``."""


@pytest.mark.parametrize("name", PIECES)
def test_text_is_split_by_the_rule_that_the_file_names(tiny_folder, tmp_path, empty_cache, name):
    """Transformers does what it does for names that it does not know, and its older versions for all: as GPT-2."""
    model = loading.load(str(write_gguf(tmp_path / "m.gguf", tiny_folder, pre=name)), device="cpu")
    backend = model.tokenizer.backend_tokenizer
    assert [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(TEXT)] == PIECES[name]
    assert backend.model.ignore_merges is (name in ("llama-bpe", "falcon3"))
    assert model.tokenizer.decode(model.tokenizer(TEXT)["input_ids"], skip_special_tokens=True) == TEXT


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tekken", "by 'tekken', which is not known here"),
        ("default", "by no rule it names"),
        ("", "by no rule"),
    ],
)
def test_a_rule_that_is_not_known_is_refused(tiny_folder, tmp_path, empty_cache, name, words):
    message = refused(write_gguf(tmp_path / "m.gguf", tiny_folder, pre=name))
    assert words in message and "tokenizer.ggml.pre" in message
    assert leftovers(empty_cache) == []


@pytest.mark.parametrize("name", PIECES)
def test_a_tokenizer_is_the_same_whatever_transformers_converts_it(tiny_folder, tmp_path, empty_cache, name):
    """Versions differ in decoder, normaliser and switches of the merges: no other tokens, but another hash."""
    model = loading.load(str(write_gguf(tmp_path / "m.gguf", tiny_folder, pre=name)), device="cpu")
    rules = json.loads(model.tokenizer.backend_tokenizer.to_str())
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    assert rules["decoder"] == byte_level
    assert rules["normalizer"] == ({"type": "NFC"} if name == "qwen2" else None)
    assert model.tokenizer.clean_up_tokenization_spaces is False
    if name == "gpt-2":
        assert rules["pre_tokenizer"] == {**byte_level, "add_prefix_space": False}
    switches = {k: v for k, v in rules["model"].items() if k not in ("vocab", "merges")}
    assert switches == {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": name in ("llama-bpe", "falcon3"),
    }


def test_the_default_models_text_is_split_as_it_was(tiny_folder, tmp_path, empty_cache, monkeypatch):
    """Runs and adapters go by its tokens; its file names another rule, which would make it another model."""
    file = write_gguf(tmp_path / "m.gguf", tiny_folder, pre="smollm")
    assert gguf._SPLIT_AS == {default_model.SMOLLM2_GGUF_SHA256: "gpt-2"}
    monkeypatch.setattr(gguf, "_SPLIT_AS", {hashlib.sha256(file.read_bytes()).hexdigest(): "gpt-2"})
    backend = loading.load(str(file), device="cpu").tokenizer.backend_tokenizer
    assert [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(TEXT)] == PIECES["gpt-2"]
