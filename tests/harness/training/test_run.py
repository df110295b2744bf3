"""``harness fit``: an adapter comes out and is used; whatever is wrong is one line, nothing is lost."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from harness.cli import invoke
from harness.models import adapters, loading, model
from harness.plugins.beacon import training

from ...helpers.fits import fit_words, repeating, tensors
from ...helpers.running import as_method


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return repeating(tmp_path_factory.mktemp("data") / "data.jsonl")


@pytest.fixture
def words(tiny_folder, data, tmp_path):
    return lambda *more, **names: fit_words(tiny_folder, data, tmp_path / "out", *more, **names)


def refused(capfd, words, status=2):
    """The one line a command is refused with."""
    capfd.readouterr()
    assert invoke([str(w) for w in words]) == status
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err.startswith("harness: ") and captured.err.count("\n") == 1
    assert "defect" not in captured.err
    return captured.err


@pytest.mark.parametrize("method", ["beacon", "lora_experts"])
def test_a_fit_gives_an_adapter_that_a_run_uses(words, tiny_folder, tmp_path, capsys, method):
    assert invoke(words("--json", method=method)) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["method"], card["steps"], card["train_ratios"]) == (method, 4, [2, 4, 8])
    assert card["loss_of"].endswith("before they were rounded to bfloat16 for the file")
    assert card["base_hash"] == loading.load(str(tiny_folder), device="cpu").content_hash
    out = tmp_path / "out"
    assert len((out / "loss.jsonl").read_text().splitlines()) == 4 and (out / "loss.png").stat().st_size
    run = ["run", "-m", method, "--interval", "32", "--ratio", "4", "--margin", "16", "--adapter", str(out)]
    run += ["--model", str(tiny_folder), "--device", "cpu", "--limit", "1", "--out", str(tmp_path / "runs")]
    assert invoke([*run, "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    content = json.loads((folder / "run.json").read_text())
    assert content["identity"]["adapter"] == adapters.fingerprint(out)
    assert '"beacon_weights": "trained"' in json.dumps(content)


def test_loss_falls_and_the_base_model_stays_as_it_is(words, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("harness.training.plan.load_model", lambda *_, **__: tiny)
    before = {name: p.clone() for name, p in tiny.network.named_parameters()}
    assert invoke(words("--max-steps", 30, "--batch-size", 4, "--save-dtype", "float32")) == 0
    assert adapters.read_card(tmp_path / "out")["loss_of"] == "the float32 weights in training", (
        "nothing was rounded"
    )
    losses = [json.loads(line)["loss"] for line in (tmp_path / "out/loss.jsonl").read_text().splitlines()]
    assert sum(losses[-5:]) / 5 < sum(losses[:3]) / 3 - 0.5, losses
    after = dict(tiny.network.named_parameters())
    assert set(after) == set(before)
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in after.items())
    learned = tensors(tmp_path / "out")
    assert len(learned) == 1 + 4 * 2 and all("beacon" in name for name in learned)
    assert "next: harness run" in capsys.readouterr().out


LAUNCHED = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


def test_the_same_command_after_the_end_does_nothing(words, tmp_path, capsys, monkeypatch):
    assert invoke(words()) == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")}
    capsys.readouterr()
    assert invoke(words()) == 0
    assert "holds this very fit, finished; nothing was done" in capsys.readouterr().out
    for name, value in LAUNCHED.items():  # as one of several processes: it must not wait for the first
        monkeypatch.setenv(name, value)
    assert invoke(words()) == 0
    assert capsys.readouterr().out == ""
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")} == before


def test_another_request_in_the_same_folder(words, tmp_path, capfd):
    assert invoke(words("--interval", 32, "--max-steps", 1)) == 0
    line = refused(capfd, words("--max-steps", 1, "--seed", 7))
    assert "holds a fit with another seed (42, not 7); choose another --out" in line
    (tmp_path / "out" / adapters.CARD).unlink()  # as if it had been killed at the very end
    assert "another max steps (1, not 2)" in refused(capfd, words("--max-steps", 2))


def test_data_that_changed_while_a_fit_was_interrupted(tiny_folder, tmp_path, capfd):
    data = repeating(tmp_path / "mine.jsonl")
    words = fit_words(tiny_folder, data, tmp_path / "out", "--max-steps", 1)
    assert invoke(words) == 0
    (tmp_path / "out" / adapters.CARD).unlink()
    repeating(data, count=25)
    assert f"holds a fit on other content of {data}" in refused(capfd, words)


# --- a loss or a gradient that is no number


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("more", [(), ("--objective", "distill", "--start", "last", "--sinks", 1)])
def test_a_loss_that_is_no_number_stops_the_fit(words, tmp_path, capfd, monkeypatch, value, more):
    name = "distillation_loss" if more else "next_token_loss"
    real, calls = getattr(training, name), [0]

    def loss(*args, **kwargs):
        calls[0] += 1
        first, second = real(*args, **kwargs)
        return (first * value if calls[0] == 6 else first), second  # in the third step of two

    monkeypatch.setattr(training, name, loss)
    line = refused(capfd, words(*more), status=1)
    assert f"the loss is {value} at step 3; the last good checkpoint is {tmp_path}/out/training/che" in line
    assert "checkpoint-2; try a lower --learning-rate" in line
    assert not (tmp_path / "out" / adapters.CARD).exists()


def test_distilling_needs_no_chat_template(folder, tmp_path, capsys):
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    data = repeating(tmp_path / "data.jsonl")
    more = ["--objective", "distill", "--start", "last", "--sinks", 1, "--max-steps", 1, "--json"]
    assert invoke(fit_words(folder, data, tmp_path / "out", *more)) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["start"], card["sinks"], card["fit_options"]["objective"]) == ("last", 1, "distill")


# --- refusals before the model's weights are read


@pytest.fixture
def weightless(monkeypatch):
    def network(self):
        raise AssertionError("the weights were read")

    monkeypatch.setattr(model.LanguageModel, "network", property(network))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--learning-rate", 0], "--learning-rate must be greater than 0 and finite, not 0"),
        (["--learning-rate", "nan"], "--learning-rate must be greater than 0 and finite, not nan"),
        (["--batch-size", 0], "--batch-size must be at least 1, not 0"),
        (["--max-steps", 0], "--max-steps must be at least 1, not 0"),
        (["--min-length", 200], "--min-length 200 is above --max-length 128"),
        (["--min-length", 100, "--max-length", 100], "no example from 100 to 100 tokens is left"),
        (["--max-length", 33], "the longest example has 33 tokens, but the interval is 32"),
        (["--max-length", 300, "--distill"], "is longer than the window of 256; lower --max-length"),
        (
            ["--max-length", 300, "--objective", "distill"],
            "--objective distill compares with the uncompressed",
        ),
        (["--distill", "--objective", "next-token"], "--distill and --objective next-token contradict"),
        (["--objective", "distill", "--recompute"], "--recompute belongs to --objective next-token"),
        (["--draws", 2], "--draws belongs to --objective distill"),
        (["--start", "last", "--beacon-token", "x"], "--beacon-token is for --start end"),
        (["--train-ratios", "2,64"], "--train-ratios: 64 does not divide the interval of 32 tokens"),
        (["--train-ratios", "2,raw"], "'raw' condenses nothing"),
        (["--train-ratios", "2,3"], "'3' is no ratio"),
        (["--trainer", "bf16"], "--trainer bf16: write NAME=VALUE"),
        (["--trainer", "bf61=true"], "--trainer bf61: transformers.TrainingArguments has no such argument"),
        (["--trainer", "optim=nothing"], "--trainer optim=nothing: "),
        (["--trainer", "output_dir=x"], "--trainer output_dir: give --out instead"),
        (["--trainer", "per_device_train_batch_size=2"], "give --micro-batch instead"),
        (["--data", "no/such.jsonl"], "no/such.jsonl: no such file or folder"),
        (["--adapter", "no/such"], "no adapter.json there"),
    ],
)
def test_bad_words(words, tiny_folder, tmp_path, capfd, weightless, more, message):
    if more[0] == "--max-length" and more[1] == 300:
        long = repeating(tmp_path / "long.jsonl", words=60)
        more = [*more, "--data", long]
    if more[0] == "--min-length" and len(more) == 4:
        short = repeating(tmp_path / "short.jsonl", words=4)
        assert message in refused(capfd, fit_words(tiny_folder, short, tmp_path / "out", *more))
        return
    assert message in refused(capfd, words(*more))
    assert not (tmp_path / "out" / adapters.CARD).exists()


def test_nothing_to_fit_and_nothing_to_learn_from(words, tiny_folder, tmp_path, capfd, weightless):
    plain = ["fit", "-m", "plain", "--out", tmp_path / "out", "--model", tiny_folder]
    assert refused(capfd, plain) == "harness: method plain has nothing to fit\n"
    assert "method beacon learns from data: give --data" in refused(
        capfd, fit_words(tiny_folder, None, tmp_path / "out")
    )
    assert not (tmp_path / "out").exists()


def test_a_fit_that_was_refused_has_no_claim_to_its_folder(words, tiny_folder, tmp_path, capfd):
    short = tmp_path / "short.jsonl"
    short.write_text('{"text": "grass"}\n')
    line = refused(capfd, fit_words(tiny_folder, short, tmp_path / "out"))
    assert "no example from 20 to 128 tokens is left" in line
    assert not (tmp_path / "out" / "training" / "fit.json").exists()
    assert invoke(words()) == 0


def test_another_fit_in_the_folder_names_the_option_that_differs(words, capfd):
    assert invoke(words("--max-steps", 1)) == 0
    line = refused(capfd, words("--max-steps", 1, "--save-dtype", "float32"))
    assert (
        "another save_dtype of the fit options ('bfloat16', not 'float32'); choose another --out" in line
        and "{" not in line
    )


def test_a_finished_fit_whose_weights_are_gone_or_altered_is_not_finished(words, tmp_path, capfd):
    assert invoke(words("--max-steps", 1)) == 0
    [name] = [n for n in adapters.read_card(tmp_path / "out")["files"] if n.endswith(".safetensors")]
    path = tmp_path / "out" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert f"{name} is damaged" in refused(capfd, words("--max-steps", 1))
    path.unlink()
    line = refused(capfd, words("--max-steps", 1))
    assert f"{name} cannot be read: No such file" in line and "to write it again from the checkpoints" in line
    (tmp_path / "out" / adapters.CARD).unlink()
    assert invoke(words("--max-steps", 1)) == 0 and path.read_bytes() == whole


# --- where nothing can be written


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_made(words, tmp_path, capfd, monkeypatch, weightless, code):
    real = Path.mkdir

    def mkdir(self, *args, **kwargs):  # permissions do not stop root: the file system's refusal is played
        if "out" in self.parts:
            raise OSError(code, os.strerror(code), str(self))
        real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert f"cannot be written ({os.strerror(code)})" in refused(capfd, words())


def test_an_output_folder_below_a_file(words, tmp_path, capfd, weightless):
    (tmp_path / "file").write_text("mine")
    assert "cannot be written (Not a directory)" in refused(capfd, words("--out", tmp_path / "file" / "out"))


FULL = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
TORN = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("safetensors.torch.save_file", FULL, "No space left on device"),
        ("torch.save", TORN, "is the disk full?"),
        ("harness.training.trainer.write_whole", OSError(errno.ENOSPC, "full"), "No space left on device"),
        ("harness.training.run.write_whole", OSError(errno.ENOSPC, "full"), "No space left on device"),
    ],
)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    words, tmp_path, capfd, monkeypatch, where, error, message
):
    def full(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        line = refused(capfd, words("--max-steps", 2))
    assert message in line and str(tmp_path / "out") in line
    assert not (tmp_path / "out" / adapters.CARD).exists()
    assert invoke(words("--max-steps", 2)) == 0


# --- other methods


def test_a_methods_own_refusal_comes_before_its_weights(words, capfd, monkeypatch, weightless):
    from harness import UsageError
    from harness.plugins.beacon.method import Beacon

    class Picky(Beacon):
        def check_fit(self, options):
            raise UsageError("not today")

    as_method(monkeypatch, Picky, "picky")
    assert refused(capfd, words(method="picky")) == "harness: not today\n"
