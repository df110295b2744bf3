"""Other tools' files as runs: there, scored as officially, and compared with ours."""

import csv
import json

import pytest
import yaml

import harness
from harness import UsageError
from harness.cli import invoke
from harness.exchange.exporting import export
from harness.exchange.importing import import_runs

from ...helpers import making

STAMP = "2026-01-02T03-04-05.678901"


def lm_eval_files(folder, right, task="tiny_choice", n=8, **changes):
    """What lm-eval writes for a task whose first `right` answers are right."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "results": {task: {"alias": task, "acc,none": right / n}},
        "versions": {task: 1.0},
        "config": {"model": "hf", "model_args": {"pretrained": "org/x"}},
        "model_name": "org/x",
        "lm_eval_version": "0.4.13",
    }
    (folder / f"results_{STAMP}.json").write_text(json.dumps({**content, **changes}))
    rows = [
        {
            "doc_id": i,
            "doc": {"q": i},
            "target": str(i % 3),
            "arguments": {},
            "resps": [["a"]],
            "filtered_resps": ["a"],
            "filter": "none",
            "metrics": ["acc", "perplexity"],
            "acc": float(i < right),
            "perplexity": 12.5,
        }
        for i in range(n)
    ]
    (folder / f"samples_{task}_{STAMP}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def longbench_files(folder, name, answers, predictions):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"pred": p, "answers": a, "all_classes": None, "length": 100} for p, a in zip(predictions, answers)
    ]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def kvpress_files(folder, rows, dataset="ruler", **config):
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        "dataset": dataset,
        "data_dir": "4096",
        "model": "org/x",
        "press_name": "snapkv",
        "compression_ratio": 0.5,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({**whole, **config}))
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_two_runs_of_lm_eval_are_compared(tmp_path, capsys):
    folders = [
        import_runs(
            lm_eval_files(tmp_path / f"in{right}", right), "lm-eval", out=tmp_path / "runs", method=name
        )
        for right, name in ((1, "small"), (8, "large"))
    ]
    run = harness.load_runs(folders[1])[0]
    assert (run.method, run.model, run.n_ok, run.status) == ("large", "org/x", 8, "finished")
    [task] = run.tasks
    assert (task.name, task.metric, task.version) == ("lm_eval/tiny_choice", "acc", "1.0")
    assert "imported from lm-eval" in run.warnings[0]
    assert "perplexity" not in next(iter(run.records.values())).scores, "no score from 0 to 1"
    found = harness.compare(folders[0], folders[1]).to_pandas()
    assert list(found["n"]) == [8] and found["difference"][0] == pytest.approx(7 / 8)
    for words in (["report", str(tmp_path / "runs"), "--all"], ["compare", *map(str, folders)]):
        assert invoke(words) == 0
    assert "imported from lm-eval" in capsys.readouterr().out
    assert import_runs(tmp_path / "in8", "lm-eval", out=tmp_path / "runs", method="large") == folders[1], (
        "once"
    )


def test_what_we_export_for_lm_eval_comes_back(tmp_path):
    records = [*making.longbench(0.4, n=3, sets=("trec", "qasper"))]
    original = harness.load_runs(making.write_run(tmp_path / "runs", "plain", records))[0]
    export([original], tmp_path / "files", "lm-eval")
    back = harness.import_runs(tmp_path / "files", "lm-eval", out=tmp_path / "back")
    assert {k: r.scores for k, r in back.records.items()} == {
        k: r.scores for k, r in original.records.items()
    }
    rows = harness.compare([original], [back]).to_pandas()
    assert set(rows["difference"]) == {0.0}, "the same samples, by id and references"


def test_longbench_predictions_are_scored_and_compared_with_a_run_of_ours(tmp_path, capsys):
    answers = [["Paris"], ["Rome"], ["Oslo"], ["Rome"]]
    folder = longbench_files(
        tmp_path / "pred" / "model-x", "hotpotqa", answers, ["Paris", "Rome", "no", "Rome"]
    )
    ours = [
        {**making.record("longbench/hotpotqa", f"id{i}", {"score": 0.0}), "references": a}
        for i, a in enumerate(answers)
    ]
    like = making.write_run(tmp_path / "runs", "plain", ours[::-1])
    words = [
        "import",
        str(folder),
        "--from",
        "longbench",
        "--like",
        str(like),
        "--out",
        str(tmp_path / "runs"),
        "--json",
    ]
    assert invoke(words) == 0
    run = harness.load_runs(json.loads(capsys.readouterr().out)["folder"])[0]
    assert (run.model, run.method) == ("model-x", "longbench")
    scores = {key[1]: r.scores["score"] for key, r in run.records.items()}
    assert set(scores) == {"id0", "id1", "id2", "id3"} and scores["id2"] == 0.0 and scores["id0"] == 1.0
    found = harness.compare(like, run).to_pandas()
    assert list(found["n"]) == [4] and found["difference"][0] == pytest.approx(0.75)


def test_predictions_of_kvpress_are_scored(tmp_path):
    rows = [
        {
            "task": "niah_single_1",
            "question": "q",
            "answer": "['12345' '678']",
            "predicted_answer": "12345 and 678",
        },
        {"task": "niah_single_1", "question": "q", "answer": "['999']", "predicted_answer": 'a, "b"\nc'},
        {"task": "vt", "question": "q", "answer": '["AB", "it\'s"]', "predicted_answer": "AB"},
    ]
    run = harness.load_runs(
        import_runs(kvpress_files(tmp_path / "x", rows), "kvpress", out=tmp_path / "runs")
    )[0]
    assert (run.method, run.model) == ("kvpress:snapkv", "org/x")
    assert {t.name: [r.scores[t.metric] for r in run.of_task(t.name).values()] for t in run.tasks} == {
        "ruler/niah_single_1": [1.0, 0.0],
        "ruler/vt": [0.5],
    }
    assert {r.metadata["length"] for r in run.records.values()} == {4096}, "it stands in the settings"
    odd = kvpress_files(tmp_path / "odd", rows, data_dir="all")
    [first, _] = harness.import_runs(odd, "kvpress", out=tmp_path / "runs").content["summary"]["tasks"]
    assert first["breakdown"] == {} and first["score"] == 0.5
    # the older form: one file whose name says it all
    old = tmp_path / "ruler__4096__org--y__knorm__0.1.csv"
    (tmp_path / "x" / "predictions.csv").rename(old)
    run = harness.load_runs(import_runs(old, "kvpress", out=tmp_path / "runs"))[0]
    assert (run.method, run.model) == ("kvpress:knorm", "org/y")


BROKEN = {
    "no file": (lambda t: t / "nothing", "lm-eval", "no such file or folder"),
    "no results": (lambda t: t, "lm-eval", "holds 0 files results_*.json"),
    "no samples": (lambda t: unlinked(lm_eval_files(t / "a", 3)), "lm-eval", "run lm_eval with --log_samples"),
    "no config": (lambda t: lm_eval_files(t / "a", 3, config=3), "lm-eval", "field 'config' is of another type (int)"),
    "no doc_id": (lambda t: without(lm_eval_files(t / "a", 3), "doc_id"), "lm-eval",
                  "line 1: field 'doc_id' is missing"),
    "no metrics": (lambda t: without(lm_eval_files(t / "a", 3), "metrics"), "lm-eval", "field 'metrics' is missing"),
    "no score": (lambda t: without(lm_eval_files(t / "a", 3), "acc"), "lm-eval", "no sample has a score from 0 to 1"),
    "no json": (lambda t: torn(lm_eval_files(t / "a", 3)), "lm-eval", "line 2: not JSON"),
    "empty answer": (lambda t: kvpress_files(t / "a", [{"task": "vt", "answer": "", "predicted_answer": "x"}]),
                     "kvpress", "line 2: no answers"),
    "no sets": (lambda t: t, "longbench", "holds no <dataset>.jsonl"),
    "no pred": (lambda t: without(longbench_files(t / "a", "trec", [["x"]], ["x"]), "pred"), "longbench",
                "trec.jsonl line 1: field 'pred' is missing"),
    "no set": (lambda t: longbench_files(t / "a", "trac", [["x"]], ["x"]), "longbench", "did you mean"),
    "no answers": (lambda t: without(longbench_files(t / "a", "qasper", [["x"]], ["x"]), "answers"), "longbench",
                   "line 1: field 'answers'"),
    "old kvpress": (lambda t: kvpress_files(t / "a", [{"task": "vt", "predicted_answer": "x"}]), "kvpress",
                    "line 2: no answers; kvpress wrote predictions alone"),
    "no prediction": (lambda t: kvpress_files(t / "a", [{"task": "vt", "answer": "x"}]), "kvpress",
                      "field 'predicted_answer' is missing"),
    "other set": (lambda t: kvpress_files(t / "a", [{"task": "vt"}], dataset="rular"), "kvpress",
                  "did you mean 'ruler'?"),
    "no yaml": (lambda t: unconfigured(kvpress_files(t / "a", [{"task": "vt"}])), "kvpress",
                "no config.yaml beside it"),
}  # fmt: skip


def unlinked(folder):
    next(folder.glob("samples_*")).unlink()
    return folder


def unconfigured(folder):
    (folder / "config.yaml").unlink()
    return folder


def without(folder, name):
    for path in folder.glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({k: v for k, v in r.items() if k != name}) + "\n" for r in rows))
    return folder


def torn(folder):
    path = next(folder.glob("samples_*"))
    path.write_text(path.read_text()[:-10].replace("}\n{", "}\n{{", 1))
    return folder


@pytest.mark.parametrize("name", BROKEN)
def test_foreign_files_with_something_missing_are_one_line(tmp_path, capsys, name):
    make, source, words = BROKEN[name]
    path = make(tmp_path)
    assert invoke(["import", str(path), "--from", source, "--out", str(tmp_path / "runs")]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1, err
    assert not (tmp_path / "runs").exists()


def test_ids_come_only_from_a_run_that_asked_the_same(tmp_path):
    folder = longbench_files(tmp_path / "m", "hotpotqa", [["Paris"]], ["Paris"])
    other = making.write_run(tmp_path / "runs", "plain", making.longbench(0.5, n=2, sets=("hotpotqa",)))
    with pytest.raises(UsageError, match="none of its samples of longbench/hotpotqa has the references"):
        import_runs(folder, "longbench", out=tmp_path / "new", like=other)
    other = making.write_run(tmp_path / "runs", "plain", making.grid(0.5))
    with pytest.raises(UsageError, match="it has no samples of longbench/hotpotqa"):
        import_runs(folder, "longbench", out=tmp_path / "new", like=other)


def test_what_is_imported_keeps_to_the_schemas(tmp_path):
    from jsonschema import Draft202012Validator

    from harness.results.run_folder import RUN, SAMPLES
    from harness.results.schemas import SCHEMAS

    folder = import_runs(lm_eval_files(tmp_path / "in", 3), "lm-eval", out=tmp_path / "runs")
    Draft202012Validator(SCHEMAS["run"]()).validate(json.loads((folder / RUN).read_text()))
    for line in (folder / SAMPLES).read_text().splitlines():
        Draft202012Validator(SCHEMAS["sample"]()).validate(json.loads(line))
