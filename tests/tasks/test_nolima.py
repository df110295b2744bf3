"""NoLiMa: needles placed and compared as officially; every set, book and template here is invented."""

import json
import re

import numpy as np
import pytest

from harness import ScoredSample, UsageError
from harness.tasks.nolima import Nolima, base_score, right
from harness.tasks.nolima.placing import Book

from ..helpers.official import environment, run_on

EXPERIMENT = {
    "id": "0301A",
    "needle": "{CHAR} keeps {1} beside {2}.",
    "questions": {"onehop": "Who likes {2}?", "direct": "Who keeps {1} and {2}?"},
    "character_set": ["Ann", "Bob", "Eve"],
    "tests": {"T1": {"input_args": ["bees", "hives"]}, "T2": {"input_args": ["cats", "mats"]}},
}
TEMPLATE = "Read.\n{haystack}\n\nQ: {question}\nA:"


class Words:
    """One token for each newline, word or row of blanks."""

    def __init__(self):
        self.known = {}

    def __call__(self, text, add_special_tokens=False):
        words = re.findall(r"\n|[^\s]+|[ \t]+", text)
        return {"input_ids": [self.known.setdefault(word, len(self.known)) for word in words]}

    def decode(self, ids):
        words = list(self.known)
        return "".join(words[i] for i in ids)


def folder(path, experiments=(EXPERIMENT,), template=TEMPLATE, lines=80):
    (path / "needlesets").mkdir(parents=True)
    (path / "haystack").mkdir()
    (path / "needlesets" / "needle_set.json").write_text(json.dumps(list(experiments)), encoding="utf-8")
    text = "".join(f"Line {n} tells of a boat.\n" for n in range(lines))
    for name in ("book_1", "book_2"):
        (path / "haystack" / f"{name}.txt").write_text(text, encoding="utf-8")
    if template:
        (path / "run_tests.py").write_text(
            f"raise SystemExit('run')\nTASK = {template!r}\n", encoding="utf-8"
        )
    return path


def task(**options):
    return Nolima(Nolima.Options(**options), "nolima")


def samples(path, limit=None, **options):
    return list(task(**options).samples(environment(path, Words(), limit=limit)))


def test_a_needle_stands_at_a_line_end_and_the_text_slides_with_the_depth():
    book = Book("".join(f"a b c{n}\n" for n in range(40)), Words(), "book")
    shallow, deep = (book.placed("Needle.", 30, depth) for depth in (0.1, 0.9))
    assert (shallow.token, deep.token) == (3, 27)
    assert shallow.text.startswith("b c0 Needle.\na b c1\n") or " Needle.\n" in shallow.text
    for made in (shallow, deep):
        words = Words()(made.text.replace(" Needle.\n", "\n", 1))["input_ids"]
        assert len(words) == 30, "the needle is not counted"
    first = book.placed("Needle.", 30, 0.0)
    assert first.text.startswith(" Needle.\n b c0\n") and first.window == 0, (
        "the first token is lost, as officially"
    )
    last = book.placed("Needle.", 30, 1.0)
    assert last.text.endswith(" Needle.\n") and last.token == 30
    with pytest.raises(UsageError, match="too few lines for a text of 5,000"):
        book.placed("Needle.", 5000, 0.5)


def test_a_needle_may_be_held_at_a_part_of_the_book():
    book = Book("".join(f"a b c{n}\n" for n in range(60)), Words(), "book")
    one, other = (book.placed_at("Needle.", 30, depth, 0.5) for depth in (0.2, 0.8))
    assert one.text.split(" Needle.\n")[1][:7] == other.text.split(" Needle.\n")[1][:7]
    assert one.window - other.window == round(30 * 0.8) - round(30 * 0.2)


def test_samples_hold_every_question_of_every_experiment(tmp_path):
    found = samples(folder(tmp_path), lengths=[40], depths=[0, 50], books=1)
    assert len(found) == 2 * 2 * 2
    first = found[0]
    name = np.random.RandomState(42 + 301).choice(["Ann", "Bob", "Eve"])
    assert first.references == (name,) and f"{name} keeps bees beside hives." in first.prompt.context
    assert first.prompt.prefix == "Read.\n" and first.prompt.suffix == "\n\nQ: Who likes hives?\nA:"
    assert first.metadata == {
        "length": 40, "depth": 0, "test": "0301A_T1_onehop", "book": "book_1", "direct": False, "window": 0,
    }  # fmt: skip
    by_test = {(s.metadata["test"], s.metadata["depth"]): s.references for s in found}
    assert by_test["0301A_T1_onehop", 50] == by_test["0301A_T2_direct", 50], (
        "one name a depth for all of them"
    )
    asked = {s.metadata["test"]: s.prompt.question for s in found}
    assert asked["0301A_T1_direct"] == "Who keeps {1} and hives?", (
        "only the last place is filled, as officially"
    )
    assert found == samples(tmp_path, lengths=[40], depths=[0, 50], books=1)


def test_lengths_come_in_turns_and_the_template_may_be_our_own(tmp_path):
    found = samples(folder(tmp_path), limit=2, lengths=[40, 60], books=1)
    assert [s.metadata["length"] for s in found] == [40, 60]
    [sample] = samples(tmp_path, limit=1, lengths=[40], template="own")
    assert sample.prompt.prefix == "Here is a long text.\n\n" and task(template="own").preset != task().preset


@pytest.mark.parametrize(
    ("metric", "response", "answers", "expected"),
    [
        ("contains", "It is Yukiko", ["Yuki"], True),
        ("contains", "yuki", ["Yuki"], False),
        ("contains", "a", "Yuki", False),
        ("contains", "k", "Yuki", True),
        ("EM", " Yuki\n", ["Yuki"], True),
        ("EM", "Yuki.", ["Yuki"], False),
        ("lastline_contains", "Yuki\nso Ann\n", ["Yuki"], False),
        ("lastline_EM", "Because.\nYuki\n", ["Yuki"], True),
    ],
)
def test_comparison_is_letter_for_letter(metric, response, answers, expected):
    assert right(metric, response, answers) is expected


def scored(test, book, length, value, direct=False, depth=0):
    facts = {"test": test, "book": book, "length": length, "direct": direct, "depth": depth}
    return ScoredSample(f"{test}{book}{length}{depth}", {"score": value}, facts)


def test_the_headline_weighs_tests_and_leaves_direct_questions_out():
    made = [
        scored("a", "1", 1000, 1.0), scored("a", "1", 1000, 0.0, depth=50), scored("b", "1", 1000, 1.0),
        scored("c_direct", "1", 1000, 0.0, direct=True),
    ]  # fmt: skip
    assert task().aggregate(made) == {"score": 0.75}
    assert task().breakdown(made)["length 1000"] == 0.75


def test_the_base_score_is_the_best_short_length_of_each_test():
    made = [scored("a", "1", n, v) for n, v in ((250, 0), (500, 1), (1000, 0), (2000, 0))]
    made += [scored("b", "1", n, v) for n, v in ((250, 0), (500, 0), (1000, 0), (2000, 1))]
    assert base_score(made) == 0.5 and task().breakdown(made)["base"] == 0.5
    assert base_score(made[:2]) is None, "one of the three lengths is missing"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"needle": "Ann keeps {1} beside {2}."}, r"line 1: the needle needs the place \{CHAR\}"),
        ({"needle": "{CHAR} keeps {3}."}, r"line 1: test 'T1' gives nothing for \{3\}"),
        ({"id": "A301"}, "line 1: its id 'A301' must begin with four digits"),
        ({"tests": None}, "line 1: id, needle, questions, character_set or tests are missing"),
        ({"distractors": {"onehop": "x"}}, "line 1: distractors are not offered"),
    ],
)
def test_a_broken_set_is_named(tmp_path, changes, said):
    with pytest.raises(UsageError, match=said):
        samples(folder(tmp_path, [EXPERIMENT | changes]))


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(UsageError, match="a second row with the id '0301A_T1_onehop'"):
        samples(folder(tmp_path / "a", [EXPERIMENT, EXPERIMENT]))
    with pytest.raises(UsageError, match=r"set nolima\.template=own"):
        samples(folder(tmp_path / "b", template=None))
    with pytest.raises(UsageError, match="has 0 prompts with a place"):
        samples(folder(tmp_path / "c", template="no place"))
    with pytest.raises(UsageError, match="non-commercial research only"):
        list(task().samples(environment(None)))
    with pytest.raises(UsageError, match=r"cannot read .*other\.json"):
        samples(folder(tmp_path / "d"), needle_set="other")
    with pytest.raises(UsageError, match="too few lines for a text of 9,000"):
        samples(folder(tmp_path / "e"), lengths=[9000])


def test_it_runs(tiny_folder, tmp_path):
    options = {"nolima": {"lengths": [60], "depths": [50], "books": 1}}
    _, records = run_on(
        tiny_folder, tmp_path / "out", folder(tmp_path / "data"), "nolima", task_settings=options, limit=2
    )
    assert {record["status"] for record in records.values()} == {"ok"}
    assert all(r["new_tokens"] <= 192 for r in records.values())
