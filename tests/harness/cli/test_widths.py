"""What verbs print at 80, 100 and 120 columns, word for word, and what holds at any width.

After a wanted change: HARNESS_SNAPSHOTS=write pytest tests/harness/cli/test_widths.py, and read the difference.
"""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.console import Group

from harness import registry
from harness.cli import invoke
from harness.cli._suite_tables import plan_table
from harness.cli.synth import _say
from harness.console.fit_tables import fit_tables
from harness.console.progress import Display
from harness.console.run_tables import summary_table
from harness.contracts.fit import FitReport
from harness.evaluation.settings import RunSettings
from harness.inference.throughput import Speed
from harness.suites.planned import PlannedRun, SuitePlan
from harness.training.run import FitResult

from ...helpers import making

GOLDEN = Path(__file__).parents[2] / "golden" / "terminal"
WIDTHS = (80, 100, 120)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Four runs of five tasks."""
    out = tmp_path_factory.mktemp("widths") / "runs"
    making.four_runs(out)
    return out


def words(verb, runs, tmp_path):
    if verb == "score":
        lines = [
            {"task": "longbench/trec", "prediction": "City", "answers": ["City"], "all_classes": ["City"]},
            {"task": "longbench/qasper", "prediction": "a model", "answers": ["the model"]},
        ]
        (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return ["score", str(tmp_path / "p.jsonl")]
    if verb == "compare":
        return ["compare", str(next(runs.glob("plain*"))), str(runs)]
    return ["report", str(runs)]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("verb", ["report", "compare", "score"])
def test_at_each_width_it_is_what_was_looked_at(runs, tmp_path, verb, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert invoke(words(verb, runs, tmp_path)) == 0
    shown = capsys.readouterr().out
    assert all(cell_len(line) <= width for line in shown.splitlines()), "COLUMNS counts in a pipe"
    assert "…" not in shown
    if verb == "report":
        assert len(shown.splitlines()) <= 80
    as_looked_at(verb, width, shown)


def as_looked_at(verb, width, shown):
    known = GOLDEN / f"{verb}_{width}.txt"
    if os.environ.get("HARNESS_SNAPSHOTS") == "write":
        known.parent.mkdir(exist_ok=True)
        known.write_text(shown, encoding="utf-8")
    assert shown == known.read_text(encoding="utf-8")


def a_run(runs):
    """The table of a run over five tasks, one sample of which failed."""
    folder = next(runs.glob("lora_experts*"))
    content = json.loads((folder / "run.json").read_text())
    model = SimpleNamespace(context_length=8192, dtype="bfloat16", device="cpu")
    method = registry.method("lora_experts").cls
    method = SimpleNamespace(
        protocol="query-agnostic", sees_question=method.sees_question, facts=lambda: {"warning": "untrained"}
    )
    settings = RunSettings(method="lora_experts", model="tiny")
    plan = SimpleNamespace(
        settings=settings,
        model=model,
        method=method,
        unavailable={},
        data_notes=(),
        method_facts=method.facts,
    )
    return lambda width: summary_table(content["summary"], plan, width)


def a_fit():
    """The end of a fit that trained some of a model."""
    card = {"request": {"method": "beacon", "model": "tiny", "given_options": {"ratio": 8, "interval": 1024}}}
    trained = [{"part": "query of beacons", "trained": 9_953_280, "frozen": 0}]
    trained += [{"part": "everything else", "trained": 0, "frozen": 134_515_008}]
    made = list(fit_tables(FitResult(Path("adapters/b"), card, FitReport(300, 2.345, parameters=trained))))
    return lambda width: Group(*(part(width) for part in made))


def a_plan():
    """A suite of which one run is finished, one waits and one cannot be had."""
    suite = SimpleNamespace(name="thesis-4.3", title="LongBench by kind of weights and training data")
    settings = RunSettings()
    found = {
        "plain, everything in the window": PlannedRun(settings, "finished", "", None, 20, 20, 80_000, 0.0),
        "two_pass, alpha 3, retrieval by BM25": PlannedRun(
            settings, "new", "", None, 120, 0, 960_000, 5000.0
        ),
        "beacon": PlannedRun(
            settings, "unavailable", "fetching refused: the hub cannot be reached from here"
        ),
    }
    rows = [(SimpleNamespace(label=label, model="smollm2"), [run]) for label, run in found.items()]
    speed = Speed(900.0, 12.0)
    plan = SuitePlan(
        SimpleNamespace(suite=suite, suites=["smollm2"], quick=True), rows, {}, {"smollm2": speed}
    )
    return lambda width: plan_table(plan, width)


def a_synthesis():
    """What `synth` ends with."""
    stage = {"usable": 9, "items": 12, "dropped": {"too short": 2, "no question in it": 1}, "origins": {}}
    samples = {"made": {"qa": 6, "summary": 3}, "asked": {"qa": 8, "summary": 3}, "repeated_passages": 40}
    samples |= {"passages": 100, "below_length_range": 0}
    lengths = {"min": 1200, "max": 8100, "mean": 4000}
    _say(
        {"samples": samples, "lengths": lengths, "pool": {"stages": {"stories": stage}}}, Path("synth/thesis")
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("verb", ["run", "fit", "reproduce", "synth", "check", "new"])
def test_other_verbs_are_what_was_looked_at(runs, tmp_path, verb, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(tmp_path)
    made = {"run": lambda: a_run(runs), "fit": a_fit, "reproduce": a_plan}
    typed = {"check": ["check", "streaming", "--only", "options"], "new": ["new", "report", "answer-lengths"]}
    if verb in made:
        Display().show(made[verb](), copied=verb == "fit")  # it ends with a command
    elif verb in typed:
        assert invoke(typed[verb]) == 0
    else:
        a_synthesis()
    shown = capsys.readouterr().out
    assert "…" not in shown
    if verb not in ("new", "fit"):
        assert all(cell_len(line) <= width for line in shown.splitlines())
    as_looked_at(verb, width, shown)


@pytest.mark.parametrize("verb", [["list", "tasks"], ["list", "methods"], ["reproduce"], ["doctor"]])
def test_what_changes_with_the_plugins_keeps_to_the_width(verb, monkeypatch, capsys):
    said = {}
    for columns in (80, 4000):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert invoke(verb) == 0
        said[columns] = capsys.readouterr().out
    lines = [line for line in said[80].splitlines() if not line.startswith("missing")]  # which has a command
    assert all(cell_len(line) <= 80 or " " not in line.strip() for line in lines)
    narrow, wide = (re.sub(r"[\d.]+", "0", said[columns]).split() for columns in said)  # memory changes
    assert narrow == wide, "no word is broken"


@pytest.mark.parametrize("width", [40, 60, 80, 97])
def test_no_word_is_broken_and_no_verdict_cut(runs, tmp_path, width, monkeypatch, capsys):
    said = {}
    for columns in (width, 400):
        monkeypatch.setenv("COLUMNS", str(columns))
        for verb in ("report", "compare"):
            assert invoke(words(verb, runs, tmp_path)) == 0
            said.setdefault(columns, []).append(capsys.readouterr().out)
    for narrow, wide in zip(said[width], said[400]):
        broken = set(re.findall(r"[\w.]+", narrow)) - set(re.findall(r"[\w.]+", wide)) - {"0.0"}
        assert not broken
    assert said[width][1].count("indistinguishable") >= 5
    if width >= 80:
        assert "two_pass alpha=2 is better than plain" in " ".join(said[width][0].split())


def test_other_scripts_line_up(tmp_path, monkeypatch, capsys):
    for method, options in (("plain", None), ("two_pass", {"alpha": 2})):
        making.write_run(tmp_path, method, making.grid(0.5, trials=1), options=options, truncate="北京 東")
    making.write_run(tmp_path, "plain", making.grid(0.5, trials=1), truncate="left")
    monkeypatch.setenv("COLUMNS", "80")
    assert invoke(["report", str(tmp_path), "--kind", "scores"]) == 0
    shown = capsys.readouterr().out
    rows = [line for line in shown.splitlines() if "truncate=" in line]
    assert len(rows) == 2 and len({cell_len(row) for row in rows}) == 1
