"""What a fit learns from: the loss of a sequence, the ratios drawn for it; and the calibration of `two_pass`."""

import json
from pathlib import Path

import pytest
import torch

from harness import UsageError
from harness.cli import invoke
from harness.models import adapters
from harness.plugins.beacon import checkpoint
from harness.plugins.beacon.engine import ActivationBeacon
from harness.plugins.beacon.lora_projections import LoraExperts
from harness.plugins.beacon.losses import next_token_loss
from harness.plugins.beacon.options import BeaconFitOptions
from harness.plugins.beacon.projections import MultiHeadBeacon
from harness.plugins.beacon.training import BeaconTraining
from harness.plugins.two_pass import calibration
from harness.plugins.two_pass.method import TwoPass
from harness.plugins.two_pass.options import TwoPassFitOptions, TwoPassOptions

from ..helpers.fits import INTERVAL, fit_words, random_examples, repeating
from .test_lora_experts import random_expert

IDS = random_examples(150)[0].input_ids
RATIOS = [2, 4, 8, 4]


@pytest.fixture
def engine(tiny):
    weights = MultiHeadBeacon(tiny.network, learn=True)
    with torch.no_grad():
        for p in weights.parameters():
            p += 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    return ActivationBeacon(tiny.network, weights, INTERVAL)


def reads(monkeypatch, engine):
    """How many tokens each forward pass over raw tokens or beacons gets, from now on."""
    found, real = [], engine.network.model.forward

    def forward(*args, **kwargs):
        given = kwargs["input_ids"] if kwargs.get("input_ids") is not None else kwargs["inputs_embeds"]
        found.append(given.shape[1])
        return real(*args, **kwargs)

    monkeypatch.setattr(engine.network.model, "forward", forward)
    return found


# --- the loss


def test_the_first_window_alone_is_left_out(engine):
    labels = [-100] * (INTERVAL + 1) + IDS[
        INTERVAL + 1 :
    ]  # those that tokens of the second window on predict
    skipped, count = next_token_loss(engine, IDS, IDS, RATIOS, skip_first=True)
    same, as_many = next_token_loss(engine, IDS, labels, RATIOS)
    assert count == as_many == len(IDS) - 1 - INTERVAL
    torch.testing.assert_close(skipped, same)


@pytest.mark.parametrize("kind", ["beacon", "lora_experts"])
def test_recomputing_changes_neither_loss_nor_gradients(tiny, engine, kind):
    if kind == "lora_experts":
        experts = LoraExperts({r: random_expert(tiny, r) for r in (2, 4, 8)})
        engine = ActivationBeacon(tiny.network, experts, INTERVAL)
    found = []
    for recompute in (False, True):
        engine.weights.zero_grad()
        total, _ = next_token_loss(engine, IDS, IDS, RATIOS, recompute=recompute)
        total.backward()
        found.append(
            [total.detach(), *(p.grad.clone() for p in engine.weights.parameters() if p.grad is not None)]
        )
    assert len(found[0]) == len(found[1]) > 5
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)
    assert all(p.grad is None for p in tiny.network.parameters())


def test_what_predicts_nothing_at_the_end_is_not_read(engine, monkeypatch):
    labels = [*IDS[:70], *[-100] * 80]
    expected, count = next_token_loss(engine, IDS[:70], IDS[:70], RATIOS)
    found = reads(monkeypatch, engine)
    total, as_many = next_token_loss(engine, IDS, labels, RATIOS)
    torch.testing.assert_close(total, expected)
    assert (count, as_many) == (69, 69) and found == [32, 16, 32, 8, 5]


@pytest.mark.parametrize("windows", [1, 2, 3])
def test_a_last_token_alone_in_its_window_is_predicted_but_not_read(engine, monkeypatch, windows):
    found = reads(monkeypatch, engine)
    total, count = next_token_loss(
        engine, IDS[: windows * INTERVAL + 1], IDS[: windows * INTERVAL + 1], RATIOS
    )
    assert count == windows * INTERVAL and torch.isfinite(total)
    assert found == [32, 16, 32, 8, 32][: 2 * windows - 1], "the last window is condensed for nobody"


def test_nothing_to_predict_costs_nothing(engine):
    for ids, labels in ((IDS, [-100] * len(IDS)), (IDS[:1], IDS[:1])):
        total, count = next_token_loss(engine, ids, labels, RATIOS)
        assert (float(total), count) == (0.0, 0)


# --- what is trained


def training(engine, ratios=(2, 4, 8), **options):
    return BeaconTraining(engine, ratios, BeaconFitOptions(**options))


def given(monkeypatch):
    """What the loss is asked for, from now on."""
    found = []

    def loss(engine, ids, labels, ratios, **kwargs):
        found.append((list(ids), list(labels), list(ratios)))
        return next_token_loss(engine, ids, labels, ratios, **kwargs)

    monkeypatch.setattr("harness.plugins.beacon.training.next_token_loss", loss)
    return found


def test_ratios_are_drawn_from_torchs_global_generator(engine, monkeypatch):
    found, module, ids = given(monkeypatch), training(engine), torch.tensor(IDS)
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        for _ in range(8):
            module(ids, ids)
    drawn = [[ratios for *_, ratios in found[i : i + 8]] for i in (0, 8, 16)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {r for ratios in drawn[0] for r in ratios} == {2, 4, 8}
    assert all(len(ratios) == len(IDS) // INTERVAL for ratios in drawn[0])


def test_reconstructing_reads_half_of_it_twice(engine, monkeypatch):
    found, module = given(monkeypatch), training(engine, reconstruct=1.0)
    for length, half in ((150, 64), (70, 32), (20, 20)):
        ids = torch.tensor(IDS[:length])
        module(ids, ids).backward()
        tokens, labels, _ = found[-1]
        assert tokens == IDS[:half] * 2 and labels == [-100] * half + IDS[:half]


@pytest.mark.parametrize("length", [1, 2, 20, 32, 33])
@pytest.mark.parametrize("options", [{}, {"skip_first": True}, {"distill": True}, {"recompute": True}])
def test_a_sequence_of_no_whole_window_is_no_error(engine, length, options):
    ids = torch.tensor(IDS[:length])
    loss = training(engine, **options)(ids, ids)
    loss.backward()
    assert torch.isfinite(loss)
    assert not any(p.grad is not None and p.grad.abs().sum() for p in engine.weights.parameters())


def test_only_what_beacons_need_is_a_parameter(tiny, engine):
    parameters = dict(training(engine).named_parameters())
    assert len(parameters) == 1 + 4 * 2 and all(p.requires_grad for p in parameters.values())
    assert sum(p.numel() for p in parameters.values()) < sum(p.numel() for p in tiny.network.parameters())


# --- two_pass: its fit is a calibration


def two_pass(model, **options):
    return TwoPass(model, TwoPassOptions(interval=INTERVAL, calibration_contexts=2, **options))


@pytest.mark.parametrize(
    ("text", "numbers"), [("2-4", [2, 3, 4]), ("3", [3]), ("5,2, 2", [2, 5]), ("7-7", [7])]
)
def test_numbers_of_intervals(text, numbers):
    assert TwoPassFitOptions.numbers_of(text) == numbers


@pytest.mark.parametrize("text", ["", "-", "2-", "-3", "0", "0-3", "4-2", "2-3-4", "a", "1.5", "2;3"])
def test_no_numbers_of_intervals(text):
    with pytest.raises(UsageError, match=r"option intervals=.*(neither a range|ends before it begins)"):
        TwoPassFitOptions.parse({"intervals": text}, "two_pass")


def test_more_intervals_than_can_be_read(tiny):
    with pytest.raises(UsageError, match="--intervals: 15 intervals are 512 tokens, but at most"):
        two_pass(tiny, first_ratio="2").check_fit(TwoPassFitOptions(intervals="15"))


@pytest.mark.parametrize("with_data", [False, True])
def test_a_calibration_is_fitted_and_used(tiny_folder, tmp_path, empty_cache, capsys, with_data):
    data = repeating(tmp_path / "data.jsonl") if with_data else None
    more = ["--intervals", "7-9", "--contexts", "2", "--compressor", "beacon", "--json"]
    words = fit_words(tiny_folder, data, tmp_path / "out", *more, method="two_pass")
    assert invoke(words) == 0
    card = json.loads(capsys.readouterr().out)
    assert all(name.startswith("calibration-") for name in card["files"]) and card["contexts"] == 2
    path = tmp_path / "out" / next(iter(card["files"]))
    made = calibration.Calibration.from_json(path.read_text(), path)
    assert made.key["text"].startswith("data-") is with_data and set(made.mean) <= {7, 8, 9}
    run = ["run", "-m", "two_pass", "--interval", "32", "--model", str(tiny_folder), "--device", "cpu"]
    run += ["--adapter", str(tmp_path / "out"), "--limit", "1", "--out", str(tmp_path / "runs"), "--json"]
    assert invoke([*run, "--compressor", "beacon"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    found = json.dumps(json.loads((folder / "run.json").read_text()))
    assert f'"hash": "{made.content_hash}"' in found
    assert not list(empty_cache.rglob("calibrations/*")), "none was computed anew"
    assert invoke([*run, "--compressor", "lora_experts"]) == 2
    assert "calibrated for --compressor beacon, not lora_experts" in capsys.readouterr().err


@pytest.fixture
def experts(tiny, tmp_path):
    weights = LoraExperts({r: random_expert(tiny, r) for r in (4, 16)})
    checkpoint.write_weights(tmp_path / "experts", weights, tiny, {}, torch.float32)
    return tmp_path / "experts"


def test_experts_that_lack_ratios(tiny, experts):
    method = two_pass(tiny)
    method.load(experts)
    assert method.usable() == (0, 4, 16)
    plan = method.plan(400, 6)
    assert plan.first == 4
    assert set(method._allocate([3.0, *[-1.0] * (plan.intervals - 1)], plan)) <= {0, 4, 16}
    for options in ({"first_ratio": "8"}, {"top_k": 1, "relevant_ratio": "2"}):
        with pytest.raises(UsageError, match=r"has no expert for ratio \d, only for 4, 16"):
            two_pass(tiny, **options).load(experts)


def test_a_calibration_holds_the_experts_it_was_made_with(tiny, tmp_path, experts, empty_cache):
    (experts / "training").mkdir()
    (experts / "training" / "optimizer.pt").write_bytes(b"large")
    method = two_pass(tiny)
    method.load(experts)
    report = method.fit(None, None, TwoPassFitOptions(intervals="8", contexts=2))
    assert (report.steps, report.loss, report.facts["calibrated"]) == (0, None, {"4": [8]})
    method.save(tmp_path / "out", {})
    assert not (tmp_path / "out" / "compressor" / "training").exists()
    used = two_pass(tiny)
    used.load(tmp_path / "out")
    assert used.adapter_hash == adapters.fingerprint(experts) and used.facts()["warning"] is None
    assert used._calibration(4, {8}).content_hash == method._fitted[4].content_hash
    assert not list(empty_cache.rglob("*.json"))
    one = tmp_path / "out" / "compressor" / "expert-4" / "beacon_embedding.safetensors"
    one.write_bytes(one.read_bytes()[:-1])
    with pytest.raises(UsageError, match=r"beacon_embedding\.safetensors is damaged"):
        two_pass(tiny).load(tmp_path / "out")
