"""Lines of ``harness score`` that are spoilt, for every task there is: refused in a line, or scored from 0 to 1."""

import json
import math
from collections.abc import Mapping

import pytest

from harness import Sample, Task, UsageError, registry
from harness._util import entry_points
from harness.evaluation import score_file

BROKEN = [None, 0, 1.5, True, "", "\x00", "['a' 'b']", [], [""], [1], [None], [["x"]], {}, {"a": 1}, 10**30]
FIELDS = (
    "all_classes",
    "options",
    "secondary_task",
    "length",
    "question",
    "asked_words",
    "documents",
    "item",
)
PREDICTIONS = ("", "x", "[[1, 2]]")


def tasks():
    """Every task that can score a line by itself, once for each kind of its family's own."""
    for family in sorted(entry_points.entry_points("tasks")):
        cls = registry.task_class(family)[0].cls
        for variant in cls.variants or (None,):
            yield f"{family}/{variant}" if variant else family


def scored(task: Task, row: Mapping, prediction: str) -> float | None:
    """The main metric; None if the line is refused, which must be in one line."""
    try:
        return score_file._score(task, {**row, "prediction": prediction})
    except UsageError as error:
        assert "\n" not in str(error)
        assert "cannot score it" not in str(error), f"{task.name}, {row}: {error}"
        return None


@pytest.fixture(scope="module")
def built():
    return [score_file.build(name, True) for name in tasks()]


def test_a_spoilt_line_is_refused_or_scored(built):
    for task in built:
        for field in dict.fromkeys((*task.answer_fields, *FIELDS)):
            for value in BROKEN:
                row = {task.answer_fields[0]: ["x"], field: value}
                for prediction in PREDICTIONS:
                    score = scored(task, row, prediction)
                    assert score is None or (math.isfinite(score) and 0 <= score <= 1), (
                        task.name,
                        row,
                        score,
                    )


@pytest.mark.parametrize("answers", ["", " ", [""], ["zzz", ""], [["zzz"], []]])
def test_an_empty_answer_makes_nobody_right(built, answers):
    """It stands in every text: by the measures that look for answers in one, whatever is said would be right."""
    for task in built:
        row = {"all_classes": ["zzz"], "question": "?", "secondary_task": "T1.1 Global Cohesive Retrieval"}
        for field in task.answer_fields:
            assert not scored(task, {**row, field: answers}, "qqq"), task.name


class Careless(Task):
    """Somebody's task that does not look at what it is given."""

    def samples(self, env):
        return iter(())

    def score(self, sample, prediction):
        return {"score": 1 / len(sample.metadata["letters"])}

    @classmethod
    def sample_from_row(cls, variant, row):
        return Sample("1", None, (), 1, metadata={"letters": row["letters"]})


@pytest.mark.parametrize(
    ("row", "said"), [({}, "KeyError: 'letters'"), ({"letters": ""}, "ZeroDivisionError: division by zero")]
)
def test_what_a_task_raises_at_a_line_names_the_line_and_the_task(tmp_path, monkeypatch, row, said):
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"task": "careless", "prediction": "a", **row}))
    monkeypatch.setattr(
        score_file, "build", lambda name, full: Careless(Careless.Options.parse({}, "task careless"), name)
    )
    with pytest.raises(UsageError, match=rf"p\.jsonl, line 1: task careless cannot score it \({said}, test_"):
        score_file.score_file(file)
