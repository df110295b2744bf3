"""Presses of kvpress that look at the question, or drop entries while the answer is written, against kvpress itself."""

import pytest
import torch
import transformers  # noqa: F401  (it looks at versions when it is first imported)

from harness import Decoding, UsageError
from harness.evaluation.settings import RunSettings
from harness.inference.likelihood import loglikelihood
from harness.models import loading
from harness.plugins.kvpress_bridge.attention import attention, untouched
from harness.plugins.kvpress_bridge.options import make_press
from harness.testing.tiny import make_model

from ..helpers.asking import ask, fingerprint, prompt
from ..helpers.running import run
from .test_kvpress import by_pipeline, needs_kvpress, press

pytestmark = needs_kvpress
ENTRY = 2 * 2 * 2 * 16 * 4
"""Bytes of an entry of the tiny model: layers, k and v, heads, channels, bytes."""
DROPPING = {"base_press": "KnormPress", "compression_interval": 3, "target_size": 60}
BOTH = {
    "prefilling_press": "KnormPress:compression_ratio=0.5",
    "decoding_press": "DecodingPress:base_press=KnormPress:compression_interval=3:target_size=60",
}


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """The tiny model with a window of 1,024 tokens."""
    folder = make_model(tmp_path_factory.mktemp("long") / "long", max_position_embeddings=1024)
    return loading.load(str(folder), device="cpu")


def made(method):
    """The press of kvpress itself that the method would make, its draws from the same seed."""
    torch.manual_seed(0)
    return make_press(method.press, method.options.model_dump())


@pytest.mark.parametrize(
    ("name", "options", "begins", "ends"),
    [
        ("DecodingPress", DROPPING, 1.0, 60),
        ("DecodingPress", {**DROPPING, "base_press": "SnapKVPress:window_size=2"}, 1.0, 60),
        ("DecodingPress", {**DROPPING, "compression_interval": 1, "target_size": 33}, 1.0, 33),
        ("CAMPress", DROPPING, 1.0, 60),
        ("CompressionRatioDecodingPress", {"base_press": "KnormPress", "compression_interval": 3}, 1.0, None),
        ("PrefillDecodingPress", BOTH, 0.5, 60),
        ("PrefillDecodingPress", {"prefilling_press": BOTH["prefilling_press"]}, 0.5, None),
    ],
)
def test_what_goes_while_answering_goes_as_in_its_own_pipeline(
    long, monkeypatch, name, options, begins, ends
):
    one = prompt(long, 200)
    method = press(long, name, **options)
    [answer], size = ask(method, [one], 18)
    monkeypatch.setattr("tests.plugins.test_kvpress.of", lambda *_, **__: made(method))
    assert answer.text == by_pipeline(long, name, one, 18)
    tokens = len(one.head_ids)
    assert answer.kv_tokens == pytest.approx(begins * tokens + len(one.suffix_ids) - 1, abs=2)
    assert size == answer.kv_tokens * ENTRY, "what an answer begins from, before anything has gone"
    said = method.facts_of([answer.details])
    if ends:
        assert answer.details["kv_tokens_at_end"] == ends, "18 tokens: dropped at the last of them"
    if name == "CompressionRatioDecodingPress":
        assert answer.details["kv_tokens_at_end"] == pytest.approx((len(one.ids) + 17) / 2, abs=2)
    if options == BOTH or ends:
        assert said["dropped_while_answering"] > 50 and said["warning"] is None
    full, _ = ask(press(long, "KnormPress"), [one], 18)
    assert answer.token_ids != full[0].token_ids, "what is dropped must show"


def test_an_answer_too_short_for_anything_to_go_says_so_and_is_the_models_own(long):
    one, method = prompt(long, 200), press(long, "DecodingPress", **{**DROPPING, "compression_interval": 50})
    [answer], _ = ask(method, [one], 12)
    [full], _ = ask(press(long, "KnormPress"), [one], 12)
    assert answer.token_ids == full.token_ids
    assert "dropped nothing" in method.facts_of([answer.details])["warning"]


@pytest.mark.parametrize(("name", "options"), [("DecodingPress", DROPPING), ("PrefillDecodingPress", BOTH)])
def test_one_context_serves_many_answers_and_likelihoods_follow_the_drops(long, name, options):
    method, decoding, one = press(long, name, **options), Decoding(12), prompt(long, 200)
    before = fingerprint(long.network)
    [state] = method.compress([one.head_ids], [len(one.suffix_ids)], decoding)
    first, again = (method.generate([state], [one.suffix_ids], decoding)[0] for _ in range(2))
    assert first == again == method.compress_and_generate([one], decoding)[0]
    assert fingerprint(long.network) == before
    other = [*first.token_ids[:8], (first.token_ids[8] + 1) % 400 + 4, *first.token_ids[9:]]
    [found] = loglikelihood(method, [one], [[first.token_ids, other]])
    assert [x.greedy for x in found.likelihoods] == [True, False]
    assert found.kv_tokens == first.kv_tokens


@pytest.mark.parametrize(
    "options",
    [
        {"compression_ratio": 0.5},
        {"compression_ratio": 0.8},
        {"compression_ratio": 0.5, "rerotate_keys": False},
        {"compression_ratio": 0.5, "chunk_length": 100},
    ],
)
def test_finch_keeps_what_the_question_looks_at_and_the_question(long, options):
    """Against kvpress's press over context and question, read on one token at a time at the places it names."""
    import kvpress
    from transformers import DynamicCache

    one, method, network = prompt(long, 200), press(long, "FinchPress", **options), long.network
    assert method.protocol == "query-aware" and not method.two_phase
    before = fingerprint(network), network.get_input_embeddings().weight.shape
    [answer], size = ask(method, [one], 12)
    assert (fingerprint(network), network.get_input_embeddings().weight.shape) == before
    ids, past = [*one.head_ids, *one.suffix_ids[:-1]], DynamicCache()
    theirs = kvpress.FinchPress(**options)
    theirs.window_size, theirs.delimiter_token_id = len(one.suffix_ids) - 1, -1
    with untouched(network), attention(network, "sdpa"), torch.no_grad():
        with theirs(network):
            network.model(input_ids=torch.tensor([ids]), past_key_values=past)
        place = past.get_seq_length() if theirs.rerotate_keys else len(ids)
        last, found = one.suffix_ids[-1], []
        for step in range(12):
            out = network(
                input_ids=torch.tensor([[last]]),
                past_key_values=past,
                position_ids=torch.tensor([[place + step]]),
            )
            logits = out.logits[0, -1]
            logits[list(long.end_ids)] = -torch.inf
            last = int(logits.argmax())
            found.append(last)
    assert answer.token_ids == found
    left = 1 - options["compression_ratio"]
    assert answer.kv_tokens == pytest.approx(left * len(ids), abs=3) and size == answer.kv_tokens * ENTRY


def test_finch_aims_at_a_budget_and_refuses_one_that_holds_no_more_than_the_question(long):
    one, method = prompt(long, 200), press(long, "FinchPress")
    method.aim(100)
    assert ask(method, [one], 4)[0][0].kv_tokens == 100
    method = press(long, "FinchPress")
    method.aim(len(one.suffix_ids) - 1)
    with pytest.raises(UsageError, match=r"no more than the \d+ of the question"):
        ask(method, [one], 4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("DecodingPress", {"base_press": "AdaKVPress"}, "AdaKVPress hides entries and drops none"),
        ("DecodingPress", {"base_press": "ThinKPress"}, "requires a ScorerPress"),
        ("DecodingPress", {"base_press": "SnapKVPress:window=3"}, "no option of SnapKVPress named 'window'"),
        ("DecodingPress", {"target_size": 0}, "target_size must be greater than 0"),
        ("PrefillDecodingPress", {}, "it compresses nothing"),
        ("PrefillDecodingPress", {"prefilling_press": "KeyRerotationPress"}, "it moves what is kept"),
        ("PrefillDecodingPress", {"prefilling_press": "KVzipPress"}, "passes of its own"),
        ("PrefillDecodingPress", {"prefilling_press": "RestoreKVPress"}, "RestoreKVPress cannot be run"),
    ],
)
def test_what_cannot_be_run_is_one_line(tiny, name, options, message):
    with pytest.raises(UsageError) as caught:
        press(tiny, name, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_question_that_would_be_dropped_itself_is_refused(long):
    one, method = prompt(long, 200), press(long, "DecodingPress", **{**DROPPING, "target_size": 3})
    with pytest.raises(UsageError, match="is not less than the 3 entries that are to stay"):
        ask(method, [one], 4)


def prepared(model, name, new_tokens, **options):
    method = press(model, name, **options)
    method.prepare([prompt(model, 200)], Decoding(new_tokens))
    return method


@pytest.mark.parametrize("name", ["DecodingPress", "CAMPress", "PrefillDecodingPress"])
def test_a_press_that_would_fail_at_its_first_drop_is_refused_before_the_run(long, name):
    options = {"base_press": "SnapKVPress:window_size=8", "compression_interval": 5, "target_size": 60}
    if name == "PrefillDecodingPress":
        text = ":".join(f"{key}={value}" for key, value in options.items() if key != "base_press")
        options = {"decoding_press": f"DecodingPress:base_press=SnapKVPress:{text}"}  # a window of 64
    before = fingerprint(long.network)
    with pytest.raises(UsageError, match=f"kvpress:{name} fails when it first drops .* window") as caught:
        prepared(long, name, 12, **options)
    assert "\n" not in str(caught.value) and fingerprint(long.network) == before
    assert prepared(long, name, 4, **options)  # no answer is long enough for anything to go


@pytest.mark.parametrize(
    ("name", "options", "new_tokens"),
    [
        ("DecodingPress", DROPPING, 12),
        ("CAMPress", DROPPING, 12),
        ("CompressionRatioDecodingPress", {"base_press": "KnormPress", "compression_interval": 3}, 12),
        ("PrefillDecodingPress", BOTH, 12),
        ("PrefillDecodingPress", {"prefilling_press": BOTH["prefilling_press"]}, 12),
        ("DecodingPress", {**DROPPING, "base_press": "SnapKVPress:window_size=2"}, 12),
        ("DecodingPress", {**DROPPING, "compression_interval": 1}, 12),
        # The first drop sees the question's states too; there is no second one.
        ("DecodingPress", {**DROPPING, "base_press": "SnapKVPress:window_size=5"}, 5),
    ],
)
def test_a_press_that_can_drop_is_left_as_it_was(long, name, options, new_tokens):
    before = fingerprint(long.network)
    method = prepared(long, name, new_tokens, **options)
    assert fingerprint(long.network) == before
    one = prompt(long, 200)
    assert method.run([one], Decoding(new_tokens)) == press(long, name, **options).run(
        [one], Decoding(new_tokens)
    )


def test_a_run_records_what_was_held_when_each_answer_ended(long, tmp_path):
    words = {"lengths": "300", "depths": "50", "trials": "2"}
    result, records = run(
        RunSettings(
            method="kvpress:DecodingPress",
            options={"base_press": "KnormPress", "compression_interval": "2", "target_size": "100"},
            tasks=("passkey",),
            task_settings={"passkey": words},
            model=str(long.folder),
            device="cpu",
            out=tmp_path / "runs",
        )
    )
    facts = result.folder.read_run()["method_facts"]
    assert (
        facts["dropped_while_answering"] > 0 and facts["kv_tokens_at_start"] > 200 > facts["kv_tokens_at_end"]
    )
    assert all(r["status"] == "ok" for r in records.values())
    for each in (r["details"] for r in records.values()):
        dropped = each["kv_tokens_at_start"] + each["written"] - each["kv_tokens_at_end"]
        assert dropped > 100 if each["written"] >= 2 else dropped == 0
