"""Loaded runs: what is on disk and nothing else, under names that tell runs apart; never written to."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from harness import UsageError
from harness.reports._rows import members
from harness.results.labels import shared_options, unsaid_options
from harness.results.loading import STALE, load_run, load_runs, loaded
from harness.results.run_folder import RunFolder
from harness.results.summary import digest, own_digest

from ...helpers.records_made import make_run

METRIC = {"passkey": "accuracy"}
SCORES = {"passkey": [1.0, 0.0, 1.0], "longbench/trec": {"x": 0.5}}


def labels(*paths):
    return [run.label for run in load_runs(paths)]


def test_a_run_says_what_it_is(tmp_path):
    path = make_run(
        tmp_path,
        SCORES,
        method="two_pass",
        options={"alpha": 3.0, "retrieval": "bm25"},
        sees_question=True,
        facts={"warning": "untrained"},
        metrics={"passkey": "accuracy"},
        failed={"passkey": ["s9"]},
        planned={"passkey": 6},
        status="interrupted",
    )
    [run] = load_runs([path])
    assert (run.method, run.model, run.sees_question) == ("two_pass", "tiny", True)
    assert run.options == {"alpha": 3.0, "retrieval": "bm25"} and len(run.hash) == 12
    assert run.warnings == (
        "the run is marked 'interrupted': the same command goes on from there",
        "untrained",
    )
    assert [(t.name, t.metric, t.planned) for t in run.tasks] == [
        ("passkey", "accuracy", 6),
        ("longbench/trec", "score", 1),
    ]
    assert (run.planned, run.n_ok, len(run.records)) == (7, 4, 5)
    assert run.of_task("passkey")["s9"].status == "oom" and run.of_task("nothing") == {}
    assert run.task("longbench/trec").version == "1" and run.task("nothing") is None


def test_a_killed_run_has_no_summary_and_still_knows_its_metric(tmp_path):
    scores, named = {"passkey": [1.0], "not/installed": [0.2]}, {"passkey": "accuracy"}
    path = make_run(tmp_path, scores, extra={"summary": {}, "metrics": named})
    [run] = load_runs([path])
    assert [t.metric for t in run.tasks] == ["accuracy", "score"]


def test_a_killed_run_of_an_earlier_version_has_the_metric_its_records_name_first(tmp_path):
    [run] = load_runs([make_run(tmp_path, {"passkey": [1.0]}, metrics=METRIC, extra={"summary": {}})])
    assert [t.metric for t in run.tasks] == ["accuracy"]


def test_folders_and_folders_of_folders_each_run_once(tmp_path):
    first, second = make_run(tmp_path / "runs", SCORES), make_run(tmp_path / "runs", SCORES, seed=1)
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "note.txt").touch()
    found = load_runs([tmp_path / "runs", first, str(second)])
    assert sorted(r.source for r in found) == sorted([str(first), str(second)])


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_a_path_without_a_run_is_one_line(tmp_path, what):
    path = tmp_path / what
    if what != "missing":
        path.mkdir() if what == "empty" else path.touch()
    with pytest.raises(UsageError, match=f"{path}") as caught:
        load_runs([path])
    assert "\n" not in str(caught.value)


def test_a_torn_last_line_is_left_out_and_nothing_is_written(tmp_path):
    path = make_run(tmp_path, SCORES)
    samples = path / "samples.jsonl"
    torn = samples.read_bytes()[:-20]
    samples.write_bytes(torn)
    before = sorted((p.name, p.stat().st_mtime_ns) for p in path.iterdir())
    assert load_run(path).n_ok == 3
    assert samples.read_bytes() == torn
    assert sorted((p.name, p.stat().st_mtime_ns) for p in path.iterdir()) == before


def test_damage_is_one_line(tmp_path):
    path = make_run(tmp_path, SCORES)
    samples, facts = path / "samples.jsonl", path / "run.json"
    whole, said = samples.read_bytes(), facts.read_text()
    samples.write_bytes(b"{\n" + whole)
    with pytest.raises(UsageError, match="line 1 is damaged"):
        load_run(path)
    samples.write_bytes(whole)
    for content, why in (
        ("{", "damaged"),
        ("{}", "no 'hash'"),
        (said.replace('"schema": 1', '"schema": 9', 1), "schema"),
    ):
        facts.write_text(content)
        with pytest.raises(UsageError, match=why):
            load_run(path)


def test_a_sample_that_is_there_twice_counts_once_and_finished(tmp_path):
    path = make_run(tmp_path, {"passkey": {"a": 1.0}}, failed={"passkey": ["a"]})
    run = load_run(path)
    assert (len(run.records), run.n_ok) == (1, 1)


# --- labels


def test_options_that_differ_are_in_the_label_and_those_given_where_none_can(tmp_path):
    both = {"alpha": 3.0, "interval": 1024, "deep": True}
    one = make_run(tmp_path, SCORES, method="two_pass", options=both, given=["alpha"])
    assert labels(one) == ["two_pass alpha=3"]
    two = make_run(tmp_path, SCORES, method="two_pass", options={**both, "interval": 256})
    assert labels(one, two) == ["two_pass interval=1024", "two_pass interval=256"]
    assert shared_options(load_runs([one, two])) == {"two_pass": "alpha=3"} and not shared_options(
        load_runs(one)
    )
    three = make_run(tmp_path, SCORES, method="two_pass", options={**both, "alpha": None})
    assert labels(one, two, three) == [
        "two_pass alpha=3 interval=1024",
        "two_pass alpha=3 interval=256",
        "two_pass interval=1024",
    ], "an option that is not set says nothing"
    plain = make_run(tmp_path, SCORES)
    assert labels(one, plain) == ["two_pass alpha=3", "plain"], "another method's options do not matter"


def test_what_else_differs_is_in_the_label(tmp_path):
    paths = [make_run(tmp_path, SCORES, **more) for more in ({}, {"model": "large"}, {"truncate": "left"})]
    assert labels(*paths) == [
        "plain on tiny truncate=middle",
        "plain on large truncate=middle",
        "plain on tiny truncate=left",
    ]


def test_a_run_from_which_the_question_was_withheld_did_not_see_it(tmp_path):
    both = [
        make_run(tmp_path, SCORES, method="seeing", sees_question=True, withheld=w) for w in (False, True)
    ]
    runs = load_runs(both)
    assert [r.sees_question for r in runs] == [True, False]
    assert [r.label for r in runs] == ["seeing query-aware", "seeing query-agnostic"]
    assert next(runs[1].rows())["protocol"] == "query-agnostic"
    old = dict(runs[0].content, method={"name": "seeing", "sees_question": True})
    assert loaded(old, [], "an older run").sees_question


def test_runs_alike_share_a_name_only_where_no_cell_of_a_table_is_taken_twice(tmp_path):
    one = make_run(tmp_path, {"passkey": [1.0]})
    other = make_run(tmp_path, {"niah": [1.0]})
    assert labels(one, other) == ["plain", "plain"]
    again = make_run(tmp_path, {"passkey": [0.0], "niah": [1.0]})
    found = labels(one, again)
    assert len(set(found)) == 2 and all(label.startswith("plain #") for label in found)


def test_long_labels_say_only_what_tells_runs_apart(tmp_path):
    together = [{"alpha": float(i), "budget": 100 * i, "text": "a" * 40 + str(i), "top": 1} for i in range(3)]
    paths = [
        make_run(tmp_path, SCORES, method="two_pass", options=o, given=["alpha", "top"]) for o in together
    ]
    runs = load_runs(paths)
    assert [run.label for run in runs] == ["two_pass alpha=0", "two_pass alpha=1", "two_pass alpha=2"]
    assert shared_options(runs) == {"two_pass": "top=1"} and not unsaid_options(runs)
    whole = make_run(tmp_path, SCORES, method="m", options={n: n * 9 for n in "abc"}, given=["a", "b", "c"])
    [run] = load_runs(whole)
    assert run.label == "m" and unsaid_options([run]) == {"m": "a=aaaaaaaaa b=bbbbbbbbb c=ccccccccc"}


def test_no_two_runs_share_a_label_by_being_shortened(tmp_path):
    long = "folder/" + "x" * 30
    paths = [make_run(tmp_path, SCORES, options={"file": long + end}) for end in "abc"]
    found = labels(*paths)
    assert len(set(found)) == 3 and all(len(label) < 45 for label in found)


def test_options_of_tasks_tell_runs_apart_before_hashes_do(tmp_path):
    paths = [make_run(tmp_path, SCORES, task_options={"passkey": {"samples": n}}) for n in (1, 500)]
    assert labels(*paths) == ["plain samples=1", "plain samples=500"]


# --- rows


def test_rows_are_flat_and_one_a_sample(tmp_path):
    path = make_run(
        tmp_path,
        {"passkey": {"a": {"accuracy": 1.0, "fuzzy": 0.8}}},
        failed={"passkey": ["b"]},
        metrics={"passkey": "accuracy"},
    )
    ok, failed = load_run(path).rows()
    assert (ok["task"], ok["id"], ok["score.accuracy"], ok["score.fuzzy"]) == ("passkey", "a", 1.0, 0.8)
    assert (ok["kv_tokens"], ok["tokens_before"], ok["seconds"], ok["metadata.length"]) == (
        100,
        500,
        1.23456789,
        500,
    )
    assert (failed["status"], failed["error"], failed["kv_tokens"]) == ("oom", "OutOfMemoryError", None)
    assert not any(isinstance(v, (dict, list)) for row in (ok, failed) for v in row.values())


def test_the_references_have_one_hash(tmp_path):
    record = load_run(make_run(tmp_path, SCORES)).of_task("passkey")["s0"]
    known = replace(record, references=None, references_hash=record.hash_of_references)
    assert known.hash_of_references == record.hash_of_references
    assert replace(record, references=("another",)).hash_of_references != record.hash_of_references


# --- speed


def test_records_are_read_and_checked_in_a_few_times_what_their_json_takes(tmp_path):
    path = make_run(tmp_path, {"passkey": [0.0]})
    line = (path / "samples.jsonl").read_text()
    lines = [line.replace('"s0"', f'"s{i}"') for i in range(20_000)]
    (path / "samples.jsonl").write_text("".join(lines))
    began = time.process_time()
    for line in lines:
        json.loads(line)
    bare = time.process_time() - began  # the yardstick: machines differ
    began = time.process_time()
    run = load_run(path)
    seconds = time.process_time() - began
    assert run.n_ok == 20_000 and seconds < 10 * bare, (seconds, bare)


def test_reading_and_comparing_load_no_model_library():
    code = (
        "import sys, harness.comparison.verdicts, harness.results.recorded_baselines; "
        "sys.exit(bool({'torch', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- a summary is held against its lines


@pytest.mark.parametrize("known", [True, False], ids=["digest", "of an earlier version"])
def test_a_summary_does_not_outlive_its_lines(tmp_path, known):
    path = make_run(tmp_path, {"longbench/trec": [1.0] * 6 + [0.0] * 2})
    folder = RunFolder(path)
    if known:
        folder.write_run({**folder.read_run(), "summary_of": digest(folder.records())})
    assert load_run(path).content["summary"]["tasks"][0]["n_ok"] == 8 and not load_run(path).warnings
    lines = folder.samples_path.read_text().splitlines(keepends=True)
    folder.samples_path.write_text("".join(lines[3:]))
    run = load_run(path)
    assert "summary" not in run.content and "its lines or its summary were changed" in run.warnings[0]
    row = members(run)[0].row
    assert (row["n_ok"], row["n"], row["score"]) == (5, 8, 0.6)
    folder.samples_path.write_text("".join(lines).replace('"score": 1.0', '"score": 0.5', 1))
    if known:  # of an earlier version the means tell it, where it says that they are means
        assert "summary" not in load_run(path).content, "edited"


def test_runs_of_one_folder_go_by_method_and_by_the_value_of_their_options(tmp_path):
    for size in (128, 8, 32):
        make_run(tmp_path, SCORES, method="beacon", options={"ratio": size, "mode": "a"}, given=("ratio",))
    make_run(tmp_path, SCORES, method="a_method")
    last = make_run(tmp_path, SCORES, method="plain")
    found = [(run.method, run.options.get("ratio")) for run in load_runs(tmp_path)]
    assert found == [("plain", None), ("a_method", None), ("beacon", 8), ("beacon", 32), ("beacon", 128)]
    named = sorted(tmp_path.iterdir(), reverse=True)
    assert [r.source for r in load_runs(named)] == [str(p) for p in named], (
        "what somebody orders stays in order"
    )
    assert load_runs([last, tmp_path])[0].method == "plain" and len(load_runs([last, tmp_path])) == 5


def test_a_summary_that_was_edited_is_made_anew(tmp_path):
    folder = RunFolder(make_run(tmp_path, {"longbench/trec": [1.0] * 6 + [0.0] * 2}))
    content = folder.read_run()
    sums = {"summary_of": digest(folder.records()), "summary_sum": own_digest(content["summary"])}
    folder.write_run({**content, **sums})
    assert not load_run(folder.path).warnings
    content["summary"]["tasks"][0]["score"] = 0.99
    folder.write_run({**content, **sums})
    assert load_run(folder.path).warnings == (STALE,) and "summary" not in load_run(folder.path).content


@pytest.mark.parametrize(
    ("field", "value"), [("seed", 43), ("options", {"interval": 64}), ("dtype", "float16")]
)
def test_an_identity_that_was_edited_is_refused(tmp_path, field, value):
    """The table would say of answers what they were not asked with."""
    folder = RunFolder(make_run(tmp_path, SCORES))
    content = folder.read_run()
    content["identity"][field] = value
    folder.write_run(content)
    with pytest.raises(UsageError, match=rf"run\.json was edited: .* hash, {content['hash']}, is of"):
        load_run(folder.path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"planned": None}, "planned is no object of lists"),
        ({"planned": {"passkey": "s1"}}, "planned is no object of lists"),
        ({"environment": None}, "environment, or an earlier one, is no object"),
        ({"environment": [1]}, "environment, or an earlier one, is no object"),
        ({"earlier_environments": "x"}, "environment, or an earlier one, is no object"),
        ({"earlier_environments": [None]}, "environment, or an earlier one, is no object"),
    ],
)
def test_what_a_run_that_goes_on_cannot_read_is_named(tmp_path, changes, said):
    folder = RunFolder(make_run(tmp_path, SCORES))
    folder.write_run({**folder.read_run(), **changes})
    with pytest.raises(UsageError, match=rf"run\.json is damaged \({said}\); move the folder away"):
        folder.read_run()
    with pytest.raises(UsageError, match=said):
        load_run(folder.path)


@pytest.mark.parametrize("window", ["8192", [1], 1.5, True])
def test_a_window_that_is_no_number_is_named(tmp_path, window):
    content = {**RunFolder(make_run(tmp_path, SCORES)).read_run()}
    content["identity"] = {**content["identity"], "context_length": window}
    with pytest.raises(UsageError, match=r"identity\.context_length is no whole number"):
        loaded(content, [], "a run")
