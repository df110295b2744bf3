"""ZeroSCROLLS: its prompts changed and cut as its code does it, and a test split without a score."""

import csv
import io
import re

import pytest

from harness import ScoredSample, UsageError, registry
from harness.render import as_csv
from harness.results.loading import load_runs
from harness.results.merging import merged
from harness.tasks.zero_scrolls import NEW_TOKENS, ZeroScrolls, concordance, rendered, scored

from ..helpers.official import environment, run_on, write_rows

HEAD = "Read the story and answer.\n\nStory:\n"
TAIL = "Question:\nWho?"


class Words:
    """One token for each word with the blanks before it, and for blanks at the end."""

    def __init__(self):
        self.known = {}

    def __call__(self, text, add_special_tokens=False):
        words = re.findall(r"\s*\S+|\s+$", text)
        return {"input_ids": [self.known.setdefault(word, len(self.known)) for word in words]}

    def decode(self, ids):
        words = list(self.known)
        return "".join(words[i] for i in ids)


def row(words=30, **changes):
    document = " ".join(f"w{i}" for i in range(words))
    text = f"{HEAD}{document}\n\n{TAIL}\n\nAnswer:\n"
    start, end = len(HEAD), len(HEAD) + len(document)
    places = {"document_start_index": start, "document_end_index": end}
    places |= {"query_start_index": end + 2, "query_end_index": end + 2 + len(TAIL)}
    base = {"id": "a", "input": text, "output": "Ann", "truncation_seperator": "... [cut]\n\n"}
    return {**base, **places, **changes}


def test_a_chat_prompt_is_told_to_be_brief_and_ends_with_its_query():
    prompt, cut = rendered("musique", row(), "x", True, 4096, Words())
    assert (
        prompt.prefix == "Read the story and answer. Do not provide any explanation.\n\nStory:\n" and cut == 0
    )
    assert prompt.context == row()["input"][len(HEAD) : row()["document_end_index"]]
    assert prompt.suffix == f"\n\n{TAIL}" and prompt.question == TAIL
    plain, _ = rendered("musique", row(), "x", False, 4096, Words())
    assert plain.text == row()["input"]
    summary, _ = rendered("gov_report", row(), "x", True, 4096, Words())
    assert "explanation" not in summary.text


def test_a_long_prompt_keeps_its_beginning_and_its_query():
    limit = NEW_TOKENS["musique"] + 40
    prompt, cut = rendered("musique", row(60), "x", False, limit, Words())
    assert prompt.text.endswith(f"... [cut]\n\n{TAIL}\n\nAnswer:\n") and cut > 0
    assert 38 <= len(Words()(prompt.text)["input_ids"]) <= 39
    chatty, more = rendered("musique", row(60), "x", True, limit, Words())
    assert chatty.text.endswith(f"... [cut]\n\n{TAIL}") and more > cut
    with pytest.raises(UsageError, match="x: the question alone is over the 36 tokens"):
        rendered("musique", row(60), "x", False, 36, Words())


@pytest.mark.parametrize(
    ("task", "prediction", "answer", "score"),
    [
        ("gov_report", "the cat sat", "the cat sat", 1),
        ("gov_report", "cat", "the cat sat", 0),
        ("qasper", "The red house", "a red barn", 1 / 2),
        ("quality", "(B) because", "B", 1),
        ("quality", "Better", "B", 0),
        ("space_digest", "About 60%", "50%", 0.5),
        ("space_digest", "half", "50%", 0),
        ("book_sum_sort", "1, 3, 2", "1, 2, 3", 2 / 3),
        ("book_sum_sort", "1, 2", "1, 2, 3", 0),
    ],
)
def test_scores(task, prediction, answer, score):
    assert scored(task, prediction, answer) == pytest.approx(score)
    sample = ZeroScrolls.sample_from_row(task, {"answers": ["no such", answer]})
    made = ZeroScrolls(ZeroScrolls.Options(), f"zero_scrolls/{task}", task).score(sample, prediction)
    assert made["score"] >= score - 1e-9


def test_orders_that_are_no_permutation_have_no_score():
    assert concordance("1 1 2", "1, 2, 3") == 0 and concordance("", "1") == 0


def task(**options):
    return ZeroScrolls(ZeroScrolls.Options(**options), "zero_scrolls/musique", "musique")


def test_rows_of_one_id_are_one_sample(tmp_path):
    write_rows(tmp_path / "musique" / "validation.jsonl", row(), row(output="Anna"), row(id="b"))
    found = list(task().samples(environment(tmp_path, Words())))
    assert [(s.id, s.references) for s in found] == [("a", ("Ann", "Anna")), ("b", ("Ann",))]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"query_end_index": 9}, "line 1: document_start_index.* must be ascending places"),
        ({"output": None}, "line 1: field 'output' must be a string"),
        ({"input": "short"}, "line 1: document_start_index.* must be ascending places"),
    ],
)
def test_a_broken_row_is_named(tmp_path, changes, said):
    write_rows(tmp_path / "musique" / "validation.jsonl", row(**changes))
    with pytest.raises(UsageError, match=said):
        list(task().samples(environment(tmp_path, Words())))


def test_the_test_split_has_predictions_and_no_score(tiny_folder, tmp_path):
    write_rows(tmp_path / "data" / "musique" / "test.jsonl", row(8, output=None), row(8, id="b", output=None))
    options = {"zero_scrolls": {"split": "test", "chat": "never"}}
    result, records = run_on(
        tiny_folder, tmp_path / "out", tmp_path / "data", "zero_scrolls/musique", task_settings=options
    )
    assert {record["status"] for record in records.values()} == {"ok"}
    assert result.summary["tasks"][0]["score"] is None
    assert task(split="test").aggregate([ScoredSample("a", {"score": 0.0}, {"split": "test"})]) == {
        "score": None
    }
    report = registry.report("zero_scrolls").cls
    [table] = report(report.Options()).build(merged(load_runs([result.folder.path]))).tables
    lines = list(csv.reader(io.StringIO(as_csv(table))))
    assert lines[0] == ["Task", "ID", "Prediction"] and [line[:2] for line in lines[1:]] == [
        ["musique", "a"],
        ["musique", "b"],
    ]
    assert lines[1][2] == records["a"]["prediction"]
