"""``harness score``: predictions from anywhere, scored by the tasks; broken lines named."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from harness import Sample, Task, UsageError, registry
from harness._util import entry_points
from harness.cli.score import score
from harness.evaluation import score_file
from harness.registry import Plugin

TREC = {
    "task": "longbench/trec",
    "prediction": "Food, Date",
    "answers": ["Food"],
    "all_classes": ["Food", "Date"],
}
QASPER = {"dataset": "qasper", "prediction": "blue sky", "answers": ["blue"], "all_classes": None}


def write(folder, *lines):
    path = folder / "predictions.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines), encoding="utf-8")
    return path


def run(path, *flags):
    return CliRunner().invoke(score, [str(path), *flags])


def test_json(tmp_path):
    passkey = {"task": "passkey", "prediction": "12345", "answers": ["12345"]}
    other = QASPER | {"prediction": "red"}
    result = run(write(tmp_path, TREC, QASPER, "", passkey, other), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "scores": [0.5, pytest.approx(2 / 3), 1.0, 0.0],
        "tasks": {"longbench/trec": 50.0, "longbench/qasper": 33.33, "passkey": 100.0},
        "thoughts": 0,
    }


def test_table(tmp_path):
    result = run(write(tmp_path, TREC, QASPER, QASPER))
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["longbench/trec", "1", "50.00"] in rows
    assert ["longbench/qasper", "2", "66.67"] in rows


@pytest.mark.parametrize(
    ("prediction", "score"),
    [
        ("<think>\nblue sky maybe\n</think>\n\nblue", 100.0),
        ("blue sky maybe</think> blue", 100.0),  # the prompt opened the thought
        ("<think>blue", 0.0),
        ("<think>a</think> blue <think> blue", 0.0),
    ],
)
def test_thoughts_are_scored_as_officially_and_said_or_dropped_if_asked(tmp_path, prediction, score):
    file = write(tmp_path, QASPER | {"prediction": prediction, "answers": ["blue"]}, QASPER)
    whole, dropped = run(file), run(file, "--drop-thoughts", "--json")
    assert "1 predictions hold a thought" in whole.stdout and "--drop-thoughts" in whole.stdout
    assert json.loads(dropped.stdout)["scores"][0] * 100 == pytest.approx(score)
    assert json.loads(dropped.stdout)["thoughts"] == 1
    assert "thought" not in run(write(tmp_path, QASPER)).stdout


def test_a_task_of_its_own_comes_before_a_familys_variant(tmp_path):
    line = {"dataset": "passkey", "prediction": "12345", "answers": ["12345"]}
    assert json.loads(run(write(tmp_path, line), "--json").stdout)["tasks"] == {"passkey": 100.0}


def test_a_full_name_in_dataset_and_a_task_that_overrules_it(tmp_path):
    named = {key: value for key, value in TREC.items() if key != "task"}
    result = run(write(tmp_path, named | {"dataset": "longbench/trec"}, TREC | {"dataset": "lcc"}), "--json")
    assert json.loads(result.stdout)["tasks"] == {"longbench/trec": 50.0}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("{", "not JSON"),
        ("3", "not a JSON object"),
        ('{"answers": ["a"], "prediction": "b", "answers": ["b"]}', "field 'answers' stands twice"),
        ({"task": "longbench/trec", "answers": ["a"]}, "field 'prediction' must be a string"),
        (TREC | {"prediction": None}, "field 'prediction' must be a string"),
        (TREC | {"answers": None}, "field 'answers' must be a list of strings"),
        (TREC | {"all_classes": None}, "field 'all_classes' must be a list of strings"),
        (TREC | {"task": 3}, "field 'task' must be a string"),
        (TREC | {"task": None}, "field 'task' is missing"),
        (TREC | {"task": "longbench/trek"}, "did you mean 'longbench/trec'?"),
        (TREC | {"task": "longbench"}, "'longbench' is a family of tasks"),
        (QASPER | {"dataset": "qaspar"}, "no data set named 'qaspar'; did you mean 'qasper'?"),
        (QASPER | {"dataset": "passage_retrieval_en"}, "names no paragraph"),
        ({"task": "passkey", "prediction": "1"}, "field 'answers' must be a list of strings"),
    ],
)
def test_a_broken_line_is_named(tmp_path, broken, message):
    path = write(tmp_path, TREC, "", broken, TREC)
    result = run(path, "--json")
    assert isinstance(result.exception, UsageError) and result.exception.exit_code == 2
    assert str(result.exception).startswith(f"{path}, line 3: ")
    assert message in str(result.exception)
    assert result.stdout == ""


def test_no_file_and_no_lines(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*nowhere\.jsonl: No such file"):
        score_file.score_file(tmp_path / "nowhere.jsonl")
    with pytest.raises(UsageError, match="no lines to score"):
        score_file.score_file(write(tmp_path, "", " "))


class Family(Task):
    variants = ("trec", "others_own")

    def samples(self, env):
        raise NotImplementedError

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        return {"score": float(prediction in sample.references)}


@pytest.fixture
def second_family(monkeypatch):
    """Another distribution's family ``other``, and one that cannot be imported."""
    points, task_class = entry_points.entry_points("tasks"), registry.task_class

    def find(name):
        family, _, variant = name.partition("/")
        if family == "broken":
            raise UsageError("task 'broken' cannot be imported")
        if family == "other":
            return Plugin("other", "other 1.0", Family), variant or None
        return task_class(name)

    monkeypatch.setattr(entry_points, "entry_points", lambda group: {**points, "other": None, "broken": None})
    monkeypatch.setattr(registry, "task_class", find)


def test_a_bare_name_may_belong_to_anybody(tmp_path, second_family):
    line = {"dataset": "others_own", "prediction": "a", "answers": ["a"]}
    assert score_file.score_file(write(tmp_path, line)).means() == {"other/others_own": 100.0}


def test_a_name_in_two_families_is_refused(tmp_path, second_family):
    line = {key: value for key, value in TREC.items() if key != "task"} | {"dataset": "trec"}
    with pytest.raises(UsageError, match="line 1: dataset 'trec' is in longbench/trec and other/trec"):
        score_file.score_file(write(tmp_path, line))


def test_means_round_as_the_official_script():
    scores = score_file.FileScores((1.0, 0.0, 0.0, 0.5), ("a", "a", "a", "b"))
    assert scores.counts() == {"a": 3, "b": 1}
    assert scores.means() == {"a": 33.33, "b": 50.0}


def test_no_torch(tmp_path):
    path = write(tmp_path, TREC, QASPER)
    program = (
        "import sys; from harness.cli.score import score; "
        "score.main(sys.argv[1:], standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), "--json"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["tasks"] == {"longbench/trec": 50.0, "longbench/qasper": 66.67}


def test_an_id_that_is_null_does_not_hide_the_other(tmp_path):
    row = {"task": "longbench/hotpotqa", "answers": ["Ada"], "prediction": "Ada", "_id": None, "id": "x"}
    path = write(tmp_path, row, row)
    with pytest.raises(
        UsageError, match="line 2: a second prediction for longbench/hotpotqa x, after line 1"
    ):
        score_file.score_file(path)


@pytest.mark.parametrize("name", ["_id", "id"])
def test_predictions_that_stand_twice_are_named(tmp_path, name):
    row = {"task": "longbench/hotpotqa", "answers": ["Ada"], "prediction": "Ada"}
    other = {**row, "task": "longbench/qasper", name: 2}
    file = tmp_path / "p.jsonl"
    file.write_text(
        "".join(json.dumps(r) + "\n" for r in (row, row, {**row, name: 2}, other, {**row, name: "2"}))
    )
    with pytest.raises(
        UsageError, match=r"line 5: a second prediction for longbench/hotpotqa 2, after line 3"
    ):
        score_file.score_file(file)
    file.write_text("".join(json.dumps(r) + "\n" for r in (row, row, {**row, name: 2}, other)))
    assert len(score_file.score_file(file).scores) == 4, "lines without an id are each its own"
