"""`rope_scaling`: its frequencies, what a fit learns and leaves alone, and stages that go on from one another."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from harness import UsageError
from harness.cli import invoke
from harness.contracts.fit import Schedule
from harness.inference.forward import feed
from harness.inference.kvcache import KVCache
from harness.models import loading
from harness.plugins.plain import Plain
from harness.plugins.position_scaling import PositionScaling, PositionScalingOptions
from harness.plugins.rope_scaling.method import RopeScaling
from harness.plugins.rope_scaling.options import RopeFitOptions, RopeOptions, own_scaling
from harness.plugins.rope_scaling.training import LongTraining, recomputing, skipped
from harness.testing.tiny import make_model

from ..helpers.asking import ask, fingerprint, prompt
from ..helpers.fits import random_examples, repeating

WINDOW = 256
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def method_of(model, **options):
    return RopeScaling(model, RopeOptions(**options))


def options(**values):
    return RopeFitOptions.parse(values, "fit")


def published(tiny, tmp_path, **parameters):
    """The tiny model, weights and all, as if it had been published with those rotary parameters."""
    folder = tmp_path / "published"
    tiny.network.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    config = AutoConfig.from_pretrained(tiny.folder)
    config.rope_parameters = {**config.rope_parameters, **parameters}
    config.save_pretrained(folder)
    return loading.load(str(folder), device="cpu")


def fitted(model, folder, data=None, adapter=None, **values):
    method = method_of(model)
    if adapter is not None:
        method.load(adapter)
    chosen = options(**values)
    method.check_fit(chosen)
    data = data or random_examples(40, 60)
    schedule = Schedule(folder / "training", batch_size=1, max_steps=2, learning_rate=1e-2)
    report = method.fit(data, schedule, chosen)
    method.save(folder, {})
    return method, report


def hidden_of(model, method, ids):
    with method.changed():
        return feed(model.network, [KVCache()], [ids])[1].detach()


# --- frequencies


@pytest.mark.parametrize("own", [{}, LLAMA3], ids=["plain", "llama3"])
def test_untrained_it_is_the_model_with_another_base(tiny, tmp_path, own):
    model = published(tiny, tmp_path / "own", **own)
    theta = own.get("rope_theta", 10000.0)
    other = published(tiny, tmp_path / "other", **{**own, "rope_theta": theta * 4})
    ids = list(prompt(tiny, 140).ids)
    assert len(ids) > WINDOW
    mine = hidden_of(model, method_of(model, window=2 * WINDOW), ids)
    torch.testing.assert_close(mine, hidden_of(other, method_of(other), ids), rtol=0, atol=1e-5)
    assert (mine - hidden_of(model, method_of(model), ids)).abs().max() > 0.01, "the base must show"


def test_without_a_window_it_is_plain(tiny):
    one = prompt(tiny, 60)
    [mine], _ = ask(method_of(tiny), [one], 8)
    [plain], _ = ask(Plain(tiny, Plain.Options()), [one], 8)
    assert mine.token_ids == plain.token_ids
    assert method_of(tiny).context_limit() == WINDOW and method_of(tiny, window=600).context_limit() == 600
    assert method_of(tiny, window=600).facts()["rope_scaling"] == "untrained"


def test_the_rules(tiny):
    config = AutoConfig.for_model(
        "llama",
        hidden_size=4096,
        num_attention_heads=32,
        max_position_embeddings=131072,
        rope_parameters=LLAMA3,
    )
    own = own_scaling(config, 131072)
    stages = [own.extended(config, 131072 * 2**n, None, None).theta for n in (1, 2, 3)]
    assert stages == [2e6, 8e6, 32e6], "SelfLong's: quadrupled for each doubling"
    one = own.extended(config, 262144, None, None)
    assert one.extended(config, 524288, None, None) == own.extended(config, 524288, None, "x4"), (
        "in two stages"
    )
    assert own.extended(config, 262144, None, "ntk").theta == pytest.approx(5e5 * 2 ** (128 / 126))
    assert own.extended(config, 262144, None, "yarn").theta == 5e5
    assert own.extended(config, 262144, 7e6, None).theta == 7e6
    smollm2 = AutoConfig.for_model(
        "llama",
        hidden_size=576,
        num_attention_heads=9,
        rope_parameters={"rope_type": "default", "rope_theta": 1e5},
    )
    ntk = [own_scaling(smollm2, 8192).extended(smollm2, w, None, "ntk").theta for w in (16384, 32768)]
    assert [round(t) for t in ntk] == [204522, 418294]


@pytest.mark.parametrize("own", [{}, LLAMA3], ids=["plain", "llama3"])
def test_yarn_is_position_scalings(tiny, tmp_path, own):
    model = published(tiny, tmp_path, **own)
    ids = list(prompt(tiny, 140).ids)
    mine = hidden_of(model, method_of(model, window=2 * WINDOW, rule="yarn"), ids)
    scaling = PositionScaling(model, PositionScalingOptions(rope="yarn", factor=2.0))
    with scaling.scaled(2.0):
        theirs = feed(model.network, [KVCache()], [ids])[1]
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("rope", ["linear", "ntk", "dynamic", "yarn"])
def test_position_scaling_scales_on_top_of_llama3(tiny, tmp_path, rope):
    model = published(tiny, tmp_path, **LLAMA3)
    own = model.network.model.rotary_emb.inv_freq.clone()
    before = fingerprint(model.network)
    method = PositionScaling(model, PositionScalingOptions(rope=rope, factor=4.0))
    with method.scaled(4.0 if rope != "dynamic" else 3.0):
        scaled = model.network.model.rotary_emb.inv_freq.clone()
    kept, lowest = scaled[0] / own[0], scaled[-1] / own[-1]
    assert kept == pytest.approx(0.25 if rope == "linear" else 1.0, abs=0.05)
    assert float(lowest) == pytest.approx({"dynamic": 1 / 9}.get(rope, 0.25), rel=1e-4)
    with method.scaled(1.0):
        torch.testing.assert_close(model.network.model.rotary_emb.inv_freq, own)
    assert fingerprint(model.network) == before
    ask(method, [prompt(tiny, 140)], 4)


# --- learning


@pytest.mark.parametrize("train", ["lora", "full"])
def test_a_fit_is_saved_loaded_and_leaves_the_model_alone(tiny, tmp_path, train):
    before = {n: p.clone() for n, p in tiny.network.named_parameters()}
    shape = fingerprint(tiny.network)
    ids = list(prompt(tiny, 60).ids)
    method, report = fitted(tiny, tmp_path / "a", to_window=512, train=train, recompute=True)
    assert report.steps == 2 and report.parameters[0]["parameters"] > 0
    assert all(torch.equal(p, before[n]) for n, p in tiny.network.named_parameters())
    assert fingerprint(tiny.network) == shape
    loaded = method_of(tiny)
    loaded.load(tmp_path / "a")
    assert loaded.context_limit() == 512 and loaded.scaling.theta == 40000.0
    assert loaded.facts()["rope_scaling"] == "trained"
    mine, again = hidden_of(tiny, method, ids), hidden_of(tiny, loaded, ids)
    torch.testing.assert_close(mine, again, rtol=0, atol=0)
    untrained = hidden_of(tiny, method_of(tiny, window=512), ids)
    assert (mine - untrained).abs().max() > 1e-3
    assert all(torch.equal(p, before[n]) for n, p in tiny.network.named_parameters())
    assert fingerprint(tiny.network) == shape


@pytest.mark.parametrize("train", ["lora", "full"])
def test_a_stage_goes_on_from_the_one_before(tiny, tmp_path, train):
    fitted(tiny, tmp_path / "a", to_window=512, train=train)
    _, report = fitted(tiny, tmp_path / "b", adapter=tmp_path / "a", to_window=1024, train=train)
    card = json.loads((tmp_path / "b" / "adapter.json").read_text())
    assert (card["window"], card["rope_theta"], card["rope_rule"]) == (1024, 160000.0, "x4")
    assert [s["window"] for s in card["stages"]] == [256, 512]
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in "ab")
    assert set(first) == set(second) and any(not torch.equal(first[n], second[n]) for n in first)
    fresh, _ = fitted(tiny, tmp_path / "c", to_window=1024, train=train)
    from_nothing = load_file(tmp_path / "c" / "weights.safetensors")
    assert any(not torch.allclose(from_nothing[n], second[n]) for n in first), "it began from stage one"
    assert report.loss is not None and fresh.context_limit() == 1024


def test_the_cost_is_the_mean_over_what_is_learnt(tiny):
    from harness.plugins.low_rank import LowRank

    [example] = random_examples(50)
    labels = torch.tensor([-100] * 20 + example.input_ids[20:])
    ids = torch.tensor(example.input_ids)
    module = LongTraining(tiny.network, LowRank(tiny.network, 2, 2.0), 256, 0)
    logits = tiny.network(ids[None]).logits[0, :-1]
    expected = torch.nn.functional.cross_entropy(logits[19:], ids[20:])
    torch.testing.assert_close(module(ids, labels).detach(), expected, rtol=1e-5, atol=1e-5)
    nothing = module(ids, torch.full((50,), -100))
    nothing.backward()
    assert float(nothing.detach()) == 0


def test_recomputation_changes_memory_and_nothing_else(tiny):
    from harness.plugins.low_rank import LowRank

    torch.manual_seed(0)
    [example] = random_examples(60)
    ids = torch.tensor(example.input_ids)
    gradients = []
    shape = fingerprint(tiny.network)
    for wanted in (False, True):
        torch.manual_seed(1)
        lora = LowRank(tiny.network, 4, 4.0)
        torch.nn.init.ones_(next(iter(lora.b.values())))
        runs = []
        layer = tiny.network.model.layers[0]
        hook = layer.input_layernorm.register_forward_hook(lambda *_: runs.append(1))  # noqa: B023
        with lora.added(tiny.network.model), recomputing(tiny.network, wanted):
            LongTraining(tiny.network, lora, 256, 0)(ids, ids).backward()
        hook.remove()
        assert len(runs) == 1 + wanted
        gradients.append([p.grad for p in lora.parameters()])
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other)
    assert fingerprint(tiny.network) == shape


def test_pose_sees_every_distance_and_reads_the_same_tokens():
    seen = set()
    for seed in range(300):
        torch.manual_seed(seed)
        positions = skipped(20, 64, 2)
        steps = positions[1:] - positions[:-1]
        assert positions[0] == 0 and (steps >= 1).all() and int(positions[-1]) < 64
        assert int((steps > 1).sum()) <= 1 and len(positions) == 20
        seen.add(int(positions[-1]))
    assert min(seen) == 19 and max(seen) == 63 and len(seen) > 35
    torch.manual_seed(0)
    assert int((skipped(400, 4096, 8).diff() > 1).sum()) in (5, 6, 7)
    assert skipped(64, 64, 2).tolist() == list(range(64)) and skipped(1, 64, 4).tolist() == [0]


def test_pose_attends_over_its_jumps(tiny):
    """Transformers takes a jump for the border of two packed texts, unless it is told otherwise."""
    from harness.plugins.low_rank import LowRank

    module = LongTraining(tiny.network, LowRank(tiny.network, 2, 2.0), 250, 2)
    ids = torch.randint(5, 250, (60,), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[0] += 1
    labels = torch.full((60,), -100)
    labels[-1] = ids[-1]
    costs = []
    for words in (ids, changed):
        torch.manual_seed(3)
        costs.append(float(module(words, labels).detach()))
    assert costs[0] != costs[1]


def test_yarn_with_pose_is_a_fit_too(tiny, tmp_path):
    method, _ = fitted(tiny, tmp_path / "a", to_window=1024, to_rule="yarn", pose=2)
    loaded = method_of(tiny)
    loaded.load(tmp_path / "a")
    ids = list(prompt(tiny, 40).ids)
    torch.testing.assert_close(hidden_of(tiny, loaded, ids), hidden_of(tiny, method, ids))
    assert loaded.facts()["adapter"]["pose"] == 2
    with pytest.raises(UsageError, match="go on with yarn"):
        loaded.check_fit(options(to_window=2048, to_rule="x4"))


# --- bad input


def line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def test_stages_that_cannot_be_are_one_line_each(tiny, tmp_path):
    fitted(tiny, tmp_path / "a", to_window=512)
    for adapter, values, message in (
        (None, {"to_window": 128}, "--to-window 128: smaller than the 256 tokens"),
        ("a", {"to_window": 300}, "--to-window 300: smaller than the 512 tokens"),
        ("a", {"train": "full"}, "--train full: the adapter has lora weights"),
        ("a", {"to_window": 1024, "to_rule": "yarn"}, "YaRN's frequencies are those of the model's own"),
        ("a", {"rank": 4}, "--rank 4: the adapter's is 16"),
    ):
        method = method_of(tiny)
        if adapter:
            method.load(tmp_path / adapter)
        with pytest.raises(UsageError) as error:
            method.check_fit(options(**values))
        assert message in line(error)
    with pytest.raises(UsageError) as error:
        fitted(tiny, tmp_path / "x", data=random_examples(600), to_window=512)
    assert "the longest example has 600 tokens, the window 512" in line(error)
    with pytest.raises(UsageError) as error:
        method_of(tiny, window=1024).load(tmp_path / "a")
    assert "--window 1024: the adapter was trained for 512" in line(error)
    with pytest.raises(UsageError) as error:
        method_of(tiny, window=100)
    assert "--window 100: the model reads 256 already" in line(error)
    with pytest.raises(UsageError, match="one of --to-theta and --to-rule"):
        options(to_theta=5e5, to_rule="ntk")
    with pytest.raises(UsageError, match="nowhere to jump"):
        options(pose=1)
    with pytest.raises(UsageError, match="one of --theta and --rule"):
        RopeOptions.parse({"theta": 5e5, "rule": "ntk"}, "method")
    with pytest.raises(UsageError, match="nothing was fitted"):
        method_of(tiny).save(tmp_path / "y", {})


def test_another_models_adapter_and_damage_are_one_line_each(tiny, tmp_path):
    fitted(tiny, tmp_path / "a", to_window=512)
    other = loading.load(str(make_model(tmp_path / "other", rms_norm_eps=1e-4)), device="cpu")
    with pytest.raises(UsageError) as error:
        method_of(other).load(tmp_path / "a")
    assert "trained on" in line(error) and "not on" in line(error)
    card = json.loads((tmp_path / "a" / "adapter.json").read_text())
    for change, message in (
        ({"window": "wide"}, "its card has no number 'window'"),
        ({"rank": None}, "its card has no number 'rank'"),
        ({"trained": "half"}, "does not say what was trained"),
    ):
        (tmp_path / "a" / "adapter.json").write_text(json.dumps({**card, **change}))
        with pytest.raises(UsageError) as error:
            method_of(tiny).load(tmp_path / "a")
        assert message in line(error)


def test_positions_that_cannot_be_scaled_are_refused(tiny, tmp_path):
    linear = published(tiny, tmp_path, rope_type="linear", factor=2.0)
    with pytest.raises(UsageError) as error:
        method_of(linear)
    assert "scaled already (linear)" in line(error)
    sliding = loading.load(str(make_model(tmp_path / "s", "mistral", sliding_window=64)), device="cpu")
    with pytest.raises(UsageError, match="sliding window of 64"):
        method_of(sliding)


# --- the command line


def test_two_stages_and_a_run_by_command(tiny_folder, tmp_path, capsys):
    data = repeating(tmp_path / "d.jsonl", count=8)
    common = ["fit", "-m", "rope_scaling", "--model", tiny_folder, "--device", "cpu", "--data", data]
    common += ["--min-length", 20, "--max-length", 128, "--batch-size", 1, "--max-steps", 2, "--rank", 4]
    for more in (
        ["--to-window", 512, "--out", tmp_path / "a"],
        ["--to-window", 1024, "--to-theta", 9e5, "--adapter", tmp_path / "a", "--out", tmp_path / "b"],
    ):
        assert invoke([str(w) for w in (*common, *more)]) == 0, capsys.readouterr().err
    capsys.readouterr()
    words = ["run", "-m", "rope_scaling", "--adapter", tmp_path / "b", "--model", tiny_folder, "--json"]
    words += [
        "--device",
        "cpu",
        "--task",
        "passkey",
        "--set",
        "passkey.lengths=700",
        "--out",
        tmp_path / "runs",
    ]
    words += ["--limit", 1]
    assert invoke([str(w) for w in words]) == 0, capsys.readouterr().err
    summary = json.loads(capsys.readouterr().out)
    [row] = summary["tasks"]
    assert row["verified"] and row["truncated"] == 0
    run = json.loads(next((tmp_path / "runs").glob("*/run.json")).read_text())
    assert '"rope_theta": 900000.0' in json.dumps(run)
    shrink = [*common, "--to-window", 512, "--adapter", tmp_path / "b", "--out", tmp_path / "c"]
    assert invoke([str(w) for w in shrink]) == 2
    assert "smaller than the 1024 tokens" in capsys.readouterr().err
