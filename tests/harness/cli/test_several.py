"""Several methods in one command, and the names that users of other harnesses know."""

import json

import pytest

import harness
from harness.cli import invoke
from harness.cli._model_args import parse

from ...helpers.running import one_thread

SMALL = ["--sinks", "2", "--recent", "40", "--chunk", "32"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


def said(capsys, *words):
    status = invoke([str(w) for w in words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_several_methods_end_with_one_comparison(tmp_path, tiny_folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    rest = ["--limit", "6", "--out", tmp_path / "runs", "--set", "passkey.depths=0,20,40,60,80,100"]
    words = ["run", "--methods", "plain,streaming", *SMALL, "--tasks", "passkey", *rest]
    words += ["--device", "cpu", "--model", tiny_folder]
    status, out, _ = said(capsys, *words)
    assert status == 0
    assert "(baseline plain: 0.0;" in out and "streaming cannot be told from plain" in out
    assert out.count("Scores × 100") == 1 and "next: harness compare" in out
    whole = json.loads(said(capsys, *words, "--json")[1])
    assert [r["ran"] for r in whole["runs"]] == [0, 0]
    [comparison] = whole["comparisons"]
    folders = [r["folder"] for r in whole["runs"]]
    expected = json.loads(said(capsys, "compare", *folders, "--json")[1])["comparisons"][0]
    assert comparison == expected
    # the same runs by the single forms, by lm-eval's words, and from Python
    single = ["run", "-m", "streaming", *SMALL, "-t", "passkey", *rest, "--json"]
    lmeval = ["--model", "hf", "--model_args", f"pretrained={tiny_folder},device=cpu,batch_size=1"]
    again = json.loads(said(capsys, *single, *lmeval)[1])
    assert (again["folder"], again["ran"]) == (folders[1], 0)
    grid = {"passkey": {"depths": [0, 20, 40, 60, 80, 100]}}
    runs = harness.run(
        ["plain", "plain"],
        task="passkey",
        model=str(tiny_folder),
        out=tmp_path / "runs",
        limit=6,
        task_settings=grid,
    )
    assert [str(r.folder) for r in runs] == [folders[0]] * 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "plain,plain"], "plain is there twice with the same options"),
        (["-m", "plain", "-m", "streaming", "--limit", "0"], "plain: --limit must be at least 1"),
        (["--methods", "plain,"], "a name is empty"),
        (["--methods", "plain,streming"], "no method named 'streming'; did you mean 'streaming'?"),
        (["-m", "plain", "--tasks", "passkey,,niah"], "a name is empty"),
        (["-m", "plain", "--model-args", "pretrined=x"], "did you mean 'pretrained'?"),
        (["-m", "plain", "--model-args", "pretrained"], "write NAME=VALUE"),
        (["-m", "plain", "--model-args", "revision=main"], "say of which model"),
        (["-m", "plain", "--model-args", "max_length=long"], "write a whole number"),
        (["-m", "plain", "--model-args", "trust_remote_code=maybe"], "write true or false"),
        (["-m", "plain", "--model-args", "pretrained=a,model=b"], "model is said twice"),
        (["-m", "plain", "--model-args", "pretrained=a", "--model", "b"], "name a model each"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, tiny_folder, capsys, words, message):
    model = (
        [] if "--model" in words or "--model-args" in words else ["--model", tiny_folder, "--device", "cpu"]
    )
    status, _, err = said(capsys, "run", *words, *model, "--out", tmp_path / "runs", "--quiet")
    assert status == 2 and message in err and err.count("\n") == 1, err
    assert not (tmp_path / "runs").exists()


def test_model_arguments_are_settings_of_a_run():
    given = "pretrained=org/name,revision=v2,dtype=bfloat16,max_length=4096,batch_size=auto,trust_remote_code=True"
    assert parse(given) == {
        "model": "org/name@v2",
        "dtype": "bfloat16",
        "context_length": 4096,
        "batch_size": "auto",
        "trust_remote_code": True,
    }
