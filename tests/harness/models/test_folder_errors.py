"""Whatever is wrong in a model's folder is one line that names the file and the reason."""

import json

import pytest

from harness import UsageError
from harness.models import loading

from ...helpers.loading import edit, refused

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


POINTERS = [
    "model.safetensors",
    "tokenizer.json",
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
]


@pytest.mark.parametrize("name", POINTERS)
def test_a_git_lfs_pointer_is_named(folder, name):
    (folder / name).write_text(LFS)
    message = refused(folder)
    assert f"{name} is a git-lfs pointer" in message and "git lfs pull" in message


def test_adapters_are_not_models(folder):
    (folder / "adapter_config.json").write_text("{}")
    assert "holds an adapter beside the model" in refused(folder)
    (folder / "config.json").unlink()
    assert "is an adapter, not a model" in refused(folder)


def inner(file, **changes):
    """A change of the ``model`` entry of a tokenizer's file."""
    content = json.loads(file.read_text())
    content["model"].update(changes)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "file"),
    [
        (lambda f: inner(f / "tokenizer.json", type="BPE2"), "tokenizer"),
        (lambda f: inner(f / "tokenizer.json", merges=[["a"]]), "tokenizer"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json cannot"),
        (lambda f: (f / "tokenizer_config.json").write_text("[]"), "tokenizer_config.json cannot"),
        (lambda f: edit(f / "config.json", pad_token_id=423), "pad_token_id is 423"),
        (lambda f: edit(f / "config.json", num_key_value_heads=0), "num_key_value_heads is 0"),
        (lambda f: edit(f / "config.json", num_attention_heads=3), "attention heads (3)"),
        (
            lambda f: edit(f / "config.json", rope_parameters={"rope_type": "su", "factor": 2.0}),
            "ask for 'su'",
        ),
        (lambda f: edit(f / "config.json", eos_token_id="</s>"), "config.json"),
        (lambda f: edit(f / "config.json", hidden_act="wavy"), ""),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe{"), "config.json"),
        (
            lambda f: (f / "added_tokens.json").write_text("[1]"),
            "added_tokens.json cannot be read: it holds a list",
        ),
        (lambda f: (f / "special_tokens_map.json").write_text("[1]"), "special_tokens_map.json cannot"),
        (lambda f: edit(f / "tokenizer_config.json", bos_token=5), "tokenizer_config.json"),
        (lambda f: edit(f / "tokenizer_config.json", model_max_length="long"), "tokenizer_config.json"),
        (
            lambda f: (f / "model.safetensors").write_bytes(b"\x00" * 5 + b"\x01" + b"\x00" * 20),
            "model.safetensors",
        ),
        (
            lambda f: (f / "model.safetensors").write_bytes(b"\x08" + b"\x00" * 7 + b"not JSON"),
            "model.safetensors",
        ),
        (lambda f: ((f / "model.safetensors").unlink(), (f / "model.safetensors").mkdir()), "has no weights"),
        (
            lambda f: edit(f / "config.json", intermediate_size=100),
            "6 weights are missing or of another shape, first model.layers.0.mlp.down_proj.weight",
        ),
        (
            lambda f: edit(f / "config.json", rope_parameters={"rope_type": "linear", "factor": "4"}),
            "in rope_parameters (or rope_scaling) factor is '4', not a number",
        ),
        (lambda f: (f / "config.json").write_text("[]"), "config.json"),
    ],
)
def test_whatever_is_wrong_in_a_folder_is_one_line(folder, spoil, file):
    spoil(folder)
    with pytest.raises(UsageError) as caught:
        model = loading.load(str(folder), device="cpu")
        assert model.tokenizer_hash and model.network
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message and file in message


@pytest.mark.parametrize(
    "text",
    ['{"weight_map": {"a":', "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": "../m.safetensors"}}'],
)
def test_a_broken_index_is_one_line(folder, text):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(text)
    assert "model.safetensors.index.json cannot be read" in refused(folder)
