"""Samples drawn once for many plans: the plans that each run would make for itself, without its texts."""

import collections
from dataclasses import replace

import pytest

from harness import UsageError
from harness.errors import Unavailable
from harness.evaluation.plan import plan_run
from harness.evaluation.shared_samples import SharedSamples

from ...helpers.running import Toy, settings, with_toy

MANY = {
    "tasks": ("passkey", "niah"),
    "task_settings": {"passkey": {"depths": "0,50"}, "niah": {"depths": "0,100", "lengths": "300,400"}},
    "limit": 2,
}


@pytest.fixture
def draws(monkeypatch):
    """How often each task's samples were asked for."""
    count = collections.Counter()
    with_toy(monkeypatch)
    made = Toy.samples

    def counted(self, env):
        count[self.name] += 1
        if env.notify is not None:
            env.notify("said of the data")
        self.drew = True
        yield from made(self, env)

    monkeypatch.setattr(Toy, "samples", counted)
    monkeypatch.setattr(Toy, "facts", lambda self: {"drew": getattr(self, "drew", False)}, raising=False)
    return count


def same(shared, alone):
    assert (shared.folder.path, shared.identity, shared.data_notes) == (
        alone.folder.path,
        alone.identity,
        alone.data_notes,
    )
    assert [(p.key, p.tokens, p.question_tokens, p.truncation, p.decoding) for p in shared.samples] == [
        (p.key, p.tokens, p.question_tokens, p.truncation, p.decoding) for p in alone.samples
    ]


@pytest.mark.parametrize("kept", [10**9, 0])
def test_plans_are_those_that_each_run_makes(tiny_folder, tmp_path, kept):
    take = SharedSamples(kept)
    wanted = settings(tiny_folder, tmp_path, **MANY)
    for changes in (
        {},
        {"method": "streaming", "options": {"recent": 60, "chunk": 32}},
        {"max_context": 150},
        {"seed": 7},
        {"truncate": "left", "max_context": 150},
        {"limit": 1},
        {"context_length": 128},
        {"chat": "never"},
        {},
    ):
        one = replace(wanted, **changes)
        same(plan_run(one, take=take), plan_run(one))


def test_what_several_plans_ask_is_drawn_once(tiny_folder, tmp_path, draws):
    wanted = settings(tiny_folder, tmp_path, tasks=("toy",))
    take = SharedSamples()
    others = [
        {},
        {"max_context": 40},
        {"method": "streaming", "options": {"recent": 60, "chunk": 32}},
        {"dtype": "bfloat16"},
    ]
    plans = [plan_run(replace(wanted, **changes), take=take) for changes in others]
    assert draws["toy"] == 1
    for plan in plans:
        assert plan.data_notes == ["said of the data"]
        assert plan.identity["tasks"][0]["facts"] == {"drew": True}, "facts are those of who drew"
        assert all(p.sample.prompt.text == p.rendered.text == "" for p in plan.samples)
    plan_run(replace(wanted, seed=1), take=take)
    assert draws["toy"] == 2


def test_texts_are_let_go_before_sizes(tiny_folder, tmp_path, draws):
    wanted = settings(tiny_folder, tmp_path, tasks=("toy",))
    take = SharedSamples(kept=0)
    plan_run(wanted, take=take)
    plan_run(wanted, take=take)
    assert draws["toy"] == 1, "sizes are known"
    plan_run(replace(wanted, max_context=40), take=take)
    assert draws["toy"] == 2, "another cut needs the text again"


def test_what_cannot_be_drawn_is_said_each_time(tiny_folder, tmp_path, draws, monkeypatch):
    wanted = settings(tiny_folder, tmp_path, tasks=("toy",), task_settings={"toy": {"n": 0}})
    take = SharedSamples()
    for _ in range(2):
        with pytest.raises(UsageError, match="task toy has no samples"):
            plan_run(wanted, take=take)

    def torn(self, env):
        yield from ()
        raise UsageError("task toy: no such file")

    monkeypatch.setattr(Toy, "samples", torn)
    for _ in range(2):
        with pytest.raises(UsageError, match="no such file"):
            plan_run(replace(wanted, task_settings={}), take=take)


def test_what_is_not_there_is_looked_for_once(tiny_folder, tmp_path, draws, monkeypatch):
    looked = []

    def gone(self, env):
        yield from ()
        looked.append(env.seed)
        raise Unavailable("task toy: cannot be had")

    monkeypatch.setattr(Toy, "samples", gone)
    wanted = settings(tiny_folder, tmp_path, tasks=("toy", "passkey"), skip_unavailable=True, limit=1)
    take = SharedSamples()
    for changes in ({}, {"max_context": 150}, {}):
        plan = plan_run(replace(wanted, **changes), take=take)
        assert plan.unavailable == {"toy": "task toy: cannot be had"}
    assert looked == [42]
    plan_run(replace(wanted, seed=1), take=take)
    assert looked == [42, 1]
