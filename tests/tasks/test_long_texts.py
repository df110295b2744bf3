"""Scores of long answers: those of the packages that published numbers were made with, in seconds."""

import random
import threading
import time

import pytest
from rouge import Rouge
from rouge_score.rouge_scorer import RougeScorer

from harness.tasks.infinitebench.rouge_l_sum import rouge_l_sum
from harness.tasks.longbench.rouge_l import rouge_l


class OfficialRouge(threading.Thread):
    """LongBench's ``eval.py``: `run` is the fourth frame of its stack there too, and what is raised is a 0."""

    def __init__(self, prediction, answer):
        super().__init__()
        self.texts, self.f = ([prediction], [answer]), 0.0

    def run(self):
        try:
            self.f = Rouge(metrics=["rouge-l"]).get_scores(*self.texts, avg=True)["rouge-l"]["f"]
        except Exception:
            self.f = 0.0

    def score(self):
        self.start()
        self.join()
        return self.f


def texts(source, least, most):
    words = source.choice([2, 5, 30, 300])
    ends = source.choice([[" "], [" ", " ", ". "], [" ", "\n"], [" ", ". ", "\n", ".", "  "], [".", " . "]])
    count = source.randint(least, most)
    return "".join(f"w{source.randrange(words)}{source.choice(ends)}" for _ in range(count))


@pytest.mark.parametrize("seed", range(60))
def test_rouge_is_the_packages(seed):
    source = random.Random(seed)
    prediction, answer = texts(source, 0, 40), texts(source, 0, 40)
    assert rouge_l(prediction, answer) == OfficialRouge(prediction, answer).score()
    official = RougeScorer(["rougeLsum"], use_stemmer=False).score(answer, prediction)["rougeLsum"].fmeasure
    assert rouge_l_sum(prediction, answer) == official


@pytest.mark.parametrize("seed", range(8))
def test_rouge_gives_up_where_the_package_does(seed):
    source = random.Random(seed)
    sizes = [
        (source.randint(1, 6), source.randint(980, 1000)),
        (source.randint(980, 1000), source.randint(1, 6)),
    ]
    said, right = (" ".join(f"w{source.randrange(50)}" for _ in range(n)) for n in sizes[seed % 2])
    assert rouge_l(said, right) == OfficialRouge(said, right).score()


@pytest.mark.parametrize(
    ("score", "end", "expected"),
    [
        (rouge_l, "", 0.0),
        (rouge_l, ".\n", 2 * 992 / (992 + 998)),
        (rouge_l_sum, "", 2 / 11),
        (rouge_l_sum, ".\n", 2 / 11),
    ],
)
def test_twenty_thousand_words_take_no_minutes(score, end, expected):
    said = " ".join(f"w{i % 997}{end}" for i in range(20_000))
    right = " ".join(f"w{i % 991}{end}" for i in range(2_000))
    before = time.process_time()
    assert score(said, right) == pytest.approx(expected)
    assert time.process_time() - before < 10
