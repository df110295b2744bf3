"""Nothing that came with data, a model or a plugin steers the terminal it is printed on."""

import json
import re

import pytest
from rich.text import Text

from harness.cli import invoke
from harness.console import safe_text
from harness.console.progress import Display
from harness.console.safe_text import visible
from harness.evaluation.plan import plan_run
from harness.evaluation.runner import execute
from harness.render import _text, delimited

from ...helpers.running import Watcher, as_method, settings

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
NASTY = "\x1b[2J\x1b]52;c;cm0gLXJm\x07\x9b31m\r\u202egnp.exe\u2066\x08\x7f"


def test_what_could_steer_is_written_out():
    assert visible("a\x1b[31mb\r\x9b\u202ec") == "a\\x1b[31mb\\x0d\\x9b\\u202ec"
    assert visible("\ud800") == "\\ud800"
    assert visible("tabs\tand\nnewlines, naïve 北京 \N{SLIGHTLY SMILING FACE}") == (
        "tabs\tand\nnewlines, naïve 北京 \N{SLIGHTLY SMILING FACE}"
    )


def test_a_table_keeps_its_own_styles_only(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    Display().show(lambda width: Text.assemble(("bold", "bold"), f" {NASTY}"))
    out = capsys.readouterr().out
    assert "\\x1b[2J" in out and "\x1b[2J" not in out and "\x1b]52" not in out


@pytest.mark.parametrize("full", [[], ["--full"]])
def test_samples_of_a_hostile_file(tiny_folder, tmp_path, capsys, full):
    row = {"input": f"q{NASTY}", "context": f"c{NASTY}" * 200, "answers": [f"a{NASTY}"], "all_classes": None}
    row |= {"length": 3, "_id": f"id{NASTY}", "dataset": "qasper", "language": "en"}
    (tmp_path / "qasper.jsonl").write_text(json.dumps(row) + "\n")
    words = [
        "data",
        "show",
        "longbench/qasper",
        "--data-dir",
        str(tmp_path),
        "--model",
        str(tiny_folder),
        *full,
    ]
    assert invoke(words) == 0
    out = capsys.readouterr().out
    assert "\\x1b[2J" in out and not STEERING.search(out)


@pytest.mark.parametrize("name", [NASTY, f"passkey/{NASTY}", "\ud800"])
def test_an_error_about_a_hostile_name(capsys, name):
    assert invoke(["run", "-m", "plain", "-t", name]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and not STEERING.search(err[:-1])


def test_a_hostile_methods_warning_and_path(tiny_folder, tmp_path, monkeypatch, capsys):
    from harness.plugins.plain import Plain

    class Own(Plain):
        def facts(self):
            return {"warning": NASTY}

    as_method(monkeypatch, Own)
    words = ["run", "-m", "own", "--model", str(tiny_folder), "--device", "cpu", "--limit", "1"]
    assert invoke([*words, "--out", str(tmp_path / "o\x1b[2J")]) == 0
    out, err = capsys.readouterr()
    assert "note: \\x1b[2J" in out and "o\\x1b[2J" in out and not STEERING.search(out + err)


def test_names_from_data_make_no_path_elsewhere(tiny_folder, tmp_path, monkeypatch):
    """Ids are whatever a file says; only the task's name becomes a file's, and it stays in the run's folder."""
    for place in ("../../../up", "/tmp/absolute", "a" * 5000):
        row = {
            "input": "q",
            "context": "c",
            "answers": ["blue"],
            "all_classes": None,
            "length": 1,
            "_id": place,
        }
        (tmp_path / "qasper.jsonl").write_text(json.dumps(row) + "\n")
        wanted = settings(tiny_folder, tmp_path / "out", tasks=("longbench/qasper",), data_dir=tmp_path)
        result = execute(plan_run(wanted), Watcher())
        assert result.folder.path.parent == tmp_path / "out"
        result.folder.samples_path.unlink()
    assert {p.name for p in tmp_path.iterdir()} == {"out", "qasper.jsonl"}


def test_what_has_no_width_or_is_half_a_character_is_seen_everywhere():
    for character in ("\u200b", "\u200d", "\u2060", "\ufeff", "\ud83d"):
        assert safe_text.visible(f"a{character}b") == f"a\\u{ord(character):04x}b"
        assert _text.visible(f"a{character}b") == f"a<U+{ord(character):04X}>b"


def test_no_text_is_a_formula():
    for text in ("=1+1", " =1+1", "+1", "@a", "＝1", "-2+3"):
        assert delimited._safe(text) == f"'{text}"
    assert delimited._safe(-2.5) == -2.5 and delimited._safe("plain") == "plain"
