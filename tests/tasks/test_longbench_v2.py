"""LongBench v2: prompts as its code fills them, letters as it finds them, tables as it makes them."""

import json

import pytest

from harness import ScoredSample, UsageError
from harness.console.run_tables import notes
from harness.evaluation.plan import plan_run
from harness.evaluation.run_metadata import run_content
from harness.tasks.longbench_v2 import LongBenchV2, letter
from harness.tasks.longbench_v2.prompts import chunks, render

from ..helpers.official import environment, run_on, write_rows
from ..helpers.running import settings


def row(**changes):
    choices = {"choice_A": "  red ", "choice_B": "blue\n", "choice_C": "$Q$ and more", "choice_D": "$C_B$"}
    facts = {"domain": "Single-Document QA", "sub_domain": "Tales", "difficulty": "easy", "length": "short"}
    base = {
        "_id": "r1",
        "question": " Which colour? ",
        "answer": "B",
        "context": "\n A boat is blue. $C_A$ \n",
    }
    return {**base, **choices, **facts, **changes}


def task(**options):
    return LongBenchV2(LongBenchV2.Options(**options), "longbench_v2")


def samples(folder, *rows, **options):
    write_rows(folder / "longbench_v2.jsonl", *rows)
    return list(task(**options).samples(environment(folder)))


ASKED = (
    "What is the correct answer to this question: Which colour?\nChoices:\n(A) red\n(B) blue\n"
    "(C) $Q$ and more\n(D) $C_B$\n\n"
)
ENDING = 'Format your response as follows: "The correct answer is (insert answer here)".'


def test_the_prompts_are_those_of_the_official_files(tmp_path):
    # Places are replaced in turn: what stands in the document is too, what a later choice brings in is not.
    document = "<text>\nA boat is blue. red\n</text>\n\n"
    [sample] = samples(tmp_path, row())
    opening = "Please read the following text and answer the question below.\n\n"
    assert sample.prompt.text == opening + document + ASKED + ENDING
    assert (sample.prompt.context, sample.prompt.question) == ("A boat is blue. red", "Which colour?")
    assert (sample.new_tokens, sample.references, sample.chat) == (128, ("B",), True)
    [thinking] = samples(tmp_path, row(), mode="cot")
    opening = "Please read the following text and answer the questions below.\n\n"
    assert thinking.prompt.text == opening + document + ASKED + "Let’s think step by step:"
    assert thinking.new_tokens == 1024
    [alone] = samples(tmp_path, row(), mode="no-context")
    assert alone.prompt.text == ASKED + "What is the single, most likely answer choice? " + ENDING
    assert alone.prompt.context == ""


def test_the_second_call_has_the_thoughts_and_no_text(tmp_path):
    write_rows(tmp_path / "longbench_v2.jsonl", row())
    asked = task(mode="cot")
    [sample] = asked.samples(environment(tmp_path))
    again = asked.follow_up(sample, "  It says blue. $COT$ \n")
    assert again.prompt.text == (
        "Please read the following text and answer the questions below.\n\nThe text is too long and omitted here.\n\n"
        + ASKED
        + "Let’s think step by step: It says blue. $COT$\n\n"
        + "Based on the above, what is the single, most likely answer choice? "
        + ENDING
    )
    assert again.new_tokens == 128 and again.id == sample.id
    assert asked.follow_up(sample, "") is None, "the official run drops the row"
    assert task().follow_up(sample, "text") is None


def test_retrieved_chunks_stand_in_the_order_of_the_document_and_are_numbered_by_it(tmp_path):
    found = [
        {"content": "late", "c_idx": 9},
        {"content": " early", "c_idx": 2},
        {"content": "worse", "c_idx": 1},
    ]
    assert chunks(found, 2) == "Retrieved chunk 1:  early\n\nRetrieved chunk 2: late"
    [sample] = samples(tmp_path, row(retrieved_context=found), mode="rag", chunks=2)
    assert sample.prompt.prefix == (
        "Please read the following retrieved text chunks and answer the question below.\n\n<text>\n"
    )
    with pytest.raises(
        UsageError, match=r"line 1: mode rag needs 'retrieved_context'.*published rows have none"
    ):
        samples(tmp_path, row(), mode="rag")


@pytest.mark.parametrize(
    ("response", "found"),
    [
        ("The correct answer is (B).", "B"),
        ("*The* correct answer is **C**", "C"),
        ("The correct answer is A. Rather: The correct answer is (D)", "D"),
        ("The correct answer is Denmark", "D"),
        ("the correct answer is (B)", None),
        ("The correct answer is: B", None),
        ("The correct answer is (E)", None),
        ("The correct answer is  (B)", None),
        ("B", None),
        ("", None),
    ],
)
def test_a_letter_is_found_as_the_official_code_finds_it(response, found):
    assert letter(response) == found


def test_no_letter_is_a_quarter_when_compensated_and_an_empty_answer_leaves_the_official_number():
    asked = task()
    facts = [("easy", "short", "B"), ("easy", "long", "B"), ("hard", "long", "A"), ("hard", "medium", "C")]
    answers = ["The correct answer is (B)", "", "no idea", "The correct answer is (D)"]
    scored = []
    for number, ((difficulty, length, answer), said) in enumerate(zip(facts, answers)):
        sample = asked.sample_from_row(None, {"answer": answer})
        about = {"difficulty": difficulty, "length_label": length, "domain": "Code"}
        scored.append(ScoredSample(str(number), asked.score(sample, said), about))
    whole = asked.aggregate(scored)
    assert whole == {"score": 1 / 4, "compensated": (1 + 0.25 + 0.25) / 4, "official": 1 / 3}
    parts = asked.breakdown(scored)
    assert (parts["easy"], parts["hard"], parts["long"], parts["Code"]) == (1 / 2, 0, 0, 1 / 4)
    assert parts["chance"] == 0.25 and parts["official"] == 1 / 3


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (row(_id="r2", answer="E"), "line 2: answer 'E' is no choice"),
        (row(_id="r2", answer=None), "line 2: answer None is no choice"),
        (row(_id="r1"), "line 2: a second row with the id 'r1', after .*line 1"),
        (row(_id="r2", choice_D=4), "line 2: field 'choice_D' must be a string"),
        (row(_id="r2", length="128k"), "line 2: field 'length' must be one of short, medium, long"),
        ("[1]", "line 2: not a JSON object"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(tmp_path, broken, said):
    with pytest.raises(UsageError, match=f"longbench_v2.jsonl, {said}"):
        samples(tmp_path, row(), broken)


def test_the_official_list_is_read_and_its_lines_are_named(tmp_path):
    (tmp_path / "data.json").write_text(json.dumps([row(), row(_id="r2")], indent=1), encoding="utf-8")
    told = []
    found = list(task().samples(environment(tmp_path, notify=told.append)))
    assert [sample.id for sample in found] == ["r1", "r2"]
    assert told == [
        "longbench_v2: data.json has 2 rows, the published set has 503; its numbers are not comparable with "
        "published ones"
    ]
    (tmp_path / "data.json").write_text(
        json.dumps([row(), row(_id="r2", answer="x")], indent=1), encoding="utf-8"
    )
    with pytest.raises(UsageError, match=r"data.json, line 16: answer 'x' is no choice"):
        list(task().samples(environment(tmp_path)))


def test_a_row_without_context_text_is_asked_all_the_same():
    assert render("zero-shot", row(context=" "), " ").context == ""


def test_it_runs(tiny_folder, tmp_path):
    write_rows(tmp_path / "data" / "longbench_v2.jsonl", row(), row(_id="r2", context="word " * 400))
    _, records = run_on(tiny_folder, tmp_path / "out", tmp_path / "data", "longbench_v2")
    assert {record["status"] for record in records.values()} == {"ok"}
    assert records["r2"]["truncation"]["rule"] == "middle-exact" and records["r2"]["truncation"]["truncated"]
    assert set(records["r1"]["scores"]) == {"score", "compensated", "answered"}


def test_a_run_says_that_its_rows_are_not_the_published_ones(tiny_folder, tmp_path):
    write_rows(tmp_path / "longbench_v2.jsonl", row())
    plan = plan_run(settings(tiny_folder, tmp_path / "out", tasks=("longbench_v2",), data_dir=tmp_path))
    [line] = plan.data_notes
    assert "has 1 rows, the published set has 503" in line
    assert run_content(plan)["data_notes"] == [line]
    shown = [str(each) for each in notes({"tasks": []}, plan)]
    assert f"note: {line}" in shown
