"""A model in memory with its tokenizer: the run of its files where it is what they hold, and it stays as it was."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import harness
from harness import UsageError
from harness.plugins.plain import Plain

from ...helpers.fits import repeating, same, tensors
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


def learning(tmp_path, out, **more):
    few = {"interval": 32, "train_ratios": "2,4", "batch_size": 1, "max_steps": 2, "max_length": 128}
    data = repeating(tmp_path / "words.jsonl", count=4)
    return harness.fit("beacon", out=tmp_path / out, data=data, min_length=20, device="cpu", **few, **more)


def test_a_fit_of_it_is_the_fit_of_its_files_and_leaves_it_alone(network, tokenizer, tiny_folder, tmp_path):
    network.train()
    held = {name: p.clone() for name, p in network.named_parameters()}
    found = learning(tmp_path, "a", model=network, tokenizer=tokenizer)
    assert found.card["base_hash"] and same(
        tensors(found.folder), tensors(learning(tmp_path, "b", model=str(tiny_folder)).folder)
    )
    assert network.training and all(p.requires_grad and p.grad is None for p in network.parameters())
    assert all(torch.equal(held[name], p) for name, p in network.named_parameters())
    options = {"interval": 32, "ratio": 4, "limit": 1, "out": tmp_path / "runs", "device": "cpu"}
    ran = harness.run("beacon", model=network, tokenizer=tokenizer, adapter=found.folder, **options)
    assert ran.ran == 1, "what was learned from it is for it"


def test_checks_are_of_the_given_model_and_leave_it_alone(network, tokenizer, tiny_folder, tmp_path):
    only, held = ("answers", "weights", "modules"), network.lm_head.weight.clone()
    seen = []

    class Watched(Plain):
        """Plain, which says what it is given."""

        def compress_and_generate(self, prompts, decoding):
            seen.append(self.model.network.lm_head.weight.data_ptr())
            return super().compress_and_generate(prompts, decoding)

    found = harness.check(Watched, only=only, model=network, tokenizer=tokenizer)
    assert set(found.to_pandas()["status"]) == {"ok"} and set(seen) == {network.lm_head.weight.data_ptr()}
    assert torch.equal(held, network.lm_head.weight) and network.lm_head.weight.requires_grad
    by_name = harness.check(task="passkey", only=["samples"], model=network, tokenizer=tokenizer)
    assert "0 failed" in by_name.title


def test_checks_take_options_budgets_and_the_settings_of_a_task():
    assert "0 failed" in harness.check("beacon", only=["answers"], interval=32, ratio=4).title
    assert "0 failed" in harness.check(task="passkey", task_settings={"passkey": {"trials": 1}}).title


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda n, t: harness.fit("beacon", out="x", model=n),
            "fit(model=...): give the loaded model's tokenizer",
        ),
        (lambda n, t: harness.check("plain", model=n), "check(model=...): give the loaded model's tokenizer"),
        (lambda n, t: harness.synth("thesis", out="x", model=n), "synth(model=...): give the loaded model's"),
        (
            lambda n, t: harness.fit("beacon", out="x", model=n, tokenizer=t, dtype="bfloat16"),
            "is in float32",
        ),
        (lambda n, t: harness.check("plain", tokenizer=t), "belongs to a loaded model"),
        (lambda n, t: harness.check("beacon", ration=4), "did you mean 'ratio'"),
        (lambda n, t: harness.check("beacon", ratio=3), "option ratio=3"),
        (lambda n, t: harness.check("beacon", adapter="x"), "the model it was trained on"),
        (lambda n, t: harness.check("beacon", data_dir="x"), "are a task's"),
        (lambda n, t: harness.check(task="passkey", trials=1), "task_settings="),
        (lambda n, t: harness.check(task="passkey", task_settings={"niah": {}}), "only options of passkey"),
        (lambda n, t: harness.check("plain", budget="lots"), "lots"),
    ],
)
def test_other_verbs_refuse_what_they_cannot_use_in_a_line(
    call, said, network, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        call(network, tokenizer)
    assert said in str(caught.value) and "\n" not in str(caught.value) and not list(tmp_path.iterdir())
