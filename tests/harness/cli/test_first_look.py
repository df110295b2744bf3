"""`run --method two_pass` that is told nothing to ask: both methods on the same samples, and what they say."""

import io
import json
import re
from pathlib import Path

import pytest

from harness.cli import _first_look, invoke
from harness.console.run_tables import row_tables

from ...helpers.running import one_thread


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture
def words(tiny_folder, tmp_path, monkeypatch):
    """The command on the tiny model, its window cut; relevance at random needs no calibration."""
    monkeypatch.setattr(_first_look, "WINDOW", 240)
    monkeypatch.setenv("COLUMNS", "80")
    given = [
        "run",
        "--method",
        "two_pass",
        "--model",
        tiny_folder,
        "--device",
        "cpu",
        "--retrieval",
        "random",
    ]
    return [str(word) for word in [*given, "--interval", 32, "--out", tmp_path / "runs"]]


def test_both_methods_answer_the_same_samples_and_the_last_line_says_what_was_learned(words, capsys):
    assert invoke(words) == 0
    lines = capsys.readouterr().out.splitlines()
    title = " ".join(line.strip() for line in lines[:3])  # in three lines where the model's path is long
    assert "passkey on" in title and "(window cut to 240 of 256 tokens)" in title
    for name in ("two_pass", "lora_experts"):
        assert any(re.match(rf"{name} .* 12/12 ", line) for line in lines), lines
    assert re.match(
        r"learned: two_pass \d+\.\d, lora_experts \d+\.\d on the same 12 samples: [+-]\d+\.\d points "
        r"\[[+-]\d+\.\d, [+-]\d+\.\d\], p = [\d.e-]+, so ",
        lines[-1],
    )
    assert invoke([*words, "--json"]) == 0  # the same two runs, from their records
    found = json.loads(capsys.readouterr().out)
    assert (found["ran"], found["beside"]["ran"], found["learned"]["n"]) == (0, 0, 12)
    assert found["tasks"][0]["score"] == pytest.approx(found["learned"]["mean_b"])
    prompts = []
    for folder in (found["folder"], found["beside"]["folder"]):
        lines = (Path(folder) / "samples.jsonl").read_text("utf-8").splitlines()
        prompts.append([json.loads(line)["prompt_hash"] for line in lines])
    assert len(set(prompts[0])) == 12 and prompts[0] == prompts[1]


@pytest.mark.parametrize(
    "more", [["--task", "passkey"], ["--limit", 1], ["--set", "passkey.depths=50"], ["--context-length", 240]]
)
def test_who_says_what_to_ask_gets_that_alone(words, more, capsys):
    assert invoke([*words, *map(str, more), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "two_pass on " in out and "lora_experts" not in out and "learned:" not in out


def test_a_rival_that_cannot_be_run_is_one_line_that_says_how_to_go_without(words, capsys, monkeypatch):
    from harness import registry

    monkeypatch.setattr(registry.method("two_pass").cls, "rival", classmethod(lambda cls, options: "gone"))
    assert invoke(words) == 2
    assert "gone" in capsys.readouterr().err


def summary(name):
    """A task's row, with numbers as wide as they come."""
    row = dict.fromkeys(("truncated", "answer_lost", "hit_limit"), 1.0)
    row |= {"score": 1.0, "interval": (0.435, 1.0), "n": 1000, "n_ok": 1000, "prompt_tokens": 1e6}
    row |= {"compression": 1024.0, "verified": False, "kv_bytes": 2**35, "peak_bytes": 2**35}
    row |= dict.fromkeys(("compress_seconds", "prefill_seconds", "decode_seconds"), 12345.6)
    return {**row, "task": name, "metric": "accuracy"}


@pytest.mark.parametrize("width", [40, 60, 80, 100, 129, 130, 180])
@pytest.mark.parametrize("name", ["passkey", "infinitebench/longdialogue_qa_eng (accuracy)"])
def test_tables_keep_to_the_width_and_break_no_number(width, name):
    from rich.console import Console

    tables = row_tables("task", [(name, summary(name))], width)
    console = Console(width=width, force_terminal=False, record=True, file=io.StringIO())
    for table in tables:
        console.print(table)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for number in ("100.0", "[43.5, 100.0]", "1000/1000", "1,000,000", "1024.00?", "32768.0", "12345.6"):
        assert number in text
    assert "…" not in text
