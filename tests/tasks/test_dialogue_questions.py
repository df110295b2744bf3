"""A dialogue as questions over all that stood before, and answers held against the length asked for."""

import json

import pytest

from harness import registry
from harness.contracts.task import TaskEnvironment
from harness.errors import UsageError
from harness.registry import report as find_report
from harness.results.loading import load_runs
from harness.results.merging import merged
from harness.tasks.length_following import LengthFollowing, LengthFollowingOptions
from harness.tasks.synthetic.evaluation import Synthetic, SyntheticOptions

from ..helpers import making

DOC = (
    "Document 1 begins.\nA lamp.\nDocument 1 ends.\n\n",
    "Document 2 begins.\nA ship.\nDocument 2 ends.\n\n",
)


def dialogue():
    questions = ["About document 1: Which?", "About document 1: How?", "About document 2: What?"]
    answers = ["A lamp.", "Well.", "A ship."]
    read = [DOC[0], "", DOC[1]]
    messages, turns, place = [], [], 0
    for n, (q, a, r) in enumerate(zip(questions, answers, read)):
        start = place + r.index("A ") if r else None
        evidence = [] if start is None else [{"chars": [start, start + 6], "tokens": [1, 2]}]
        turns.append(
            {"kind": ("top", "local", "top")[n], "about": [1 + n // 2], "read": len(r), "evidence": evidence}
        )
        messages += [{"role": "user", "content": r + q}, {"role": "assistant", "content": a}]
        place += len(r + q + a)
    return {
        "id": "h-1",
        "task": "dialogue",
        "kind": "dialogue",
        "tokens": 60,
        "turns": turns,
        "messages": messages,
    }


def env():
    return TaskEnvironment(None, 100, lambda *_: 1, 0, None, True, None)


def samples(tmp_path, *rows):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(Synthetic(SyntheticOptions(file=path), "synthetic")._rows())


def test_each_question_is_a_sample_over_what_stood_before(tmp_path):
    first, second, third = samples(tmp_path, dialogue())
    assert first.prompt.context == DOC[0] == second.prompt.context, "one context, read once"
    assert first.prompt.suffix == "About document 1: Which?" and first.prompt.question == "Which?"
    assert third.prompt.context == (
        DOC[0] + "About document 1: Which?\nA lamp.\n\nAbout document 1: How?\nWell.\n\n" + DOC[1]
    )
    assert [s.references for s in (first, second, third)] == [("A lamp.",), ("Well.",), ("A ship.",)]
    assert [s.id for s in (first, second, third)] == ["h-1-001", "h-1-002", "h-1-003"]
    [span] = third.metadata["evidence"]
    assert third.prompt.context[slice(*span["chars"])] == "A ship"
    assert (third.metadata["passages"], third.metadata["about"], third.metadata["kind"]) == (2, [2], "top")


def test_kinds_have_means_of_their_own(tmp_path):
    from harness.contracts.task import ScoredSample

    task = Synthetic(SyntheticOptions(), "synthetic")
    found = [
        ScoredSample(s.id, {"score": float(n)}, s.metadata)
        for n, s in enumerate(samples(tmp_path, dialogue()))
    ]
    assert task.breakdown(found) == {"dialogue local": 1.0, "dialogue top": 1.0}


@pytest.mark.parametrize(
    "change", [{"turns": []}, {"messages": [{"role": "user", "content": "x"}]}, {"turns": [{}, {}, {}]}]
)
def test_broken_dialogues_are_one_line(tmp_path, change):
    with pytest.raises(UsageError, match=r"line 1: no sample of harness synth") as caught:
        samples(tmp_path, {**dialogue(), **change})
    assert "\n" not in str(caught.value)


def test_a_run_reads_a_shared_context_once(tmp_path, tiny_folder, capsys):
    from harness.cli import invoke

    (tmp_path / "data.jsonl").write_text(json.dumps(dialogue()) + "\n")
    words = ["run", "-m", "plain", "--model", tiny_folder, "--device", "cpu", "--task", "synthetic", "--json"]
    words += ["--set", f"synthetic.file={tmp_path}", "--out", tmp_path / "runs"]
    assert invoke([str(w) for w in words]) == 0, capsys.readouterr().err
    [row] = json.loads(capsys.readouterr().out)["tasks"]
    assert (row["n_ok"], row["n"], row["verified"]) == (3, 3, True)
    [folder] = (tmp_path / "runs").iterdir()
    records = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert sorted(r["cost"].get("questions", 1) for r in records) == [1, 2, 2]


# --- length following


def writing(name, asked, answer="a b c"):
    return {
        "id": name,
        "task": "long_output",
        "prompt": f"Write about {asked} words.",
        "answer": answer,
        "facts": {"asked_words": asked},
    }


def following(tmp_path, *rows):
    path = tmp_path / "w.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return LengthFollowing(LengthFollowingOptions(file=path), "length_following")


def test_the_error_is_relative_to_what_was_asked(tmp_path):
    task = following(tmp_path, writing("a", 10), {"id": "x", "prompt": "p", "answer": "a"}, writing("b", 200))
    one, other = task._rows()
    assert (one.id, other.id) == ("a", "b") and one.new_tokens < other.new_tokens
    scores = [task.score(one, "word " * n)["score"] for n in (10, 8, 15, 0, 40)]
    assert scores == pytest.approx([1.0, 0.8, 0.5, 0.0, 0.0])
    assert task.preset != following(tmp_path, writing("a", 20)).preset, "other data, another run"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "x", "prompt": "p", "answer": "a"}, "no writing task in it"),
        (writing("a", 0), "at least 1"),
        ({"facts": {"asked_words": 3}}, "no sample of harness synth"),
    ],
)
def test_files_without_a_task_are_one_line(tmp_path, row, message):
    with pytest.raises(UsageError, match=message) as caught:
        list(following(tmp_path, row)._rows())
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="name the data"):
        list(LengthFollowing(LengthFollowingOptions(), "length_following")._rows())
    with pytest.raises(UsageError, match="cannot be read"):
        LengthFollowing(LengthFollowingOptions(file=tmp_path / "none"), "length_following")


def test_the_report_draws_written_over_asked(tmp_path):
    records = [
        making.record(
            "length_following",
            f"s{n}",
            {"score": 0.5},
            metadata={"asked_words": n},
            prediction="word " * (n // 2),
        )
        for n in range(10, 210, 10)
    ]
    (tmp_path / "d.jsonl").write_text(json.dumps(writing("a", 10)) + "\n")
    path = making.write_run(tmp_path / "runs", "plain", records)
    cls = find_report("length_following").cls
    document = cls(cls.Options()).build(merged(load_runs([path])))
    [table], [figure] = document.tables, document.figures
    [row] = table.rows
    assert row.cells["error"].value == pytest.approx(50) and row.cells["ratio"].value == pytest.approx(0.5)
    straight, mine = figure.series
    assert straight.points[0][:2] == (10.0, 10.0) and straight.points[-1][:2] == (200.0, 200.0)
    assert all(y == pytest.approx(x / 2) for x, y, _ in mine.points) and 2 <= len(mine.points) <= 8
    other = making.write_run(
        tmp_path / "other", "plain", [making.record("passkey", "a", {"accuracy": 1.0, "fuzzy": 1.0})]
    )
    assert not cls(cls.Options()).build(merged(load_runs([other]))).tables
    assert registry.task_class("length_following")


def test_the_report_is_a_page(tmp_path):
    from harness.cli import invoke

    records = [
        making.record(
            "length_following", f"s{n}", {"score": 0.9}, metadata={"asked_words": n}, prediction="a " * n
        )
        for n in range(20, 120, 20)
    ]
    path = making.write_run(tmp_path / "runs", "plain", records)
    page = tmp_path / "page.html"
    assert invoke(["report", str(path), "--kind", "length_following", "--out", str(page)]) == 0
    text = page.read_text("utf-8")
    assert "words written" in text and "as asked" in text and "<svg" in text
