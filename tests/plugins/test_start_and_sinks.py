"""Beacons that start as the last token they stand for, and first tokens that stay raw."""

import json

import numpy as np
import pytest
import torch

from harness import Decoding, UsageError
from harness.inference.forward import feed, moved
from harness.inference.kvcache import KVCache
from harness.models import adapters
from harness.plugins.beacon import checkpoint, distillation, losses
from harness.plugins.beacon.engine import ActivationBeacon
from harness.plugins.beacon.form import Form, trained_form
from harness.plugins.beacon.lora_method import LoraExperts
from harness.plugins.beacon.lora_projections import LoraExperts as Experts
from harness.plugins.beacon.method import Beacon
from harness.plugins.beacon.options import BeaconOptions
from harness.plugins.beacon.projections import MultiHeadBeacon
from harness.plugins.beacon.ratios import capacity, smallest_ratio, usable
from harness.plugins.beacon.reading import Reading
from harness.plugins.two_pass import calibrated
from harness.plugins.two_pass.allocation import smooth_z_scores, z_scores
from harness.plugins.two_pass.method import TwoPass
from harness.plugins.two_pass.options import TwoPassOptions
from harness.plugins.two_pass.relevance import BeaconAttention, texts

from ..helpers.asking import ask, prompt
from ..helpers.fits import INTERVAL, random_examples
from .test_lora_experts import random_expert

WINDOW = 256
IDS = random_examples(250)[0].input_ids


def engine(model, start="last", sinks=1, weights=None):
    weights = weights or MultiHeadBeacon(model.network, start=start)
    return ActivationBeacon(model.network, weights, INTERVAL, start, sinks)


def options(kind, **more):
    if kind is TwoPass:
        return TwoPassOptions(**{"interval": INTERVAL, "calibration_contexts": 2, **more})
    return BeaconOptions(**{"interval": INTERVAL, "margin": 16, **more})


# --- the engine


@pytest.mark.parametrize("sinks", [0, 1, 3])
@pytest.mark.parametrize("ratio", [1, 2, 8, 32])
def test_untrained_it_is_a_strided_cache_of_the_raw_entries(tiny, ratio, sinks):
    with torch.no_grad():
        (state,) = engine(tiny, sinks=sinks).read([Reading()], [IDS[: sinks + INTERVAL]], lambda *_: ratio)
        (raw,), _ = feed(tiny.network, [KVCache()], [IDS[: sinks + INTERVAL]])
    kept = [*range(sinks), *range(sinks + ratio - 1, sinks + INTERVAL, ratio)]
    assert (state.memory, state.raw, state.counts, state.sinks) == (
        len(kept),
        0,
        (INTERVAL // ratio,),
        sinks,
    )
    expected = moved(
        tiny.network,
        KVCache(tuple(k[:, kept] for k in raw.keys), tuple(v[:, kept] for v in raw.values)),
        torch.arange(len(kept)) - torch.tensor(kept),
    )
    for side in ("keys", "values"):
        ours, theirs = getattr(state.cache, side), getattr(expected, side)
        torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("start", ["end", "last"])
def test_text_in_pieces_and_in_a_batch_gives_the_same_memory(tiny, start):
    own = engine(tiny, start, sinks=2, weights=Experts({r: random_expert(tiny, r) for r in (2, 8)}))
    pick = lambda row, window: (2, 8, 0)[window % 3]  # noqa: E731
    with torch.no_grad():
        (whole,) = own.read([Reading()], [IDS[:170]], pick)
        state = Reading()
        for begin in range(0, 170, 7):
            (state,) = own.read([state], [IDS[begin : min(begin + 7, 170)]], pick)
        beside = own.read([Reading()] * 3, [IDS[100:240], IDS[:170], IDS[:1]], pick)[1]
    assert whole.memory == 2 + 16 + 4 + 32 + 16 + 4 and whole.raw == 8
    for other in (state, beside):
        assert (other.memory, other.raw, other.ratios, other.tokens) == (
            whole.memory,
            whole.raw,
            whole.ratios,
            whole.tokens,
        )
        torch.testing.assert_close(
            torch.stack(other.cache.keys), torch.stack(whole.cache.keys), atol=1e-4, rtol=1e-4
        )


def test_raw_windows_with_sinks_are_full_attention(tiny):
    with torch.no_grad():
        (state,) = engine(tiny, sinks=3).read([Reading()], [IDS[:110]], lambda *_: 0)
        (raw,), _ = feed(tiny.network, [KVCache()], [IDS[:110]])
    torch.testing.assert_close(torch.stack(state.cache.keys), torch.stack(raw.keys), atol=1e-5, rtol=0)
    assert (state.memory, state.counts) == (99, (32, 32, 32))


def test_sinks_get_no_relevance(tiny):
    own = engine(tiny, sinks=3)
    with torch.no_grad():
        states = own.read([Reading()], [IDS[:100]], lambda *_: 4)
        probe = BeaconAttention(states)
        weights = []

        def note(layer, query, key, scaling):
            heads = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
            weights.append(torch.softmax((query[:, :, None] @ heads.transpose(2, 3)) * scaling, -1)[0, :, 0])

        own.probe(states, [IDS[100]], probe)
        own.probe(states, [IDS[100]], note)
    mean = torch.stack(weights).mean((0, 1))[3 : 3 + 24].view(3, 8).mean(1)
    assert probe.relevance()[0] == pytest.approx((mean / mean.sum()).tolist(), abs=1e-5)


def test_texts_of_intervals_begin_after_the_sinks(tiny):
    one = prompt(tiny, 120)
    found = texts(one, 3, engine(tiny, sinks=5), tiny.tokenizer)
    decoded = tiny.tokenizer.decode(one.ids[5 + INTERVAL : 5 + 2 * INTERVAL], skip_special_tokens=True)
    assert found[1] == decoded


# --- the arithmetic


def test_capacity_counts_the_sinks_once():
    assert capacity(2, 256, 32) == 14 * 32 + 32
    assert capacity(2, 256, 32, 1) == 1 + 13 * 32 + 32
    assert capacity(0, 256, 32, 5) == 256
    assert smallest_ratio(448, 256, 32, usable(32), 1) == 2
    assert smallest_ratio(450, 256, 32, usable(32), 1) == 4


@pytest.mark.parametrize("tokens", range(250, 300))
def test_a_plan_with_sinks_never_passes_the_window(tiny, tokens):
    method = TwoPass(tiny, options(TwoPass, start="last", sinks=3))
    plan = method.plan(tokens, 40)
    closed = method.engine.end_of(plan.intervals)
    assert closed < tokens <= closed + INTERVAL
    in_the_end = (tokens + 40 - 1 - 3) // INTERVAL
    memory = 3 + plan.budget + (in_the_end - plan.intervals) * (INTERVAL // plan.first)
    assert memory + INTERVAL <= WINDOW


# --- the methods


@pytest.mark.parametrize("sinks", [0, 2])
@pytest.mark.parametrize("start", ["end", "last"])
@pytest.mark.parametrize("kind", [Beacon, LoraExperts, TwoPass])
def test_what_is_measured_is_what_was_declared(tiny, kind, start, sinks):
    method = kind(tiny, options(kind, start=start, sinks=sinks))
    prompts = [prompt(tiny, words, seed) for seed, words in enumerate((150, 20, 260))]
    method.prepare(prompts, Decoding(40))
    answers, _ = ask(method, prompts, new_tokens=40)
    for one, answer in zip(prompts, answers):
        details = answer.details
        assert len(details["ratios"]) == max(0, len(one) - 1 - sinks) // INTERVAL
        held = sum(INTERVAL // r if r else INTERVAL for r in details["ratios"])
        assert details["memory"] == held + (sinks if details["ratios"] else 0)
        assert answer.kv_tokens == details["memory"] + details["raw"] <= WINDOW
    alone = [ask(method, [p], new_tokens=40)[0][0].token_ids for p in prompts]
    assert alone == [a.token_ids for a in answers]


@pytest.mark.parametrize("kind", [Beacon, TwoPass])
def test_the_halves_agree_with_each_other(tiny, kind):
    method = kind(tiny, options(kind, start="last", sinks=2))
    method.make_query_agnostic()
    one, decoding = prompt(tiny, 150), Decoding(6, min_new_tokens=6)
    method.prepare([one], decoding)
    (state,) = method.compress([one.head_ids], [len(one.suffix_ids)], decoding)
    shared = [method.generate([state], [one.suffix_ids], decoding)[0] for _ in range(2)]
    asked = method.run([one], decoding)[0]
    assert shared[0].token_ids == shared[1].token_ids == asked.token_ids
    key = method.share_key(len(one.head_ids), len(one.suffix_ids), decoding)
    assert key == method.share_key(len(one.head_ids), len(one.suffix_ids), decoding)


# --- options, cards, hashes


def test_options_of_the_papers_are_as_before_in_a_run():
    before = {"interval": 64, "ratio": "adapt", "margin": 1024}
    for given in ({}, {"start": "end"}, {"sinks": 0}, {"start": "end", "sinks": "0"}):
        parsed = BeaconOptions.parse({"interval": 64, **given}, "beacon")
        assert list(parsed.model_dump(mode="json").items()) == list(before.items())
    ours = BeaconOptions(interval=64, start="last", sinks=1).model_dump(mode="json")
    assert ours == {**before, "start": "last", "sinks": 1}


def test_without_an_adapter_all_is_the_papers(tiny):
    method = Beacon(tiny, BeaconOptions())
    assert method.options.model_dump() == {"interval": 1024, "ratio": "adapt", "margin": 1024}
    assert (method.start, method.sinks) == ("end", 0)


@pytest.fixture
def adapter(tiny, tmp_path):
    weights = Experts({r: random_expert(tiny, r) for r in (2, 8)})
    facts = {"start": "last", "sinks": 2, "interval": INTERVAL}
    checkpoint.write_weights(tmp_path / "adapter", weights, tiny, facts, torch.float32)
    return tmp_path / "adapter"


@pytest.mark.parametrize("kind", [LoraExperts, TwoPass])
def test_the_card_says_what_the_options_leave_open(tiny, adapter, kind):
    method = kind(tiny, kind.Options())
    method.load(adapter)
    assert (method.interval, method.start, method.sinks) == (INTERVAL, "last", 2)
    assert (method.engine.start, method.engine.sinks) == ("last", 2)
    assert method.facts()["warning"] is None and method.options.sinks == 2
    again = kind(tiny, kind.Options(interval=16, start="last", sinks=2))
    again.load(adapter)
    assert again.interval == 16 and "trained with intervals of 32 tokens, not 16" in again.facts()["warning"]


@pytest.mark.parametrize(("given", "there"), [({"start": "end"}, "last"), ({"sinks": 0}, "2")])
@pytest.mark.parametrize("kind", [LoraExperts, TwoPass])
def test_what_contradicts_the_card_is_refused(tiny, adapter, kind, given, there):
    (name, value), *_ = given.items()
    with pytest.raises(UsageError, match=f"--{name} {value}: the adapter .* was trained with {there}; leave"):
        kind(tiny, kind.Options(**given)).load(adapter)


def test_a_card_of_before_is_the_papers(tiny, adapter):
    card = json.loads((adapter / adapters.CARD).read_text())
    old = {k: v for k, v in card.items() if k not in ("start", "sinks", "interval")}
    (adapter / adapters.CARD).write_text(json.dumps({**old, "interval": 64}))
    assert trained_form(adapter) == Form(64, "end", 0)
    method = LoraExperts(tiny, BeaconOptions())
    method.load(adapter)
    assert (method.interval, method.start, method.sinks) == (64, "end", 0)
    with pytest.raises(UsageError, match="--start last: the adapter"):
        LoraExperts(tiny, BeaconOptions(start="last")).load(adapter)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("start", "middle", "start 'middle'; update"),
        ("sinks", -1, "sinks -1"),
        ("interval", "x", "interval 'x'"),
    ],
)
def test_a_card_that_cannot_be(tiny, adapter, field, value, message):
    card = json.loads((adapter / adapters.CARD).read_text())
    (adapter / adapters.CARD).write_text(json.dumps({**card, field: value}))
    with pytest.raises(UsageError, match=message):
        LoraExperts(tiny, BeaconOptions()).load(adapter)


def test_what_a_fit_saves_is_read_as_it_was_trained(tiny, tmp_path):
    method = Beacon(tiny, BeaconOptions(interval=INTERVAL, start="last", sinks=1))
    method.save(tmp_path / "a", {})
    assert trained_form(tmp_path / "a").start == "last" and trained_form(tmp_path / "a").sinks == 1
    embedding = method.weights.embedding(2)
    assert not embedding.any(), "beside the last token's embedding the learned one begins at zero"


# --- next-token loss


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("start", ["end", "last"])
def test_the_loss_is_that_of_reading_by_the_engine(tiny, start, recompute):
    weights = Experts({r: random_expert(tiny, r) for r in (2, 8)})
    own, ids, ratios = engine(tiny, start, 3, weights), IDS[:120], [2, 8, 2]
    with torch.no_grad():
        hidden = []
        own.read([Reading()], [ids], lambda row, window: ratios[window], lambda row, at, h: hidden.append(h))
        logits = tiny.network.lm_head(torch.cat(hidden)[:-1])
        each = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
    found, count = losses.next_token_loss(own, ids, ids, ratios, recompute=recompute)
    torch.testing.assert_close(found, each.sum(), atol=1e-3, rtol=1e-5)
    later, fewer = losses.next_token_loss(own, ids, ids, ratios, skip_first=True, recompute=recompute)
    torch.testing.assert_close(later, each[35:].sum(), atol=1e-3, rtol=1e-5)
    assert (count, fewer) == (119, 119 - 35)
    found.backward()
    assert weights.expert(8).beacon_embedding.grad.abs().sum() > 0


# --- distillation


def told(model, length=150, labelled=40, **kwargs):
    own = engine(model, **kwargs)
    labels = [-100] * (length - labelled) + IDS[length - labelled : length]
    return own, distillation.lessons(own, [(IDS[:length], labels)])


def test_nothing_condensed_is_nothing_apart(tiny):
    """With raw windows the student is the teacher: both parts of the loss are zero."""
    own, lesson = told(tiny)
    divergence, distance = distillation.distillation_loss(own, lesson, [0] * 4)
    assert abs(float(divergence)) < 1e-5 and float(distance) < 1e-8


def test_distillation_against_the_model_computed_by_hand(tiny):
    own, lesson = told(tiny, length=90, labelled=20)
    divergence, _ = distillation.distillation_loss(own, lesson, [4, 8])
    with torch.no_grad():
        (state,) = own.read([Reading()], [IDS[:65]], lambda row, window: (4, 8)[window])
        hidden = feed(tiny.network, [state.cache], [IDS[65:89]])[1][0]
        whole = feed(tiny.network, [KVCache()], [IDS[:89]])[1][0, 65:]
        ours, aim = (tiny.network.lm_head(h[-20:]).log_softmax(-1) for h in (hidden, whole))
        expected = (aim.exp() * (aim - ours)).sum(-1).mean()
    torch.testing.assert_close(divergence.detach(), expected, atol=1e-5, rtol=1e-4)


def test_every_window_learns_and_nothing_stays_on_the_model(tiny):
    experts = Experts({r: random_expert(tiny, r) for r in (2, 4, 8)})
    own, lesson = told(tiny, length=120, labelled=20, weights=experts)
    divergence, distance = distillation.distillation_loss(own, lesson, [2, 4, 8])
    (divergence + distance).backward()
    for ratio in experts.ratios:
        assert experts.expert(ratio).beacon_embedding.grad.abs().sum() > 0
    assert all(p.grad is None for p in tiny.network.parameters())
    assert not any(m._forward_hooks for m in tiny.network.modules())


@pytest.mark.parametrize("length", [1, 33, 34])
def test_no_lesson_in_a_text_of_one_window(tiny, length):
    own = engine(tiny)
    assert (distillation.lessons(own, [(IDS[:length], IDS[:length])]) is None) == (length < 35)
    assert distillation.lessons(own, [(IDS[:60], [-100] * 60)]) is None


def test_several_sequences_cost_what_each_costs_alone(tiny):
    """Of unequal lengths, with windows that predict nothing, and one that has nothing to predict at all."""
    rows = []
    for length, labelled in ((150, 40), (70, 3), (120, 80), (90, 90)):
        ids = IDS[200 - length : 200]
        rows.append((ids, [-100] * (length - labelled) + ids[length - labelled :]))
    experts = Experts({r: random_expert(tiny, r) for r in (2, 4, 8)})
    own, ratios = engine(tiny, weights=experts), [2, 8, 4, 8]

    def cost(chosen):
        told = distillation.lessons(own, chosen)
        return torch.stack(distillation.distillation_loss(own, told, ratios))

    def gradients():
        found = [p.grad for p in experts.parameters() if p.grad is not None]
        experts.zero_grad()
        return found

    together = cost(rows)
    together.sum().backward()
    at_once = gradients()
    alone = torch.stack([cost([row]) for row in rows]).mean(0)
    alone.sum().backward()
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)
    for a, b in zip(at_once, gradients(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
    silent = (IDS[:60], [-100] * 60)
    torch.testing.assert_close(cost([*rows, silent]), together)


# --- two_pass: the first pass, and calibrations


def test_the_first_pass_condenses_by_eight_at_least_where_beacons_start_last(tiny):
    paper, ours = TwoPass(tiny, options(TwoPass)), TwoPass(tiny, options(TwoPass, start="last", sinks=1))
    assert (paper.plan(300, 6).first, ours.plan(300, 6).first) == (2, 8)
    assert ours.plan(2500, 6).first == 16
    assert TwoPass(tiny, options(TwoPass, start="last", first_ratio="2")).plan(300, 6).first == 2


def test_experts_of_low_ratios_alone_are_taken_as_they_are(tiny, tmp_path):
    weights = Experts({r: random_expert(tiny, r) for r in (2, 4)})
    facts = {"start": "last", "sinks": 1, "interval": INTERVAL}
    checkpoint.write_weights(tmp_path, weights, tiny, facts, torch.float32)
    method = TwoPass(tiny, TwoPassOptions())
    method.load(tmp_path)
    assert method.plan(300, 6).first == 2


@pytest.mark.parametrize("sinks", [0, 2])
def test_a_calibration_says_what_it_was_made_for_and_is_read_so(tiny, tmp_path, empty_cache, sinks):
    made = TwoPass(tiny, options(TwoPass, start="last", sinks=sinks))
    made.fit(None, None, TwoPass.FitOptions(intervals="8-9", contexts=2))
    made.save(tmp_path / "out", {})
    used = TwoPass(tiny, TwoPassOptions())
    used.load(tmp_path / "out")
    assert (used.interval, used.start, used.sinks) == (INTERVAL, "last", sinks)
    assert used._calibration(8, {8, 9}).content_hash == made._fitted[8].content_hash
    used._fitted[8].key |= {"dtype": "bfloat16", "device": "cuda"}  # as earlier versions wrote it
    assert used._calibration(8, {8}).content_hash == made._fitted[8].content_hash
    assert not list(empty_cache.rglob("*.json")), "none was computed anew"
    assert all(len(made._fitted[8].mean[n]) == n for n in (8, 9))


def test_a_calibration_of_many_contexts_serves_whoever_asks_for_fewer(tiny, empty_cache, monkeypatch):
    monkeypatch.setattr(calibrated, "SHIPPED_CONTEXTS", (4, 3))
    many = TwoPass(tiny, options(TwoPass, start="last", sinks=1, calibration_contexts=3))
    kept = many._calibration(8, {8, 9})
    few = TwoPass(tiny, options(TwoPass, start="last", sinks=1))
    assert few._calibration(8, {9}).content_hash == kept.content_hash and kept.contexts == 3
    assert few._calibration(8, {8, 10}).contexts == 2, "it lacks one of the numbers"
    assert few._calibration(8, {10}).contexts == 2 and few._calibration(8, {8}).contexts == 3


@pytest.mark.parametrize(
    ("more", "smooth"),
    [
        ({}, False),
        ({"start": "last"}, True),
        ({"standardise": "smooth"}, True),
        ({"start": "last", "standardise": "thesis"}, False),
    ],
)
def test_which_rule_standardises(tiny, more, smooth):
    method = TwoPass(tiny, options(TwoPass, **more))
    one = prompt(tiny, 150)
    method.prepare([one], Decoding(6))
    (answer,), _ = ask(method, [one])
    details, plan = answer.details, method.plan(len(one), 6)
    made = method._calibration(plan.first, {plan.intervals})
    moments = details["relevance"], made.mean[plan.intervals], made.std[plan.intervals]
    expected = (smooth_z_scores if smooth else z_scores)(*moments)
    assert details["z"] == pytest.approx(expected.tolist())
    assert not np.allclose(smooth_z_scores(*moments), z_scores(*moments))


def test_the_instructions_stay_raw_and_half_of_the_window_is_filled(tiny):
    method = TwoPass(tiny, options(TwoPass, start="last", sinks=1))
    plan = method.plan(300, 6)
    z = [-2.0, *[0.0] * (plan.intervals - 2), 2.0]
    chosen = method._allocate(z, plan)
    assert chosen[0] == chosen[-1] == 0 and 0 not in chosen[1:-1]
    held = sum(INTERVAL // r if r else INTERVAL for r in chosen)
    assert WINDOW // 4 < held <= WINDOW // 2
    long = method.plan(1700, 6)  # the first pass alone holds more than half of the window
    assert long.first * WINDOW // 2 < long.intervals * INTERVAL
    held = sum(INTERVAL // r if r else INTERVAL for r in method._allocate([0.0] * long.intervals, long))
    assert WINDOW // 2 < held <= long.budget
    paper = TwoPass(tiny, options(TwoPass))
    assert paper._allocate(z, paper.plan(300, 6))[0] != 0
