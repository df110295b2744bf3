"""Runs in formats of other tools: read back by those tools, or as they would."""

import json

import pytest

import harness
from harness import UsageError
from harness.cli import invoke
from harness.exchange import tables
from harness.exchange.exporting import FORMATS, export

from ...helpers import making

EVIL = '=HYPERLINK("http://x")\x07'


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "runs"
    making.write_run(out, "plain", [*making.grid(0.3, ratio=1), making.failed("passkey", "late")])
    records = making.grid(0.9)
    records[0]["prediction"] = EVIL
    records[1]["prediction"] = "x" * 40_000
    making.write_run(out, "two_pass", records)
    return out


def loaded(runs):
    return harness.load_runs(runs)


def test_parquet_holds_every_sample(runs, tmp_path):
    import pyarrow.parquet as pq

    [path] = harness.export(runs, out=tmp_path / "a.parquet")
    found = pq.read_table(path).to_pylist()
    assert len(found) == 91 and {row["status"] for row in found} == {"ok", "error"}
    frame = loaded(runs).to_pandas()
    ours = [row["score.accuracy"] for row in found if row["status"] == "ok"]
    assert ours == list(frame[frame["status"] == "ok"]["score.accuracy"])
    three = harness.export(runs, out=tmp_path / "folder", format="parquet")
    assert [p.name for p in three] == ["samples.parquet", "tasks.parquet", "runs.parquet"]
    rows = pq.read_table(three[1]).to_pylist()
    assert [(r["method"], r["n"], r["n_ok"]) for r in rows] == [("plain", 46, 45), ("two_pass", 45, 45)]
    assert rows[1]["interval.low"] < rows[1]["score"] < rows[1]["interval.high"]


def test_columns_of_several_types_become_text_or_numbers(tmp_path):
    import pyarrow.parquet as pq

    rows = [{"a": 1, "b": "x", "c": 2**70}, {"a": 0.5, "b": 3, "c": None}]
    tables.write_parquet(rows, tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").to_pydict() == {
        "a": [1.0, 0.5],
        "b": ["x", "3"],
        "c": [float(2**70), None],
    }


def test_a_workbook_has_no_formulas_and_says_what_it_cut(runs, tmp_path, capsys):
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "a.xlsx"
    assert invoke(["export", str(runs), "--out", str(path)]) == 0
    shown = capsys.readouterr()
    assert "1 texts are longer than 32,767 characters and are cut" in shown.err
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["tasks", "runs", "samples"]
    heads, *rows = book["samples"].iter_rows()
    at = [cell.value for cell in heads].index("prediction")
    cells = [row[at] for row in rows]
    [evil] = [c for c in cells if str(c.value).startswith("=HYPERLINK")]
    assert evil.data_type == "s" and "\x07" not in evil.value and len(cells) == 91
    assert max(len(str(c.value)) for c in cells) == 32_767


def test_without_openpyxl_the_line_says_what_to_install(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(UsageError, match=r"pip install 'long-context-harness\[xlsx\]'"):
        export(loaded(runs), tmp_path / "a.xlsx")


def test_lm_eval_prints_its_table_of_our_results(runs, tmp_path):
    from lm_eval.utils import make_table

    files = export(loaded(runs), tmp_path / "out", "lm-eval").files
    first = json.loads(files[0].read_text("utf-8"))
    table = make_table(first)
    score = loaded(runs)[0].content["summary"]["tasks"][0]["score"]
    assert f"{score:.4f}" in table and "passkey" in table and "accuracy" in table
    assert first["n-samples"]["passkey"] == {"original": 46, "effective": 45}
    lines = [json.loads(line) for line in files[1].read_text("utf-8").splitlines()]
    assert (
        len(lines) == 45
        and lines[0]["accuracy"] in (0, 1)
        and lines[0]["filtered_resps"] == [lines[0]["resps"][0][0]]
    )


def test_inspect_reads_our_logs(runs, tmp_path):
    files = export(loaded(runs), tmp_path / "logs", "inspect").files
    log = json.loads(files[0].read_text("utf-8"))
    assert (log["version"], log["eval"]["task"], len(log["samples"])) == (2, "passkey", 46)
    assert log["results"]["scores"][0]["metrics"]["mean"]["value"] == pytest.approx(
        loaded(runs)[0].content["summary"]["tasks"][0]["score"]
    )
    assert log["samples"][-1]["error"]["message"] == "RuntimeError: no room"
    inspect_log = pytest.importorskip("inspect_ai.log")
    read = inspect_log.read_eval_log(str(files[0]))
    assert read.samples[0].scores["accuracy"].value in (0, 1) and read.eval.model.startswith("harness/")


def test_a_data_set_loads_by_its_card(runs, tmp_path, monkeypatch):
    import yaml

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    export(loaded(runs), tmp_path / "set", "dataset")
    text = (tmp_path / "set" / "README.md").read_text("utf-8")
    head = yaml.safe_load(text.split("---\n")[1])
    assert {c["config_name"]: c["data_files"][0]["path"] for c in head["configs"]} == {
        name: f"data/{name}.parquet" for name in ("samples", "tasks", "runs")
    }
    assert "| two\\_pass |" in text and "| plain |" in text


def test_a_model_card_has_a_model_index_that_the_hub_reads(runs, tmp_path):
    from huggingface_hub import ModelCard

    [path] = export(loaded(runs), tmp_path / "README.md", "model-card").files
    card = ModelCard.load(path)
    assert [(r.dataset_type, r.metric_type) for r in card.data.eval_results] == [("passkey", "accuracy")] * 2
    assert "compression measured" in card.data.eval_results[1].metric_name


def test_where_a_model_lies_is_not_told(tmp_path):
    path = making.write_run(tmp_path, "plain", making.grid(0.5))
    folder = harness.results.run_folder.RunFolder(path)
    folder.write_run({**folder.read_run(), "model": {"name": "/somewhere/secret/mine"}})
    for name in ("dataset", "lm-eval", "inspect", "model-card"):
        target = tmp_path / name
        export(loaded(path), target, name)
        for file in [target] if target.is_file() else [p for p in target.rglob("*") if p.is_file()]:
            assert b"secret" not in file.read_bytes(), file


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "a.docx"], "--out a.docx: say --format, one of parquet"),
        (["--out", "a", "--format", "excel"], "'excel' is not one of"),
        ([], "say where to"),
        (["--out", "taken.xlsx"], "taken.xlsx is there already"),
        (["--push", "me"], "--push me: write USER/NAME"),
        (["--push", "me/x", "--out", "a"], "leave --out and --format out"),
        (["--public", "--out", "a.xlsx"], "--public and --yes are for --push"),
        (["--out", "a.xlsx", "--adapter", "b"], "--adapter is for --format model-card"),
        (["--out", "a.md", "--format", "model-card", "--adapter", "nowhere"], "nowhere"),
    ],
)
def test_what_is_wrong_is_one_line(runs, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.xlsx").write_text("mine")
    assert invoke(["export", str(runs), *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert (tmp_path / "taken.xlsx").read_text() == "mine"


def test_the_formats_of_the_command_line_are_those_there_are():
    from harness.cli.export import FORMATS as SHOWN
    from harness.cli.import_ import SOURCES as TOOLS
    from harness.exchange.importing import SOURCES

    assert list(FORMATS) == list(SHOWN) and list(SOURCES) == list(TOOLS)
