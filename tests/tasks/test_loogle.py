"""LooGLE: prompts with their blanks, overlaps as the packages count them, clozes that are never run as code."""

import math

import pytest

from harness import ScoredSample, UsageError
from harness.tasks.loogle import SETS, Loogle, bleu, filled, overlaps, rendered

from ..helpers.official import environment, run_on, write_rows


def task(name):
    return Loogle(Loogle.Options(), f"loogle/{name}", name)


def samples(folder, name, *rows, **changes):
    write_rows(folder / f"{name}.jsonl", *rows)
    return list(task(name).samples(environment(folder, **changes)))


def test_prompts_keep_their_blanks():
    assert rendered("longdep_qa", "A {Q}.", "Who?").text == (
        "Please answer the question based on the long texts below. \nA {Q}.\nQuestion: Who?\nAnswer: "
    )
    assert rendered("longdep_summarization", "A.", "").text == (
        "Please generate a summary of the below paper. \nA.\n Summarization: "
    )
    cloze = rendered("shortdep_cloze", "A.", "<mask-0> ran.")
    assert cloze.suffix == "\n Question: <mask-0> ran. What are the masked entities? \nAnswer:"
    assert "Organiocation" in cloze.prefix and cloze.prefix.endswith("'<mask-2>': 'Bethel Horizon'}\n")


def test_questions_of_a_document_follow_each_other(tmp_path):
    rows = [{"input": "A.", "qa_pairs": "[{'Q': 'Who?', 'A': 'me'}, {'Q': 'Why?', 'A': 'so', 'S': ['x']}]"}]
    rows += [{"input": "B.", "qa_pairs": [{"Q": "When?", "A": "now"}]}]
    found = samples(tmp_path, "shortdep_qa", *rows)
    assert [s.id for s in found] == ["0-0", "0-1", "1-0"] and {s.chat for s in found} == {False}
    assert (
        found[0].prompt.prefix + found[0].prompt.context == found[1].prompt.prefix + found[1].prompt.context
    )
    assert [s.references for s in found] == [("me",), ("so",), ("now",)] and found[0].new_tokens == 300
    assert len(samples(tmp_path, "shortdep_qa", *rows, limit=1)) == 1
    [whole] = samples(
        tmp_path, "longdep_summarization", {"input": "A.", "qa_pairs": "none", "output": "short"}
    )
    assert whole.references == ("short",) and whole.new_tokens == 500


def test_overlaps_by_hand():
    found = overlaps("the cat sat", "the cat is here")
    assert found["rouge1"] == 0.5 and found["rouge2"] == pytest.approx(1 / 3) and found["rougeL"] == 0.5
    assert found["bleu1"] == pytest.approx(2 / 3 * math.exp(1 - 4 / 3)) and found["bleu4"] < 1e-300
    assert overlaps("", "None of it")["rouge1"] == pytest.approx(1 / 3), "an empty answer is the word None"
    assert overlaps("...", "a")["rougeL"] == 0
    assert bleu([], ["a"], 1) == 0 and bleu("a b c d".split(), "a b c d".split(), 4) == 1


@pytest.mark.parametrize(
    ("said", "exact", "partial"),
    [
        ("{'<mask-0>': 'Ann Lee', '<mask-1>': 'Oslo'}", 1, 1),
        ("{'<mask-0>': 'Ann', '<mask-1>': 'oslo'}", 0, 0.5),
        ("Answer: {'<mask-0>': 'Ann Lee'}", 0, 0),
        ("{'<mask-0>': 5, '<mask-1>': 'Oslo'}", 0.5, 0.5),
        ("['Ann Lee']", 0, 0),
        ("__import__('os').abort()", 0, 0),
        ("{" * 5000, 0, 0),
        ("", 0, 0),
    ],
)
def test_clozes(said, exact, partial):
    answer = {"<mask-0>": "Ann Lee", "<mask-1>": "Oslo"}
    assert filled(said, answer) == (exact, partial)
    sample = Loogle.sample_from_row("shortdep_cloze", {"answers": [answer]})
    assert task("shortdep_cloze").score(sample, said) == {"score": exact, "partial": partial}


def test_clozes_are_averaged_over_masks(tmp_path):
    pairs = [
        {"Q": "a", "A": {"<mask-0>": "x"}},
        {"Q": "b", "A": {"<mask-0>": "x", "<mask-1>": "y", "<mask-2>": "z"}},
    ]
    one, three = samples(tmp_path, "shortdep_cloze", {"input": "A.", "qa_pairs": pairs})
    assert (one.metadata["masks"], three.metadata["masks"]) == (1, 3)
    asked = task("shortdep_cloze")
    right = [ScoredSample(s.id, asked.score(s, "{'<mask-0>': 'x'}"), s.metadata) for s in (one, three)]
    assert asked.aggregate(right)["score"] == 0.5


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("shortdep_qa", {"qa_pairs": "none"}, "line 1: field 'input' must be a string"),
        ("shortdep_qa", {"input": "A.", "qa_pairs": "none"}, "line 1: field 'qa_pairs' must be a list"),
        (
            "shortdep_qa",
            {"input": "A.", "qa_pairs": "__import__('os')"},
            "line 1: field 'qa_pairs' must be a list",
        ),
        ("shortdep_qa", {"input": "A.", "qa_pairs": [{"Q": "q", "A": 3}]}, "line 1: answer 3 is no text"),
        (
            "shortdep_cloze",
            {"input": "A.", "qa_pairs": [{"Q": "q", "A": "x"}]},
            "line 1: answer 'x' is no text, or",
        ),
    ],
)
def test_a_broken_row_is_named(tmp_path, name, row, said):
    with pytest.raises(UsageError, match=said):
        samples(tmp_path, name, row)


def test_it_runs(tiny_folder, tmp_path):
    pairs = [{"Q": f"Who is {n}?", "A": "me"} for n in range(2)]
    write_rows(
        tmp_path / "data" / "shortdep_cloze.jsonl",
        {"input": "A.", "qa_pairs": [{"Q": "q", "A": {"<mask-0>": "x"}}]},
    )
    write_rows(tmp_path / "data" / "shortdep_qa.jsonl", {"input": "A.", "qa_pairs": pairs})
    _, records = run_on(tiny_folder, tmp_path / "out", tmp_path / "data", "loogle/shortdep_cloze")
    assert [r["status"] for r in records.values()] == ["ok"]
    assert set(SETS) == set(Loogle.group)
