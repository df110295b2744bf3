"""The command line: quick to help, exact in its refusals; whatever is wrong is one line and exit status 2."""

import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness import registry
from harness.cli import invoke
from harness.cli.run import task_settings
from harness.errors import UsageError
from harness.models import adapters
from harness.testing.tiny import make_model

from ...helpers.running import one_thread, with_entry_points, with_toy


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    """No sentence is broken by the width of a terminal; no file's methods outlive their test."""
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(registry, "_local_methods", {})


# --- help


def cpu_seconds(*words):
    """User plus system time of one command."""
    process = subprocess.Popen([sys.executable, "-c", MAIN, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


MAIN = "import sys; from harness.cli import main; sys.argv[0] = 'harness'; main()"


def test_help_is_there_at_once():
    best = min(cpu_seconds("--help") for _ in range(5))
    print(f"harness --help: {best:.3f} s of CPU time, best of five")
    assert best < 1.0  # half a second is promised; the bound leaves room for slow machines


def test_help_and_lists_import_nothing_heavy():
    code = """
import contextlib, io, sys
from harness.cli import invoke
for words in (["--help"], ["--version"], ["run", "--help"], ["run", "-m", "two_pass", "--help"],
              ["score", "--help"], ["data", "--help"], ["list", "methods"], ["list", "models", "--json"],
              ["run", "-m", "no_such_method"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        invoke(words)
    print(*words, sorted({"torch", "transformers", "scipy", "datasets"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 9 and all(line.endswith("[]") for line in lines), done.stdout


def test_help_names_every_verb(capsys):
    for words in (["--help"], ["-h"]):
        assert invoke(words) == 0
        out = capsys.readouterr().out
        for verb in ("run", "list", "score", "data"):
            assert verb in out
    assert invoke([]) == 2
    assert "Usage: harness" in capsys.readouterr().out


def test_the_version(capsys):
    assert invoke(["--version"]) == 0
    assert capsys.readouterr().out.startswith("harness, version ")


def test_help_of_a_method_shows_its_options_with_range_and_default(capsys):
    assert invoke(["run", "--method", "two_pass", "--help"]) == 0
    out = capsys.readouterr().out
    alpha = next(line for line in out.splitlines() if "--alpha" in line)
    assert "exponent of the relevance" in alpha and "[float, > 0 and <= 100] (default 3.0)" in alpha
    assert "attention | bm25 | random" in out and "--relevant-ratio" in out and "--limit" in out
    for words in (["run", "-mbeacon", "--help"], ["run", "--method=beacon", "--help"]):
        assert invoke(words) == 0
        out = capsys.readouterr().out
        assert "--ratio" in out and "--alpha" not in out


def test_help_of_a_method_from_a_file(capsys, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from pydantic import Field\nfrom harness import Method, Options\n"
        "class MineOptions(Options):\n    keep: int = Field(4, ge=1, description='tokens kept')\n"
        "    loud: bool = False\n"
        "class Mine(Method):\n    Options = MineOptions\n"
    )
    assert invoke(["run", "-m", "mine", "--plugin", str(tmp_path / "mine.py"), "--help"]) == 0
    out = capsys.readouterr().out
    assert "tokens kept [int, >= 1] (default 4)" in out and "--no-loud" in out


# --- lists


def listed(capsys, kind):
    assert invoke(["list", kind, "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)[kind]}


def test_methods_are_listed_with_their_options(capsys):
    rows = listed(capsys, "methods")
    assert {"plain", "beacon", "two_pass"} <= set(rows)
    assert rows["two_pass"]["sees_question"] is True and rows["beacon"]["sees_question"] is False
    options = {o["name"]: o for o in rows["two_pass"]["options"]}
    assert (options["alpha"]["type"], options["alpha"]["range"]) == ("float", "> 0 and <= 100")
    assert options["alpha"]["default"] == 3.0
    assert options["retrieval"]["choices"] == ["attention", "bm25", "random"]
    for row in rows.values():
        assert row["description"] and row["origin"].startswith("long-context-harness")
        assert all({"name", "type", "range", "default", "description"} <= set(o) for o in row["options"])


def test_tasks_are_listed_with_their_options_and_members(capsys):
    rows = listed(capsys, "tasks")
    lengths = next(o for o in rows["passkey"]["options"] if o["name"] == "lengths")
    assert (lengths["type"], lengths["default"]) == ("list of int", None) and lengths["description"]
    assert rows["passkey"]["metrics"] == ["accuracy", "fuzzy"]
    assert len(rows["longbench"]["group"]) == 14
    assert {"longbench/passage_count", "longbench/trec_e"} <= set(rows["longbench"]["variants"])
    assert not {"longbench/passage_count", "longbench/trec_e"} & set(rows["longbench"]["group"])


def test_models_are_listed(capsys):
    rows = listed(capsys, "models")
    assert rows["smollm2"]["native_length"] == 8192 and rows["smollm2"]["licence"] == "Apache-2.0"
    assert all(row["description"] for row in rows.values())


@pytest.mark.parametrize("kind", ["methods", "tasks", "recipes", "models"])
def test_lists_for_people(capsys, kind):
    assert invoke(["list", kind]) == 0
    out = capsys.readouterr().out
    wanted = {
        "methods": "--alpha (float > 0 and <= 100, default 3.0)",
        "tasks": "--set passkey.lengths",
        "recipes": "--set story_tokens (int >= 16, default 400)",
        "models": "smollm2",
    }
    assert wanted[kind] in out


def test_a_broken_stranger_does_not_hide_the_others(capsys, monkeypatch):
    with_entry_points(monkeypatch, ("harness.methods", "broken", "no_such_module_anywhere:Thing"))
    assert invoke(["list", "methods", "--json"]) == 0
    shown = capsys.readouterr()
    rows = {row["name"]: row for row in json.loads(shown.out)["methods"]}
    assert rows["broken"]["broken"].startswith(
        "method 'broken' from an unknown distribution cannot be imported"
    )
    assert rows["plain"]["version"]
    assert shown.err == f"harness: {rows['broken']['broken']}\n"
    assert invoke(["list", "methods"]) == 0
    shown = capsys.readouterr()
    assert "\nplain  " in shown.out and "broken" not in shown.out and shown.err.count("\n") == 1


# --- bad input: one line, exit status 2, nothing written


@pytest.fixture
def refuse(capfd, tmp_path, tiny_folder):
    """Run a command that must be refused; returns its one line."""
    out = tmp_path / "runs"

    def call(*words, model=tiny_folder):
        words = [str(w) for w in words]
        if words[0] == "run" and words[-1] != "-m":
            words += ["--device", "cpu"]
            words += [] if "--out" in words else ["--out", str(out)]
            words += [] if model is None else ["--model", str(model)]
        before = snapshot(tmp_path)
        capfd.readouterr()
        assert invoke(words) == 2
        captured = capfd.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("harness: ") and captured.err.count("\n") == 1, captured.err
        assert "Traceback" not in captured.err and "defect" not in captured.err
        assert snapshot(tmp_path) == before, "something was written"
        return captured.err.removeprefix("harness: ").rstrip("\n")

    return call


def snapshot(folder):
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


PLAIN = ("run", "-m", "plain")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "-m", "to_pass"], "no method named 'to_pass'; did you mean 'two_pass'?"),
        ([*PLAIN, "-t", "pasky"], "no task named 'pasky'; did you mean 'passkey'?"),
        ([*PLAIN, "-t", "longbench/trek"], "did you mean 'longbench/trec'?"),
        (
            ["run", "-m", "two_pass", "--alhpa", "3"],
            "No such option '--alhpa'. (Did you mean one of: '--alpha'",
        ),
        (["run", "-m", "plain", "--alpha", "3"], "No such option '--alpha'"),
        (["run", "-m", "two_pass", "--alpha", "0"], "option alpha='0': input should be greater than 0"),
        (["run", "-m", "two_pass", "--alpha", "-1"], "input should be greater than 0"),
        (["run", "-m", "two_pass", "--alpha", "nan"], "option alpha='nan'"),
        (
            ["run", "-m", "two_pass", "--alpha", "three"],
            "option alpha='three': input should be a valid number",
        ),
        (["run", "-m", "two_pass", "--retrieval", "bm52"], "input should be 'attention', 'bm25' or 'random'"),
        (["run", "-m", "two_pass", "--first-ratio", "raw"], "the first pass must condense; choose 2, 4"),
        (
            ["run", "-m", "beacon", "--ratio", "3"],
            "option ratio='3': '3' is no ratio; choose from raw, 1, 2, 4",
        ),
        (["run", "-m", "beacon", "--ratio", "8,x"], "'x' is no ratio"),
        (
            ["run", "-m", "beacon", "--interval", "32", "--ratio", "64"],
            "--ratio 64 does not divide the interval of 32 tokens",
        ),
        (["run", "-m", "beacon"], "--interval 1024 must be smaller than the window of 256 tokens"),
        ([*PLAIN, "--limit", "0"], "--limit must be at least 1, not 0"),
        ([*PLAIN, "--limit", "-2"], "--limit must be at least 1, not -2"),
        ([*PLAIN, "--limit", "x"], "'x' is not a valid integer"),
        ([*PLAIN, "--batch-size", "0"], "--batch-size must be at least 1, not 0"),
        ([*PLAIN, "--max-context", "0"], "--max-context must be at least 1, not 0"),
        ([*PLAIN, "--context-length", "0"], "--context-length 0: must be at least 1"),
        ([*PLAIN, "--context-length", "300"], "was made for 256 tokens"),
        (
            [*PLAIN, "--truncate", "centre"],
            "--truncate centre: choose from middle, middle-exact, left, right",
        ),
        ([*PLAIN, "--dtype", "fp16"], "did you mean 'float16'?"),
        ([*PLAIN, "--chat", "always"], "no value of --chat named 'always'"),
        ([*PLAIN, "--set", "lengths=1"], "--set lengths=1: write TASK.OPTION=VALUE"),
        ([*PLAIN, "--set", "passkey.lengths"], "--set passkey.lengths: write TASK.OPTION=VALUE"),
        (
            [*PLAIN, "--set", "passkey.length=1"],
            "no option of task passkey named 'length'; did you mean 'lengths'?",
        ),
        ([*PLAIN, "--set", "pasky.lengths=1"], "did you mean 'passkey'?"),
        ([*PLAIN, "--set", "passkey.lengths=many"], "option lengths='many'"),
        ([*PLAIN, "--set", "passkey.lengths="], "give at least one value"),
        ([*PLAIN, "--set", "passkey.depths=101"], "a depth must lie between 0 and 100"),
        ([*PLAIN, "--plugin", "no/such/file.py"], "--plugin no/such/file.py: no such file"),
        ([*PLAIN, "more"], "more: cannot be read (No such file or directory)"),
        (["run"], "give --method NAME, or a file: harness run FILE.yaml"),
        (["run", "-m"], "Option '-m' requires an argument"),
        (["rum", "-m", "plain"], "no command named 'rum'; did you mean 'run'?"),
        (
            ["list", "method"],
            "'method' is not one of 'methods', 'tasks', 'recipes', 'reports', 'suites', 'models'",
        ),
        (["list"], "Missing argument"),
        (["--alpha"], "No such option"),
    ],
)
def test_bad_words(refuse, words, message):
    assert message in refuse(*words)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("smolm2", "no model named 'smolm2'; did you mean 'smollm2'?"),
        ("./no/such/folder", "model ./no/such/folder: no such folder"),
        ("nowhere.gguf", "no such file"),
        ("nobody/nothing", "cannot be fetched from the Hub"),
    ],
)
def test_a_model_that_is_not_there(refuse, model, message):
    assert message in refuse(*PLAIN, model=model)


# --- what cannot fit


def test_max_context_beyond_the_window_shows_the_sum(refuse):
    line = refuse(*PLAIN, "--max-context", 250)
    assert "task passkey: 235 prompt + 20 template + 10 new tokens = 265 > 256" in line
    assert "lower --max-context to 226" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "passkey.lengths=30"], "length 30 is too short"),
        (["--context-length", "20"], "length 22 is too short"),
        (
            ["--truncate", "none"],
            "a prompt of 235 tokens is over the limit of 226 and --truncate none forbids",
        ),
        (
            ["-t", "longbench/trec", "--context-length", "60"],
            "0 template + 64 new tokens leave nothing of the 60",
        ),
        (
            ["-t", "longbench/trec", "--truncate", "context-end", "--max-context", "3"],
            "tokens, over the limit of 3: the context cannot be cut enough",
        ),
    ],
)
def test_a_context_that_cannot_fit_shows_the_numbers(refuse, tmp_path, words, message):
    data(tmp_path, ROW)
    assert message in refuse(*PLAIN, *words, "--data-dir", tmp_path)


# --- data


ROW = json.dumps(
    {
        "input": "What?",
        "context": "The sky is blue.",
        "answers": ["Food"],
        "all_classes": ["Food"],
        "length": 4,
    }
)


def data(folder, *lines):
    (folder / "trec.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: not a JSON object"),
        (ROW.replace('"context"', '"text"'), "line 2: field 'context' must be a string"),
        (ROW.replace('["Food"]', "3", 1), "line 2: field 'answers' must be a list of strings"),
    ],
)
def test_a_broken_line_of_data_is_named(refuse, tmp_path, line, message):
    data(tmp_path, ROW, line, ROW)
    assert message in refuse(*PLAIN, "-t", "longbench/trec", "--data-dir", tmp_path)


def test_data_that_is_not_there(refuse, tmp_path):
    words = (*PLAIN, "-t", "longbench/trec")
    assert f"cannot read {tmp_path / 'trec.jsonl'}" in refuse(*words, "--data-dir", tmp_path)
    assert "no such folder" in refuse(*words, "--data-dir", tmp_path / "none")
    line = refuse(*words, "--offline")
    assert "data.zip" in line and "--data-dir a folder with one <dataset>.jsonl" in line


# --- adapters


@pytest.fixture
def adapter(tmp_path, tiny):
    folder = tmp_path / "adapter"
    adapters.write(folder, "beacon", tiny, {"weights.safetensors": {"w": torch.arange(4.0)}}, {"steps": 1})
    return folder


def with_adapter(refuse, adapter, method="beacon"):
    options = [] if method == "plain" else ["--interval", "32"]
    return refuse("run", "-m", method, *options, "--adapter", adapter)


def test_an_adapter_for_another_model(refuse, tmp_path, adapter):
    from harness.models import loading

    other = loading.load(str(make_model(tmp_path / "other", hidden_size=32)), device="cpu")
    adapters.write(adapter, "beacon", other, {"weights.safetensors": {"w": torch.arange(4.0)}}, {})
    line = with_adapter(refuse, adapter)
    assert f"--adapter {adapter}: trained on {other.name}" in line and "not on " in line


def test_an_adapter_for_another_method(refuse, adapter, tiny):
    adapters.write(adapter, "lora", tiny, {"weights.safetensors": {"w": torch.arange(4.0)}}, {})
    for method in ("beacon", "two_pass"):
        assert "made for method 'lora', not for " in with_adapter(refuse, adapter, method)


def test_a_method_that_takes_none(refuse, adapter):
    assert f"method Plain takes no adapter (given {adapter})" in with_adapter(refuse, adapter, "plain")


def test_a_damaged_adapter_is_refused_before_any_sample(refuse, adapter):
    weights = adapter / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "weights.safetensors is damaged: its hash is not the one in adapter.json" in with_adapter(
        refuse, adapter
    )
    weights.write_bytes(content[:-8])
    assert "is damaged" in with_adapter(refuse, adapter)
    weights.unlink()
    assert "weights.safetensors cannot be read: No such file" in with_adapter(refuse, adapter)


def test_a_folder_that_is_no_adapter(refuse, adapter, tmp_path):
    card = adapter / "adapter.json"
    for content, message in (
        ("{", "adapter.json cannot be read"),
        ("[]", "is not of format 2"),
        ('{"format": 99}', "is not of format 2; fit it again"),
    ):
        card.write_text(content)
        assert message in with_adapter(refuse, adapter)
    card.unlink()
    assert "no adapter.json there; is it a folder written by a fit?" in with_adapter(refuse, adapter)
    assert "no adapter.json there" in with_adapter(refuse, tmp_path / "nowhere")


# --- where nothing can be written


def test_an_output_folder_below_a_file(refuse, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "runs"):
        line = refuse(*PLAIN, "--limit", "1", "--out", out)
        assert f"{out}/plain-tiny-" in line and "cannot be written (Not a directory)" in line
        assert "choose another --out" in line


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_read_only_output_folder(refuse, monkeypatch, code):
    # Permissions do not stop root, so the file system's refusal is played.
    def mkdir(self, *args, **kwargs):
        raise OSError(code, os.strerror(code), str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", mkdir)
        line = refuse(*PLAIN, "--limit", "1")
    assert f"cannot be written ({os.strerror(code)})" in line


def test_a_full_disk_keeps_what_is_finished_and_the_same_command_goes_on(
    tiny_folder, tmp_path, monkeypatch, capfd
):
    with_toy(monkeypatch)
    words = ["run", "-m", "plain", "-t", "toy", "--model", str(tiny_folder), "--device", "cpu"]
    words += ["--out", str(tmp_path), "--json"]
    real, count = os.fsync, [0]

    def fsync(descriptor):
        count[0] += 1
        if count[0] == 5:  # run.json, the prompt, and the third of four samples
            size = os.fstat(descriptor).st_size
            os.truncate(descriptor, size - 30)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        assert invoke(words) == 2
    captured = capfd.readouterr()
    folder = next(tmp_path.iterdir())
    assert captured.out == ""
    assert captured.err == (
        f"harness: {folder} cannot be written (No space left on device); make room or choose another --out. "
        "Finished samples are kept: the same command resumes\n"
    )
    assert (folder / "samples.jsonl").read_bytes().count(b"\n") == 2
    assert invoke(words) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["ran"] == 2 and result["total"] == {"n": 4, "n_ok": 4, "failed": 0, "missing": 0}


# --- methods from files


def test_an_option_that_is_a_flag_of_every_run_is_refused(refuse, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from harness import Method, Options\nclass O(Options):\n    seed: int = 1\n"
        "class Mine(Method):\n    Options = O\n"
    )
    line = refuse("run", "-m", "mine", "--plugin", file)
    assert line == "method mine: its option 'seed' is a flag of every run; rename it"


def test_a_broken_file_is_one_line(refuse, tmp_path):
    (tmp_path / "mine.py").write_text("def broken(:\n")
    assert "SyntaxError" in refuse("run", "-m", "mine", "--plugin", tmp_path / "mine.py")


# --- what the command line says when all is well


def test_the_next_command_leaves_out_what_the_other_method_does_not_have(tiny_folder, tmp_path, capsys):
    words = ["run", "-mbeacon", "--interval", "32", "--ratio=4", "--limit", "1"]
    words += ["--model", str(tiny_folder), "--device", "cpu", "--out", str(tmp_path)]
    words += ["--set", "passkey.lengths=288", "--set", "passkey.depths=0,10,20,30,40,50,60,70,80,90,100"]
    assert invoke(words) == 0
    following = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("next: "))
    command = following.removeprefix("next: ").partition("    #")[0]
    assert shlex.split(command) == ["harness", "run", "--method", "plain", *words[5:]], "whole, on one line"


def test_a_switch_of_a_method_reaches_it(tiny_folder, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from harness import Options\nfrom harness.plugins.plain import Plain\n"
        "class O(Options):\n    loud: bool = True\n    keep_it: int = 3\n"
        "class Mine(Plain):\n    Options = O\n"
    )
    words = ["run", "-m", "mine", "--plugin", str(tmp_path / "mine.py"), "--model", str(tiny_folder)]
    words += ["--device", "cpu", "--limit", "1", "--out", str(tmp_path / "runs"), "--json"]
    assert invoke([*words, "--no-loud", "--keep-it", "5"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    assert json.loads((folder / "run.json").read_text())["identity"]["options"] == {
        "loud": False,
        "keep_it": 5,
    }


def test_settings_by_task():
    assert task_settings(("passkey.lengths=1,2", "passkey.trials=3", "a.b=c=d")) == {
        "passkey": {"lengths": "1,2", "trials": "3"},
        "a": {"b": "c=d"},
    }
    for pair in ("x", "=1", ".a=1", "a.=1"):
        with pytest.raises(UsageError, match=r"write TASK\.OPTION=VALUE"):
            task_settings((pair,))


def test_a_defect_is_one_line_too_and_shows_its_traceback_on_demand(monkeypatch, capsys):
    def broken():
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr(registry, "method_names", broken)
    assert invoke(["list", "methods"]) == 1
    err = capsys.readouterr().err
    assert err == (
        "harness: unexpected ZeroDivisionError: first second "
        "(a defect of the harness; HARNESS_DEBUG=1 shows where)\n"
    )
    monkeypatch.setenv("HARNESS_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        invoke(["list", "methods"])
