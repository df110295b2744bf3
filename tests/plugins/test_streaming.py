"""`streaming` against a plain loop that keeps what the docstring says is kept, token by token."""

import pytest
import torch

from harness import Decoding, UsageError
from harness.inference.likelihood import loglikelihood
from harness.models import loading
from harness.plugins._budget import NOT_CONDENSED
from harness.plugins.streaming import Streaming, StreamingOptions

from ..helpers.asking import ask, fingerprint, prompt

SINKS, RECENT = 3, 20


def streaming(model, sinks=SINKS, recent=RECENT, chunk=1):
    return Streaming(model, StreamingOptions(sinks=sinks, recent=recent, chunk=chunk))


class Loop:
    """The tiny Llama one token at a time, written out; keys are kept unturned and turned for their rank anew."""

    def __init__(self, network, sinks, recent, chunk):
        self.body, self.head = network.model, network.lm_head
        self.inverse = network.model.rotary_emb.inv_freq
        self.sinks, self.recent, self.chunk = sinks, recent, chunk
        self.held = [([], []) for _ in self.body.layers]
        self.open = 0  # tokens of the present chunk

    def turned(self, heads, places):
        """``[tokens, heads, channels]``, each token turned for its place."""
        angle = torch.tensor(places, dtype=torch.float32)[:, None] * self.inverse
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        low, high = heads.chunk(2, dim=-1)
        return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)

    def read(self, token):
        """The logits after one more token."""
        x = self.body.embed_tokens.weight[token]
        for layer, (keys, values) in zip(self.body.layers, self.held):
            part, y = layer.self_attn, layer.input_layernorm(x)
            keys.append(part.k_proj(y).view(2, 16))
            values.append(part.v_proj(y).view(2, 16))
            n = len(keys)
            query = self.turned(part.q_proj(y).view(1, 4, 16), [n - 1])[0].view(2, 2, 16)
            key = self.turned(torch.stack(keys), range(n))
            weights = torch.einsum("kgc,nkc->kgn", query, key).mul(16**-0.5).softmax(-1)
            x = x + part.o_proj(torch.einsum("kgn,nkc->kgc", weights, torch.stack(values)).reshape(-1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        self.open += 1
        if self.open == self.chunk:
            self.close()
        return self.head(self.body.norm(x))

    def close(self):
        """The end of a chunk: what is neither first nor recent is dropped."""
        self.open = 0
        for pair in self.held:
            for entries in pair:
                del entries[self.sinks : max(self.sinks, len(entries) - self.recent)]

    def answer(self, one, new_tokens, ends):
        """Context, question and answer, each beginning a chunk; the answer's tokens and what was held at once."""
        for ids in (one.head_ids, one.suffix_ids[:-1]):
            for token in ids:
                self.read(token)
            self.close()
        began, token, found, most = len(self.held[0][0]), one.suffix_ids[-1], [], 0
        for _ in range(new_tokens):
            logits = self.read(token)
            logits[list(ends)] = -torch.inf
            most = max(most, len(self.held[0][0]))
            token = int(logits.argmax())
            found.append(token)
        return began, found, most


@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize("words", [5, 60])
def test_answers_are_those_of_the_loop(tiny, chunk, words):
    one = prompt(tiny, words)
    with torch.no_grad():
        loop = Loop(tiny.network, SINKS, RECENT, chunk)
        began, expected, most = loop.answer(one, 40, tiny.end_ids)
    [answer], _ = ask(streaming(tiny, chunk=chunk), [one], new_tokens=40)
    assert answer.token_ids == expected
    assert answer.kv_tokens == began == min(SINKS + RECENT, len(one) - 1)
    assert most <= SINKS + RECENT + chunk
    assert len(set(expected)) > 5, "an answer of one token repeated would show little"


def test_the_cache_stays_small_however_long_text_and_answer_are(tiny):
    seen = []
    hook = tiny.network.model.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(kwargs["past_key_values"].get_seq_length()),
        with_kwargs=True,
    )
    try:
        sizes = [ask(streaming(tiny, chunk=8), [prompt(tiny, words)], 100)[1] for words in (100, 400)]
    finally:
        hook.remove()
    assert max(seen) == SINKS + RECENT + 8
    assert (
        sizes[0] == sizes[1] == (SINKS + RECENT) * 2 * 2 * 2 * 16 * 4
    )  # layers, k and v, heads, channels, bytes


def test_a_window_that_nothing_leaves_is_full_attention(tiny):
    from harness.plugins.plain import Plain

    one = prompt(tiny, 20)
    [answer], _ = ask(streaming(tiny, recent=200, chunk=50), [one], 20)
    [full], _ = ask(Plain(tiny, Plain.Options()), [one], 20)
    assert (answer.token_ids, answer.kv_tokens) == (full.token_ids, full.kv_tokens)


def test_a_batch_of_different_lengths_equals_one_by_one_in_any_order(tiny):
    prompts = [prompt(tiny, words, seed) for seed, words in enumerate((90, 1, 40, 150))]
    method = streaming(tiny, chunk=16)
    before = fingerprint(tiny.network)
    alone = [ask(method, [p], 30)[0][0] for p in prompts]
    together, _ = ask(method, prompts, 30)
    backwards, _ = ask(method, prompts[::-1], 30)
    assert [a.token_ids for a in together] == [a.token_ids for a in alone]
    assert [a.token_ids for a in backwards[::-1]] == [a.token_ids for a in alone]
    assert [a.kv_tokens for a in together] == [a.kv_tokens for a in alone]
    assert fingerprint(tiny.network) == before


def test_one_context_serves_many_questions(tiny):
    one, decoding = prompt(tiny, 60), Decoding(12)
    method = streaming(tiny, chunk=16)
    whole = method.compress_and_generate([one], decoding)[0]
    [state] = method.compress([one.head_ids], [len(one.suffix_ids)], decoding)
    assert method.share_key(60, 5, decoding) == method.share_key(60, 9, Decoding(3))
    others = [tiny.tokenizer(text)["input_ids"] for text in ("Who?", "And where is the passkey now?")]
    answers = [method.generate([state], [q], decoding)[0] for q in (*others, one.suffix_ids)]
    assert answers[-1] == whole
    assert len({tuple(a.token_ids) for a in answers}) == 3


def test_an_answer_ends_where_it_ends(tiny):
    """Rows that stop early leave the batch; the others go on, piece by piece."""
    prompts = [prompt(tiny, words, seed) for seed, words in enumerate((40, 60, 80))]
    method = streaming(tiny, chunk=4)
    free, _ = ask(method, prompts, 24)
    stop = free[0].token_ids[9]
    decoding = Decoding(24, stop_ids=(stop,))
    answers = method.compress_and_generate(prompts, decoding)
    ends = {stop, *tiny.end_ids}
    for answer, alone in zip(answers, (method.compress_and_generate([p], decoding)[0] for p in prompts)):
        assert answer == alone
        assert not ends & set(answer.token_ids[:-1])
        assert answer.stop_reason == "length" or answer.token_ids[-1] in ends
    assert answers[0].stop_reason in ("stop", "eos") and len(answers[0].token_ids) <= 10


@pytest.mark.parametrize("chunk", [1, 7])
def test_likelihoods_are_those_of_the_loop(tiny, chunk):
    """The window holds while a continuation is read, too, and each begins from the same cache."""
    one, choices = prompt(tiny, 60), [[40 + i for i in range(30)], [17], [300, 9, 9]]
    method = streaming(tiny, chunk=chunk)
    [found] = loglikelihood(method, [one], [choices])
    for choice, likelihood in zip(choices, found.likelihoods):
        loop, total = Loop(tiny.network, SINKS, RECENT, chunk), 0.0
        with torch.no_grad():
            loop.answer(one, 0, ())
            for token, wanted in zip((one.suffix_ids[-1], *choice), choice):
                total += float(loop.read(token).log_softmax(-1)[wanted])
        assert likelihood.logprob == pytest.approx(total, abs=1e-3)
    assert found.kv_tokens == SINKS + RECENT
    [answer], _ = ask(method, [one], 20)
    [[own]] = [scored.likelihoods for scored in loglikelihood(method, [one], [[answer.token_ids]])]
    assert own.greedy and not found.likelihoods[0].greedy


def test_what_cannot_be_held_is_refused_in_one_line(tiny, tiny_folder):
    with pytest.raises(
        UsageError, match=r"--sinks 4 \+ --recent 1020 \+ --chunk 256 = 1280 .* window of 256 "
    ):
        Streaming(tiny, StreamingOptions()).context_limit()
    with pytest.raises(UsageError, match="option recent=0"):
        StreamingOptions.parse({"recent": 0}, "method streaming")
    small = loading.load(str(tiny_folder), device="cpu", context_length=24)
    with pytest.raises(UsageError, match="window of 24 "):
        streaming(small, chunk=4).context_limit()
    assert streaming(tiny).context_limit() is None


def test_a_text_of_which_nothing_was_dropped_says_so(tiny):
    method = streaming(tiny, recent=60)
    [short], _ = ask(method, [prompt(tiny, 10)])
    [long], _ = ask(method, [prompt(tiny, 120)])
    assert short.details == {"notes": [NOT_CONDENSED]} and not long.details
