"""`beacon` and `two_pass` as methods: on the tiny model, through the contract."""

import json

import pytest
import torch

from harness import Decoding, Prompt, UsageError
from harness.inference.forward import feed
from harness.inference.kvcache import KVCache
from harness.inference.meter import observe
from harness.inference.verification import check
from harness.models import adapters, loading
from harness.plugins.beacon.engine import ActivationBeacon
from harness.plugins.beacon.method import Beacon
from harness.plugins.beacon.options import BeaconOptions
from harness.plugins.beacon.projections import MultiHeadBeacon
from harness.plugins.beacon.reading import Reading
from harness.plugins.plain import Plain
from harness.plugins.two_pass import calibration
from harness.plugins.two_pass.method import TwoPass
from harness.plugins.two_pass.options import TwoPassOptions
from harness.plugins.two_pass.relevance import BeaconAttention, bm25, random
from harness.prompts.rendering import tokenize

WINDOW, INTERVAL = 256, 32


def prompt(model, words, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pick = torch.randint(0, 10, (words,), generator=generator).tolist()
    return tokenize(Prompt("Read.\n", " ".join(f"word{n}" for n in pick), "\nWhat is word3?"), model)


def ask(method, prompts, new_tokens=6):
    decoding = Decoding(new_tokens)
    method.prepare(prompts, decoding)
    with observe(method.model.network, "cpu") as meter:
        answers = method.compress_and_generate(prompts, decoding)
    for row, answer in enumerate(answers):
        assert check(answer, meter, row).verified
    return answers


def beacon(model, **options):
    return Beacon(model, BeaconOptions(interval=INTERVAL, margin=16, **options))


def two_pass(model, **options):
    return TwoPass(model, TwoPassOptions(interval=INTERVAL, calibration_contexts=2, **options))


@pytest.mark.parametrize("ratio", ["raw", "1", "2", "8", "32", "adapt", "raw,2,8,4"])
def test_beacon_answers_and_measures(tiny, ratio):
    method = beacon(tiny, ratio=ratio)
    one = prompt(tiny, 60)
    (answer,) = ask(method, [one])
    details = answer.details
    assert answer.kv_tokens == details["memory"] + details["raw"]
    assert len(details["ratios"]) == (len(one) - 1) // INTERVAL
    assert details["raw"] == (len(one) - 1) % INTERVAL


def test_raw_is_full_attention(tiny):
    one = prompt(tiny, 60)
    assert len(one) < WINDOW - 6
    full = ask(Plain(tiny, Plain.Options()), [one])[0]
    raw = ask(beacon(tiny, ratio="raw"), [one])[0]
    assert raw.token_ids == full.token_ids
    assert raw.kv_tokens == full.kv_tokens == len(one) - 1


def test_a_raw_window_keeps_all_its_entries_when_text_arrives_in_pieces(tiny):
    """The official code loses all but the last piece's entries here."""
    engine = ActivationBeacon(tiny.network, MultiHeadBeacon(tiny.network), INTERVAL)
    ids = list(prompt(tiny, 60).ids[:100])
    with torch.no_grad():
        whole = engine.read([Reading()], [ids], lambda row, i: 0)[0]
        state = Reading()
        for token in ids:
            state = engine.read([state], [[token]], lambda row, i: 0)[0]
    assert len(state.cache) == len(whole.cache) == 100
    torch.testing.assert_close(
        torch.stack(state.cache.keys), torch.stack(whole.cache.keys), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("make", [beacon, two_pass, lambda m: two_pass(m, retrieval="bm25")])
def test_a_batch_of_different_lengths_equals_one_by_one(tiny, make):
    prompts = [prompt(tiny, words, seed) for seed, words in enumerate((150, 20, 90, 260))]
    method = make(tiny)
    alone = [ask(method, [p])[0] for p in prompts]
    together = ask(method, prompts)
    assert [a.token_ids for a in together] == [a.token_ids for a in alone]
    assert [a.kv_tokens for a in together] == [a.kv_tokens for a in alone]
    assert [a.details["ratios"] for a in together] == [a.details["ratios"] for a in alone]


@pytest.mark.parametrize("make", [beacon, two_pass, lambda m: Plain(m, Plain.Options())])
def test_the_same_answer_again_and_in_any_order_and_nothing_left_behind(tiny, make):
    before = {name: p.clone() for name, p in tiny.network.named_parameters()}
    modules = [name for name, _ in tiny.network.named_modules()]
    prompts = [prompt(tiny, 60, seed) for seed in range(3)]
    method = make(tiny)
    first = [ask(method, [p])[0].token_ids for p in prompts]
    again = [ask(method, [p])[0].token_ids for p in reversed(prompts)][::-1]
    assert first == again
    assert [name for name, _ in tiny.network.named_modules()] == modules
    assert all(torch.equal(p, before[name]) for name, p in tiny.network.named_parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tiny.network.modules())


def test_one_context_serves_many_questions(tiny):
    method = beacon(tiny, ratio="4")
    one = prompt(tiny, 100)
    questions = [one.suffix_ids, one.ids[5:20], one.ids[3:45]]
    (state,) = method.compress([one.head_ids], [len(one.suffix_ids)], Decoding(6))
    shared = [method.generate([state], [q], Decoding(6))[0].token_ids for q in questions]
    alone = []
    for q in questions:
        (fresh,) = method.compress([one.head_ids], [len(one.suffix_ids)], Decoding(6))
        alone.append(method.generate([fresh], [q], Decoding(6))[0].token_ids)
    assert shared == alone


def test_a_window_that_fills_while_answering_is_condensed(tiny):
    one = prompt(tiny, 60)
    need = INTERVAL - (len(one) - 1) % INTERVAL + 4
    (answer,) = ask(beacon(tiny, ratio="4"), [one], new_tokens=need)
    assert len(answer.token_ids) < need or answer.details["ratios_while_answering"] == [4]


def test_an_untrained_beacon_says_so_and_an_adapter_changes_that(tiny, tmp_path):
    method = beacon(tiny)
    assert method.facts()["beacon_weights"] == "untrained" and method.facts()["warning"]
    method.save(tmp_path / "a", {})
    tensors = {k: v + 0.02 * torch.randn(v.shape) for k, v in method.weights.tensors(tiny.network).items()}
    adapters.write(tmp_path / "b", "beacon", tiny, {"weights.safetensors": tensors}, {})
    one = prompt(tiny, 200)
    untrained = ask(method, [one])[0]
    same, other = beacon(tiny), beacon(tiny)
    same.load(tmp_path / "a")
    other.load(tmp_path / "b")
    assert same.facts()["warning"] is None and other.adapter_hash != same.adapter_hash
    assert ask(same, [one])[0].token_ids == untrained.token_ids
    names = set(same.weights.tensors(tiny.network))
    assert "model.beacon_embed_tokens.weight" in names and len(names) == 1 + 4 * 2
    for name, tensor in other.weights.tensors(tiny.network).items():
        torch.testing.assert_close(tensor, tensors[name])


def test_an_adapter_for_another_model_is_refused(tiny, tmp_path):
    method = beacon(tiny)
    method.save(tmp_path, {})
    card = json.loads((tmp_path / adapters.CARD).read_text())
    (tmp_path / adapters.CARD).write_text(json.dumps({**card, "base_hash": "0" * 64}))
    with pytest.raises(UsageError, match="trained on"):
        beacon(tiny).load(tmp_path)


def test_options_that_cannot_work_are_refused(tiny):
    with pytest.raises(UsageError, match="must be smaller than the window"):
        Beacon(tiny, BeaconOptions()).context_limit()
    with pytest.raises(
        UsageError, match="--interval 250 and --sinks 6 together must be smaller than the window"
    ):
        Beacon(tiny, BeaconOptions(interval=250, sinks=6))
    with pytest.raises(UsageError, match="does not divide"):
        Beacon(tiny, BeaconOptions(interval=48, ratio="32"))
    with pytest.raises(UsageError, match="two ways of allocating"):
        TwoPassOptions.parse({"alpha": "2", "top_k": "3"}, "two_pass")
    with pytest.raises(UsageError, match="only together with top_k"):
        TwoPassOptions.parse({"relevant_ratio": "2"}, "two_pass")
    no_ratio = {"relevant_ratio": "3", "top_k": "2"}
    for bad in ({"alpha": 0}, {"alpha": -1}, {"top_k": 0}, {"first_ratio": "raw"}, no_ratio):
        with pytest.raises(UsageError, match=next(iter(bad))):
            TwoPassOptions.parse(bad, "two_pass")


@pytest.mark.parametrize("retrieval", ["attention", "bm25", "random"])
def test_two_pass_records_relevance_z_and_ratio_of_each_interval(tiny, retrieval):
    one = prompt(tiny, 150)
    (answer,) = ask(two_pass(tiny, retrieval=retrieval), [one])
    n = (len(one) - 1) // INTERVAL
    assert n > WINDOW // INTERVAL
    assert len(answer.details["relevance"]) == len(answer.details["z"]) == len(answer.details["ratios"]) == n
    assert answer.details["memory"] <= WINDOW - INTERVAL
    if retrieval == "attention":
        assert sum(answer.details["relevance"]) == pytest.approx(1)
        assert answer.details["first_ratio"] == 2 and "notes" not in answer.details


@pytest.mark.parametrize("leading", [0, 2, 99])
def test_intervals_that_the_first_pass_condensed_alike_are_not_read_again(tiny, monkeypatch, leading):
    from harness.inference.meter import observe
    from harness.plugins.two_pass import first_pass
    from harness.plugins.two_pass import method as module

    def chosen(self, z, plan):
        same = min(leading, len(z))
        return [plan.first] * same + [4 * plan.first] * (len(z) - same)

    monkeypatch.setattr(module.TwoPass, "_allocate", chosen)
    prompts = [prompt(tiny, 150), prompt(tiny, 120)]
    for asked in (prompts[:1], prompts):
        found = []
        for reuse in (True, False):
            with monkeypatch.context() as patch:
                if not reuse:
                    patch.setattr(first_pass, "leading", lambda chosen, first: 0)
                with observe(tiny.network, "cpu") as meter:
                    found.append((ask(two_pass(tiny), asked), meter.positions))
        (now, fewer), (before, all_of_it) = found
        assert [a.token_ids for a in now] == [a.token_ids for a in before]
        assert [a.details["ratios"] for a in now] == [a.details["ratios"] for a in before]
        assert [a.kv_tokens for a in now] == [a.kv_tokens for a in before]
        assert (fewer < all_of_it) == (leading > 0)
        if len(asked) == 1 and leading == 2:
            assert all_of_it - fewer == 2 * (INTERVAL + INTERVAL // 2)


def test_two_pass_reads_what_fits_raw(tiny):
    one = prompt(tiny, 60)
    (answer,) = ask(two_pass(tiny), [one])
    assert set(answer.details["ratios"]) == {0} and answer.details["first_ratio"] is None
    assert answer.details["notes"] == ["nothing was condensed: the model read the text as it is"]
    assert answer.token_ids == ask(Plain(tiny, Plain.Options()), [one])[0].token_ids


def test_two_pass_answers_stay_inside_the_window(tiny):
    """Room for intervals that fill while answering is kept free in the allocation."""
    one = prompt(tiny, 150)
    plan = two_pass(tiny).plan(len(one), 70)
    assert plan.budget < WINDOW - INTERVAL
    (answer,) = ask(two_pass(tiny, alpha=0.1), [one], new_tokens=70)
    filled = len(answer.details["ratios_while_answering"])
    assert answer.details["memory"] + filled * INTERVAL // plan.first <= WINDOW - INTERVAL


def test_the_probe_is_the_mean_attention_of_the_last_token(tiny):
    """Against transformers' own attention weights over the same compressed cache."""
    engine = ActivationBeacon(tiny.network, MultiHeadBeacon(tiny.network), INTERVAL)
    ids = prompt(tiny, 80).ids
    ratios = [2, 8, 0, 4, 2, 2, 2, 2, 2]
    with torch.no_grad():
        states = engine.read([Reading()] * 2, [ids[:-1], ids[:70]], lambda row, i: ratios[i])
        probe = BeaconAttention(states)
        engine.probe(states, [ids[-1], ids[70]], probe)
        for state, token, found in zip(states, (ids[-1], ids[70]), probe.relevance()):
            weights = []

            def note(layer, query, key, scaling, weights=weights):
                heads = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
                weights.append(
                    torch.softmax((query[:, :, None] @ heads.transpose(2, 3)) * scaling, -1)[0, :, 0]
                )

            feed(tiny.network, [state.cache], [[token]], attention_probe=note)
            mean = torch.stack(weights).mean((0, 1))[: state.memory]
            expected = torch.stack([part.mean() for part in mean.split(list(state.counts))])
            assert found == pytest.approx((expected / expected.sum()).tolist(), abs=1e-5)


def test_calibration_is_computed_once_and_does_not_depend_on_what_else_was(tiny, empty_cache):
    engine = ActivationBeacon(tiny.network, MultiHeadBeacon(tiny.network), INTERVAL)
    both = calibration.calibrate(tiny, engine, {"k": 1}, 2, [2, 4], contexts=3)
    alone = calibration.calibrate(tiny, engine, {"k": 1}, 2, [4], contexts=3)
    assert both.mean[4] == pytest.approx(alone.mean[4], abs=1e-6)
    assert sum(both.mean[2]) == pytest.approx(1)
    calibration.store(both)
    kept = calibration.load({"k": 1})
    assert kept == both and calibration.load({"k": 2}) is None


def test_a_damaged_calibration_is_named(tiny, empty_cache):
    made = calibration.Calibration({"k": 3}, 2, {2: [0.5, 0.5]}, {2: [0.1, 0.1]})
    path = calibration.store(made)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(UsageError, match="is damaged"):
        calibration.load({"k": 3})


def test_bm25_finds_the_interval_with_the_words():
    texts = [
        "the grass is green",
        "the passkey is 12345 remember the passkey",
        "the sky is blue",
        "here we go",
    ]
    scores = bm25(texts, "What is the passkey?")
    assert max(range(4), key=scores.__getitem__) == 1
    assert bm25(["", "..."], "???") == [0.0, 0.0]


@pytest.mark.parametrize(
    ("intervals", "question", "right"),
    [
        (["北京是中国的首都。", "小明的密码是四二一七。", "广州很热。"], "小明的密码是什么？", 1),
        (
            ["東京は日本の首都です。", "大阪は西にあります。", "秘密の番号は四二一七です。"],
            "秘密の番号は何ですか？",
            2,
        ),
        (["กรุงเทพเป็นเมืองหลวง", "รหัสลับคือสี่สอง", "เชียงใหม่อยู่เหนือ"], "รหัสลับอะไร", 1),
        (["मेरा घर", "मेरा पासवर्ड गुप्त है", "तीसरा वाक्य"], "पासवर्ड", 1),
        (["비밀번호는 사 이 일 칠", "서울은 크다", "부산은 남쪽"], "비밀번호가 뭐예요", 0),
        (["other", "cafe\u0301 secret", "third thing"], "ＣＡＦＥ\u0301", 1),
        (["secret code x", "nothing here"], "secret code", 0),
        (["a secret x", "a secret secret y", "a z z"], "secret", 1),
    ],
)
def test_bm25_finds_it_in_any_script_and_among_few_intervals(intervals, question, right):
    scores = bm25(intervals, question)
    assert max(range(len(scores)), key=scores.__getitem__) == right
    assert min(scores) >= 0 and sorted(scores)[-1] > sorted(scores)[-2]


def test_a_word_in_every_interval_is_worth_something():
    assert bm25(["x", "x x", "x y y y"], "x")[0] > bm25(["x", "x x", "x y y y"], "x")[2] > 0


@pytest.mark.parametrize("kind", ["attention", "bm25", "random"])
def test_a_relevance_that_tells_nothing_apart_is_noted(tiny, monkeypatch, kind):
    from harness.plugins.two_pass import relevance
    from harness.plugins.two_pass.method import TwoPass

    method = two_pass(tiny, retrieval=kind)
    one = prompt(tiny, 150)
    assert "notes" not in ask(two_pass(tiny, retrieval="random"), [one])[0].details
    flat = lambda count: [1 / count] * count  # noqa: E731
    monkeypatch.setattr(relevance, "random", lambda count, *_: flat(count))
    monkeypatch.setattr(relevance, "bm25", lambda texts, _: flat(len(texts)))
    monkeypatch.setattr(
        TwoPass, "_attention", lambda self, prompts, plans, kept: [flat(p.intervals) for p in plans]
    )
    (answer,) = ask(method, [one])
    (note,) = answer.details["notes"]
    assert f"relevance by {kind} is the same for all intervals" in note


def test_only_what_bm25_ranks_has_words_in_its_identity(tiny):
    assert two_pass(tiny, retrieval="bm25").identity() == {"words": "nfkc-bigrams-1"}
    assert (
        two_pass(tiny, retrieval="attention").identity()
        == two_pass(tiny, retrieval="random").identity()
        == {}
    )


def test_random_relevance_depends_on_seed_and_prompt_alone():
    assert random(5, 1, (1, 2, 3)) == random(5, 1, (1, 2, 3))
    assert random(5, 1, (1, 2, 3)) != random(5, 2, (1, 2, 3))
    assert random(5, 1, (1, 2, 3)) != random(5, 1, (1, 2, 4))


def test_reading_leaves_earlier_caches_alone(tiny):
    with torch.no_grad():
        (first,), _ = feed(tiny.network, [KVCache()], [[5, 6, 7]])
        kept = [k.clone() for k in first.keys]
        feed(tiny.network, [first, first], [[8], [9, 10]])
    assert all(torch.equal(a, b) for a, b in zip(first.keys, kept)) and len(first) == 3


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3"])
def test_other_families(tmp_path, family):
    """Query and key norms, projection biases: whatever the family adds, batches and pieces agree."""
    from harness.testing.tiny import make_model

    model = loading.load(str(make_model(tmp_path / family, family)), device="cpu")
    prompts = [prompt(model, words, seed) for seed, words in enumerate((120, 40))]
    method = beacon(model, ratio="4")
    assert [a.token_ids for a in ask(method, prompts)] == [ask(method, [p])[0].token_ids for p in prompts]


def test_a_list_of_ratios_goes_on_while_answering(tiny):
    """The interval's own place in the list counts, also when it fills only during the answer."""
    method = beacon(tiny, ratio="8,4,2")
    one = prompt(tiny, 4)
    assert len(one) <= INTERVAL
    (answer,) = ask(method, [one], new_tokens=80)
    closed = answer.details["ratios"] + answer.details["ratios_while_answering"]
    assert closed == [8, 4, 2][: len(closed)] and (len(answer.token_ids) < 40 or len(closed) >= 1)


def test_bm25_asks_the_question_alone_and_looks_at_the_context_alone(tiny):
    """Instructions before and after the text repeat each other's words; they must not decide."""
    filler, fact = "alpha beta gamma delta " * 60, " zebra zebra zebra "
    text = filler + fact + filler
    chat = Prompt("Tell about the answer. ", text, " Tell about the answer. Question: zebra?", "zebra?")
    one = tokenize(chat, tiny)
    (answer,) = ask(two_pass(tiny, retrieval="bm25"), [one])
    where = len(tokenize(Prompt("", "", chat.prefix + filler), tiny)) // INTERVAL
    best = max(range(len(answer.details["relevance"])), key=answer.details["relevance"].__getitem__)
    assert abs(best - where) <= 1


def test_top_k_takes_what_stands_out_most_however_far(tiny):
    """Beyond three standard deviations intervals still differ; ties must not go to the first ones."""
    method = two_pass(tiny, top_k=1)
    plan = method.plan(1000, 6)
    ratios = method._allocate([4.0, 0.0, 10.0, *[0.0] * (plan.intervals - 3)], plan)
    assert ratios[2] == 2 and ratios[0] != 2


@pytest.mark.parametrize("ratio", ["raw", "4", "32"])
def test_any_ratio_may_be_the_relevant_one(tiny, ratio):
    (answer,) = ask(two_pass(tiny, top_k=2, relevant_ratio=ratio), [prompt(tiny, 150)])
    assert answer.details["memory"] <= WINDOW - INTERVAL


def test_what_a_publisher_suggests_for_sampling_changes_nothing(folder):
    """generation_config.json may ban tokens or switch the cache off; a method's answer is its own."""
    one = [loading.load(str(folder), device="cpu")]
    before = ask(beacon(one[0]), [prompt(one[0], 60)])[0].token_ids
    settings = {
        "use_cache": False,
        "suppress_tokens": before[:1],
        "repetition_penalty": 5.0,
        "stop_strings": ["a"],
    }
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model = loading.load(str(folder), device="cpu")
    assert ask(beacon(model), [prompt(model, 60)])[0].token_ids == before


def test_a_sliding_window_is_the_window(tmp_path):
    from harness.testing.tiny import make_model

    path = make_model(tmp_path / "m", "mistral", sliding_window=64)
    model = loading.load(str(path), device="cpu")
    assert model.native_length == model.context_length == 64
