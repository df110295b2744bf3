"""The tools that make what ships: text out of documentation, and the table of losses."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from harness.plugins.beacon.checkpoint import untrained
from harness.plugins.beacon.form import Form

TOOLS = Path(__file__).resolve().parent.parent / "tools"


def tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_a_page_loses_its_navigation_and_keeps_its_code(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<html><head><title>T</title><script>x()</script></head><body><div class='navheader'>Next</div>"
        "<h1>Heading</h1><p>One <b>bold</b>\n   word &amp; more.</p><pre>def f():\n    return 1</pre>"
        "<div id='footer'>Licence</div></body></html>"
    )
    text = tool("debian_html").to_text(page)
    assert text == "Heading\n\nOne bold word & more.\n\ndef f():\n    return 1"


def test_the_table_of_losses(tiny, tmp_path):
    losses = tool("memory_loss")
    texts = [
        {"kind": "technical", "source": "a/b", "ids": [7 + (i * n) % 300 for i in range(96)]} for n in (3, 5)
    ]
    memories = {
        "untrained": (untrained(tiny), Form(32)),
        "ours": (untrained(tiny, "last"), Form(32, "last", 1)),
    }
    found = losses.measure(tiny, texts, memories, [2, 8, 1], 33)
    assert set(found) == {losses.NONE, losses.FULL, "untrained", "ours"}
    # Nothing condensed and begun as the last token: the raw entries themselves, so the bound.
    assert found["ours"].pop("1") == pytest.approx(found[losses.FULL]["0"], abs=1e-4)
    assert found["untrained"].pop("1") != pytest.approx(found[losses.FULL]["0"], abs=1e-4)
    assert [len(v) for v in found["untrained"].values()] == [2, 2]
    facts = {
        "continuation": 63,
        "interval": 32,
        "windows": 1,
        "model": "tiny",
        "texts": texts,
        "ratios": [2, 8],
    }
    table = losses.table({**facts, "losses": found})
    assert (
        "2 texts not trained on (2 technical)" in table
        and table.count("| untrained |") == table.count("| ours |") == 2
    )
    losses.draw({**facts, "losses": found}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_texts_are_spread_over_sources_and_long_enough(tiny, tmp_path):
    losses, path = tool("memory_loss"), tmp_path / "texts.jsonl"
    rows = [
        {"text": "The sky is blue. " * n, "kind": "k", "source": s}
        for n, s in ((400, "a/1"), (400, "a/2"), (400, "b/1"), (2, "c/1"))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = list(losses.choose(path, tiny, 100, each=2))
    assert [row["source"] for row in chosen] == ["a/1", "b/1"]
    assert all(len(row["ids"]) == 100 for row in chosen)


@pytest.mark.parametrize("script", ["extend_smollm2.sh", "train_smollm2.sh"])
def test_scripts_are_bash(script):
    import subprocess

    assert subprocess.run(["bash", "-n", TOOLS / script], check=False).returncode == 0


def test_the_page_of_evidence_says_what_was_recorded():
    evidence = tool("evidence")
    assert evidence.table(list(evidence.of_all())) in evidence.PAGE.read_text("utf-8"), (
        "run python tools/evidence.py"
    )
    assert evidence.FIGURE.is_file()


def test_the_page_of_budgets_says_what_was_recorded():
    budgets = tool("budgets")
    outcome, rows = budgets.recorded()
    told = "\n".join(budgets.tables(outcome, rows))
    assert told in budgets.PAGE.read_text("utf-8"), "run python tools/budgets.py"
    assert budgets.FIGURE.is_file()
    missing = [row.label for row in rows if not row.runs]
    assert all(label in told.rpartition("Not run:")[2] for label in missing)
    assert {budgets.cell_of(row)[1] for row in rows} == {256, 512, 1024, 2048, 4096, None}
    assert told.count("| SnapKV |") == len(outcome["columns"]) + 3


def test_a_claim_on_losses_is_decided_by_its_texts():
    evidence = tool("evidence")
    ratios, texts = [2, 4, 8, 16, 32, 64, 128], range(12)
    own = {str(r): [3 + 0.1 * i + 0.01 * k for k in texts] for i, r in enumerate(ratios)}
    better = {r: [v - 0.2 - 0.01 * (k % 3) for k, v in enumerate(values)] for r, values in own.items()}
    losses = {evidence.PAPERS: own, evidence.LAST: own, evidence.EXPERTS: better, evidence.ONE: better}
    losses |= {evidence.NONE: {"0": [4.0] * 12}, evidence.WHOLE: {"0": [2.9] * 12}}
    recorded = {"losses": losses, "ratios": ratios, "interval": 256, "windows": 1}
    judged = {t.claim: (t, p) for t, p in evidence.judged(list(evidence.of_losses(recorded)))}
    rises, p = judged["the loss rises with the ratio"]
    assert rises.difference == pytest.approx(10) and evidence.amount(rises, rises.difference) == "0.100 nat"
    assert p < 0.05 and evidence.decision(rises, p) == "confirmed"
    trained, p = judged["training makes the memory better"]
    assert trained.difference == pytest.approx(21) and evidence.decision(trained, p) == "confirmed"
    same, p = judged["an expert for each ratio is better than one for all"]
    assert same.difference == 0 and p == 1 and evidence.decision(same, p) == "cannot be told"
    assert rises.column == "loss after 256 tokens"


def test_what_was_learned_is_judged_after_many_intervals_too():
    evidence = tool("evidence")
    losses = {name: {"8": [3 + 0.01 * k for k in range(12)]} for name in (evidence.LAST, evidence.HALF)}
    losses[evidence.EXPERTS] = {"8": [3.2 + 0.012 * k for k in range(12)]}
    recorded = {"losses": losses, "ratios": [8], "interval": 256, "windows": 28}
    (trained, first), (half, second) = evidence.judged(list(evidence.of_long_losses(recorded)))
    assert evidence.decision(trained, first) == "refuted" and evidence.decision(half, second) == "confirmed"
    assert half.column == "loss after 7,168 tokens" and evidence.amount(half, half.difference) == "0.211 nat"


def test_one_weight_for_all_ratios_condenses_by_every_ratio_alike(tiny):
    """Read as the table reads them: many intervals in one pass, the experts' parts added beside the tokens."""
    import torch

    from harness.plugins.beacon.engine import ActivationBeacon
    from harness.plugins.beacon.lora_projections import Expert, LoraExperts
    from harness.plugins.beacon.reading import Reading

    torch.manual_seed(0)
    losses = tool("memory_loss")
    experts = LoraExperts({ratio: Expert(tiny.network, 2, 2.0, None, "last") for ratio in (2, 4)})
    for expert in experts.experts.values():
        torch.nn.init.normal_(expert.beacon_embedding)
    other = LoraExperts({ratio: experts.expert(2) for ratio in (2, 4)})
    losses.one_for_all(experts, 2)
    ids, keys = list(range(3, 3 + 49)), []
    for weights in (experts, other):
        (state,) = ActivationBeacon(tiny.network, weights, 16, "last", 1).read(
            [Reading()], [ids], lambda row, window: 4
        )
        keys.append(torch.stack(list(state.cache.keys)))
    assert torch.equal(*keys)
    with pytest.raises(SystemExit, match="no expert"):
        losses.one_for_all(experts, 8)
