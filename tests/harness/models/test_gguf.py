"""GGUF files: converted once, completely or not at all, into the very model they were made of."""

import hashlib
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from harness.models import gguf, loading

from ...helpers.loading import leftovers, refused, write_gguf


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
    monkeypatch.setattr(gguf, "dequantise", lambda *_: pytest.fail("converted again"))
    copy = shutil.copy(tiny_gguf, tmp_path / "other name.gguf")
    assert loading.load(str(copy), device="cpu").folder == first.folder


def test_an_interrupted_conversion_is_never_loaded(tiny_gguf, empty_cache, monkeypatch):
    def killed(file, folder):
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

    def beaten(file, folder):
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
