"""LongBench Pro: the official text of prompts, the measure of each kind of question, summaries by name."""

import math

import pytest

from harness import ScoredSample, UsageError
from harness.tasks.longbench_pro import LongBenchPro, LongBenchProOptions
from harness.tasks.longbench_pro.metrics import MEASURES, lines, measured

from ..helpers.official import environment, run_on, write_rows

QA, SUMMARY = "T3.2 Single-Hop Fact QA", "T4.2 Query-Focused Summary"


def row(number, **changes):
    base = {
        "id": f"r{number}",
        "context": "\n A long text. ",
        "language": "English",
        "token_length": "8k",
        "primary_task": "T3. Evidence-Grounded QA",
        "secondary_task": QA,
        "contextual_requirement": "Partial",
        "question_nonthinking": "Who?  ",
        "question_thinking": "Think: who?",
        "answer": ["Ann"],
        "difficulty": "Easy",
    }
    return {**base, **changes}


def summary(number, **changes):
    return row(number, secondary_task=SUMMARY, primary_task="T4. Summarization & Synthesis", **changes)


def task(**options):
    return LongBenchPro(LongBenchProOptions(**options), "longbench_pro")


def samples(folder, *rows, limit=None, told=None, **options):
    write_rows(folder / "longbench_pro.jsonl", *rows)
    notify = None if told is None else told.append
    return list(task(**options).samples(environment(folder, limit=limit, notify=notify)))


def test_prompts_are_the_official_text(tmp_path):
    [asked] = samples(tmp_path, row(1))
    assert asked.prompt.text == "A long text. \n\n\n\nWho?" and asked.new_tokens == 1024
    assert asked.prompt.context == "A long text. " and asked.prompt.question == "Who?"
    [thinking] = samples(tmp_path, row(1), prompt="thinking")
    assert thinking.prompt.text.endswith("\n\n\n\nThink: who?") and thinking.new_tokens == 8192
    assert samples(tmp_path, row(1), new_tokens=7)[0].new_tokens == 7
    assert task().preset != task(prompt="thinking").preset


def test_summaries_are_left_out_by_name(tmp_path):
    told = []
    rows = [summary(0), row(1), summary(2), row(3)]
    assert [s.id for s in samples(tmp_path, *rows, told=told)] == ["r1", "r3"]
    assert any("2 summaries (T4) are left out" in line for line in told)
    assert any("has 4 rows, the published set has 1,500" in line for line in told)
    assert [s.id for s in samples(tmp_path, *rows, limit=1)] == ["r1"]
    assert [s.id for s in samples(tmp_path, *rows, summaries=True, limit=2)] == ["r0", "r1"]


@pytest.mark.parametrize(
    ("prediction", "found"),
    [
        ("first [Answer] a\n[Answer]\n B  c \n\nd\n", ["b c", "", "d"]),
        ("想 [答案]\n甲\n乙", ["甲", "乙"]),
        ("[Answer] x [答案] y", ["x [答案] y"]),
        ("[answer]\nA", ["[answer]", "a"]),
        ("[Answer]", [""]),
    ],
)
def test_lines_of_an_answer(prediction, found):
    assert lines(prediction) == found


@pytest.mark.parametrize(
    ("measure", "said", "score"),
    [
        ("accuracy", "a\nb", 1),
        ("accuracy", "b\na", 0),
        ("f1", "b\nx\nb", 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)),
        ("f1", "x", 0),
        ("share", "C\nA", 2 / 3),
        ("pairs", "a\nb\nc", 1),
        ("pairs", "a\nx\nb", 1 / 3),
        ("pairs", "a", 0),
        ("ndcg", "a\nb\nc", 1),
        ("ndcg", "a\na\nb\nc", 1),
        ("ndcg", "b", 2 / (3 + 2 / math.log2(3) + 1 / 2)),
        ("ndcg", "x\ny\nz\na", 0),
        ("ndcg", "", 0),
    ],
)
def test_measures_by_hand(measure, said, score):
    assert measured(measure, said, ["A", "b", "C"]) == pytest.approx(score)


def test_summaries_by_rouge():
    assert measured("rouge", "The cat sat.", ["a dog", "the  CAT sat."]) == pytest.approx(1)
    assert measured("rouge", "...", ["a dog"]) == 0
    pytest.importorskip("jieba")
    assert measured("rouge", "猫坐着", ["猫坐着。"], chinese=True) > 0.5


def test_every_kind_of_question_has_a_measure():
    assert len(MEASURES) == 25 and len({kind.partition(".")[0] for kind in MEASURES}) == 11
    for kind, measure in MEASURES.items():
        sample = LongBenchPro.sample_from_row(None, {"answer": ["A", "B"], "secondary_task": kind})
        assert 0 < task().score(sample, "a\nb")["score"] <= 1, measure


def test_means_and_what_is_not_counted(tmp_path):
    rows = [row(1), row(2, token_length="16k", language="Chinese"), summary(3)]
    asked = samples(tmp_path, *rows, summaries=True)
    scored = [ScoredSample(s.id, {"score": n / 2}, s.metadata) for n, s in enumerate(asked)]
    assert task().aggregate(scored) == {"score": 0.25}
    found = task().breakdown(scored)
    assert found["8k"] == 0 and found["16k"] == 0.5 and found["English"] == 0 and found["Partial"] == 0.25
    assert found["T4, ROUGE-L alone"] == 1 and found["pass@1"] == 0
    assert "T4. Summarization & Synthesis" not in found
    assert task().aggregate(scored[2:]) == {"score": None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "r1"}, "line 2: a second row with the id 'r1', after .*line 1"),
        ({"id": 5}, "line 2: field 'id' must be a string"),
        ({"secondary_task": "T99 Else"}, "line 2: field 'secondary_task' is 'T99 Else', and not one of T1.1"),
        ({"difficulty": None}, "line 2: field 'difficulty' must be a string"),
        ({"answer": []}, "line 2: field 'answer' must hold an answer, and no empty one"),
        ({"answer": ["A", " "]}, "line 2: field 'answer' must hold an answer, and no empty one"),
        ({"answer": [1]}, "line 2: field 'answer' must be a string or a list"),
        ({"question_nonthinking": " "}, "line 2: question and context must not be empty"),
    ],
)
def test_a_broken_row_is_named(tmp_path, changes, said):
    with pytest.raises(UsageError, match=said):
        samples(tmp_path, row(1), row(2, **changes))


def test_score_needs_the_kind_of_question():
    with pytest.raises(UsageError, match=r"field 'secondary_task' must be one of T1\.1"):
        LongBenchPro.sample_from_row(None, {"answers": ["A"]})


def test_it_runs(tiny_folder, tmp_path):
    pairs = row(2, secondary_task="T6.3 Global Frequency Analysis")
    write_rows(tmp_path / "data" / "longbench_pro.jsonl", row(1), pairs)
    few = {"longbench_pro": {"new_tokens": "8"}}
    _, records = run_on(tiny_folder, tmp_path / "out", tmp_path / "data", "longbench_pro", task_settings=few)
    assert {r["status"] for r in records.values()} == {"ok"} and len(records) == 2
