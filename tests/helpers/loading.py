"""What the tests of loading share: spoiling a model, writing one as GGUF, and how a refusal must look."""

import json

import gguf
import pytest
from safetensors.torch import load_file

from harness import UsageError
from harness.models import loading


def edit(path, **changes):
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def refused(name, **options):
    """The message with which `load` refuses, which must be a single line."""
    with pytest.raises(UsageError) as caught:
        loading.load(str(name), **{"device": "cpu", **options})
    message = str(caught.value)
    assert "\n" not in message and caught.value.exit_code == 2
    return message


def leftovers(cache):
    return sorted(
        path.name for path in cache.rglob("*") if ".converting" in path.name or "fetch-" in path.name
    )


def write_gguf(
    path, folder, architecture="llama", without=(), also=None, base=None, rotary=None, pre="gpt-2"
):
    """The tiny model as llama.cpp would write it: its names, its order of rotary dimensions, float32.

    `also` is called with the writer, to add keys and tensors; `base` and `rotary` are said instead of the model's.
    """
    config = json.loads((folder / "config.json").read_text())
    rules = json.loads((folder / "tokenizer.json").read_text())["model"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(rotary or config["head_dim"])
    writer.add_rope_freq_base(base or config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(sorted(rules["vocab"], key=rules["vocab"].get))
    writer.add_token_types([3 if i < 4 else 1 for i in range(config["vocab_size"])])
    writer.add_token_merges([" ".join(pair) for pair in rules["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, weight in load_file(folder / "model.safetensors").items():
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if part in name:
                split = weight.reshape(config[heads], 2, -1, weight.shape[1])
                weight = split.swapaxes(1, 2).reshape(weight.shape)
        if name not in without:
            writer.add_tensor(names.get_name(name, (".weight",)), weight.numpy())
    if also is not None:
        also(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
