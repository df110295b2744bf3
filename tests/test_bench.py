"""The benchmark that stays: its ratios are of what it measures, and a run costs little beside its method."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from harness.models.shared import SharedModels
from harness.testing.tiny import make_model

TOOLS = Path(__file__).parent.parent / "tools"
MOST = 1.4
"""Times the bare loop that a run over a very small model may cost; about 1.1 was measured."""


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_tool", TOOLS / "bench.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_tool"] = module
    spec.loader.exec_module(module)
    return module


def test_ratios_are_of_what_was_measured(bench):
    took = {
        "floor": 2.0,
        "products": 4.8,
        "plain": 4.0,
        "beacon": 6.0,
        "two_pass": 9.0,
        "half": 1.0,
        "decode": 3.0,
    }
    took |= {"reusing": 7.2, "plain memory": 800.0, "beacon memory": 100.0, "parsed": 0.5, "report": 4.0}
    found = bench.ratios({**took, "bare loop": 5.0, "run": 5.1, "batched": 2.55})
    assert found == {
        "floor seconds": 2.0,
        "plain / floor": 2.0,
        "beacon / floor": 3.0,
        "beacon / its products": 1.25,
        "beacon / plain": 1.5,
        "two_pass / beacon": 1.5,
        "two_pass --reuse raw / beacon": pytest.approx(1.2),
        "beacon / plain, KV bytes": 0.125,
        "16 more tokens / reading half": 2.0,
        "run / bare loop": pytest.approx(1.02),
        "batch auto / one by one": 0.5,
        "report / its records as JSON": 8.0,
    }


def test_a_pass_multiplies_what_it_is_said_to(bench, tmp_path):
    """Counted by torch: projections and feed-forward of tokens and beacons, and attention of what sees each other."""
    from torch.utils.flop_counter import FlopCounterMode

    from harness.models import load

    model = load(str(make_model(tmp_path / "m")), dtype="float32", device="cpu")
    interval, ratio, count = 64, 8, 3
    assert model.network is not None  # loading it multiplies too
    with FlopCounterMode(display=False) as counted:
        bench.products(model, count * interval, interval, ratio)()
    beacons, config = interval // ratio, model.config
    rows = count * (interval + beacons)
    weights = sum(p.numel() for p in model.network.model.layers.parameters() if p.ndim == 2)
    pairs = sum(
        interval * (n * beacons + interval) + beacons * (n * beacons + interval + beacons)
        for n in range(count)
    )
    attended = 2 * pairs * config.num_attention_heads * config.head_dim * config.num_hidden_layers
    assert counted.get_total_flops() == 2 * (rows * weights + attended)


def test_a_run_costs_little_beside_its_method(bench, tmp_path, monkeypatch):
    """Fails only if it is dear three times: the machine may have other work."""
    monkeypatch.setattr(bench, "SHORT", {"lengths": "200", "depths": "50", "trials": "6"})
    name, models = str(make_model(tmp_path / "m", num_hidden_layers=16)), SharedModels()
    tries = []
    while len(tries) < 3:
        plan = bench.samples(name, tmp_path / str(len(tries)), models, device="cpu")
        if not tries:
            bench.by_hand(plan)  # what is set up once
        alone = bench.seconds(lambda plan=plan: bench.by_hand(plan), "cpu")
        whole = bench.seconds(lambda plan=plan: bench.execute(plan, bench.Nobody()), "cpu")
        tries.append(whole / alone)
        if tries[-1] < MOST:
            return
    pytest.fail(f"a run took {', '.join(f'{t:.2f}' for t in tries)} times its method's own time")


def test_gpu_check_says_what_failed_and_goes_on(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("gpu_check_tool", TOOLS / "gpu_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def broken(args: argparse.Namespace):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(module, "PARTS", {"tests": broken, "training": lambda args: {"steps": 4}})
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--device", "cpu", "--parts", "tests,training"])
    with pytest.raises(SystemExit) as left:
        module.main()
    found = json.loads(capsys.readouterr().out)
    assert left.value.code == 1 and found["failed"] == ["tests"] and found["training"] == {"steps": 4}
    assert "no such kernel" in found["tests"]["error"]
