"""Likelihoods of given continuations: what is forced through `decode` is what a plain reading would give."""

import pytest
import torch

from harness import Decoding, Generation, HarnessError, Method, UsageError
from harness.contracts.phases import phase
from harness.contracts.prompt import Prompt
from harness.inference.decoding import decode
from harness.inference.forcing import current, forcing
from harness.inference.forward import feed
from harness.inference.kvcache import KVCache
from harness.inference.likelihood import loglikelihood
from harness.inference.meter import observe
from harness.inference.stopping import stop_reason
from harness.inference.verification import check
from harness.plugins.beacon.method import Beacon
from harness.plugins.beacon.options import BeaconOptions
from harness.plugins.beacon.reading import Reading
from harness.plugins.plain import Plain
from harness.plugins.two_pass.method import TwoPass
from harness.plugins.two_pass.options import TwoPassOptions
from harness.prompts.rendering import tokenize
from harness.prompts.tokenization import continuation_ids

INTERVAL = 32
CHOICES = ([40, 41, 42], [17], [300, 9, 9, 250, 8], [33] * 12)


def prompt(model, words, seed=0):
    picked = torch.randint(0, 10, (words,), generator=torch.Generator().manual_seed(seed)).tolist()
    return tokenize(Prompt("Read.\n", " ".join(f"word{n}" for n in picked), "\nWhat is it?"), model)


def plain(model):
    return Plain(model, Plain.Options())


def beacon(model):
    return Beacon(model, BeaconOptions(interval=INTERVAL, margin=16, ratio="8"))


def two_pass(model):
    return TwoPass(model, TwoPassOptions(interval=INTERVAL, calibration_contexts=2, first_ratio="4"))


def of_length(model, tokens):
    """A prompt of exactly so many tokens."""
    found = prompt(model, 80)
    ids = found.ids[:tokens]
    return type(found)(found.prompt, ids, min(found.context_start, tokens - 1), tokens - 4)


def by_full_pass(model, ids, continuation):
    """(log-likelihood, greedy) from one ordinary forward pass over everything."""
    with torch.no_grad():
        logits = model.network(torch.tensor([[*ids, *continuation]])).logits[0].float()
    rows = logits[len(ids) - 1 : -1]
    wanted = torch.tensor(continuation)
    found = torch.log_softmax(rows, -1).gather(1, wanted[:, None]).sum()
    return float(found), bool((rows.argmax(-1) == wanted).all())


def token_by_token(method, state, last, continuation, ratio):
    """The same by reading one token after another with the beacon engine, which condenses as it goes."""
    total, token = 0.0, last
    for wanted in continuation:
        seen: list = []
        [state] = method.engine.read(
            [state], [[token]], lambda row, i: ratio(i), lambda *x, seen=seen: seen.append(x[2])
        )
        with torch.no_grad():
            logits = method.model.network.lm_head(seen[-1][-1]).float()
        total += float(torch.log_softmax(logits, -1)[wanted])
        token = wanted
    return total


def scored(method, prompts, continuations):
    """Through the contract, held against what was measured."""
    with observe(method.model.network, "cpu", len(prompts)) as meter:
        found = loglikelihood(method, prompts, continuations)
    for row, one in enumerate(found):
        assert check(one, meter, row, len(prompts[row])).verified
    return found


def test_plain_is_a_single_full_pass(tiny):
    one = prompt(tiny, 20)
    greedy = decode(tiny, feed_all(tiny, one), [one.ids[-1]], Decoding(3))[1][0]
    [found] = scored(plain(tiny), [one], [[*CHOICES, greedy]])
    assert found.kv_tokens == len(one) - 1
    for given, likelihood in zip([*CHOICES, greedy], found.likelihoods):
        total, is_greedy = by_full_pass(tiny, one.ids, given)
        assert likelihood.logprob == pytest.approx(total, abs=1e-4)
        assert (likelihood.greedy, likelihood.tokens) == (is_greedy, len(given))
    assert [x.greedy for x in found.likelihoods] == [False] * 4 + [True]


def feed_all(model, one):
    with torch.no_grad():
        return feed(model.network, [KVCache()], [one.ids[:-1]])[0]


def test_context_and_question_are_read_once_for_all_choices(tiny):
    one = prompt(tiny, 20)
    with observe(tiny.network, "cpu", 1) as meter:
        loglikelihood(plain(tiny), [one], [CHOICES])
    assert meter.positions == len(one) + sum(len(c) - 1 for c in CHOICES)


@pytest.mark.parametrize("make", [plain, beacon, two_pass])
def test_a_batch_is_its_samples_one_by_one(tiny, make):
    prompts = [
        prompt(tiny, words, seed) for seed, words in enumerate((30, 12, 130 if make is two_pass else 50))
    ]
    given = [CHOICES, CHOICES[1:], [CHOICES[2], CHOICES[3]]]
    method = make(tiny)
    method.prepare(prompts, Decoding(12))
    together = scored(method, prompts, given)
    for one, choices, found in zip(prompts, given, together):
        [alone] = scored(method, [one], [choices])
        assert [x.logprob for x in alone.likelihoods] == pytest.approx(
            [x.logprob for x in found.likelihoods], abs=1e-4
        )
        assert alone.kv_tokens == found.kv_tokens


@pytest.mark.parametrize("left", [1, 2, 5, 12, 13, 30])
def test_beacon_goes_on_across_an_interval_that_fills(tiny, left):
    """`left` tokens of the interval are free when the answer begins; the longest continuation has 40."""
    method = beacon(tiny)
    one = of_length(tiny, 3 * INTERVAL + INTERVAL - left + 1)
    choices = [*CHOICES, [5 + 3 * k for k in range(40)]]
    [found] = scored(method, [one], [choices])
    with torch.no_grad():
        [state] = method.engine.read([Reading()], [one.ids[:-1]], lambda row, i: 8)
        for given, likelihood in zip(choices, found.likelihoods):
            expected = token_by_token(method, state, one.ids[-1], given, lambda i: 8)
            assert likelihood.logprob == pytest.approx(expected, abs=1e-4), given
    assert found.kv_tokens == len(state.cache)


def test_two_pass_scores_over_its_compressed_cache(tiny, monkeypatch):
    method, one = two_pass(tiny), prompt(tiny, 130)
    assert len(one) > 256
    begun = []
    answer = TwoPass.answer
    monkeypatch.setattr(
        TwoPass, "answer", lambda self, states, *a: begun.append(states) or answer(self, states, *a)
    )
    [found] = scored(method, [one], [CHOICES])
    [state] = begun[0]
    assert len(state.cache) < len(one) - 1
    first = method.plan(len(one), 12).first
    for given, likelihood in zip(CHOICES, found.likelihoods):
        expected = token_by_token(method, state, one.ids[-1], given, lambda i: first)
        assert likelihood.logprob == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("make", [plain, beacon])
def test_end_tokens_within_a_continuation_are_tokens_like_others(tiny, make):
    method, end = make(tiny), tiny.end_ids[0]
    one = of_length(tiny, 2 * INTERVAL - 2)  # three tokens of an interval are free
    given = [[end, 7, end, 8, 9, end]]
    [found] = scored(method, [one], [given])
    ratio = 8
    with torch.no_grad():
        if make is plain:
            expected, _ = by_full_pass(tiny, one.ids, given[0])
        else:
            [state] = method.engine.read([Reading()], [one.ids[:-1]], lambda row, i: ratio)
            expected = token_by_token(method, state, one.ids[-1], given[0], lambda i: ratio)
    assert found.likelihoods[0].logprob == pytest.approx(expected, abs=1e-4)


def test_generating_is_untouched_after_scoring(tiny):
    one = prompt(tiny, 20)
    before = plain(tiny).compress_and_generate([one], Decoding(5))[0].token_ids
    scored(plain(tiny), [one], [CHOICES])
    assert plain(tiny).compress_and_generate([one], Decoding(5))[0].token_ids == before


class Sorting(Plain):
    """Decodes a batch longest first, each alone, and gives the answers back in order."""

    def compress_and_generate(self, prompts, decoding):
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        found = {i: super(Sorting, self).compress_and_generate([prompts[i]], decoding)[0] for i in order}
        return [found[i] for i in range(len(prompts))]


def test_a_method_that_sorts_its_batch_never_gives_one_samples_likelihood_to_another(tiny):
    method = Sorting(tiny, Plain.Options())
    prompts = [prompt(tiny, 10), prompt(tiny, 30)]
    with pytest.raises(HarnessError, match="order of its own"):
        loglikelihood(method, prompts, [CHOICES, CHOICES])
    assert scored(method, prompts[:1], [CHOICES]) == scored(plain(tiny), prompts[:1], [CHOICES])


class Own(Plain):
    """Answers without the shared `decode`."""

    def compress_and_generate(self, prompts, decoding):
        return [Generation("", [1], "length", len(p), len(p) - 1) for p in prompts]


class Twice(Plain):
    """Decodes everything twice."""

    def compress_and_generate(self, prompts, decoding):
        super().compress_and_generate(prompts, decoding)
        return super().compress_and_generate(prompts, decoding)


class Impatient(Plain):
    """Stops after two tokens, whatever was asked for."""

    def generate(self, states, questions, decoding):
        with phase("decode"), torch.no_grad():
            caches, _ = feed(self.model.network, list(states), [q[:-1] for q in questions])
            _, answers = decode(self.model, caches, [q[-1] for q in questions], decoding, at_most=2)
        return [
            Generation("", a, stop_reason(self.model, decoding, a), len(c) + 1, len(c))
            for a, c in zip(answers, caches)
        ]


@pytest.mark.parametrize(
    ("cls", "error", "words"),
    [
        (Own, UsageError, "override loglikelihood"),
        (Twice, HarnessError, "more than once"),
        (Impatient, HarnessError, "stopped before"),
    ],
)
def test_what_cannot_be_scored_is_said(tiny, cls, error, words):
    method: Method = cls(tiny, Plain.Options())
    with pytest.raises(error, match=words):
        loglikelihood(method, [prompt(tiny, 10)], [CHOICES])


def test_nothing_to_score_is_refused(tiny):
    with pytest.raises(ValueError, match="at least one continuation"):
        loglikelihood(plain(tiny), [prompt(tiny, 10)], [[[]]])


def test_forcing_ends_with_its_block(tiny):
    with pytest.raises(RuntimeError), forcing([[[1]]]):
        assert current() is not None
        raise RuntimeError
    assert current() is None


def test_continuations_are_what_the_whole_text_has_beyond_the_context(tiny):
    tokenizer = tiny.tokenizer
    found = continuation_ids(tokenizer, "The passkey is", " 12345")
    assert tokenizer.decode(found) == " 12345"
    assert tokenizer("The passkey is 12345")["input_ids"][-len(found) :] == found
