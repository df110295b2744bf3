"""`quantized` keeps what transformers' own quantised cache keeps, and its bytes are those."""

import pytest
import torch

from harness import Decoding, Prompt, UsageError
from harness.contracts.budget import entry_bytes
from harness.errors import NotInstalled
from harness.evaluation.plan import aim
from harness.inference import loglikelihood, observe
from harness.plugins import quantized
from harness.plugins.quantized import Quantized
from harness.prompts import tokenize


def _caches_8_bits():
    """Whether this transformers has the cache of 8 bits: those that kvpress wants have not."""
    import inspect

    from transformers import QuantizedCache

    return "fp8" in inspect.getsource(QuantizedCache.__init__)


QUANTO = {"backend": "quanto", "q_group_size": 32, "residual_length": 16}
needs_quanto = pytest.mark.skipif(not quantized._quanto(), reason="needs optimum-quanto")
needs_8_bits = pytest.mark.skipif(not _caches_8_bits(), reason="needs a transformers that caches in 8 bits")


def made(model, **options):
    return Quantized(model, Quantized.Options.parse(options, "it"))


def asked(model, words="the sky is blue and the sun is yellow "):
    return tokenize(Prompt("Read. ", words * 14, " Where is it?", "Where is it?"), model)


def official(model, prompt, new, **cache):
    """Greedy answers by transformers alone: the context read, then the question, then `generate`."""
    from transformers import QuantizedCache

    held = QuantizedCache(config=model.network.config, **cache)
    head, tail = list(prompt.head_ids), list(prompt.suffix_ids)
    with torch.no_grad():
        model.network.model(input_ids=torch.tensor([head]), past_key_values=held)
        ids, found = tail, []
        for _ in range(new):
            hidden = (
                model.network.model(input_ids=torch.tensor([ids[:-1]]), past_key_values=held)
                if ids[:-1]
                else None
            )
            del hidden
            out = model.network(input_ids=torch.tensor([ids[-1:]]), past_key_values=held)
            found.append(int(out.logits[0, -1].argmax()))
            if found[-1] in model.end_ids:
                break
            ids = found[-1:]
    return found


@pytest.mark.parametrize(
    ("bits", "cache"),
    [
        pytest.param("8", {"backend": "fp8"}, marks=needs_8_bits),
        pytest.param("4", {**QUANTO, "nbits": 4}, marks=needs_quanto),
        pytest.param("2", {**QUANTO, "nbits": 2}, marks=needs_quanto),
    ],
)
def test_answers_are_those_of_transformers_own_loop(tiny, bits, cache):
    prompts = [asked(tiny), asked(tiny, "the grass is green ")]
    found = made(tiny, bits=bits, group=32, recent=16).compress_and_generate(prompts, Decoding(8))
    for prompt, mine in zip(prompts, found):
        assert mine.token_ids == official(tiny, prompt, 8, **cache)
        assert mine.kv_tokens == len(prompt) - 1


@needs_quanto
@pytest.mark.parametrize("bits", [4, 2])
def test_nothing_is_compiled_and_what_is_packed_unpacks_to_itself(tiny, bits, monkeypatch):
    from optimum.quanto.library.extensions.extension import Extension, get_extension
    from optimum.quanto.tensor.packed import pack_weights

    extension = get_extension("quanto_cpp")
    monkeypatch.setattr(extension, "_lib", None)
    monkeypatch.setattr(
        Extension, "lib", property(lambda self: self._lib or pytest.fail("it would be compiled"))
    )
    made(tiny, bits=str(bits), recent=8).compress_and_generate([asked(tiny)], Decoding(3))
    numbers = torch.randint(0, 2**bits, (16, 6), dtype=torch.uint8)
    packed = pack_weights(numbers, bits)
    assert packed.shape == (16 * bits // 8, 6)
    assert torch.equal(quantized.unpack(packed, bits), numbers)
    assert torch.equal(torch.ops.quanto.unpack(packed, bits), numbers)


@needs_quanto
@needs_8_bits
def test_bytes_are_measured_with_their_scales(tiny):
    prompt = asked(tiny)
    full, sizes = (len(prompt) - 1) * entry_bytes(tiny.config, tiny.dtype), {}
    for bits in ("8", "4", "2"):
        with observe(tiny.network, tiny.device, 1) as meter:
            made(tiny, bits=bits, recent=8).compress_and_generate([prompt], Decoding(3))
        sizes[bits] = meter.kv_bytes / full
        assert meter.started == [len(prompt) - 1]
    # float32: a quarter in 8 bits; in 4 and 2 bits scale and shift of each group of 64, and some entries as they are
    assert sizes["8"] == pytest.approx(0.25, abs=0.01)
    assert 0.125 < sizes["4"] < 0.25 and 0.0625 < sizes["2"] < sizes["4"] - 0.04


@needs_quanto
def test_a_budget_in_bytes_holds_more_tokens(tiny):
    size = f"{60 * entry_bytes(tiny.config, tiny.dtype) / 1024}KiB"
    limits = {}
    for bits in ("8", "4"):
        method = made(tiny, bits=bits, recent=8)
        aim(method, size)
        limits[bits] = method.prompt_limit()
    assert limits["8"] == 240 and 240 < limits["4"] < 8 * 60


@needs_quanto
def test_likelihoods_are_those_of_its_own_answers(tiny):
    prompt, method = asked(tiny), made(tiny, bits="4", recent=8)
    [answer] = method.compress_and_generate([prompt], Decoding(5))
    [scored] = loglikelihood(method, [prompt], [[answer.token_ids, [9, 8]]])
    assert scored.likelihoods[0].greedy and not scored.likelihoods[1].greedy


def test_without_its_package_one_line_says_what_to_install(tiny, monkeypatch):
    monkeypatch.setattr(quantized, "_quanto", lambda: False)
    with pytest.raises(NotInstalled, match="pip install"):
        made(tiny, bits="2")
    assert made(tiny, bits="8")
    with pytest.raises(UsageError, match="bits"):
        made(tiny, bits="3")
