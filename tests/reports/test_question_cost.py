"""What a question costs by the number that share a context, and from how many on compressing pays."""

import pytest

from harness.contracts import SampleRecord
from harness.contracts.record import AnswerRecord, Context, Cost
from harness.reports._question_cost import QuestionCost, pays, question_cost


def several(once, each, compressions=1):
    answers = tuple(AnswerRecord(cost=Cost(seconds=s)) for s in each)
    return SampleRecord("s", "t", context=Context(9, "", compressions, once), answers=answers)


def test_the_two_parts_are_those_of_the_records():
    assert question_cost([several(4.0, [1.0, 3.0]), several(2.0, [2.0, 2.0])]) == QuestionCost(3.0, 2.0)
    assert question_cost([several(0.0, [5.0, 7.0], 2)]) == QuestionCost(0.0, 6.0)


def test_samples_that_shared_a_context_say_the_same():
    """Each of four bears 2 s of a reading that took 8 and was spared 6."""
    shared = [
        SampleRecord(str(k), "t", cost=Cost(seconds=2 + 0.5, questions=4, saved_seconds=6)) for k in range(4)
    ]
    alone = SampleRecord("x", "t", cost=Cost(seconds=9.0))
    assert question_cost([*shared, alone]) == QuestionCost(8.0, 0.5)
    assert question_cost([alone]) is None
    assert QuestionCost(8.0, 0.5).at(4) == 2.5


@pytest.mark.parametrize(
    ("one", "full", "said"),
    [
        ((10, 1), (4, 3), "from 4"),  # 10 + 3 = 13 and 4 + 9 = 13 are alike at three
        ((10, 1), (4, 2.9), "from 4"),
        ((10, 1), (4, 3.1), "from 3"),
        ((1, 1), (4, 3), "from 1"),
        ((10, 3), (4, 3), "never"),
        ((3, 3), (4, 3), "from 1"),
        ((1, 4), (4, 3), "up to 2"),
        ((3.5, 4), (4, 3), "never"),
    ],
)
def test_from_how_many_questions_on_it_pays(one, full, said):
    one, full = QuestionCost(*one), QuestionCost(*full)
    assert pays(one, full) == said
    cheaper = [n for n in range(1, 40) if one.once + n * one.each < full.once + n * full.each]
    number = int(said.split()[-1]) if said != "never" else 0
    assert cheaper == [n for n in range(1, 40) if (n <= number if said.startswith("up") else n >= number > 0)]
