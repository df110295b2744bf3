"""A model in memory with its tokenizer: the run of its files where it is what they hold, and it stays as it was."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import harness
from harness import UsageError

from ...helpers.running import one_thread


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture
def network(tiny_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return AutoTokenizer.from_pretrained(tiny_folder)


@pytest.fixture
def run(tmp_path):
    return lambda **given: harness.run(**{"limit": 2, "out": tmp_path, "device": "cpu", **given})


def answers(found):
    return [r.prediction for r in found.load().records.values()]


@pytest.mark.parametrize("method", ["plain", "beacon"])
def test_it_is_the_run_of_the_files_it_came_from(method, network, tokenizer, tiny_folder, run):
    options = {"interval": 32, "ratio": 8} if method == "beacon" else {}
    network.train()
    held = {name: p.clone() for name, p in network.named_parameters()}
    found = run(method=method, model=network, tokenizer=tokenizer, **options)
    again = run(method=method, model=str(tiny_folder), **options)
    assert found.ran == 2 and again.ran == 0 and found.folder == again.folder
    assert network.training and all(p.requires_grad for p in network.parameters()), "theirs stays as it is"
    assert network.config._attn_implementation != "harness_sdpa"
    assert all(torch.equal(held[name], p) for name, p in network.named_parameters())
    assert network(torch.tensor([[1, 2, 3]])).logits.requires_grad


def test_other_weights_are_another_model(network, tokenizer, tiny_folder, run, tmp_path):
    before = run(model=str(tiny_folder))
    with torch.no_grad():
        network.lm_head.weight.mul_(-1)
    changed = run(model=network, tokenizer=tokenizer)
    assert changed.folder != before.folder and "loaded-" in changed.folder.name
    assert changed.load().content["model"]["source"] == "in memory"
    assert run(model=network, tokenizer=tokenizer).ran == 0, "the same weights are the same run"
    network.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    saved = run(model=str(tmp_path / "saved"))
    assert answers(saved) == answers(changed) != answers(before), "what was run is what was given"


def test_weights_are_shared_and_not_copied(network, tokenizer):
    from harness.models.loaded import LoadedModel

    model = LoadedModel(network, tokenizer)
    theirs = {p.data_ptr() for p in network.parameters()}
    assert {p.data_ptr() for p in model.network.parameters()} == theirs


def hooked(network):
    network.model.layers[0].register_forward_hook(lambda *_: None)
    return network


@pytest.mark.parametrize(
    ("change", "given", "said"),
    [
        (None, {"tokenizer": None}, "tokenizer too: tokenizer="),
        (None, {"dtype": "bfloat16"}, "the loaded model is in float32"),
        (None, {"join": True}, "other processes cannot use a loaded model"),
        (hooked, {}, "model.layers.0 carries a hook"),
        (lambda n: n.to(torch.float64), {}, "is in float64; load it in one of"),
        (lambda n: n.model, {}, "is no causal language model"),
        (lambda n: object(), {}, "give a model's name, folder or file, or a PreTrainedModel"),
        (lambda n: "plain", {}, "one by name has its own"),
    ],
)
def test_what_could_not_be_run_as_it_is_is_refused(change, given, said, network, tokenizer, run, tmp_path):
    model = network if change is None else change(network)
    with pytest.raises(UsageError, match=said) as caught:
        run(**{"model": model, "tokenizer": tokenizer, **given})
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
