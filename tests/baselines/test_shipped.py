"""The experts and calibrations that ship fit each other, and the defaults."""

import json
from pathlib import Path

from harness.models import adapters
from harness.plugins.beacon.form import Form, settle, trained_form
from harness.plugins.two_pass import calibrated, calibration, calibration_text, layers
from harness.plugins.two_pass.options import TwoPassOptions

BASELINES = Path(__file__).parents[2] / "baselines"
EXPERTS = BASELINES / "adapters" / "smollm2" / "lora_experts"


def test_a_run_that_says_nothing_takes_what_the_experts_were_trained_with():
    assert trained_form(EXPERTS) == Form(256, "last", 1)
    settled = settle(TwoPassOptions(), EXPERTS)
    assert (settled.interval, settled.start, settled.sinks) == (256, "last", 1)


def test_the_card_says_how_much_training_it_was():
    card = adapters.read_card(EXPERTS)
    curve = [json.loads(line) for line in (EXPERTS / "loss.jsonl").read_text().splitlines()]
    assert len(curve) == card["steps"] and sum(row["tokens"] for row in curve) == card["tokens"]
    assert card["fit_options"]["objective"] == "distill" and card["experts"] == [2**n for n in range(1, 9)]
    assert curve[0]["loss"] > card["loss"]


def test_the_adapters_are_small():
    assert sum(p.stat().st_size for p in EXPERTS.rglob("*") if p.is_file()) < 30_000_000


def test_the_calibrations_are_of_these_experts_and_found_by_the_default_run():
    experts = adapters.fingerprint(EXPERTS)
    default = layers.recorded(experts)
    assert default == "13-18"
    served = set()
    for path in (BASELINES / "calibrations").glob("*.json"):
        made = calibration.Calibration.from_json(path.read_text(encoding="utf-8"), path)
        assert made.name == path.name and made.contexts in calibrated.SHIPPED_CONTEXTS
        assert made.key["beacon_weights"] == experts
        assert made.key["text"] == calibration_text.text_fingerprint()
        assert (made.key["ratio"], made.key["interval"]) == (calibrated.LEAST_FIRST, 256)
        served |= {(made.key.get("layers"), made.contexts, number) for number in made.mean}
        assert all(abs(sum(made.mean[n]) - 1) < 1e-3 for n in made.mean)
    for listened in (default, None):  # None: the paper's, all layers
        assert {n for said, contexts, n in served if (said, contexts) == (listened, 50)} >= set(
            range(2, 67)
        ), "the thesis's 50 contexts, to 17,000 tokens"
        assert {n for said, _, n in served if said == listened} >= set(range(125, 129)), "32,768 tokens"


def test_there_is_one_record_of_layers_and_it_is_of_these_experts():
    [path] = (BASELINES / layers.KIND).glob("*")
    assert path.name == layers.record_name(adapters.fingerprint(EXPERTS))
