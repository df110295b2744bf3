"""Oolong: answers parsed and scored as officially, questions over one context together."""

import pytest

from harness import ScoredSample, UsageError
from harness.prompts.rendering import render
from harness.tasks.oolong import Oolong, gold, said, score_real, score_synth
from harness.testing.tiny import CHAT_TEMPLATE

from ..helpers.official import environment, write_rows


def row(number, window="w1", **changes):
    base = {
        "id": number,
        "context_window_id": window,
        "context_window_text": f"Text {window}.",
        "question": "How many?",
    }
    return {**base, "answer": "[7]", "answer_type": "ANSWER_TYPE.NUMERIC", "context_len": 1024, **changes}


def task(name="synth"):
    return Oolong(Oolong.Options(), f"oolong/{name}", name)


def samples(folder, *rows, name="synth"):
    write_rows(folder / f"{name}.jsonl", *rows)
    return list(task(name).samples(environment(folder)))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Answer: **[7]**", "7"),
        ("first: a, then: b ", "b"),
        ("seven", "seven"),
        ("there are seven of them here", "here"),
        ("", ""),
    ],
)
def test_what_counts_of_an_answer(text, found):
    assert said(text) == found


@pytest.mark.parametrize(
    ("prediction", "answer", "kind", "score"),
    [
        ("Answer: 9", "[7]", "NUMERIC", 0.75**2),
        ("Answer: many", "[7]", "NUMERIC", 0),
        ("Label: spam", "['spam']", "LABEL", 1),
        ("Label: Spam", "['spam']", "LABEL", 0),
        ("It is more common now than it was", "['more common than']", "COMPARISON", 0),
        ("A: more common", "['more common than']", "COMPARISON", 1),
        ("Date: 4 May 2023", "[datetime.date(2023, 5, 4)]", "DATE", 1),
        ("Date: never", "[datetime.date(2023, 5, 4)]", "DATE", 0),
    ],
)
def test_synth(prediction, answer, kind, score):
    assert score_synth(prediction, answer, f"ANSWER_TYPE.{kind}") == pytest.approx(score)
    sample = Oolong.sample_from_row("synth", {"answer": answer, "answer_type": f"ANSWER_TYPE.{kind}"})
    assert task().score(sample, prediction) == {"score": pytest.approx(score)}


@pytest.mark.parametrize(
    ("prediction", "answer", "score"),
    [
        (r"so \boxed{82}", "84", 0.75**2),
        ("84", "84", 0),
        (r"\boxed{\text{fireball}}", "Fireball", 1),
        ("FIREBALL ", "Fireball", 1),
        (r"\boxed{A, C, D}", "A, B, C", 2 / 3),
        (r"\boxed{A}", "A, B", 0),
    ],
)
def test_real(prediction, answer, score):
    assert score_real(prediction, answer) == pytest.approx(score)
    assert (
        task("real").score(Oolong.sample_from_row("real", {"answer": answer}), prediction)["score"] == score
    )


def test_answers_of_rows_are_read_and_never_run():
    assert gold("['a']") == "a" and str(gold("[datetime.date(2023, 5, 4)]")) == "2023-05-04"
    assert gold("__import__('os').abort()") is None and gold("[1, 2]") is None
    assert gold("[datetime.date(2023, 15, 4)]") is None


def test_questions_over_one_window_follow_each_other(tmp_path):
    found = samples(tmp_path, row(1), row(2, "w2"), row(3))
    assert [sample.id for sample in found] == ["1", "3", "2"]
    assert (
        found[0].prompt.context == found[1].prompt.context == "Text w1."
        and found[0].metadata["length"] == 1024
    )
    assert found[0].prompt.suffix == "How many?"


def test_the_context_stands_in_a_system_message(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(tiny.tokenizer, "chat_template", CHAT_TEMPLATE)
    tiny.__dict__.pop("chat", None)
    [found] = samples(tmp_path, row(1))
    official = [
        {"role": "system", "content": "You are a helpful assistant.\nText w1."},
        {"role": "user", "content": "How many?"},
    ]
    read = render(found.prompt, tiny, chat=True)
    assert read.text == tiny.tokenizer.apply_chat_template(
        official, tokenize=False, add_generation_prompt=True
    )
    assert read.context == "Text w1." and read.suffix.count("How many?") == 1
    tiny.__dict__.pop("chat", None)


def test_means_by_length_and_group():
    scored = [
        ScoredSample(str(n), {"score": n % 2}, {"length": 1024 * (1 + n), "task_group": "user"})
        for n in range(2)
    ]
    assert task().breakdown(scored) == {"length 1024": 0, "length 2048": 1, "user": 0.5}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answer": "7)"}, "line 2: field 'answer' is no answer"),
        ({"id": 1}, "line 2: a second row with the id '1', after .*line 1"),
        ({"question": 3}, "line 2: field 'question' must be a string"),
    ],
)
def test_a_broken_row_is_named(tmp_path, changes, said):
    with pytest.raises(UsageError, match=said):
        samples(tmp_path, row(1), row(2) | changes)
