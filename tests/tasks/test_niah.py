"""The needle grid: lengths that hold, depths in tokens, recall, and a haystack that never ends."""

import dataclasses
import json

import pytest

from harness import ScoredSample, UsageError, registry
from harness.evaluation.task_environment import task_environment
from harness.tasks.niah import haystack, task
from harness.tasks.niah.haystack import PLACES, Needle
from harness.tasks.niah.task import NeedleGrid
from harness.tasks.ruler import sources

ANSWER = "eat a sandwich and sit in Dolores Park on a sunny day"
NEEDLE = f"The best thing to do in San Francisco is {ANSWER}."


def grid(**options):
    return registry.tasks(["niah"], {"niah": options})[0]


@pytest.fixture(scope="module")
def env(tiny):
    return task_environment(tiny, offline=True)


def taken(env, **options):
    return list(grid(**options).samples(env))


def total(env, sample):
    return env.count(sample.prompt, sample.chat, sample.answer_prefix) + sample.new_tokens


def test_the_grid_by_default(env):
    wide = dataclasses.replace(env, context_length=4096)
    found = list(grid().samples(dataclasses.replace(wide, limit=11)))
    assert [s.id for s in found[:2]] == ["len512-depth0-t0", "len512-depth10-t0"]
    assert {s.metadata["length"] for s in found} == {512 * step for step in range(1, 9)}, "in turns"
    assert len({s.metadata["depth"] for s in found}) >= 8 and len(found) == 11


def test_lengths_are_reached_and_never_passed(env):
    found = taken(env, lengths="400,777,2000", depths="0,33.3,100", trials="2")
    assert len({s.id for s in found}) == 18
    for sample in found:
        assert (
            0 <= sample.metadata["length"] - total(env, sample) < 60
        )  # a sentence, in this tokenizer's tokens
        json.dumps(sample.metadata)


@pytest.mark.parametrize("depth", [0, 25, 50, 100])
def test_the_needle_stands_between_sentences_at_its_depth(env, depth):
    [sample] = taken(env, lengths="3000", depths=str(depth))
    context, place = sample.prompt.context, sample.metadata["needle_position"]
    assert context[place:].startswith(NEEDLE) and context.count(NEEDLE) == 1
    before, after = context[: place - 1], context[place + len(NEEDLE) + 1 :]
    assert before.endswith(".") or (depth == 0 and not before)
    assert after.startswith("The ") or (depth == 100 and not after)
    tokens = [len(env.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (before, after)]
    assert -60 < tokens[0] - depth / 100 * sum(tokens) <= 2


def test_the_frame(env):
    [sample] = taken(env, lengths="400", depths="50")
    assert sample.prompt.prefix == "This is a very long story book: <book> "
    question = "What is the best thing to do in San Francisco?"
    asked = f" </book>.\n Based on the content of the book, Question: {question}\nAnswer:"
    assert (sample.prompt.suffix, sample.prompt.question) == (asked, question)


def test_a_sample_depends_on_seed_and_cell_alone(env):
    many = {s.id: s for s in taken(env, lengths="500,900", depths="0,50", trials="2")}
    alone = {s.id: s for s in taken(env, lengths="900", depths="50", trials="2")}
    assert alone.items() <= many.items() and len(alone) == 2
    first, second = (s.prompt.context for s in alone.values())
    assert first != second
    other = taken(dataclasses.replace(env, seed=7), lengths="900", depths="50")
    assert other[0].prompt != alone["len900-depth50-t0"].prompt


def test_essays_where_they_are(env, tmp_path):
    with pytest.raises(UsageError, match=f"needs {sources.ESSAYS} in --data-dir"):
        taken(env, lengths="400", haystack="essays")
    (tmp_path / sources.ESSAYS).write_text(
        json.dumps({"text": "Once it rained. Then it\nstopped. "}), "utf-8"
    )
    there = dataclasses.replace(env, data_dir=tmp_path)
    [sample] = taken(there, lengths="600", depths="100")
    assert sample.prompt.context.startswith("Once it rained. Then it stopped. Once it rained. Then")
    assert sample.metadata["haystack"].startswith("essays, ")
    assert taken(there, lengths="600", depths="100", haystack="words")[0].metadata["haystack"] == "words"


def test_beyond_what_is_counted_whole_blocks_decide(env, monkeypatch):
    whole = taken(env, lengths="3000", depths="0,60")
    monkeypatch.setattr(task, "EXACT", 1000)
    for sample, other in zip(taken(env, lengths="3000", depths="0,60"), whole):
        assert 0 <= 3000 - total(env, sample) < 60 + haystack.SPARE
        assert other.id == sample.id


def test_millions_of_tokens_keep_to_their_length(env, monkeypatch):
    """A haystack of words that join (here: counts that are too low) is cut until its blocks fit."""
    monkeypatch.setattr(task, "EXACT", 1000)
    monkeypatch.setattr(task.Counter, "words", lambda self, *texts: sum(len(t) for t in texts) // 5)
    [sample] = taken(env, lengths="4000", depths="50")
    assert 0 <= 4000 - total(env, sample) < 200


@pytest.mark.parametrize(
    ("prediction", "recall"),
    [
        ("Eat a sandwich, and sit in Dolores Park on a sunny day!", 1.0),
        (NEEDLE, 1.0),
        ("sit in dolores park", 4 / 11),  # of eleven different words
        ("Visit the Golden Gate Bridge", 0.0),
        ("", 0.0),
    ],
)
def test_recall(prediction, recall):
    sample = NeedleGrid.sample_from_row(None, {"answers": [ANSWER]})
    assert grid().score(sample, prediction) == {"recall": pytest.approx(recall)}


def test_rows_and_columns_of_the_map():
    cells = [
        ScoredSample("x", {"recall": r}, {"length": n, "depth": d})
        for n, d, r in ((500, 0.0, 1.0), (500, 50.0, 0.0), (900, 0.0, 1.0), (900, 50.0, 1.0))
    ]
    assert grid().breakdown(cells) == {"length 500": 0.5, "length 900": 1.0, "depth 0": 1.0, "depth 50": 0.5}


def test_a_length_without_room_is_refused(env):
    with pytest.raises(
        UsageError, match=r"niah: length 60 is too short: .* take \d+ tokens and the answer 50"
    ):
        taken(env, lengths="60")


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("lengths", "0", "at least 1"),
        ("lengths", "300,300", "given twice"),
        ("depths", "50,101", "between 0 and 100"),
        ("trials", "0", "greater than or equal to 1"),
        ("haystack", "hay", "'auto', 'essays' or 'words'"),
    ],
)
def test_options_are_checked(option, value, reason):
    with pytest.raises(UsageError, match=rf"task niah: option {option}=.*{reason}"):
        grid(**{option: value})


def test_one_text_holds_a_needle_for_each_depth(env, tiny):
    depths = [0.0, 25.0, 50.0, 100.0]
    found = taken(env, lengths=[700, 900], depths=depths, one_text=True)
    assert [s.id for s in found[:4]] == [f"len700-depth{d}-t0" for d in (0, 25, 50, 100)]
    for row in (found[:4], found[4:]):
        assert len({(s.prompt.prefix, s.prompt.context) for s in row}) == 1, "compressed once"
        assert len({s.prompt.suffix for s in row}) == 4
        places = [s.metadata["needle_position"] for s in row]
        assert places == sorted(places) and places[0] == 1
        for (place, answer), depth, sample in zip(PLACES, depths, row):
            assert sample.references == (answer,) and place in sample.prompt.question
            needle = Needle(place, answer, depth).sentence
            assert sample.prompt.context[sample.metadata["needle_position"] :].startswith(needle)
            assert sample.metadata["needles"] == 4
            assert total(env, sample) <= sample.metadata["length"]
    assert max(total(env, s) for s in found[:4]) > 700 - 40


def test_no_answer_of_one_text_is_in_another():
    answers = [answer for _, answer in PLACES]
    task = grid()
    for answer in answers:
        sample = NeedleGrid.sample_from_row(None, {"answers": [answer]})
        assert all(task.score(sample, other)["recall"] < 0.4 for other in answers if other != answer)


def test_more_depths_than_places_are_refused():
    with pytest.raises(UsageError, match="one_text has needles for 21 depths, not 22"):
        grid(one_text=True, depths=list(range(22)))
