"""A sample with several questions: one context, one compression, an answer to each; turns that follow each other."""

import itertools
import json

import pytest

from harness import Method, UsageError
from harness.evaluation.plan import plan_run
from harness.plugins.beacon.lora_method import LoraExperts
from harness.plugins.beacon.method import Beacon
from harness.plugins.plain import Plain
from harness.plugins.streaming import Streaming
from harness.plugins.two_pass.method import TwoPass

from ...helpers.running import as_method, run
from ...helpers.several import ASKED, Several, questions_for


@pytest.fixture
def asked(monkeypatch, tiny_folder, tmp_path):
    return questions_for(monkeypatch, tiny_folder, tmp_path)


def watched(monkeypatch, base):
    seen = []

    class Watched(base):
        def compress(self, contexts, reserve, decoding):
            seen.append(len(contexts))
            return super().compress(contexts, reserve, decoding)

    as_method(monkeypatch, Watched)
    return seen


METHODS = {
    "plain": (Plain, {}, 120),
    "beacon": (Beacon, {"interval": "32", "ratio": "4"}, None),
    "lora_experts": (LoraExperts, {"interval": "32", "ratio": "4"}, None),
    "streaming": (Streaming, {"recent": "48", "sinks": "4", "chunk": "32"}, None),
}


@pytest.mark.parametrize("name", METHODS)
def test_twenty_questions_cost_one_compression_and_answer_as_twenty_runs_do(asked, monkeypatch, name):
    base, options, most = METHODS[name]
    seen = watched(monkeypatch, base)
    more = {"method": "own", "options": options, "most": most, "adapter": None}
    _, alone = run(asked("alone", together=False, protocol="before", **more))
    assert len(seen) == 20
    seen.clear()
    result, found = run(asked("once", protocol="after", **more))
    assert seen == [1]
    record = found["s"]
    assert [a["prediction"] for a in record["answers"]] == [
        alone[f"s{k}"]["answers"][0]["prediction"] for k in range(20)
    ]
    assert [a["measured"] for a in record["answers"]] == [
        alone[f"s{k}"]["answers"][0]["measured"] for k in range(20)
    ]
    assert record["context"]["compressions"] == 1 and record["cost"]["questions"] == 20
    once = record["context"]["positions"]
    assert record["cost"]["positions"] == once + sum(a["cost"]["positions"] for a in record["answers"])
    spent = sum(r["cost"]["positions"] for r in alone.values())
    assert spent - record["cost"]["positions"] == pytest.approx(19 * once, abs=0.02 * spent)
    assert record["cost"]["seconds"] == pytest.approx(
        record["context"]["seconds"] + sum(a["cost"]["seconds"] for a in record["answers"])
    )
    assert result.summary["tasks"][0]["n"] == 1


def test_a_method_that_looks_at_the_question_is_run_for_each_or_refused(asked, monkeypatch):
    class Whole(Method):
        sees_question = True
        calls = 0

        def compress_and_generate(self, prompts, decoding):
            type(self).calls += len(prompts)
            return Plain(self.model, Plain.Options()).compress_and_generate(prompts, decoding)

    as_method(monkeypatch, Whole)
    _, found = run(asked(method="own", most=100, n=3))
    assert Whole.calls == 3
    assert found["s"]["context"] | {"hash": ""} == {
        "tokens": found["s"]["context"]["tokens"],
        "hash": "",
        "compressions": 3,
        "seconds": 0.0,
        "positions": 0,
    }
    with pytest.raises(UsageError, match="--protocol after: own does not compress a context apart"):
        plan_run(asked(method="own", most=100, n=3, protocol="after"))


def test_protocol_after_makes_two_pass_blind_and_before_lets_it_see(asked, monkeypatch):
    seen = watched(monkeypatch, TwoPass)
    options = {"interval": "32", "retrieval": "random"}
    result, found = run(asked(method="own", options=options, protocol="after", n=3))
    assert seen == [1] and found["s"]["protocol"] == "query-agnostic"
    blind = plan_run(asked(method="own", options=options, query_agnostic=True, n=3))
    assert blind.folder.path == result.folder.path, "the older spelling is the same run"
    seen.clear()
    _, found = run(asked(method="own", options=options, protocol="before", n=3))
    assert not seen and found["s"]["protocol"] == "query-aware" and found["s"]["context"]["compressions"] == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"protocol": "later"}, "--protocol later: choose from auto, after, before"),
        ({"protocol": "before", "query_agnostic": True}, "choose one"),
        ({"protocol": "after", "share": False}, "choose one"),
    ],
)
def test_what_contradicts_itself_is_refused(asked, changes, said):
    with pytest.raises(UsageError, match=said):
        plan_run(asked(most=100, n=2, **changes))


def test_the_older_spelling_is_the_same_run(asked):
    """Each question for itself is another run: what is kept may depend on the room that is left for the longest."""
    before = plan_run(asked(most=100, n=2, protocol="before"))
    assert plan_run(asked(most=100, n=2, share=False)).folder.path == before.folder.path
    once = plan_run(asked(most=100, n=2))
    assert once.folder.path != before.folder.path
    assert plan_run(asked(most=100, n=2, protocol="after")).folder.path == once.folder.path


def test_reference_answers_stand_between_the_questions(asked, tiny):
    plan = plan_run(asked(most=100, n=3, turns="reference"))
    [prepared] = plan.samples
    tail = f"{ASKED[0]} 0\n{ASKED[1]} 1\n{ASKED[2]}"
    assert prepared.questions[2].rendered.suffix == tail
    heads = {q.tokenized(plan.model).head_ids for q in prepared.questions}
    assert len(heads) == 1
    whole = [q.tokenized(plan.model).ids for q in prepared.questions]
    assert whole[2][: len(whole[1])] == whole[1] and whole[1][: len(whole[0])] == whole[0]


def test_own_answers_are_read_as_they_were_given(asked, monkeypatch):
    seen = []

    class Listening(Plain):
        def generate(self, states, questions, decoding):
            found = super().generate(states, questions, decoding)
            seen.append((tuple(questions[0]), tuple(found[0].token_ids), found[0].stop_reason))
            return found

    as_method(monkeypatch, Listening)
    plan = plan_run(asked(method="own", most=100, n=3, turns="own"))
    end = plan.model.tokenizer.eos_token_id
    _, found = run(asked(method="own", most=100, n=3, turns="own"))
    for (first, answer, why), (second, _, _) in itertools.pairwise(seen):
        closed = (*first, *answer, *(() if why == "eos" else (end,)))
        assert second[: len(closed)] == closed and len(second) > len(closed)
    assert len(found["s"]["answers"]) == 3 == len(seen)


def test_in_batches_the_answers_are_the_same(asked):
    _, one = run(asked("one", most=100, n=5))
    _, many = run(asked("many", most=100, n=5, batch_size=3))
    assert [a["prediction"] for a in one["s"]["answers"]] == [a["prediction"] for a in many["s"]["answers"]]
    assert [a["cost"]["batch"] for a in many["s"]["answers"]] == [3, 3, 3, 2, 2]


def test_the_context_is_cut_once_so_that_the_longest_question_fits(asked):
    plan = plan_run(asked(n=8, context_length=160))
    [prepared] = plan.samples
    assert prepared.truncation.truncated
    assert len({q.rendered.context for q in prepared.questions}) == 1
    most = max(q.tokens + q.decoding.max_new_tokens for q in prepared.questions)
    assert 157 <= most <= 160
    for question, text in zip(prepared.questions, ASKED):
        assert question.rendered.suffix == text, "no question is ever cut"


def test_one_that_fails_is_the_failure_of_the_sample_and_runs_again(asked, monkeypatch):
    [prepared] = plan_run(asked(most=100, n=4)).samples
    longest = max(q.question_tokens for q in prepared.questions)

    class Fragile(Plain):
        broken = True

        def generate(self, states, questions, decoding):
            if self.broken and len(questions[0]) == longest:
                raise RuntimeError("no")
            return super().generate(states, questions, decoding)

    as_method(monkeypatch, Fragile)
    result, found = run(asked(method="own", most=100, n=4))
    assert found["s"]["status"] == "error" and result.failed == 1
    assert [a["prediction"] is None for a in found["s"]["answers"]].count(True) == 1
    monkeypatch.setattr(Fragile, "broken", False)
    result, found = run(asked(method="own", most=100, n=4))
    assert result.ran == 1 and len(found["s"]["answers"]) == 4


def test_scores_are_means_and_each_answer_keeps_its_own(asked, monkeypatch):
    monkeypatch.setattr(
        Several, "scorer", staticmethod(lambda sample, text: {"score": float(sample.metadata["k"] == 1)})
    )
    result, found = run(asked(most=100, n=4))
    assert found["s"]["scores"] == {"score": 0.25}
    assert [a["scores"]["score"] for a in found["s"]["answers"]] == [0, 1, 0, 0]
    assert [a["metadata"] for a in found["s"]["answers"]] == [{"k": k} for k in range(4)]
    assert found["s"]["references"] == ["0", "1", "2", "3"]
    again = json.loads((result.folder.path / "samples.jsonl").read_text())
    assert "prediction" not in again
    assert run(asked(most=100, n=4))[0].ran == 0


def test_a_question_that_failed_is_asked_again_alone(asked, monkeypatch):
    broken, asked_for = {1, 3}, []

    class Watched(Plain):
        def generate(self, states, tails, decoding):
            asked_for.append(len(tails))
            return super().generate(states, tails, decoding)

    def scorer(sample, text):
        if sample.metadata["k"] in broken:
            raise ValueError(f"question {sample.metadata['k']} cannot be scored")
        return {"score": sample.metadata["k"] / 10}

    as_method(monkeypatch, Watched)
    monkeypatch.setattr(Several, "scorer", staticmethod(scorer))
    more = {"method": "own", "most": 100, "n": 5, "batch_size": 2}
    _, found = run(asked(**more))
    assert (found["s"]["status"], found["s"]["error"]["message"]) == ("error", "question 1 cannot be scored")
    assert [a["prediction"] is None for a in found["s"]["answers"]] == [False, True, False, True, False]
    assert sum(asked_for) == 2 + 4, "the first two together, then what has no answer, each alone"
    broken.discard(1)
    asked_for.clear()
    _, found = run(asked(**more))
    assert found["s"]["error"]["message"] == "question 3 cannot be scored" and sum(asked_for) <= 4
    broken.clear()
    asked_for.clear()
    _, found = run(asked(**more))
    assert found["s"]["status"] == "ok" and sum(asked_for) == 1
    assert found["s"]["scores"] == {"score": pytest.approx(0.2)}
    _, whole = run(asked("whole", **more))
    for one, other in zip(found["s"]["answers"], whole["s"]["answers"], strict=True):
        assert one["prediction"] == other["prediction"] and one["measured"] == other["measured"]
    assert found["s"]["context"]["hash"] == whole["s"]["context"]["hash"]


def test_answers_that_follow_each_other_are_asked_anew(asked, monkeypatch):
    broken = {1}

    def scorer(sample, text):
        if sample.metadata["k"] in broken:
            raise ValueError("no")
        return {"score": 1.0}

    monkeypatch.setattr(Several, "scorer", staticmethod(scorer))
    _, found = run(asked(most=100, n=3, turns="own"))
    assert found["s"]["status"] == "error"
    broken.clear()
    _, found = run(asked(most=100, n=3, turns="own"))
    assert found["s"]["status"] == "ok" and len(found["s"]["answers"]) == 3
