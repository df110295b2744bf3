"""LongBench's metrics: every vector here is worked out by hand from the official rules."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness import UsageError
from harness.tasks._similarity import edit_ratio
from harness.tasks.longbench import metrics

PARITY = Path(
    os.environ.get("LONGBENCH_PARITY", Path(__file__).parents[2] / "../shared/parity/longbench_scores.jsonl")
)


@pytest.mark.skipif(not PARITY.is_file(), reason=f"no recorded official scores at {PARITY}")
def test_recorded_official_scores():
    lines = [json.loads(line) for line in PARITY.read_text("utf-8").splitlines()]
    assert len(lines) > 100
    wrong = []
    for number, line in enumerate(lines, start=1):
        got = metrics.score(line["dataset"], line["prediction"], line["answers"], line["all_classes"] or ())
        if abs(got - line["score"]) > 1e-9:
            wrong.append((number, line["dataset"], got, line["score"]))
    assert not wrong


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("The cat, a CAT!", "cat", 2 / 3),  # articles go: "cat cat" against "cat": p 1/2, r 1
        ("rock-n-roll", "rocknroll", 1.0),  # punctuation is deleted, not blanked
        ("rock n roll", "rock-n-roll", 0.0),
        ("a.m.", "am", 1.0),  # punctuation goes first: "a" of "a.m." is no article any more
        ("“quoted”", "quoted", 0.0),  # only ASCII punctuation
        ("the", "a", 0.0),  # two empty bags have nothing in common
        ("", "", 0.0),
        ("unanswerable because", "unanswerable", 2 / 3),
        ("one two\nthree four", "one two", 2 / 3),  # every line counts
    ],
)
def test_qa_f1(prediction, answer, expected):
    assert metrics.score("qasper", prediction, [answer]) == pytest.approx(expected, abs=1e-12)


def test_the_best_answer_counts_and_none_is_zero():
    assert metrics.score("hotpotqa", "blue sky", ["red", "sky", "blue sky"]) == 1.0
    assert metrics.score("hotpotqa", "blue sky", []) == 0.0


def test_only_few_shot_sets_are_cut_to_their_first_line():
    assert metrics.score("triviaqa", "\n\nParis\nQuestion: next", ["Paris"]) == 1.0
    assert metrics.score("triviaqa", " \nParis", ["Paris"]) == 0.0  # only newlines are dropped, blanks stay
    assert metrics.score("hotpotqa", "Paris\nQuestion: next", ["Paris"]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("the cat sat", "the cat sat", 2 / (2 + 1e-8)),
        ("", "a text", 0.0),
        ("...", "a text", 0.0),  # nothing between the full stops: the package raises
        ("the cat sat", "the dog sat", 2 * (2 / 3) ** 2 / (4 / 3 + 1e-8)),
        ("The cat", "the cat", 0.5 / (1 + 1e-8)),  # case matters
        ("cat cat cat", "cat", 2 / (2 + 1e-8)),  # words are counted once
        ("b a", "a. b", 2 / (2 + 1e-8)),  # sentence by sentence, so their order is lost
        ("b a", "a b", 0.5 / (1 + 1e-8)),
        ("a\nb", "a b", 2 / (2 + 1e-8)),  # newlines do not end sentences
    ],
)
def test_rouge_l(prediction, answer, expected):
    assert metrics.rouge_l(prediction, answer) == pytest.approx(expected, abs=1e-12)


def words(n):
    return " ".join(f"w{i}" for i in range(n))


@pytest.mark.parametrize(("depth", "limit"), [(0, 1000), (400, 1000), (400, 3000)])
def test_the_recursion_of_rouge_fails_at_the_official_length(depth, limit):
    """The official script scores 990 steps of the back-trace and gives 0 for 991, whoever calls us."""

    def below(frames):
        if frames:
            return below(frames - 1)
        return metrics.rouge_l("w0", words(990)), metrics.rouge_l("w0", words(991))

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        fits, too_long = below(depth)
        assert sys.getrecursionlimit() == limit
    finally:
        sys.setrecursionlimit(before)
    assert fits == pytest.approx(2 / 990 / (1 + 1 / 990), rel=1e-6)  # recall 1 of 990 words, precision 1
    assert too_long == 0.0


def test_rouge_from_many_threads():
    results = {}

    def work(n):
        results[n] = metrics.rouge_l(words(n), words(2 * n))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: pytest.approx(2 * 0.5 / (1.5 + 1e-8)) for n in range(2, 10)}


CLASSES = ["Food", "Disease and medicine", "Individual", "Group of people", "Date", "Date of birth"]


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("Food", "Food", 1.0),
        ("food", "Food", 0.0),
        ("Food or Individual", "Food", 0.5),
        ("Individual", "Food", 0.0),
        ("Date of birth", "Date of birth", 1.0),  # "Date" is part of the right name: dropped
        ("Date of birth", "Date", 0.5),  # the other way round nothing is dropped
        ("", "Food", 0.0),
    ],
)
def test_classification(prediction, answer, expected):
    assert metrics.score("trec", prediction, [answer], CLASSES) == expected


def test_classification_passes_over_the_item_after_a_dropped_one():
    # "a" is dropped, so "ab" is never looked at and stays beside "abc": one half instead of one.
    assert metrics.classification("abc", "abc", ["a", "ab", "abc"]) == 0.5


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [("7", "7", 1.0), ("07", "7", 0.0), ("7.0", "7", 0.5), ("seven", "7", 0.0), ("7 of 7 or 8", "7", 2 / 3)],
)
def test_count(prediction, answer, expected):
    assert metrics.score("passage_count", prediction, [answer]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [("Paragraph 19", 1.0), ("19", 1.0), ("[12] 19", 0.5), ("Paragraph 1", 0.0), ("", 0.0)],
)
def test_retrieval(prediction, expected):
    assert metrics.score("passage_retrieval_en", prediction, ["Paragraph 19"]) == expected
    assert metrics.score("passage_retrieval_zh", prediction, ["段落19"]) == expected


def test_an_answer_without_a_paragraph_is_refused():
    with pytest.raises(UsageError, match="names no paragraph"):
        metrics.score("passage_retrieval_en", "19", ["19"])


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("return x", 1.0),
        ("\n\nreturn x\nmore", 1.0),
        ("# a comment\n```python\n// c\nreturn x", 1.0),  # lines with a mark are passed over
        ("return y", 0.88),  # 7 of 8 characters: 14/16 = 87.5, rounded to even
        ("  return x", 0.89),  # indentation counts: 16/18
        ("   \nreturn x", 0.18),  # a blank line is code: 2 * 1 / 11
        ("# only comments", 0.0),
        ("", 0.0),
    ],
)
def test_code_similarity(prediction, expected):
    assert metrics.score("lcc", prediction, ["return x"]) == expected


def test_edit_ratio_of_empty_strings():
    assert edit_ratio("", "") == 100
    assert edit_ratio("", "a") == 0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # difflib takes the longest block, "LMNO", which leaves nothing on one side: 2 * 4 / 26. Levenshtein's
        # ratio would keep "abcdef": 2 * 6 / 26 = 46.
        ("ab-cd-ef-LMNO", "LMNO-ab.cd.ef", 31),
        # From 200 characters on, characters that fill more than 1 % are no starting points: nothing is left.
        ("y" + "x" * 250, "x" * 250 + "z", 0),
        ("y" + "x" * 150, "x" * 150 + "z", 99),
    ],
)
def test_edit_ratio_is_difflibs(first, second, expected):
    assert edit_ratio(first, second) == expected


PAIRS = [
    ("return first", "first_value"),
    ("ab-cd-ef-LMNO", "LMNO-ab.cd.ef"),
    ("", ""),
    ("", "x"),
    ("    if x is None:", "if x is not None:\r"),
    ("x = 1; " * 40, "y = 1; " * 40),
]


@pytest.mark.parametrize("levenshtein", [False, True])
def test_edit_ratio_is_fuzzywuzzys_without_levenshtein_whatever_is_installed(tmp_path, levenshtein):
    """With python-Levenshtein importable fuzzywuzzy switches its backend; ours must not."""
    (tmp_path / "Levenshtein.py").write_text(
        "def ratio(first, second):\n    return 0.01\n" if levenshtein else "raise ImportError\n"
    )
    program = (
        "import json, sys, warnings; warnings.simplefilter('ignore'); "
        "from fuzzywuzzy import fuzz; from harness.tasks._similarity import edit_ratio; "
        "pairs = json.loads(sys.argv[1]); "
        "print(json.dumps([[fuzz.ratio(*p) for p in pairs], [edit_ratio(*p) for p in pairs]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(PAIRS)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    fuzzywuzzy, ours = json.loads(done.stdout)
    assert ours[:4] == [43, 31, 100, 0]  # "first": 2 * 5 / 23
    assert (fuzzywuzzy == ours) is not levenshtein
