"""What a method says is held against what the model was seen doing: liars fail, the honest pass, hooks go."""

import json
import time
from dataclasses import replace

import pytest
import torch

from harness import Decoding, Generation, MeasurementError, Method, Prompt, TokenizedPrompt
from harness.cli import invoke
from harness.contracts.phases import phase
from harness.evaluation.plan import plan_run
from harness.evaluation.runner import execute
from harness.inference.decoding import decode
from harness.inference.forward import feed
from harness.inference.kvcache import KVCache, stack
from harness.inference.meter import Meter, Rows, observe
from harness.inference.verification import check
from harness.plugins.plain import Plain

from ...helpers.running import Watcher, as_method, one_thread, run, settings, with_toy

LAYERS, KV_HEADS, HEAD_DIM, FLOAT32 = 2, 2, 16, 4


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


class Own(Method):
    """A compressor as simple as can be: keeps the last eighth of the cache, or only says so.

    Parts may be replaced: `keep` says which caches really shrink, `declare` what is claimed.
    """

    share = 8
    marks = True

    def __init__(self, model, options):
        super().__init__(model, options)
        self.seen = 0

    def shrinks(self):
        return True

    def compress_and_generate(self, prompts, decoding):
        found = []
        for prompt in prompts:
            self.seen += 1
            cache = self.read(prompt.ids[:-1])
            kept = len(cache) // self.share
            if self.shrinks():
                cache = cache.slice(len(cache) - kept, len(cache))
            tokens = self.answer(cache, prompt.ids[-1], decoding)
            text = self.model.tokenizer.decode(tokens, skip_special_tokens=True)
            found.append(Generation(text, tokens, "length", len(prompt), self.declares(kept)))
        return found

    def declares(self, kept):
        return kept

    def read(self, ids):
        with phase("compress"), torch.no_grad():
            return feed(self.model.network, [KVCache()], [ids])[0][0]

    def answer(self, cache, last, decoding):
        if not self.marks:
            return decode(self.model, [cache], [last], decoding)[1][0]
        with phase("decode"):
            return decode(self.model, [cache], [last], decoding)[1][0]


class Unmarked(Own):
    marks = False


def measured(monkeypatch, tiny_folder, tmp_path, cls, **changes):
    as_method(monkeypatch, cls)
    return run(settings(tiny_folder, tmp_path, method="own", **changes))


# --- the honest


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("cls", [Own, Unmarked])
def test_a_method_that_does_what_it_says_passes(monkeypatch, tiny_folder, tmp_path, cls, batch_size):
    grid = {"passkey": {"lengths": "150,200,250", "depths": "50"}}
    result, records = measured(
        monkeypatch, tiny_folder, tmp_path, cls, task_settings=grid, batch_size=batch_size
    )
    assert len({r["prompt_tokens"] for r in records.values()}) == 3
    for record in records.values():
        kept = (record["prompt_tokens"] - 1) // 8
        assert record["measured"] == {
            "kv_tokens": kept,
            "verified": True,
            "compression": (record["prompt_tokens"] - 1) / kept,
        }
    row = result.summary["tasks"][0]
    assert 8 <= row["compression"] < 8.5 and row["verified"] is True


def test_the_bytes_of_plain_are_those_of_its_entries(monkeypatch, tiny_folder, tmp_path):
    for dtype, size in (("float32", FLOAT32), ("bfloat16", 2)):
        _, records = run(settings(tiny_folder, tmp_path, dtype=dtype, limit=2))
        for record in records.values():
            entries = record["prompt_tokens"] - 1
            assert record["measured"]["kv_tokens"] == entries
            assert record["cost"]["kv_bytes"] == entries * LAYERS * KV_HEADS * HEAD_DIM * 2 * size


def test_the_bytes_of_a_compressor_are_fewer(monkeypatch, tiny_folder, tmp_path):
    for cls in (Own, Unmarked):
        _, records = measured(monkeypatch, tiny_folder, tmp_path / cls.__name__, cls, limit=1)
        for record in records.values():
            entries = record["measured"]["kv_tokens"]
            assert record["cost"]["kv_bytes"] == entries * LAYERS * KV_HEADS * HEAD_DIM * 2 * FLOAT32


@pytest.mark.parametrize("new_tokens", [1, 6])
@pytest.mark.parametrize("marks", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_method_that_calls_generate_on_the_whole_prompt_is_verified(
    monkeypatch, tiny_folder, tmp_path, marks, batch_size, new_tokens
):
    class Transformers(Method):
        """As most people would write it, the reading inside the same call."""

        def compress_and_generate(self, prompts, decoding):
            longest = max(map(len, prompts))
            ids = torch.full((len(prompts), longest), self.model.pad_id)
            mask = torch.zeros(len(prompts), longest, dtype=torch.long)
            for row, prompt in enumerate(prompts):
                ids[row, longest - len(prompt) :] = torch.tensor(prompt.ids)
                mask[row, longest - len(prompt) :] = 1
            call = {"max_new_tokens": decoding.max_new_tokens, "do_sample": False, "eos_token_id": ends}
            if marks:
                with phase("decode"):
                    out = self.model.network.generate(ids, attention_mask=mask, **call)
            else:
                out = self.model.network.generate(ids, attention_mask=mask, **call)
            found = []
            for prompt, new in zip(prompts, out[:, longest:].tolist()):
                stop = next((i + 1 for i, token in enumerate(new) if token in ends), len(new))
                text = self.model.tokenizer.decode(new[:stop], skip_special_tokens=True)
                found.append(Generation(text, new[:stop], "length", len(prompt), len(prompt)))
            return found

    ends: list[int] = []
    with_toy(monkeypatch)
    monkeypatch.setattr("tests.helpers.running.Toy.samples", shortened(new_tokens))
    wanted = settings(tiny_folder, tmp_path, method="own", tasks=("toy",), batch_size=batch_size)
    as_method(monkeypatch, Transformers)
    # Whatever the first sample answers first ends every answer: in a batch, rows of different length.
    probe = plan_run(replace(wanted, method="plain", limit=1))
    execute(probe, Watcher())
    first = probe.folder.records()[0].prediction
    ends += probe.model.tokenizer(first, add_special_tokens=False)["input_ids"][:1]
    _, records = run(wanted)
    assert [r["measured"]["verified"] for r in records.values()] == [True] * 4
    if new_tokens > 1:
        assert len({r["new_tokens"] for r in records.values()}) > 1


def shortened(new_tokens):
    from ...helpers.running import Toy

    original = Toy.samples

    def samples(self, env):
        for sample in original(self, env):
            yield replace(sample, new_tokens=new_tokens)

    return samples


def test_a_method_that_marks_every_token_is_verified(monkeypatch, tiny_folder, tmp_path):
    class TokenByToken(Own):
        def answer(self, cache, last, decoding):
            tokens = []
            for _ in range(decoding.max_new_tokens):
                with phase("decode"), torch.no_grad():
                    (cache,), hidden = feed(self.model.network, [cache], [[last]])
                    last = int(self.model.network.lm_head(hidden[0, -1]).argmax())
                tokens.append(last)
            return tokens

    _, records = measured(monkeypatch, tiny_folder, tmp_path, TokenByToken)
    assert all(r["measured"]["verified"] for r in records.values())


def test_reading_on_while_answering_does_not_begin_another_answer(monkeypatch, tiny_folder, tmp_path):
    class ReadsOn(Own):
        """Generates, reads something longer (beacons of a window that filled, say), and goes on."""

        def answer(self, cache, last, decoding):
            with phase("decode"), torch.no_grad():
                (cache,), (tokens,) = decode(self.model, [cache], [last], decoding, at_most=3)
                feed(self.model.network, [cache], [[5, 6, 7, 8, 9]])
                _, (more,) = decode(self.model, [cache], [tokens[-1]], decoding, produced=3)
            return tokens + more

    for batch_size in (1, 3):
        _, records = measured(monkeypatch, tiny_folder, tmp_path, ReadsOn, batch_size=batch_size)
        assert all(r["measured"]["verified"] for r in records.values())


def test_a_probe_before_the_answer_is_not_taken_for_its_beginning(monkeypatch, tiny_folder, tmp_path):
    class Probing(Own):
        def read(self, ids):
            cache = super().read(ids)
            with phase("compress"), torch.no_grad():
                feed(self.model.network, [cache], [[5]])
            return cache

    _, records = measured(monkeypatch, tiny_folder, tmp_path, Probing)
    assert all(r["measured"]["verified"] for r in records.values())


def test_a_method_that_never_runs_the_model_is_shown_as_unverified(
    monkeypatch, tiny_folder, tmp_path, capsys
):
    class Guess(Method):
        def compress_and_generate(self, prompts, decoding):
            return [Generation("12345", [7], "length", len(p), 4) for p in prompts]

    as_method(monkeypatch, Guess)
    words = ["run", "-m", "own", "--model", str(tiny_folder), "--device", "cpu", "--out", str(tmp_path)]
    words += ["--set", "passkey.depths=0,50,100"]
    assert invoke(words) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.strip().startswith("passkey"))
    assert "61.25?" in row.split() and "'?' after a ratio: the method declares it" in out
    record = json.loads(next(tmp_path.glob("*/samples.jsonl")).read_text().splitlines()[0])
    assert record["measured"]["verified"] is False and record["cost"]["kv_bytes"] is None
    assert record["doubts"] == ["no logits were seen that the answer was chosen from"]


def test_what_is_seen_of_one_sample_is_never_booked_on_another(monkeypatch, tiny_folder, tmp_path):
    class Half(Own):
        """Runs the model for the last sample of a batch only."""

        def compress_and_generate(self, prompts, decoding):
            guess = [Generation("1", [7], "length", len(p), 3) for p in prompts[:-1]]
            return guess + super().compress_and_generate(prompts[-1:], decoding)

    with pytest.raises(MeasurementError, match=r"token 1 .* no logits that were seen"):
        measured(monkeypatch, tiny_folder, tmp_path, Half, batch_size=3)


# --- the others


class Pretends(Own):
    def shrinks(self):
        return False


class PretendsUnmarked(Pretends):
    marks = False


class OnlyOnce(Own):
    """Its compression is switched off by what the first sample left behind: the best known bug of the field."""

    def shrinks(self):
        return self.seen == 1


class Hides(Own):
    """Masks seven eighths of a cache that it keeps: nothing is saved."""

    def shrinks(self):
        return False

    def answer(self, cache, last, decoding):
        from harness.inference.kvcache import stack

        network, hidden = self.model.network, len(cache) - len(cache) // self.share
        batch = stack([cache])
        mask = batch.padding_mask([1], "cpu")
        mask[0, :hidden] = 0
        ids = torch.full((1, batch.width + 1), last)
        with phase("decode"):
            out = network.generate(ids, attention_mask=mask, past_key_values=batch.cache, max_new_tokens=3)
        return out[0, batch.width + 1 :].tolist()


class Loses(Own):
    """Says it keeps everything and keeps an eighth."""

    def declares(self, kept):
        return kept * self.share


@pytest.mark.parametrize(
    ("cls", "before", "message"),
    [
        (
            Pretends,
            0,
            "says it compressed 246 prompt tokens to 30 KV entries, but the model was seen holding 245",
        ),
        (PretendsUnmarked, 0, "was seen holding 245"),
        (OnlyOnce, 1, "was seen holding 245"),
        (Hides, 0, "was seen holding 245"),
        (Loses, 0, "says it kept 246 prompt tokens as 240 KV entries, but the model was seen holding 30"),
    ],
)
def test_a_method_that_only_pretends_fails_its_run(
    monkeypatch, tiny_folder, tmp_path, capsys, cls, before, message
):
    as_method(monkeypatch, cls)
    words = ["run", "-m", "own", "--model", str(tiny_folder), "--device", "cpu", "--out", str(tmp_path)]
    words += ["--set", "passkey.depths=0,50,100"]
    for _ in range(2):  # starting again does not let the next sample through
        assert invoke(words) == 1
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1
        assert message in captured.err and captured.err.endswith("the run is not to be believed\n")
        folder = next(tmp_path.iterdir())
        content = json.loads((folder / "run.json").read_text())
        assert content["status"] == "failed" and "summary" not in content
        assert content["error"] in captured.err
        samples = folder / "samples.jsonl"
        assert len(samples.read_text().splitlines() if samples.exists() else []) == before


def test_once_mended_a_failed_run_starts_over(monkeypatch, tiny_folder, tmp_path):
    as_method(monkeypatch, OnlyOnce)
    wanted = settings(tiny_folder, tmp_path, method="own")
    with pytest.raises(MeasurementError):
        run(wanted)
    as_method(monkeypatch, Own)
    result, records = run(wanted)
    assert result.ran == 3 and len(records) == 3, "nothing of a failed run is built upon"
    assert (result.folder.path / "samples-failed.jsonl").is_file(), "and nothing is lost"
    assert result.folder.read_run()["status"] == "finished"


def test_one_liar_in_a_batch_is_enough(monkeypatch, tiny_folder, tmp_path):
    as_method(monkeypatch, OnlyOnce)
    with pytest.raises(MeasurementError):
        run(settings(tiny_folder, tmp_path, method="own", batch_size=3))


def test_the_compression_rests_on_the_prompt_that_was_given(monkeypatch, tiny_folder, tmp_path):
    class Boasts(Own):
        def compress_and_generate(self, prompts, decoding):
            return [replace(g, prompt_tokens=10**6) for g in super().compress_and_generate(prompts, decoding)]

    _, records = measured(monkeypatch, tiny_folder, tmp_path, Boasts, limit=1)
    (record,) = records.values()
    assert record["measured"]["compression"] == pytest.approx(8, abs=0.2)


def test_a_token_or_one_percent_is_no_lie():
    def verified(declared, seen):
        meter = Meter()
        meter._marked.append((Rows(seen, 1, None, 1), 1))
        return check(Generation("", [1], "length", 8000, declared), meter, 0).kv_tokens

    assert verified(10, 12) == 12 and verified(10, 8) == 8 and verified(1000, 1010) == 1010
    for declared, seen in ((10, 13), (10, 7), (1000, 1011), (1000, 989), (0, 3)):
        with pytest.raises(MeasurementError):
            verified(declared, seen)


# --- the meter


def test_nested_phases_count_once_for_the_innermost(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    class Network:
        model = torch.nn.Identity()

    with observe(Network(), "cpu") as meter:
        clock[0] += 100  # outside of every phase: booked nowhere
        with phase("compress"):
            clock[0] += 1
            with phase("prefill"):
                clock[0] += 10
                with phase("compress"):
                    clock[0] += 2
            clock[0] += 4
        with pytest.raises(RuntimeError), phase("decode"):
            clock[0] += 8
            raise RuntimeError
        clock[0] += 100
    assert meter.seconds == {"compress": 7.0, "prefill": 10.0, "decode": 8.0}


def test_a_phase_that_is_none_is_named():
    with (
        pytest.raises(ValueError, match="no phase named 'prefil'; known: compress, prefill, decode"),
        phase("prefil"),
    ):
        pass


def test_without_a_meter_a_phase_does_nothing():
    with phase("decode"), phase("compress"):
        pass


def hooks(network):
    return [
        (name, kind)
        for name, module in network.named_modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
        if getattr(module, kind)
    ]


def test_hooks_are_gone_afterwards_whatever_happened(tiny):
    before = hooks(tiny.network)
    with observe(tiny.network, "cpu") as meter:
        assert len(hooks(tiny.network)) == len(before) + 3
        tiny.network(torch.tensor([[1, 2, 3]]))
    assert hooks(tiny.network) == before and (meter.forwards, meter.positions) == (1, 3)
    with pytest.raises(ZeroDivisionError), observe(tiny.network, "cpu"):
        _ = 1 / 0
    assert hooks(tiny.network) == before
    tiny.network(torch.tensor([[1, 2, 3]]))
    assert meter.forwards == 1
    with phase("decode"):
        pass
    assert meter.seconds["decode"] == 0.0, "no meter is left behind either"


def test_a_run_leaves_no_hook_even_after_failures(monkeypatch, tiny_folder, tmp_path):
    class Breaks(Own):
        def answer(self, cache, last, decoding):
            with phase("decode"):
                raise ValueError("no luck")

    as_method(monkeypatch, Breaks)
    plan = plan_run(settings(tiny_folder, tmp_path, method="own"))
    fresh = hooks(plan.model.network)
    assert execute(plan, Watcher()).failed == 3
    assert hooks(plan.model.network) == fresh


def tokens(head, suffix):
    """A prompt of so many tokens before the question and in it."""
    return TokenizedPrompt(Prompt("", "", ""), tuple(range(5, 5 + head + suffix)), 0, head)


def test_passes_and_positions_are_counted(tiny):
    plain = Plain(tiny, Plain.Options())
    with observe(tiny.network, "cpu", 1) as meter:
        plain.compress_and_generate([tokens(4, 3)], Decoding(max_new_tokens=3, min_new_tokens=3))
    assert meter.forwards == 1 + 1 + 3 and meter.positions == 4 + 2 + 3
    assert meter.started == [6] and meter.resident == [9]
    assert meter.kv_bytes == 6 * LAYERS * KV_HEADS * HEAD_DIM * 2 * FLOAT32
    assert meter.peak_bytes is None or meter.peak_bytes > 2**20


def test_the_padding_of_a_batch_is_nobodys_entry(tiny):
    plain = Plain(tiny, Plain.Options())
    with observe(tiny.network, "cpu", 2) as meter:
        found = plain.compress_and_generate([tokens(6, 2), tokens(2, 2)], Decoding(max_new_tokens=2))
    assert meter.started == [7, 3] == [g.kv_tokens for g in found]
    assert [check(g, meter, row).verified for row, g in enumerate(found)] == [True, True]


def test_layers_that_hold_different_numbers_of_entries_count_by_their_mean(tiny):
    with torch.no_grad():
        [whole], _ = feed(tiny.network, [KVCache()], [list(range(5, 45))])
        short = whole.slice(0, 10)
        ragged = KVCache((whole.keys[0], short.keys[1]), (whole.values[0], short.values[1]))
        with observe(tiny.network, "cpu", 1) as meter, phase("decode"):
            tiny.network.model(input_ids=torch.tensor([[5]]), past_key_values=stack([ragged]).cache)
    assert meter.started == [25]
    assert meter.kv_bytes == (40 + 10) * 2 * 2 * 16 * 4  # k and v, heads, channels, bytes
    assert meter.resident == [26]
