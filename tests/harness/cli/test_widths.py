"""What verbs print at 80, 100 and 120 columns, word for word, and what holds at any width.

After a wanted change: HARNESS_SNAPSHOTS=write pytest tests/harness/cli/test_widths.py, and read the difference.
"""

import json
import os
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from harness.cli import invoke

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
    known = GOLDEN / f"{verb}_{width}.txt"
    if os.environ.get("HARNESS_SNAPSHOTS") == "write":
        known.parent.mkdir(exist_ok=True)
        known.write_text(shown, encoding="utf-8")
    assert shown == known.read_text(encoding="utf-8")


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
