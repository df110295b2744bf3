"""A second pass made of what the first computed: the entries it should be made of, for less work."""

import pytest
import torch

from harness import Decoding, UsageError
from harness.inference import KVCache, feed
from harness.inference.forward import moved
from harness.inference.meter import observe
from harness.plugins.beacon import together
from harness.plugins.beacon.again import condensed_again
from harness.plugins.beacon.engine import ActivationBeacon
from harness.plugins.beacon.lora_projections import LoraExperts
from harness.plugins.beacon.pieces import Kept
from harness.plugins.beacon.reading import Reading
from harness.plugins.two_pass import method as module
from harness.plugins.two_pass.options import TwoPassOptions

from .test_condensing import INTERVAL, ask, prompt, two_pass
from .test_lora_experts import random_expert
from .test_together import IDS

FIRST = 8


@pytest.fixture(params=[("end", 0), ("last", 3)], ids=["end", "last"])
def engine(request, tiny):
    weights = LoraExperts({r: random_expert(tiny, r) for r in (2, 4, 8, 32)})
    return ActivationBeacon(tiny.network, weights, INTERVAL, *request.param)


def first_pass(engine, rows):
    kept = [Kept() for _ in rows]
    with torch.no_grad():
        return engine.read([Reading()] * len(rows), rows, lambda *_: FIRST, kept=kept), kept


def by_hand(engine, ids, chosen):
    """One window after another: its raw entries over the first pass's memory, turned, then beacons over the new one."""
    network, sinks = engine.network, engine.sinks
    state = Reading()
    with torch.no_grad():
        for k, ratio in enumerate(chosen):
            stop = engine.end_of(k + 1)
            [then] = engine.read([Reading()], [ids[: engine.end_of(k)]], lambda *_: FIRST)
            [raw], _ = feed(network, [then.cache], [ids[engine.end_of(k) : stop]])
            if not k:
                state = Reading(raw.slice(0, sinks), raw=sinks)
            held = len(state.cache)
            own = raw.slice(len(raw) - INTERVAL, len(raw))
            if ratio == FIRST:
                [after] = engine.read([Reading()], [ids[:stop]], lambda *_: FIRST)
                own = after.cache.slice(len(after.cache) - INTERVAL // FIRST, len(after.cache))
                places = sinks + k * (INTERVAL // FIRST)
            else:
                places = len(raw) - INTERVAL
            own = moved(network, own, torch.full((len(own),), held - places))
            full = Reading(
                state.cache.append(own), held, len(own), state.ratios, state.counts, tuple(ids[:stop])
            )
            if ratio == FIRST:
                state = engine.closed(full, full.cache, held, ratio)
            else:
                [state] = engine.condense([full], ratio)
    return state


def close(one, other):
    assert (one.memory, one.raw, one.ratios, one.counts) == (
        other.memory,
        other.raw,
        other.ratios,
        other.counts,
    )
    for a, b in zip(
        (*one.cache.keys, *one.cache.values), (*other.cache.keys, *other.cache.values), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


CHOSEN = [[0, 2, 8, 4, 8, 0, 32, 2], [8, 8, 2], [8, 8, 8, 8], [4, 8, 8], [0, 0, 8, 0]]


@pytest.mark.parametrize("size", [1, INTERVAL, 1024])
def test_it_holds_what_its_definition_says(engine, monkeypatch, size):
    monkeypatch.setitem(together.TOGETHER, "cpu", size)
    rows = [IDS[i * 20 : engine.end_of(len(own)) + i * 20 + i] for i, own in enumerate(CHOSEN)]
    firsts, kept = first_pass(engine, rows)
    with torch.no_grad():
        found = condensed_again(engine, rows, firsts, kept, CHOSEN)
    for ids, own, state in zip(rows, CHOSEN, found, strict=True):
        close(state, by_hand(engine, ids, own))


def test_what_saw_the_same_memory_is_what_reading_again_gives(engine):
    """Leading windows of the first ratio and the one after them; a first window that stays raw has all it needs."""
    for own in ([8, 8, 2], [8, 8, 8], [2], [0], [8, 0]):
        ids = IDS[: engine.end_of(len(own)) + 5]
        [first], [kept] = first_pass(engine, [ids])
        with torch.no_grad():
            [found] = condensed_again(engine, [ids], [first], [kept], [own])
            [again] = engine.read([Reading()], [ids[: engine.end_of(len(own))]], lambda _, k, own=own: own[k])
        close(found, again)


def test_reading_goes_on_from_it_and_the_first_pass_stays_as_it_was(engine):
    ids, own = IDS[:200], [2, 0, 8, 4]
    [first], [kept] = first_pass(engine, [ids])
    before = [k.clone() for k in first.cache.keys]
    with torch.no_grad():
        [state] = condensed_again(engine, [ids], [first], [kept], [own])
        [state] = engine.read([state], [ids[engine.end_of(4) :]], lambda *_: 4)
    assert all(torch.equal(a, b) for a, b in zip(before, first.cache.keys, strict=True))
    assert state.ratios[:4] == tuple(own) and engine.end_of(len(state.ratios)) + state.raw == 200


@pytest.fixture
def spread(monkeypatch):
    """Ratios of every kind, whatever the relevance."""

    def chosen(self, z, plan):
        return [(0, plan.first, 4 * plan.first, plan.first)[k % 4] for k in range(len(z))]

    monkeypatch.setattr(module.TwoPass, "_allocate", chosen)


def test_the_method_reads_no_interval_twice_alone_or_in_a_batch(tiny, empty_cache, spread):
    prompts = [prompt(tiny, 170), prompt(tiny, 40), prompt(tiny, 140, seed=1)]
    for asked in (prompts[:1], prompts):
        positions = []
        for reuse in ("raw", "none"):
            method = two_pass(tiny, reuse=reuse)
            method.prepare(asked, Decoding(1))
            with observe(tiny.network, "cpu") as meter:
                method.run(asked, Decoding(1))
            positions.append(meter.positions)
        assert positions[0] < 0.75 * positions[1]
    together_ = ask(two_pass(tiny, reuse="raw"), prompts)
    alone = [ask(two_pass(tiny, reuse="raw"), [each])[0] for each in prompts]
    assert [a.token_ids for a in together_] == [a.token_ids for a in alone]
    assert [a.details["ratios"] for a in together_] == [a.details["ratios"] for a in alone]
    assert [a.details.get("reused") for a in together_] == [
        None if a.details["first_ratio"] is None else len(a.details["ratios"]) for a in alone
    ]
    assert {a.details["first_ratio"] for a in alone} > {None}  # one of them fits raw


def test_a_shared_context_serves_both_questions(tiny, empty_cache, spread):
    method = two_pass(tiny, reuse="raw")
    method.make_query_agnostic()
    one = prompt(tiny, 170)
    method.prepare([one], Decoding(4))
    questions = [list(one.ids[-9:]), list(one.ids[-5:])]
    context = list(one.ids[: len(one.ids) // INTERVAL * INTERVAL])
    [state] = method.compress([context], [9], Decoding(4))
    both = method.generate([state, state], questions, Decoding(4))
    alone = [method.generate([state], [q], Decoding(4))[0] for q in questions]
    assert [a.token_ids for a in both] == [a.token_ids for a in alone]
    assert both[0].details["reused"] == (len(context) - 1) // INTERVAL


def test_where_intervals_share_no_pass_all_is_read_again(tiny, empty_cache, monkeypatch, spread):
    monkeypatch.setattr(together, "possible", lambda _: False)
    one = prompt(tiny, 170)
    [answer], [plain] = ask(two_pass(tiny, reuse="raw"), [one]), ask(two_pass(tiny), [one])
    assert answer.token_ids == plain.token_ids and answer.details["reused"] == 0


def test_runs_that_do_not_use_it_keep_their_names():
    assert "reuse" not in TwoPassOptions().model_dump(mode="json")
    assert TwoPassOptions(reuse="raw").model_dump(mode="json")["reuse"] == "raw"


@pytest.mark.parametrize(
    "options", [{"retrieval": "bm25"}, {"retrieval": "random"}, {"first_layers": "1-2"}, {"reuse": "all"}]
)
def test_what_has_nothing_to_reuse_is_refused(options):
    with pytest.raises(UsageError, match="reuse"):
        TwoPassOptions.parse({"reuse": "raw", **options}, "two_pass")


def test_nothing_to_keep_is_no_cache():
    assert len(Kept().first(0)) == 0 and Kept().windows == 0 and isinstance(Kept().first(0), KVCache)
