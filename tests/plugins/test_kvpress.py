"""`kvpress:<Press>`: without kvpress one line; with it, its presses against its own pipeline.

kvpress wants an older transformers than the rest of the tests run with, so most of these run in an environment of
their own (see CONTRIBUTING.md) and are skipped elsewhere.
"""

import importlib.util
import json
from importlib import metadata

import pytest
import torch
import transformers  # noqa: F401  (it looks at versions when it is first imported)

from harness import Decoding, UsageError, registry
from harness.cli import invoke
from harness.cli import list as listing
from harness.inference.forward import feed
from harness.inference.kvcache import KVCache
from harness.inference.likelihood import loglikelihood
from harness.models import loading
from harness.plugins.kvpress_bridge import discovery, method
from harness.plugins.kvpress_bridge.attention import attention, untouched
from harness.plugins.kvpress_bridge.discovery import REFUSED
from harness.plugins.kvpress_bridge.method import KvPress
from harness.testing.tiny import make_model

from ..helpers.asking import ask, fingerprint, prompt
from ..helpers.running import run
from ..helpers.several import questions_for

needs_kvpress = pytest.mark.skipif(importlib.util.find_spec("kvpress") is None, reason="needs kvpress")


def refused(name):
    with pytest.raises(UsageError) as caught:
        registry.method(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def forget():
    """Methods made during a test are not kept for the next."""
    method._method.cache_clear()
    yield
    method._method.cache_clear()


# --- everywhere


def test_without_kvpress_one_line_says_how_to_get_it(monkeypatch, forget):
    monkeypatch.setattr(discovery.importlib.util, "find_spec", lambda name: None)
    expected = "kvpress:SnapKVPress needs kvpress: pip install 'long-context-harness[kvpress]'"
    assert refused("kvpress:SnapKVPress") == expected
    [row] = [row for row in listing.methods() if row["name"] == "kvpress"]
    assert (row["family"], row["variants"], row["options"]) == ("PRESS", [], [])


def test_a_transformers_it_does_not_work_with_is_named(monkeypatch, forget):
    monkeypatch.setattr(discovery.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch>=2", "transformers<5.0,>=4.56"])
    real, other = metadata.version, {"kvpress": "0.5.5", "transformers": "5.1.0"}
    monkeypatch.setattr(metadata, "version", lambda name: other.get(name) or real(name))
    message = refused("kvpress:SnapKVPress")
    assert message.startswith("kvpress 0.5.5 works with transformers<5.0,>=4.56, not 5.1.0; ")


def test_the_family_alone_is_no_method():
    assert refused("kvpress").startswith("method 'kvpress' is a family: write kvpress:PRESS")


def test_the_pip_line_names_an_extra_that_exists():
    wanted = [
        text for text in metadata.requires("long-context-harness") if "extra" in text and "kvpress" in text
    ]
    assert any(text.startswith("kvpress>=0.5.5") for text in wanted)


def test_nothing_stays_on_the_model_but_what_others_hung_there(tiny):
    network, part = tiny.network, tiny.network.model.layers[0].self_attn
    calls = []
    outer = network.model.register_forward_hook(lambda *_: calls.append("outer"))
    before = fingerprint(network)
    ids = torch.tensor([[5, 6, 7]])
    with pytest.raises(RuntimeError), untouched(network):
        part.register_forward_hook(lambda *_: calls.append("inner"))
        part.rotary_emb = network.model.rotary_emb
        part.masked_key_indices = (1, 2)
        network.model.forward = lambda **_: None
        raise RuntimeError
    assert fingerprint(network) == before
    network(ids)
    outer.remove()
    network(ids)
    assert calls == ["outer"]


# --- with kvpress


def press(model, name, **options):
    cls = registry.method(f"kvpress:{name}").cls
    return cls(model, cls.Options.parse(options, f"method kvpress:{name}"))


def of(model, name, **options):
    """A press of kvpress itself, with the same options; a wrapped one by ``press``."""
    import kvpress

    inner = options.pop("press", None)
    if inner is None:
        return getattr(kvpress, name)(**options)
    ratio = options.pop("compression_ratio")
    return getattr(kvpress, name)(press=getattr(kvpress, inner)(compression_ratio=ratio), **options)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """The tiny model with a window of 1,024 tokens: presses look at the last 64."""
    folder = make_model(tmp_path_factory.mktemp("long") / "long", max_position_embeddings=1024)
    model = loading.load(str(folder), device="cpu")
    assert model.network is not None
    return model


def by_pipeline(model, name, one, new_tokens, **options):
    """The answer of kvpress's own pipeline; the prompts here have no chat template, so its presses get none."""
    import kvpress

    made = of(model, name, **options)
    with (
        untouched(model.network),
        attention(model.network, "sdpa"),
        torch.no_grad(),
        discovery.without_template(),
    ):
        pipeline = kvpress.KVPressTextGenerationPipeline(model=model.network, tokenizer=model.tokenizer)
        inputs = {
            "context_ids": torch.tensor([one.head_ids]),
            "questions_ids": [torch.tensor([one.suffix_ids])],
        }
        return pipeline._forward(inputs, max_new_tokens=new_tokens, press=made)[0]


@needs_kvpress
@pytest.mark.parametrize(
    ("name", "options", "left"),
    [
        ("KnormPress", {"compression_ratio": 0.5}, 0.5),
        ("SnapKVPress", {"compression_ratio": 0.75, "window_size": 32}, 0.25),
        ("TOVAPress", {"compression_ratio": 0.3}, 0.7),
        ("ExpectedAttentionPress", {"compression_ratio": 0.5}, 0.5),
        ("StreamingLLMPress", {"compression_ratio": 0.8}, 0.2),
        ("KeyRerotationPress", {"compression_ratio": 0.5, "press": "KnormPress"}, 0.5),
        ("ChunkPress", {"compression_ratio": 0.5, "press": "KnormPress", "chunk_length": 64}, 0.5),
        ("AdaKVPress", {"compression_ratio": 0.5, "press": "KnormPress"}, 1.0),
        ("CriticalAdaKVPress", {"compression_ratio": 0.5, "press": "SnapKVPress"}, 1.0),
        ("KVzipPress", {"compression_ratio": 0.5}, 1.0),
        ("ThinKPress", {"key_channel_compression_ratio": 0.5}, 1.0),
    ],
)
def test_answers_are_those_of_its_own_pipeline(long, name, options, left):
    one = prompt(long, 200)
    method = press(long, name, **options)
    [answer], size = ask(method, [one], 12)
    assert answer.text == by_pipeline(long, name, one, 12, **options)
    tokens = len(one.head_ids)
    assert answer.kv_tokens == pytest.approx(left * tokens + len(one.suffix_ids) - 1, abs=2)
    assert size == answer.kv_tokens * 2 * 2 * 2 * 16 * 4  # layers, k and v, heads, channels, bytes
    nominal = options.get("compression_ratio", 0.25)  # ThinK: half the channels of the keys only
    assert answer.details["nominal_ratio"] == pytest.approx(nominal, abs=1e-6)
    assert answer.details["freed_ratio"] == pytest.approx(1 - left, abs=0.01)
    hidden = nominal if "Ada" in name or "zip" in name else 0
    assert answer.details["hidden_share"] == pytest.approx(hidden, abs=0.01)
    full, _ = ask(press(long, "KnormPress"), [one], 12)
    assert answer.token_ids != full[0].token_ids, "what is compressed must show"


@needs_kvpress
@pytest.mark.parametrize(
    ("presses", "left", "nominal"),
    [
        (["KnormPress:compression_ratio=0.5", "StreamingLLMPress:compression_ratio=0.5"], 0.25, 0.75),
        (["SnapKVPress:compression_ratio=0.4:window_size=32", "KnormPress:compression_ratio=0.5"], 0.3, 0.7),
        (["KnormPress:compression_ratio=0.5", "ThinKPress:key_channel_compression_ratio=0.5"], 0.5, 0.625),
    ],
)
def test_presses_one_after_the_other_answer_as_in_its_own_pipeline(long, presses, left, nominal):
    import kvpress

    parts = []
    for words in presses:
        name, *pairs = words.split(":")
        values = dict(pair.split("=") for pair in pairs)
        numbers = {k: int(v) if v.isdigit() else float(v) for k, v in values.items()}
        parts.append(getattr(kvpress, name)(**numbers))
    one = prompt(long, 200)
    [answer], size = ask(press(long, "ComposedPress", presses=",".join(presses)), [one], 12)
    assert answer.text == by_pipeline(long, "ComposedPress", one, 12, presses=parts)
    assert answer.kv_tokens == pytest.approx(left * len(one.head_ids) + len(one.suffix_ids) - 1, abs=2)
    assert size == answer.kv_tokens * 2 * 2 * 2 * 16 * 4
    assert answer.details["nominal_ratio"] == pytest.approx(nominal, abs=1e-6)
    full, _ = ask(press(long, "KnormPress"), [one], 12)
    assert answer.token_ids != full[0].token_ids, "what is compressed must show"


@needs_kvpress
@pytest.mark.parametrize(
    ("presses", "message"),
    [
        ("AdaKVPress,KnormPress", "it hides entries by their places"),
        ("KnormPress,AdaKVPress", "ComposedPress cannot contain"),
        ("KeyRerotationPress", "it moves what is kept"),
        ("KVzipPress", "passes of its own"),
        ("DecodingPress", "DecodingPress cannot be one of several"),
        ("ComposedPress:presses=KnormPress", "name its presses instead"),
        ("SnapKVPres", "kvpress has no 'SnapKVPres'"),
        ("SnapKVPress:0.3", "write SnapKVPress:OPTION=VALUE"),
        ("SnapKVPress:ratio=1", "no option of SnapKVPress named 'ratio'"),
        ("KnormPress:compression_ratio=2", "KnormPress: option compression_ratio='2': input should be less"),
        ("", "at least 1"),
    ],
)
def test_presses_that_cannot_stand_together_are_named(tiny, presses, message):
    with pytest.raises(UsageError) as caught:
        press(tiny, "ComposedPress", presses=presses)
    said = str(caught.value)
    assert message in said and "\n" not in said and "option options" not in said


@needs_kvpress
def test_a_ratio_of_zero_is_full_attention_and_says_so(long):
    from harness.plugins.plain import Plain

    one = prompt(long, 200)
    method = press(long, "SnapKVPress")
    [answer], size = ask(method, [one], 12)
    [full], full_size = ask(Plain(long, Plain.Options()), [one], 12)
    assert (answer.token_ids, answer.kv_tokens, size) == (full.token_ids, full.kv_tokens, full_size)
    assert "removed nothing" in method.facts_of([answer.details])["warning"]


@needs_kvpress
@pytest.mark.parametrize(
    ("name", "options", "share"),
    [
        ("PyramidKVPress", {"compression_ratio": 0.5, "window_size": 16}, 0.5),
        ("PerLayerCompressionPress", {"press": "KnormPress", "compression_ratios": [0.2, 0.8]}, 0.5),
        ("PerLayerCompressionPress", {"press": "KnormPress", "compression_ratios": [0.8, 0.2]}, 0.5),
    ],
)
def test_layers_of_different_length_are_read_and_counted_right(long, name, options, share):
    """Against kvpress's cache read on one token at a time, which needs no mask that could be too wide."""
    import kvpress
    from transformers import DynamicCache

    one = prompt(long, 200)
    [answer], size = ask(press(long, name, **options), [one], 12)
    network, past = long.network, DynamicCache()
    wrapped = {**options, "press": kvpress.KnormPress()} if "press" in options else options
    made = getattr(kvpress, name)(**wrapped)
    with untouched(network), attention(network, "sdpa"), torch.no_grad():
        with made(network):
            network.model(input_ids=torch.tensor([one.head_ids]), past_key_values=past)
        held = [layer.keys.shape[2] for layer in past.layers]
        tokens, place, found = list(one.suffix_ids), len(one.head_ids), []
        while len(found) < 12:
            out = network(
                input_ids=torch.tensor([[tokens.pop(0)]]),
                past_key_values=past,
                position_ids=torch.tensor([[place]]),
            )
            place += 1
            if not tokens:
                logits = out.logits[0, -1]
                logits[list(long.end_ids)] = -torch.inf
                found.append(int(logits.argmax()))
                tokens.append(found[-1])
    assert answer.token_ids == found
    assert held[0] != held[1] and answer.details["entries_by_layer"] == held
    assert answer.kv_tokens == pytest.approx(sum(held) / 2 + len(one.suffix_ids) - 1, abs=1)
    assert size == (sum(held) + 2 * (len(one.suffix_ids) - 1)) * 2 * 2 * 16 * 4
    assert answer.details["freed_ratio"] == pytest.approx(1 - share, abs=0.01)


@needs_kvpress
@pytest.mark.parametrize(
    "name", ["SnapKVPress", "AdaKVPress", "RandomPress", "KVzipPress", "LeverageScorePress"]
)
def test_every_sample_is_compressed_alike_in_any_order_and_nothing_stays(long, name):
    before, attends = fingerprint(long.network), long.network.config._attn_implementation
    method = press(long, name, compression_ratio=0.5)
    prompts = [prompt(long, words, seed) for seed, words in enumerate((200, 90, 140))]
    alone = [ask(method, [one], 8)[0][0] for one in prompts]
    assert [ask(method, [one], 8)[0][0] for one in prompts[::-1]] == alone[::-1]
    together, _ = ask(method, prompts, 8)
    assert together == alone
    freed = {"AdaKVPress": 0, "KVzipPress": 0}.get(name, 0.5)
    assert [a.details["freed_ratio"] for a in alone] == pytest.approx([freed] * 3, abs=0.02)
    assert [a.details["nominal_ratio"] for a in alone] == [0.5] * 3
    assert fingerprint(long.network) == before
    assert long.network.config._attn_implementation == attends


@needs_kvpress
@pytest.mark.parametrize(
    "name", ["ExpectedAttentionPress", "AdaKVPress", "KeyRerotationPress", "PyramidKVPress"]
)
def test_one_context_serves_many_questions(long, name):
    method, decoding, one = press(long, name, compression_ratio=0.5), Decoding(10), prompt(long, 200)
    [state] = method.compress([one.head_ids], [len(one.suffix_ids)], decoding)
    assert method.shares_contexts and method.share_key(60, 5, decoding) == method.share_key(
        60, 9, Decoding(3)
    )
    kept = [key.clone() for key in state.cache.keys]
    other = long.tokenizer("Where is it?")["input_ids"]
    answers = [method.generate([state], [q], decoding)[0] for q in (one.suffix_ids, other, one.suffix_ids)]
    assert answers[0] == answers[2] == method.compress_and_generate([one], decoding)[0]
    assert answers[1].token_ids != answers[0].token_ids
    assert all(torch.equal(a, b) for a, b in zip(kept, state.cache.keys)), "the state is intact"


@needs_kvpress
@pytest.mark.parametrize("name", ["SnapKVPress", "AdaKVPress", "PyramidKVPress"])
def test_the_answer_is_the_likeliest_at_each_token(long, name):
    method, one = press(long, name, compression_ratio=0.5), prompt(long, 200)
    [answer], _ = ask(method, [one], 8)
    other = [*answer.token_ids[:5], (answer.token_ids[5] + 1) % 400 + 4, *answer.token_ids[6:]]
    [found] = loglikelihood(method, [one], [[answer.token_ids, other]])
    assert [x.greedy for x in found.likelihoods] == [True, False]
    assert found.kv_tokens == answer.kv_tokens


@needs_kvpress
def test_methods_asked_afterwards_answer_as_before(long):
    from harness.plugins.plain import Plain

    one = prompt(long, 100)
    before, _ = ask(Plain(long, Plain.Options()), [one], 8)
    [_], hidden = feed(long.network, [KVCache()], [one.ids])
    ask(press(long, "AdaKVPress", compression_ratio=0.9), [one], 8)
    assert ask(Plain(long, Plain.Options()), [one], 8)[0] == before
    assert torch.equal(feed(long.network, [KVCache()], [one.ids])[1], hidden)


@needs_kvpress
def test_a_run_shows_what_a_mask_does_not_free(long, tmp_path, capsys):
    words = ["run", "--model", long.folder, "--device", "cpu", "--out", tmp_path / "runs"]
    words += ["--set", "passkey.lengths=300", "--set", "passkey.depths=50", "--set", "passkey.trials=3"]
    words = [str(word) for word in words]
    assert invoke([*words, "--method", "kvpress:AdaKVPress", "--compression-ratio", "0.5", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    [row] = summary["tasks"]
    assert (row["n_ok"], row["verified"], row["compression"]) == (3, True, pytest.approx(1.0))
    folder = next((tmp_path / "runs").iterdir())
    content = json.loads((folder / "run.json").read_text("utf-8"))
    assert content["method"]["sees_question"] is False
    assert content["method"]["version"].endswith(f"kvpress{metadata.version('kvpress')}")
    assert "claims to remove 50% of the context's KV cache and freed 0%" in content["method_facts"]["warning"]
    records = [json.loads(line) for line in (folder / "samples.jsonl").read_text("utf-8").splitlines()]
    assert [r["details"]["nominal_ratio"] for r in records] == [0.5] * 3
    assert invoke([*words, "--method", "kvpress:KnormPress", "--compression-ratio", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert "kvpress:KnormPress on" in shown and "note" not in shown


@needs_kvpress
def test_the_parameters_of_a_press_are_options_with_their_types(capsys):
    assert invoke(["run", "--method", "kvpress:AdaKVPress", "--help"]) == 0
    shown = capsys.readouterr().out
    for flag in ("--compression-ratio", "--press", "--alpha-safeguard"):
        assert flag in shown
    from harness.options import describe

    found = {row["name"]: row for row in describe(registry.method("kvpress:SnapKVPress").cls.Options)}
    assert (
        found["compression_ratio"]["type"] == "float"
        and found["compression_ratio"]["range"] == ">= 0 and < 1"
    )
    assert (found["window_size"]["type"], found["window_size"]["default"]) == ("int", 64)
    assert "fraction of key-value pairs to remove" in found["compression_ratio"]["description"]
    assert "press_seed" in registry.method("kvpress:RandomPress").cls.Options.model_fields, (
        "--seed is the run's"
    )
    choices = {row["name"]: row for row in describe(registry.method("kvpress:CURPress").cls.Options)}
    assert "kv_product" in choices["leverage_type"]["choices"]
    layers = registry.method("kvpress:PerLayerCompressionPress").cls.Options
    assert layers.parse({"compression_ratios": "0.1,0.9"}, "x").compression_ratios == [0.1, 0.9]


@needs_kvpress
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SnapKVPress", {"compression_ratio": "1.5"}, "input should be less than 1"),
        ("SnapKVPress", {"compresion_ratio": "0.5"}, "did you mean 'compression_ratio'?"),
        ("AdaKVPress", {"press": "Snap"}, "kvpress has no 'Snap'"),
        ("AdaKVPress", {"press": "ThinKPress"}, "AdaKVPress requires a ScorerPress as input"),
        ("AdaKVPress", {"alpha_safeguard": "7"}, "alpha_safeguard should be in"),
    ],
)
def test_bad_options_give_one_line(tiny, name, options, message):
    with pytest.raises(UsageError) as caught:
        press(tiny, name, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@needs_kvpress
def test_names_are_checked():
    assert "did you mean 'SnapKVPress'?" in refused("kvpress:SnapKVPres")
    assert "no press of kvpress named 'ScorerPress'" in refused("kvpress:ScorerPress")
    for name, reason in REFUSED.items():
        assert refused(f"kvpress:{name}") == f"kvpress:{name} cannot be run: {reason}"


@needs_kvpress
def test_every_press_that_is_listed_can_be_made():
    names = KvPress.variants()
    assert len(names) > 25 and not set(names) & set(REFUSED)
    for name in names:
        cls = registry.method(f"kvpress:{name}").cls
        given = {"compression_ratios": [0.5], "presses": ["KnormPress"]}
        required = {n: given[n] for n, f in cls.Options.model_fields.items() if f.is_required()}
        if name == "PrefillDecodingPress":
            required = {"prefilling_press": "KnormPress"}
        assert cls.Options.parse(required, name) is not None and cls.__doc__


@needs_kvpress
def test_a_press_that_has_nothing_for_the_model_says_so_before_the_first_sample(long, monkeypatch):
    method = press(long, "QFilterPress", compression_ratio=0.5)
    with pytest.raises(UsageError, match=r"^kvpress:QFilterPress cannot be set up for .*: ") as caught:
        method.prepare([], Decoding(4))
    assert "\n" not in str(caught.value)
    press(long, "SnapKVPress", compression_ratio=0.5).prepare([], Decoding(4))


@needs_kvpress
@pytest.mark.parametrize("name", ["SnapKVPress", "ExpectedAttentionPress"])
def test_twenty_questions_cost_one_compression_and_answer_as_twenty_runs_do(
    monkeypatch, tiny_folder, tmp_path, name
):
    wanted = questions_for(monkeypatch, tiny_folder, tmp_path)
    half = {"method": f"kvpress:{name}", "options": {"compression_ratio": "0.5"}, "most": 200}
    _, alone = run(wanted("alone", together=False, protocol="before", **half))
    _, once = run(wanted("once", protocol="after", **half))
    [record] = once.values()
    assert record["context"]["compressions"] == 1 and record["cost"]["questions"] == 20
    assert [a["prediction"] for a in record["answers"]] == [
        alone[f"s{k}"]["answers"][0]["prediction"] for k in range(20)
    ]
    spent = sum(each["cost"]["positions"] for each in alone.values())
    assert spent - record["cost"]["positions"] == pytest.approx(19 * record["context"]["positions"], rel=0.02)


@needs_kvpress
def test_presses_get_no_template_where_the_prompt_has_none(tiny_folder):
    from kvpress.presses import kvzip_press
    from transformers import AutoTokenizer

    with discovery.without_template():
        bare = kvzip_press.AutoTokenizer.from_pretrained(tiny_folder)
        assert bare.chat_template is None
    assert kvzip_press.AutoTokenizer is AutoTokenizer


@needs_kvpress
def test_kvzip_keeps_the_beginning_of_a_text_without_template(long):
    """What it takes for the template's tokens it always evicts: here there is none."""
    assert long.has_chat_template
    one = prompt(long, 200)
    method = press(long, "KVzipPress", compression_ratio=0.2)
    state, first = method._press(one.head_ids, 1), 12
    hidden = [set(indices[2].tolist()) for indices in state.hidden if indices is not None]
    assert hidden and not all(set(range(first)) <= ranks for ranks in hidden)
    assert not method._templated(one.head_ids)


@needs_kvpress
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SnapKVPress", {"compression_ratio": 0.5, "window_size": 0}),
        ("SnapKVPress", {"compression_ratio": 0.5, "kernel_size": 4}),
        ("AdaKVPress", {"compression_ratio": 0.5, "press": "ObservedAttentionPress"}),
        ("ChunkPress", {"compression_ratio": 0.5, "press": "ObservedAttentionPress"}),
        ("PerLayerCompressionPress", {"compression_ratios": "0.5"}),
        ("PerLayerCompressionPress", {"compression_ratios": "0.5,1.5"}),
        ("DMSPress", {}),
    ],
)
def test_a_press_that_fails_on_every_context_is_refused_before_the_first(long, name, options):
    method, one = press(long, name, **options), prompt(long, 200)
    with pytest.raises((RuntimeError, AssertionError, IndexError, TypeError, ZeroDivisionError)):
        method.compress([one.head_ids], [3], Decoding(2))
    with pytest.raises(UsageError, match="fails on every context"):
        method.prepare([one], Decoding(2))


@needs_kvpress
def test_a_cache_that_grew_is_not_called_masked(long):
    method = press(long, "SnapKVPress")
    said = method.facts_of([{"nominal_ratio": 0.5, "freed_ratio": -1.0}])["warning"]
    assert "grew to 2.0 times" in said and "masked" not in said
