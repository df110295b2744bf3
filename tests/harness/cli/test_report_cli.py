"""``harness report``: formats, files, and what it refuses."""

import csv
import json
import time

import pytest

from harness.cli import invoke
from harness.evaluation.plan import plan_run
from harness.results.loading import load_runs

from ...helpers import making
from ...helpers.records_made import make_run
from ...helpers.running import one_thread, run, settings


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "runs"
    making.write_run(out, "plain", making.grid(0.4, ratio=1))
    making.write_run(out, "two_pass", making.grid(0.8))
    return out


def test_a_terminal_has_the_answer_first_and_the_rest_by_all(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs.parent)
    assert invoke(["report"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[1].startswith("  two_pass is better than plain by ")
    assert "Scores × 100" in shown and "Cost of a sample" in shown and "truncation: middle" not in shown
    assert invoke(["report", "--all"]) == 0
    shown = capsys.readouterr().out
    assert "Compared with plain" in shown and "Failures and truncation" in shown
    assert "truncation: middle" in shown


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.md", "# plain, two"),
        ("a.tex", r"\toprule"),
        ("a.html", "<!doctype html>"),
        ("a.json", '"reports"'),
    ],
)
def test_the_name_of_the_file_tells_the_format(runs, tmp_path, name, words):
    out = tmp_path / "new" / name
    assert invoke(["report", str(runs), "--out", str(out)]) == 0
    assert words in out.read_text("utf-8")


def test_a_file_that_is_there_is_not_written_over(runs, tmp_path, capsys):
    out = tmp_path / "a.md"
    out.write_text("mine")
    assert invoke(["report", str(runs), "--out", str(out)]) == 2
    assert "--force" in capsys.readouterr().err and out.read_text() == "mine"
    assert invoke(["report", str(runs), "--out", str(out), "--force"]) == 0
    assert out.read_text("utf-8") != "mine"


def test_csv_is_one_table_or_a_folder(runs, tmp_path, capsys):
    assert invoke(["report", str(runs), "--format", "csv"]) == 2
    assert "choose one --kind" in capsys.readouterr().err
    assert invoke(["report", str(runs), "--format", "csv", "--kind", "scores"]) == 0
    [first, _] = csv.DictReader(capsys.readouterr().out.splitlines())
    score = next(float(v) for k, v in first.items() if k == "passkey")
    exact = [100 * r["scores"]["accuracy"] for r in making.grid(0.4, ratio=1)]
    assert score == pytest.approx(sum(exact) / len(exact), abs=1e-9)
    assert invoke(["report", str(runs), "--format", "csv", "--out", str(tmp_path / "tables")]) == 0
    assert {p.name for p in (tmp_path / "tables").iterdir()} == {"scores.csv", "cost.csv", "comparison.csv"}


def test_json_to_a_pipe_is_json(runs, capsys):
    assert invoke(["report", str(runs), "--format", "json", "--kind", "samples", "--kind", "grid"]) == 0
    text = capsys.readouterr().out
    assert [r["name"] for r in json.loads(text)["reports"]] == ["samples", "grid"]
    assert text.isascii() and "\x1b" not in text


def test_samples_on_a_terminal_cannot_command_it(runs, capsys):
    assert invoke(["report", str(runs), "--kind", "samples"]) == 0
    shown = capsys.readouterr().out
    assert "␛[31mred" in shown and "\x1b[31mred" not in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "score"], "did you mean 'scores'"),
        (["--published", "thesis-41"], "did you mean 'thesis-4.1'"),
        (["--kind", "cost", "--published", "thesis-4.1"], "--kind scores"),
        (["--record", "a/b"], "--record a/b"),
    ],
)
def test_a_wrong_request_is_one_line(runs, words, message, capsys):
    assert invoke(["report", str(runs), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_folder_without_runs_is_one_line(tmp_path, capsys):
    assert invoke(["report", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_run_is_recorded_as_a_baseline(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert invoke(["report", str(runs), "--kind", "scores", "--record", "mine"]) == 0
    assert "recorded in" in capsys.readouterr().err
    assert list(tmp_path.rglob("mine*"))


def test_a_real_run_knows_at_which_token_the_answer_stands(tiny_folder, tmp_path):
    with one_thread():
        wanted = settings(tiny_folder, tmp_path, method="two_pass", options={"interval": 32})
        result, records = run(wanted)
    plan = plan_run(wanted)
    for prepared in plan.samples:
        token = records[prepared.sample.id]["answer_token"]
        ids = plan.model.tokenizer(prepared.rendered.text)["input_ids"]
        key = prepared.sample.references[0]
        after = plan.model.tokenizer.decode(ids[token:], skip_special_tokens=True)
        assert after.lstrip().startswith(key)
    assert invoke(["report", str(result.folder.path), "--out", str(tmp_path / "a.html")]) == 0
    assert "answer here, token" in (tmp_path / "a.html").read_text("utf-8")
    assert load_runs([result.folder.path])[0].n_ok == 3


def test_many_records_take_seconds(tmp_path):
    """2,800 records here; 50,000 were measured by hand. A quadratic step would show."""
    making.write_run(tmp_path, "plain", making.longbench(0.3, n=100))
    making.write_run(tmp_path, "beacon", making.longbench(0.35, n=100))
    began = time.process_time()
    assert invoke(["report", str(tmp_path), "--out", str(tmp_path / "a.html")]) == 0
    assert time.process_time() - began < 20


def test_the_run_that_others_are_compared_with_can_be_named(tmp_path, capsys):
    for method in ("plain", "beacon", "two_pass"):
        make_run(tmp_path / "runs", {"passkey": [1.0] * 8}, method=method)
    words = ["report", str(tmp_path / "runs"), "--kind", "comparison", "--format", "markdown"]
    assert invoke(words) == 0 and "Compared with plain" in capsys.readouterr().out
    assert invoke([*words, "--baseline", "two_pass"]) == 0
    assert "Compared with two\\_pass" in capsys.readouterr().out
    assert invoke([*words, "--baseline", "twopass"]) == 2
    assert "did you mean 'two_pass'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.docx", "x.xlsx", "x.htm"])
def test_an_ending_without_a_format_is_refused(tmp_path, capsys, name):
    make_run(tmp_path / "runs", {"passkey": [1.0] * 8})
    assert invoke(["report", str(tmp_path / "runs"), "--out", str(tmp_path / name)]) == 2
    assert "there is no format of that ending" in capsys.readouterr().err and not (tmp_path / name).exists()
