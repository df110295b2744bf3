"""Facts of a run: about all its answers, resumed or not; and what a method need not say itself."""

import harness
from harness.evaluation.plan import UNTRAINED
from harness.plugins.plain import Plain


class Counts(Plain):
    """Says how many answers it knows of."""

    def facts_of(self, details):
        return {"answers": len(details), "warning": f"{len(details)} answers"}


class Learner(Plain):
    """Could learn something."""

    trainable = True


def asked(method, folder, out, **more):
    settings = {"passkey": {"lengths": "190", "depths": "0,50,100"}}
    ran = harness.run(
        method, model=str(folder), device="cpu", out=out, task="passkey", task_settings=settings, **more
    )
    return ran.ran, ran.load()


def test_facts_are_of_all_answers_of_a_resumed_run(tiny_folder, tmp_path):
    ran, first = asked(Counts, tiny_folder, tmp_path, limit=1)
    assert (ran, first.content["method_facts"]["answers"]) == (1, 1)
    ran, whole = asked(Counts, tiny_folder, tmp_path)
    assert (ran, whole.content["method_facts"]["answers"]) == (2, 3) and first.hash == whole.hash
    assert "3 answers" in whole.warnings


def test_a_missing_adapter_is_noted_without_the_authors_help(tiny_folder, tmp_path):
    _, run = asked(Learner, tiny_folder, tmp_path, limit=1)
    assert UNTRAINED in run.warnings
    _, run = asked(Plain, tiny_folder, tmp_path, limit=1)
    assert not run.warnings
