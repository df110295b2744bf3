"""Suites on the tiny model: what is planned, shared, resumed and shown, and what a failure costs."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from harness import UsageError
from harness.cli import invoke
from harness.evaluation.plan import plan_run
from harness.evaluation.runner import execute
from harness.models.shared import SharedModels
from harness.plugins.plain import Plain
from harness.results.run_folder import RunFolder
from harness.suites import document
from harness.suites.matrix import spell
from harness.suites.outcome import read_outcome
from harness.suites.plan import plan_suite

from ...helpers.fits import repeating
from ...helpers.lm_eval_yaml import write_mmlu
from ...helpers.running import as_method, one_thread

LENGTHS = [190, 288]
SETS = "longbench/hotpotqa"


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture
def data(tmp_path):
    """One local row of LongBench, made here."""
    folder = tmp_path / "data"
    folder.mkdir()
    row = {"_id": "1", "context": "Ada signed it. " * 30, "input": "Who signed it?", "answers": ["Ada"]}
    (folder / "hotpotqa.jsonl").write_text(json.dumps(row) + "\n")
    return folder


@pytest.fixture
def content(tiny_folder, tmp_path, data):
    """Two cells over passkey and a row of LongBench, held against a published table's first rows."""
    return {
        "name": "two",
        "title": "Two cells",
        "paper": {"source": "nobody", "models": ["meta-llama/Llama-2-7b-chat-hf"]},
        "published": "thesis-4.3",
        "vars": {"interval": 32},
        "settings": {
            "model": str(tiny_folder),
            "device": "cpu",
            "out": str(tmp_path / "runs"),
            "data_dir": str(data),
            "max_context": 200,
            "tasks": ["passkey", SETS],
            "task_settings": {"passkey": {"lengths": LENGTHS, "depths": [0, 50, 100]}},
        },
        "defaults": {"beacon": {"interval": "${interval}"}},
        "cells": {
            "fixed": {"label": "{ratio}", "method": "beacon", "matrix": {"ratio": [8, 16]}},
            "min": {"label": "Min (≤ 8)", "method": "beacon", "options": {"ratio": "adapt", "margin": 10}},
        },
        "columns": [
            {"key": "short", "tasks": ["passkey"], "where": {"length": LENGTHS[0]}},
            {"key": "MultiDoc", "tasks": [SETS]},
            {"key": "Avg", "tasks": ["passkey", SETS]},
        ],
        "figure": "length",
        "findings": [
            {"claim": "lower is better", "increasing": ["fixed/16", "fixed/8", "min"], "column": "Avg"},
            {"claim": "min beats 16", "better": "min", "worse": "fixed/16", "column": "Avg"},
        ],
        "quick": {"settings": {"limit": 1}},
    }


@pytest.fixture
def written(content, tmp_path):
    """Write the suite, changed as a test says, and return its file."""

    def write(**changes):
        path = tmp_path / "two.yaml"
        path.write_text(
            yaml.safe_dump(document.merged(content, changes), sort_keys=False, allow_unicode=True)
        )
        return path

    return write


def run(*words):
    return invoke([str(word) for word in ("run", *words)])


def outcome(tmp_path):
    [path] = (tmp_path / "runs" / "suites").glob("*.json")
    return read_outcome(path)


def test_a_suite_runs_shows_its_table_and_goes_on_where_it_was_killed(written, tmp_path, capsys):
    path = written()
    assert run(path, "--format", "json") == 0
    printed = json.loads(capsys.readouterr().out)
    [shown] = printed["reports"]
    table, claims = shown["tables"]
    assert "not on Llama-2-7b-chat-hf: numbers are not comparable" in table["title"]
    rows = {r["cells"]["row"]["value"]: r["cells"] for r in table["rows"]}
    assert list(rows) == ["8", "16", "Min (≤ 8)"]
    assert rows["16"]["MultiDoc"]["published"] == 14.61 and "published" not in rows["8"]["MultiDoc"]
    recorded = outcome(tmp_path)
    for row in recorded["rows"]:
        [folder] = row["runs"]
        records = RunFolder(Path(folder)).records()
        passkey = [r.scores["accuracy"] for r in records if r.task == "passkey"]
        [other] = [r.scores["score"] for r in records if r.task == SETS]
        mean = 100 * (sum(passkey) / len(passkey) + other) / 2
        assert rows[row["label"]]["Avg"]["value"] == pytest.approx(mean)
        short = [r.id for r in records if r.metadata.get("length") == LENGTHS[0]]
        assert rows[row["label"]]["short"]["n"] == len(short) == 3
    assert [c["cells"]["n"]["value"] for c in claims["rows"]] == [7, 7]
    assert any(f.startswith("runs: ") for f in table["footers"])

    # Killed before the last sample: only that one is asked again, and the table is the same.
    samples = RunFolder(Path(recorded["rows"][1]["runs"][0])).samples_path
    lines = samples.read_text().splitlines(keepends=True)
    samples.write_text("".join(lines[:-1]) + lines[-1][:40])
    assert run(path, "--dry-run") == 0
    plan = capsys.readouterr().out
    assert "begun" in plan and plan.count("finished") == 2
    assert run(path, "--format", "json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["reports"][0]["tables"] == shown["tables"]
    assert [json.loads(a)["prediction"] for a in samples.read_text().splitlines()] == [
        json.loads(a)["prediction"] for a in lines
    ]


def test_identical_runs_are_carried_out_once_and_said_to_be_the_same(written, tmp_path, capsys):
    again = {"label": "again", "method": "beacon", "options": {"ratio": 8}}
    claim = {"claim": "no difference", "better": "again", "worse": "fixed/8", "column": "Avg"}
    path = written(cells={"again": again}, findings=[claim], settings={"limit": 1})
    assert run(path, "--dry-run") == 0
    assert "the same run as fixed/8" in " ".join(capsys.readouterr().out.split())
    assert run(path, "--format", "markdown") == 0
    shown = capsys.readouterr().out
    assert "cannot be told: they are the same run" in shown
    rows = {r["id"]: r["runs"] for r in outcome(tmp_path)["rows"]}
    assert rows["again"] == rows["fixed/8"] != rows["min"]
    assert len([p for p in (tmp_path / "runs").iterdir() if p.name.startswith("beacon-")]) == 3


def test_a_failing_cell_is_recorded_and_the_others_go_on(written, tmp_path, monkeypatch, capsys):
    class Broken(Plain):
        """Fails before the first sample."""

        def prepare(self, prompts, decoding):
            raise RuntimeError("no luck")

    as_method(monkeypatch, Broken, "broken")
    cells = {
        "broken": {"label": "broken", "method": "broken"},
        "wrong": {"label": "wrong", "method": "beacon", "options": {"ratio": 3}},
        "away": {"label": "away", "method": "beacon", "adapter": str(tmp_path / "nowhere")},
    }
    assert run(written(cells=cells, settings={"limit": 1})) == 1
    told = capsys.readouterr()
    rows = {r["id"]: r for r in outcome(tmp_path)["rows"]}
    assert [r["status"] for r in rows.values()] == ["ok", "ok", "ok", "failed", "failed", "unavailable"]
    assert rows["broken"]["why"] == "RuntimeError: no luck"
    assert "is no ratio" in rows["wrong"]["why"] and "adapter.json" in rows["away"]["why"]
    assert "failed: broken: RuntimeError: no luck" in told.err
    assert "away: unavailable: " in told.out


def test_an_interrupted_suite_says_how_to_go_on_and_does(written, tmp_path, monkeypatch, capsys):
    class Stopped(Plain):
        """Is interrupted at its second sample, as by Ctrl-C."""

        answered = 0

        def compress_and_generate(self, prompts, decoding):
            type(self).answered += 1
            if type(self).answered == 2:
                raise KeyboardInterrupt
            return super().compress_and_generate(prompts, decoding)

    as_method(monkeypatch, Stopped, "stopped")
    path = written(cells={"stopped": {"label": "stopped", "method": "stopped"}, "fixed": None}, findings=[])
    assert run(path) == 130
    assert "the same command resumes" in capsys.readouterr().err
    rows = {r["id"]: r["runs"] for r in outcome(tmp_path)["rows"]}
    assert RunFolder(Path(rows["stopped"][0])).read_run()["status"] == "interrupted"
    assert run(path) == 0
    assert Stopped.answered == 8, "one sample was there, one was asked again"


def test_a_fit_is_made_once_shared_and_unavailable_without_its_data(written, tmp_path, capsys):
    small = {"min_length": 20, "max_length": 128, "batch_size": 2, "max_steps": 2}
    fit = {
        "method": "beacon",
        "data": ["${texts}"],
        "options": {"interval": 32},
        "fit_options": {"train_ratios": "2,4,8"},
        "settings": small,
    }
    cells = {
        "min": {"adapter": "fit:taught"},
        "fixed": {"adapter": "fit:taught", "matrix": {"ratio": [8]}},
        "without": {"label": "without", "method": "beacon", "adapter": "none"},
    }
    path = written(
        vars={"texts": "nowhere.jsonl"}, fits={"taught": fit}, cells=cells, findings=[], settings={"limit": 1}
    )
    assert run(path, "--dry-run") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "unavailable: fit taught: nowhere.jsonl: no such file" in said
    assert "name yours with --var texts=FILE" in said and "interval=FILE" not in said
    texts = repeating(tmp_path / "texts.jsonl")
    assert run(path, "--var", f"texts={texts}") == 0
    [folder] = (tmp_path / "runs" / "fits").iterdir()
    rows = {r["id"]: r for r in outcome(tmp_path)["rows"]}
    for name, used in (("min", True), ("fixed/8", True), ("without", False)):
        identity = RunFolder(Path(rows[name]["runs"][0])).read_run()["identity"]
        assert (identity["adapter"] is not None) == used
    made = (folder / "adapter.json").stat().st_mtime_ns
    texts.unlink()  # the adapter is there: the data is not looked at again
    assert run(path, "--var", f"texts={texts}") == 0
    assert (folder / "adapter.json").stat().st_mtime_ns == made


def test_what_the_user_typed_goes_before_the_file_but_for_a_shorter_prompt(written, tmp_path):
    cells = {"plain": {"label": "plain", "method": "plain", "settings": {"max_context": 150}}}
    suite = document.read(written(cells=cells))
    rows = spell(suite, {"max_context": 180, "limit": 2, "seed": 7}, quick=True).rows
    asked = {row.id: row.runs[0] for row in rows}
    assert {s.limit for s in asked.values()} == {2} and {s.seed for s in asked.values()} == {7}
    assert asked["min"].max_context == 180 and asked["plain"].max_context == 150
    assert asked["min"].options == {"interval": "32", "ratio": "adapt", "margin": "10"}
    assert (
        spell(suite, {}, quick=True, variables={"interval": 16}).rows[2].runs[0].options["interval"] == "16"
    )


def test_seeds_make_runs_of_one_row_and_models_rows_of_their_own(written, tiny_folder, tmp_path):
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    patch = {"other": {"cells": {"min": {"label": "lowest"}}}}
    settings = {"model": [str(tiny_folder), str(other)], "seed": [1, 2]}
    rows = spell(document.read(written(settings=settings, models=patch)), {}).rows
    assert [(r.id, r.label) for r in rows][2::3] == [("min", "Min (≤ 8)"), ("min", "lowest")]
    assert [[s.seed for s in r.runs] for r in rows] == [[1, 2]] * 6


def test_one_set_of_weights_serves_all_windows(tiny_folder):
    load = SharedModels()
    words = {"dtype": "auto", "device": "cpu", "trust_remote_code": False}
    one = load(str(tiny_folder), context_length=None, **words)
    two = load(str(tiny_folder), context_length=128, **words)
    assert two is not one and two.context_length == 128 and one.context_length == 256
    assert two.network is one.network
    assert load(str(tiny_folder), context_length=128, **words) is two
    load.drop()
    assert load(str(tiny_folder), context_length=128, **words) is not two


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cells": {"min": {"methd": "x"}}}, "cells.min.methd: no key named 'methd'; did you mean 'method'?"),
        ({"settings": {"limit": "many"}}, "settings.limit: input should be a valid integer"),
        ({"settings": {"lim": 3}}, "settings.lim: no key named 'lim'; did you mean 'limit'?"),
        ({"colums": []}, "colums: no key named 'colums'; did you mean 'columns'?"),
        ({"cells": {"min": {"label": "${nothing}"}}}, "cells.min.label: no variable 'nothing'"),
        ({"findings": [{"claim": "x", "column": "Avg"}]}, "give either better and worse, or increasing"),
        (
            {"findings": [{"claim": "x", "column": "Av", "better": "min", "worse": "min"}]},
            "the key of no column",
        ),
        (
            {"findings": [{"claim": "x", "column": "Avg", "better": "mini", "worse": "min"}]},
            "no cell (in the findings of two.yaml) named 'mini'; did you mean 'min'?",
        ),
        ({"cells": {"min": {"adapter": "fit:nothing"}}}, "no fit (of cell min) named 'nothing'"),
        ({"cells": {"min": {"matrix": {"model": ["a"]}}}}, "say it under the suite's settings"),
        (
            {
                "settings": {"tasks": ["passky"]},
                "columns": [{"key": "a", "tasks": ["passkey"]}],
                "findings": [],
            },
            "no task",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(written, capsys, changes, words):
    path = written(**changes)
    assert run(path, "--dry-run") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line


def test_files_and_flags_that_make_no_suite(tmp_path, written, capsys):
    path = tmp_path / "a.yaml"
    for text, words in (("a: [", "no YAML"), ("- a", "not a suite"), ("{1: 2}", "1: a key must be text")):
        path.write_text(text)
        assert run(path) == 2
        assert words in capsys.readouterr().err
    good = written()
    for more, words in (
        (["--method", "plain"], "--method belongs to the cells"),
        (["--var", "nothing=1"], "no variable of two.yaml named 'nothing'"),
        (["--format", "pdf"], "no value of --format named 'pdf'"),
    ):
        assert run(good, *more) == 2
        assert words in capsys.readouterr().err
    assert run("--method", "plain", "--dry-run") == 2
    assert "--dry-run is for suites" in capsys.readouterr().err
    assert run() == 2
    assert "give --method NAME, or a file" in capsys.readouterr().err


# --- the suites that ship

NAMES = [
    "experts-1",
    "he-2025",
    "selflong",
    "thesis-4.1",
    "thesis-4.2",
    "thesis-4.3",
    "thesis-4.4",
    "thesis-fig-4.1",
]
"""Tables of papers."""
OURS = ["budgets", "evidence", "evidence-long", "today"]


def test_they_are_listed_and_printed_as_they_are(tmp_path, capsys):
    assert invoke(["reproduce"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == sorted([*NAMES, *OURS])
    for name in [*NAMES, *OURS]:
        assert invoke(["reproduce", name, "--print"]) == 0
        text = capsys.readouterr().out
        assert text == document.find(name).read_text("utf-8")
        mine = tmp_path / "mine.yaml"
        mine.write_text(text, encoding="utf-8")
        assert document.read(mine).content == document.read(document.find(name)).content
    assert invoke(["reproduce", "thesis-4.5"]) == 2
    assert "no suite named 'thesis-4.5'; did you mean" in capsys.readouterr().err


@pytest.mark.usefixtures("no_default_tasks")
@pytest.mark.parametrize("name", NAMES)
def test_on_the_papers_model_a_row_stands_for_each_published_one(name, tmp_path):
    from harness.baselines import published

    suite = document.read(document.find(name))
    table = published.table(suite.content["published"])
    found, columns = [], set()
    mmlu = write_mmlu(tmp_path / "mmlu")
    for model in suite.content["paper"]["models"]:
        spelled = spell(suite, {"model": model, "task_settings": mmlu})
        found += [row.published for row in spelled.rows if row.published]
        columns |= {c.key for c in spelled.suite.columns}
        assert {row.runs[0].max_context for row in spelled.rows} <= {None, 3500, 15500, 16000}
        assert all(s.options.get("interval", "1024") == "1024" for row in spelled.rows for s in row.runs)
    assert found == [row.label for row in table.rows]
    assert {c.key for c in table.columns} <= columns


@pytest.mark.usefixtures("no_default_tasks")
@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_each_plans_with_stand_ins_for_model_and_data(name, quick, tiny_folder, tmp_path, data):
    """The tiny model under the name the suites know, a longer window that its positions would not bear."""
    content = document.read(document.find(name)).content
    folder = tmp_path / "smollm2"  # whose part of the suite is so taken
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    row = {
        "_id": "1",
        "context": "Ada signed it. " * 700,
        "input": "Who?",
        "answers": ["Ada"],
        "all_classes": ["Ada"],
    }
    mmlu = write_mmlu(tmp_path / "mmlu")
    columns = spell(document.Document(Path(name), content), {"task_settings": mmlu}).columns
    for key in {t.partition("/")[2] for t in columns.get("Avg", columns.get("LongBench", []))}:
        (data / f"{key}.jsonl").write_text(json.dumps(row) + "\n")
    overrides = {"model": str(folder), "device": "cpu", "data_dir": data, "out": tmp_path, "limit": 1}
    overrides |= {"task_settings": mmlu, "offline": True}
    spelled = spell(document.read(document.find(name)), overrides, quick=quick)
    plan = plan_suite(spelled, tmp_path, lambda text: None, estimate=False)
    for planned, [run_] in plan.rows:
        needs_data = planned.fit is not None
        assert run_.state == ("unavailable" if needs_data else "new"), run_.why
        assert needs_data or (run_.samples and run_.tokens)
    assert any(planned.fit is None for planned, _ in plan.rows)


def test_a_column_of_lm_evals_tasks_beside_its_published_value(
    tiny_folder, tmp_path, no_default_tasks, capsys
):
    """MMLU from files of one's own, which only whoever runs a suite may name."""
    content = document.read(document.find("he-2025")).content
    plain = {k: v for k, v in content["cells"]["plain"].items() if k != "only"}
    mine = {k: v for k, v in content.items() if k not in ("models", "quick", "fits", "findings")}
    tasks = {"tasks": ["lm_eval:mmlu", "niah"], "task_settings": {"niah": {"lengths": [254], "depths": [50]}}}
    mine |= {"cells": {"plain": plain}, "settings": {**content["settings"], **tasks}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine), encoding="utf-8")
    given = write_mmlu(tmp_path / "mmlu")["lm_eval"]["include_path"]
    words = [tmp_path / "mine.yaml"]
    for option in (f"include_path={given}", "num_fewshot=1"):
        words += ["--set", f"lm_eval.{option}"]
    words += ["--model", tiny_folder, "--device", "cpu", "--offline", "--out", tmp_path / "runs"]
    assert run(*words, "--format", "json") == 0, capsys.readouterr().err
    [shown] = json.loads(capsys.readouterr().out)["reports"]
    [row] = shown["tables"][0]["rows"]
    mmlu = row["cells"]["MMLU"]
    assert (mmlu["published"], mmlu["n"]) == (68.21, 6) and 0 <= mmlu["value"] <= 100
    assert row["cells"]["needle"]["n"] == 1 and row["cells"]["LongBench"].get("value") is None
    assert any("LongBench Avg over none" in line for line in shown["tables"][0]["footers"])


def test_variables_are_pairs():
    assert document.variables(["a=b=c"]) == {"a": "b=c"}
    with pytest.raises(UsageError, match="write NAME=VALUE"):
        document.variables(["a"])


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("plain", {}),
        ("beacon", {"interval": "32", "ratio": "8"}),
        ("two_pass", {"interval": "32", "compressor": "beacon", "retrieval": "bm25"}),
        ("two_pass", {"interval": "32", "compressor": "beacon", "calibration_contexts": "2"}),
    ],
)
def test_estimates_know_about_how_much_a_method_computes(method, options, tiny_folder, tmp_path, empty_cache):
    from ...helpers.running import Watcher
    from ...helpers.running import settings as asked

    grid = {"passkey": {"lengths": "200" if method == "plain" else "400", "depths": "50"}}
    wanted = asked(tiny_folder, tmp_path, method=method, options=options, task_settings=grid)
    plan = plan_run(wanted)
    [sample] = plan.samples
    expected = plan.method.tokens_to_process(sample.tokens, sample.decoding)
    attends = options.get("calibration_contexts") is not None
    assert bool(plan.method.prepares([sample.tokens], sample.decoding)) == attends
    result = execute(plan, Watcher())
    [record] = result.folder.records()
    assert record.cost.positions == pytest.approx(expected + sample.decoding.max_new_tokens, rel=0.25)
    assert not plan.method.prepares([sample.tokens], sample.decoding), "made, and found again"


@pytest.mark.parametrize("in_cell", [True, False])
def test_no_suite_can_name_files_that_run_code(written, tmp_path, in_cell):
    options = {"lm_eval": {"include_path": str(tmp_path)}}
    cells = {"min": {"tasks": ["lm_eval:own"], **({"task_settings": options} if in_cell else {})}}
    settings = {} if in_cell else {"task_settings": options}
    with pytest.raises(UsageError, match="may run code, so no suite may name them"):
        spell(document.read(written(settings=settings, cells=cells)), {})
