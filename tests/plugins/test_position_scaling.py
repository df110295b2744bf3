"""`position_scaling` against models whose configuration has the scaling, as transformers applies it."""

import pytest
import torch
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from harness import Decoding, UsageError
from harness.inference.forward import feed
from harness.inference.kvcache import KVCache
from harness.inference.likelihood import loglikelihood
from harness.models import loading
from harness.plugins.plain import Plain
from harness.plugins.position_scaling import PositionScaling, PositionScalingOptions
from harness.testing.tiny import make_model

from ..helpers.asking import ask, fingerprint, prompt

WINDOW = 256


def scaling(model, **options):
    return PositionScaling(model, PositionScalingOptions(**options))


def config_of(tiny, rope, factor, **changes):
    """The tiny model's configuration with transformers' own setting for a kind of scaling."""
    config = AutoConfig.from_pretrained(tiny.folder)
    theta = config.rope_parameters["rope_theta"]
    config.rope_parameters = {
        "linear": {"rope_type": "linear", "factor": factor, "rope_theta": theta},
        "ntk": {"rope_type": "default", "rope_theta": theta * factor ** (16 / 14)},
        "dynamic": {"rope_type": "dynamic", "factor": factor, "rope_theta": theta},
        "yarn": {
            "rope_type": "yarn",
            "factor": factor,
            "rope_theta": theta,
            "original_max_position_embeddings": WINDOW,
        },
    }[rope]
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def scaled_model(tiny, tmp_path, rope, factor, **changes):
    """The tiny model, weights and all, as if it had been published with the scaling."""
    folder = tmp_path / f"{rope}"
    tiny.network.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    config_of(tiny, rope, factor, **changes).save_pretrained(folder)
    return loading.load(str(folder), device="cpu")


@pytest.mark.parametrize("rope", ["linear", "yarn", "ntk"])
def test_it_is_the_model_whose_configuration_has_the_scaling(tiny, tmp_path, rope):
    other = scaled_model(tiny, tmp_path, rope, 2.0, max_position_embeddings=2 * WINDOW)
    ids = list(prompt(tiny, 140).ids)
    assert len(ids) > WINDOW
    method = scaling(tiny, rope=rope, factor=2.0)
    with method.scaled(2.0):
        [cache], hidden = feed(tiny.network, [KVCache()], [ids])
    expected = other.network.model(torch.tensor([ids])).last_hidden_state
    torch.testing.assert_close(hidden, expected, rtol=0, atol=1e-5)
    [plain], unscaled = feed(tiny.network, [KVCache()], [ids])
    assert (unscaled - expected).abs().max() > 0.05, "the scaling must show"
    del cache, plain
    one = prompt(tiny, 140)
    [mine], size = ask(method, [one], 12)
    [theirs], plain_size = ask(Plain(other, Plain.Options()), [one], 12)
    assert mine.token_ids == theirs.token_ids
    assert (mine.kv_tokens, size) == (theirs.kv_tokens, plain_size), "no memory is saved, and none claimed"
    assert mine.details == {"scale": 2.0}


def test_dynamic_has_the_frequencies_transformers_settles_on_for_the_length(tiny):
    method = scaling(tiny, rope="dynamic", factor=3.0)
    own = LlamaRotaryEmbedding(config_of(tiny, "dynamic", 3.0))
    for tokens in (100, WINDOW, 400, 700):
        like = torch.empty(0)
        cos, sin = own(like, torch.arange(tokens)[None])
        with method.scaled(method.scale(tokens)):
            rotary = tiny.network.model.rotary_emb
            found = rotary(like, torch.arange(tokens)[None])
            rotary(like, torch.tensor([[3]]))  # a short pass must not bring other frequencies
            assert torch.equal(rotary(like, torch.arange(tokens)[None])[0], found[0])
        torch.testing.assert_close(found, (cos, sin))


def test_the_length_that_counts_is_prompt_and_answer(tiny):
    decoding = Decoding(50)
    ids, question = list(range(5, 305)), 34
    for method in (
        scaling(tiny, rope="dynamic"),
        scaling(tiny, adapt=True),
        scaling(tiny, rope="ntk", adapt=True),
    ):
        long, short = method.compress([ids, ids[:40]], [question, 4], decoding)
        assert (long.scale, short.scale) == ((300 + 34 + 50) / WINDOW, 1.0)
    [fixed] = scaling(tiny, factor=4.0).compress([ids[:40]], [4], decoding)
    assert fixed.scale == 4.0
    keys = [scaling(tiny, adapt=True).share_key(300, n, decoding) for n in (34, 35)]
    assert keys[0] == (300 + 34 + 50) / WINDOW != keys[1], "a longer question, another scale, another state"
    assert len({scaling(tiny).share_key(300, n, decoding) for n in (34, 35)}) == 1


def test_a_prompt_that_fits_is_read_as_it_is_where_the_scale_follows_it(tiny):
    one = prompt(tiny, 60)
    [full], _ = ask(Plain(tiny, Plain.Options()), [one], 12)
    for options in (
        {"rope": "dynamic"},
        *({"rope": rope, "adapt": True} for rope in ("linear", "ntk", "yarn")),
    ):
        [answer], _ = ask(scaling(tiny, **options), [one], 12)
        assert answer.token_ids == full.token_ids
    [answer], _ = ask(scaling(tiny, rope="linear"), [one], 12)
    assert answer.token_ids != full.token_ids


@pytest.mark.parametrize(
    "options", [{"rope": "yarn"}, {"rope": "dynamic"}, {"rope": "linear", "adapt": True}]
)
def test_a_batch_equals_one_by_one_in_any_order(tiny, options):
    prompts = [prompt(tiny, words, seed) for seed, words in enumerate((150, 20, 90, 260))]
    method = scaling(tiny, **options)
    alone = [ask(method, [p], 8)[0][0] for p in prompts]
    together, _ = ask(method, prompts, 8)
    backwards, _ = ask(method, prompts[::-1], 8)
    assert together == alone and backwards[::-1] == alone


def test_one_context_serves_many_questions(tiny):
    method, decoding, one = scaling(tiny), Decoding(10), prompt(tiny, 120)
    [state] = method.compress([one.head_ids], [len(one.suffix_ids)], decoding)
    other = tiny.tokenizer("Where?")["input_ids"]
    answers = [method.generate([state], [q], decoding)[0] for q in (one.suffix_ids, other, one.suffix_ids)]
    assert answers[0] == answers[2] == method.compress_and_generate([one], decoding)[0]
    assert answers[1].token_ids != answers[0].token_ids


def test_likelihoods_are_those_of_the_scaled_model(tiny, tmp_path):
    other, one = scaled_model(tiny, tmp_path, "yarn", 2.0), prompt(tiny, 120)
    choices = [[40, 41, 42], [17]]
    mine = loglikelihood(scaling(tiny, factor=2.0), [one], [choices])[0].likelihoods
    theirs = loglikelihood(Plain(other, Plain.Options()), [one], [choices])[0].likelihoods
    assert [x.logprob for x in mine] == pytest.approx([x.logprob for x in theirs], abs=1e-4)


def test_the_model_is_as_it_was(tiny):
    before, frequencies = fingerprint(tiny.network), tiny.network.model.rotary_emb.inv_freq.clone()
    settings = (tiny.config.to_dict(), tiny.network.config.to_dict())
    one = prompt(tiny, 120)
    [full], _ = ask(Plain(tiny, Plain.Options()), [prompt(tiny, 50)], 8)
    for rope in ("linear", "ntk", "dynamic", "yarn"):
        method = scaling(tiny, rope=rope)
        ask(method, [one], 4)
        with pytest.raises(RuntimeError), method.scaled(2.0):
            raise RuntimeError
    assert fingerprint(tiny.network) == before
    assert torch.equal(tiny.network.model.rotary_emb.inv_freq, frequencies)
    assert (tiny.config.to_dict(), tiny.network.config.to_dict()) == settings
    assert ask(Plain(tiny, Plain.Options()), [prompt(tiny, 50)], 8)[0] == [full]


def test_it_reads_factor_windows(tiny, tiny_folder):
    assert scaling(tiny, factor=2.5).context_limit() == 640
    assert scaling(loading.load(str(tiny_folder), device="cpu", context_length=100)).context_limit() == 400
    assert scaling(tiny).default_max_context() is None
    assert scaling(tiny).facts() == {"scaled_by": 4.0}
    assert scaling(tiny, adapt=True).facts() == {"scaled_by": "the length of each prompt"}


def test_what_cannot_be_scaled_is_refused_in_one_line(tiny, tmp_path):
    scaled = scaled_model(tiny, tmp_path, "linear", 2.0)
    with pytest.raises(UsageError, match=r"are scaled already \(linear\); use plain") as caught:
        scaling(scaled)
    assert "\n" not in str(caught.value)
    sliding = loading.load(str(make_model(tmp_path / "s", "mistral", sliding_window=64)), device="cpu")
    with pytest.raises(UsageError, match="sliding window of 64 tokens"):
        scaling(sliding)
    with pytest.raises(UsageError, match="dynamic follows the length of the prompt already"):
        PositionScalingOptions.parse({"rope": "dynamic", "adapt": True}, "method position_scaling")
    with pytest.raises(UsageError, match="option factor='1': input should be greater than 1"):
        PositionScalingOptions.parse({"factor": "1"}, "method position_scaling")


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3"])
def test_other_families_are_scaled_too(family, tmp_path):
    extra = {"sliding_window": None} if family == "mistral" else {}
    model = loading.load(str(make_model(tmp_path / family, family, **extra)), device="cpu")
    before = fingerprint(model.network)
    [answer], _ = ask(scaling(model, factor=2.0), [prompt(model, 120)], 6)
    [full], _ = ask(Plain(model, Plain.Options()), [prompt(model, 120)], 6)
    assert answer.kv_tokens == full.kv_tokens and answer.token_ids != full.token_ids
    assert fingerprint(model.network) == before
