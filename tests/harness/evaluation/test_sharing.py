"""One context, many questions: compressed once, answered as if each were alone; and query-agnostic."""

import dataclasses
import json

import pytest

from harness import Method, Prompt, Sample, UsageError, registry
from harness.cli import invoke
from harness.contracts.outputs import Decoding
from harness.evaluation.plan import plan_run
from harness.evaluation.runner import execute
from harness.plugins.beacon.method import Beacon
from harness.plugins.plain import Plain
from harness.plugins.position_scaling import PositionScaling
from harness.plugins.streaming import Streaming
from harness.plugins.two_pass.method import TwoPass
from harness.plugins.two_pass.options import TwoPassOptions
from harness.prompts.rendering import tokenize

from ...helpers.running import Toy, Watcher, answers, as_method, by_id, run, settings, with_toy

LONG = " ".join(f"The sky is {n} and the grass is {7 * n % 11}." for n in range(24))
OTHER = LONG.replace("sky", "sun")
QUESTIONS = (
    ("a1", LONG, "What is the passkey?"),
    ("b1", OTHER, "What is the passkey?"),
    ("a2", LONG, "Remember the sun. Which grass is green, and which sky?"),
    ("a3", LONG, "Why?"),
    ("c1", LONG[:200], "Why?"),
)
"""Beyond the tiny model's window, so that there is something to condense."""


class Questions(Toy):
    """Three questions over one text, two over texts of their own; cut to `most` characters."""

    most = None

    def samples(self, env):
        for name, context, question in QUESTIONS:
            prompt = Prompt("Read.\n", context[: self.most], f"\n\n{question}\nAnswer:", question)
            yield Sample(name, prompt, ("1",), 6, chat=False)


@pytest.fixture
def asked(monkeypatch, tiny_folder, tmp_path):
    """Settings of a run over `Questions`."""
    with_toy(monkeypatch)
    monkeypatch.setattr("tests.helpers.running.Toy", Questions)

    def wanted(folder="runs", **changes):
        # What `plain` reads must fit: cut in the middle, the texts of two questions would be two texts.
        method = changes.get("method", "plain")
        fits = method == "plain" or (
            method == "own" and registry.method("own").cls.context_limit is Plain.context_limit
        )
        monkeypatch.setattr(Questions, "most", 250 if fits else None)
        return settings(tiny_folder, tmp_path / folder, tasks=("toy",), **changes)

    return wanted


def watched(monkeypatch, base, name="own"):
    """`base` under another name, with a list of the contexts that were compressed."""
    seen = []

    class Watched(base):
        def compress(self, contexts, reserve, decoding):
            seen.append([len(c) for c in contexts])
            return super().compress(contexts, reserve, decoding)

    as_method(monkeypatch, Watched, name)
    return seen


CASES = [
    (Plain, {}, {}),
    (Beacon, {"interval": "32", "ratio": "4"}, {}),
    (Beacon, {"interval": "32", "ratio": "adapt", "margin": "0"}, {}),
    (TwoPass, {"interval": "32", "calibration_contexts": "2"}, {"query_agnostic": True}),
    (TwoPass, {"interval": "32", "retrieval": "random"}, {"query_agnostic": True}),
    (Streaming, {"sinks": "2", "recent": "40", "chunk": "16"}, {}),
    (PositionScaling, {"rope": "linear", "factor": "2"}, {}),
]
NAMES = ["plain", "beacon-4", "beacon-adapt", "two_pass", "two_pass-random", "streaming", "position_scaling"]


@pytest.mark.parametrize(("base", "options", "more"), CASES, ids=NAMES)
def test_answers_over_a_shared_context_are_those_of_each_question_alone(
    asked, monkeypatch, base, options, more
):
    seen = watched(monkeypatch, base)
    _, alone = run(asked("alone", method="own", options=options, share=False, **more))
    assert len(seen) == 5
    seen.clear()
    result, shared = run(asked("shared", method="own", options=options, **more))
    assert len(seen) == 3, "the long text once, and each other text"
    assert answers(shared) == answers(alone)
    costs = {name: record["cost"] for name, record in shared.items()}
    assert {name: cost["questions"] for name, cost in costs.items()} == {
        "a1": 3,
        "a2": 3,
        "a3": 3,
        "b1": 1,
        "c1": 1,
    }
    assert costs["b1"]["saved_seconds"] == 0 < costs["a1"]["saved_seconds"]
    assert costs["a2"]["saved_seconds"] == pytest.approx(costs["a1"]["saved_seconds"])
    assert costs["a1"]["saved_seconds"] <= 2.5 * costs["a1"]["seconds"], "less its own share of the reading"
    [row] = result.summary["tasks"]
    assert row["shared"] == 3
    assert row["saved_seconds"] == pytest.approx(3 * costs["a1"]["saved_seconds"])


def test_what_is_shared_in_batches_is_what_batches_give(asked):
    _, alone = run(asked("alone"))
    _, shared = run(asked("shared", batch_size=2))
    assert answers(shared) == answers(alone)
    assert shared["a1"]["cost"]["batch"] == shared["a2"]["cost"]["batch"] == 2
    assert shared["a3"]["cost"]["batch"] == 1


def test_a_ratio_that_depends_on_the_question_is_not_shared(asked, monkeypatch, tiny):
    """Where the longest question needs a higher ratio than the others, it compresses for itself."""
    sizes = {n: len(tokenize(Prompt("Read.\n", c, f"\n\n{q}\nAnswer:"), tiny)) for n, c, q in QUESTIONS}
    assert sizes["a2"] > sizes["a1"] > sizes["a3"]
    short = Beacon(tiny, Beacon.Options(interval=32, ratio="adapt", margin=0))
    keys = {short.share_key(sizes[n], sizes["a1"] * k, Decoding(6)) for n in ("a1", "a2") for k in (0, 9)}
    assert len(keys) > 1
    seen = watched(monkeypatch, Beacon)
    options = {"interval": "32", "ratio": "adapt", "margin": "0"}

    def one_each(self, context, reserve, decoding):
        return reserve

    monkeypatch.setattr(Beacon, "share_key", one_each)
    run(asked(method="own", options=options))
    assert len(seen) == 5


def test_without_a_key_of_its_own_a_method_shares_among_questions_of_one_length(asked, monkeypatch):
    monkeypatch.delattr(Plain, "share_key")
    seen = watched(monkeypatch, Plain)
    _, records = run(asked(method="own"))
    assert len(seen) == 5
    assert all(r["cost"]["questions"] == 1 for r in records.values())


def test_a_run_interrupted_among_shared_questions_goes_on(asked, monkeypatch):
    class Interrupted(Plain):
        calls = 0

        def generate(self, states, questions, decoding):
            type(self).calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().generate(states, questions, decoding)

    as_method(monkeypatch, Interrupted)
    wanted = asked(method="own")
    plan = plan_run(wanted)
    with pytest.raises(KeyboardInterrupt):
        execute(plan, Watcher())
    assert list(by_id(plan.folder)) == ["a1"]
    _, records = run(wanted)
    assert sorted(records) == ["a1", "a2", "a3", "b1", "c1"]
    assert [records[n]["cost"]["questions"] for n in ("a1", "a2", "a3")] == [3, 3, 3], "as without the stop"
    _, alone = run(asked("alone", share=False))
    assert {n: r["prediction"] for n, r in records.items()} == {n: r["prediction"] for n, r in alone.items()}


@pytest.mark.parametrize("half", ["compress", "generate"])
def test_a_failure_over_a_shared_context_is_the_failure_of_one_question(asked, monkeypatch, tiny, half):
    size = {n: len(tokenize(Prompt("", "", f"\n\n{q}\nAnswer:"), tiny)) - 1 for n, _, q in QUESTIONS}

    class Fragile(Plain):
        def compress(self, contexts, reserve, decoding):
            if half == "compress" and reserve[0] == size["a1"]:
                raise RuntimeError("no")
            return super().compress(contexts, reserve, decoding)

        def generate(self, states, questions, decoding):
            if half == "generate" and len(questions[0]) == size["a3"]:
                raise RuntimeError("no")
            return super().generate(states, questions, decoding)

    as_method(monkeypatch, Fragile)
    _, records = run(asked(method="own"))
    failed = {n for n, r in records.items() if r["status"] == "error"}
    assert failed == ({"a1", "b1"} if half == "compress" else {"a3", "c1"})
    assert len(records) == 5


# --- query-agnostic


def test_what_two_pass_compresses_without_the_question_does_not_depend_on_it(asked):
    options = {"interval": "32", "calibration_contexts": "2"}
    result, records = run(asked(method="two_pass", options=options, query_agnostic=True, share=False))
    chosen = [records[n]["details"]["ratios"] for n in ("a1", "a2", "a3")]
    assert records["a1"]["details"]["first_ratio"] is not None
    shortest = min(map(len, chosen))
    assert len({tuple(c[:shortest]) for c in chosen}) == 1
    relevance = {tuple(records[n]["details"]["relevance"]) for n in ("a1", "a2", "a3")}
    assert len(relevance) == 1
    assert {r["protocol"] for r in records.values()} == {"query-agnostic"}
    content = json.loads((result.folder.path / "run.json").read_text())
    assert content["method"]["protocol"] == "query-agnostic" and content["method"]["sees_question"]


def test_seeing_the_question_is_another_run_with_another_relevance(asked):
    options = {"interval": "32", "calibration_contexts": "2"}
    blind, _ = run(asked(method="two_pass", options=options, query_agnostic=True))
    seeing, records = run(asked(method="two_pass", options=options))
    assert blind.folder.path != seeing.folder.path
    assert {r["protocol"] for r in records.values()} == {"query-aware"}
    relevance = {tuple(records[n]["details"]["relevance"]) for n in ("a1", "a2", "a3")}
    assert len(relevance) == 3


def test_nothing_changes_for_a_method_that_never_saw_the_question(asked):
    first, records = run(asked(method="plain", query_agnostic=True))
    second, _ = run(asked(method="plain"))
    assert first.folder.path == second.folder.path and second.ran == 0
    assert {r["protocol"] for r in records.values()} == {"query-agnostic"}


def test_an_answer_goes_on_where_the_context_ends_with_an_interval(tiny):
    method = TwoPass(tiny, TwoPassOptions(interval=32, retrieval="random"))
    method.make_query_agnostic()
    decoding = Decoding(6)
    for length in (255, 256, 257, 288, 290):
        context = [5 + n % 90 for n in range(length)]
        [state] = method.compress([context], [40], decoding)
        [answer] = method.generate([state], [[7] * 40], decoding)
        assert answer.prompt_tokens == length + 40
        assert len(answer.details["ratios"]) == (length + 39) // 32
        assert answer.kv_tokens <= 256


def test_methods_that_cannot_do_without_the_question_say_so(asked, monkeypatch, capsys, tiny_folder):
    class Whole(Method):
        sees_question = True

        def compress_and_generate(self, prompts, decoding):
            raise AssertionError

    as_method(monkeypatch, Whole)
    with pytest.raises(UsageError, match="--query-agnostic: Whole cannot compress without the question"):
        plan_run(asked(method="own", query_agnostic=True))
    words = ["run", "-m", "two_pass", "--retrieval", "bm25", "--interval", "32", "--query-agnostic"]
    words += ["--model", str(tiny_folder), "--adapter", "none"]
    assert invoke(words) == 2
    assert "BM25 ranks by the question" in capsys.readouterr().err


def test_the_table_says_what_was_shared_and_query_agnostic(asked, capsys):
    from harness.console.run_tables import notes

    options = {"interval": "32", "retrieval": "random"}
    plan = plan_run(asked(method="two_pass", options=options, query_agnostic=True))
    result = execute(plan, Watcher())
    said = " ".join(str(line) for line in notes(result.summary, plan))
    assert (
        "3 questions shared compressed contexts" in said
        and "the method compressed without seeing the question" in said
    )
    assert dataclasses.asdict(plan.settings)["query_agnostic"] is True


def test_costs_of_a_run_that_goes_on_are_those_of_one_that_was_not_stopped(asked, monkeypatch):
    watched(monkeypatch, Streaming)
    result, whole = run(asked("one", method="own", options={"sinks": "2", "recent": "40", "chunk": "16"}))
    path = result.folder.samples_path
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line)["id"] not in ("a2", "a3")), "utf-8")
    _, again = run(asked("one", method="own", options={"sinks": "2", "recent": "40", "chunk": "16"}))
    assert {name: r["cost"]["questions"] for name, r in again.items()} == {
        name: r["cost"]["questions"] for name, r in whole.items()
    }
    assert again["a3"]["cost"]["questions"] == 3 and answers(again) == answers(whole)
    texts = {name: record["text_hash"] for name, record in again.items()}
    assert texts["a1"] == texts["a2"] == texts["a3"] and len(set(texts.values())) == 3
    assert result.summary["tasks"][0]["contexts"] == 3
