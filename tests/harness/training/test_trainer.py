"""Training stops at numbers that are none, and a fit killed at any moment ends as if it had not been."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import TrainingArguments

from harness import UsageError
from harness.cli import invoke
from harness.contracts.fit import Schedule
from harness.models import adapters
from harness.training.arguments import ALLOWED, REFUSED
from harness.training.checkpoints import last_whole
from harness.training.trainer import TrainingError, check, train

from ...helpers.fits import fit_words, random_examples, repeating, same, tensors
from ...helpers.launching import launch
from ..evaluation.test_kill import kill_when


class Toy(torch.nn.Module):
    """A mean of embeddings; a hook of the test's own spoils the loss or the gradient."""

    def __init__(self, spoil=lambda call, loss: loss):
        super().__init__()
        self.table = torch.nn.Embedding(512, 4)
        self.calls, self.spoil = 0, spoil

    def forward(self, input_ids, labels):
        self.calls += 1
        return self.spoil(self.calls, self.table(input_ids).pow(2).mean() + 0.0 * float(torch.rand(())))


def schedule(folder, **changes):
    return Schedule(**{"folder": folder, "batch_size": 2, "max_steps": 6, "save_every": 2, **changes})


class Infinite(torch.autograd.Function):
    """Passes its input on, and an infinite gradient back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("inf")


def test_a_gradient_that_is_no_number_stops_before_the_step(tmp_path):
    module = Toy(lambda call, loss: Infinite.apply(loss) if call == 7 else loss)
    before = {}

    def note(call, loss):
        if call == 7:
            before.update({k: v.clone() for k, v in module.state_dict().items()})
        return Infinite.apply(loss) if call == 7 else loss

    module.spoil = note
    with pytest.raises(TrainingError, match=r"gradient's norm is (nan|inf) at step 4; .*checkpoint-2;"):
        train(module, random_examples(*[8] * 12), schedule(tmp_path), "cpu")
    assert same(before, module.state_dict())


def test_a_first_loss_that_is_no_number_says_there_is_no_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match="loss is nan at step 1; no checkpoint was written before it"):
        train(Toy(lambda call, loss: loss * float("nan")), random_examples(8, 8), schedule(tmp_path), "cpu")


class Several(Toy):
    """Takes one sequence or several, and notes how many."""

    batched = True

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, input_ids, labels):
        several = isinstance(input_ids, list)
        self.sizes.append(len(input_ids) if several else 1)
        rows = input_ids if several else [input_ids]
        return torch.stack([self.table(ids).pow(2).mean() for ids in rows]).mean()


def test_a_step_is_the_same_however_many_are_read_in_one_pass(tmp_path):
    data, curves = random_examples(8, 5, 8, 20), {}  # each step reads all of them
    for size in (1, 2, 4):
        torch.manual_seed(0)
        module = Several()
        given = schedule(tmp_path / str(size), batch_size=4, micro_batch=size)
        curves[size] = train(module, data, given, "cpu").curve
        assert module.sizes == [size] * (6 * 4 // size)
    for size in (2, 4):
        for one, more in zip(curves[1], curves[size], strict=True):
            assert more["loss"] == pytest.approx(one["loss"], rel=1e-5)
            assert more["tokens"] == one["tokens"]


def test_what_is_read_in_one_pass_is_of_about_one_length(tmp_path):
    class Lengths(Several):
        def forward(self, input_ids, labels):
            self.sizes.append(sorted(len(ids) for ids in input_ids))
            return super().forward(input_ids, labels)

    lengths = [5, 50] * 40
    runs = []
    for name in ("a", "b"):
        module = Lengths()
        given = schedule(tmp_path / name, batch_size=4, micro_batch=4, max_steps=40)
        train(module, random_examples(*lengths), given, "cpu")
        runs.append([size for size in module.sizes if isinstance(size, list)])
    assert runs[0] == runs[1] and sum(len(set(sizes)) == 1 for sizes in runs[0]) >= 30
    assert runs[0][:20] != runs[0][20:]  # another order each epoch


def test_killed_and_taken_up_again_several_at_a_time(tmp_path):
    data = random_examples(*[8, 5, 20] * 8)
    given = {"batch_size": 4, "micro_batch": 2, "max_steps": 14}

    class Stops(Several):
        def forward(self, input_ids, labels):
            if len(self.sizes) == 19:
                raise KeyboardInterrupt
            return super().forward(input_ids, labels)

    torch.manual_seed(0)
    whole = train(Several(), data, schedule(tmp_path / "a", **given), "cpu")
    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        train(Stops(), data, schedule(tmp_path / "b", **given), "cpu")
    resumed = train(Several(), data, schedule(tmp_path / "b", **given), "cpu")
    assert [row["loss"] for row in resumed.curve] == [row["loss"] for row in whole.curve]


def test_what_reads_one_sequence_at_a_time_says_so(tmp_path):
    with pytest.raises(UsageError, match=r"--micro-batch 2: .* one sequence at a time"):
        train(Toy(), random_examples(8, 8), schedule(tmp_path, micro_batch=2), "cpu")
    with pytest.raises(UsageError, match="--batch-size 3 is no multiple of --micro-batch 2"):
        check(schedule(tmp_path, batch_size=3, micro_batch=2), "cpu")


def test_a_report_counts_every_step_also_those_of_before(tmp_path):
    data = random_examples(*[8] * 12)
    whole = train(Toy(), data, schedule(tmp_path / "a"), "cpu")
    assert (whole.steps, whole.facts["tokens"], len(whole.curve)) == (6, 96, 6)
    stopped = Toy(lambda call, loss: loss * (float("nan") if call == 9 else 1))
    with pytest.raises(TrainingError):
        train(stopped, data, schedule(tmp_path / "b"), "cpu")
    resumed = train(Toy(), data, schedule(tmp_path / "b"), "cpu")
    assert (resumed.steps, resumed.facts["tokens"], len(resumed.curve)) == (6, 96, 6)
    assert len(list((tmp_path / "b").glob("checkpoint-*"))) == 2


TRIED = {
    "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1e-6, "bf16": True, "data_seed": 7, "fp16": False,
    "dataloader_num_workers": 0, "dataloader_persistent_workers": False, "dataloader_pin_memory": False,
    "dataloader_prefetch_factor": None, "tf32": False, "full_determinism": False, "log_level": "error",
    "lr_scheduler_kwargs": {}, "max_grad_norm": 0.5, "lr_scheduler_type": "cosine", "optim": "adafactor",
    "optim_args": None, "report_to": "none", "run_name": "x", "save_total_limit": 1,
    "torch_empty_cache_steps": 2, "weight_decay": 0.1,
}  # fmt: skip
CHANGES = (
    "adam_beta1",
    "adam_beta2",
    "data_seed",
    "lr_scheduler_type",
    "max_grad_norm",
    "optim",
    "weight_decay",
)
"""Of those: what must show in the weights."""


def trained(folder, data, spoil=None, **trainer):
    """The weights after four steps from the same start, and what the trainer reports of them."""
    torch.manual_seed(0)
    module = Toy(spoil or (lambda call, loss: 100 * loss))
    report = train(module, data, schedule(folder, max_steps=4, trainer=trainer), "cpu")
    assert (report.steps, len(report.curve)) == (4, 4) and report.loss is not None
    return module.state_dict()


def test_every_argument_that_is_handed_on_trains_and_resumes(tmp_path):
    assert set(TRIED) == ALLOWED, "one that is not tried is not handed on"
    data = random_examples(*range(6, 14))
    usual = trained(tmp_path / "usual", data)
    for name in CHANGES:
        given = {name: TRIED[name]}
        found = trained(tmp_path / name, data, **given)
        assert not same(found, usual), name
        if name not in ("data_seed", "optim"):
            continue
        broken = tmp_path / f"{name}-2"
        with pytest.raises(TrainingError):  # stopped in the fourth step, gone on with after the second
            trained(broken, data, lambda call, loss: 100 * loss * (float("nan") if call == 7 else 1), **given)
        assert same(trained(broken, data, **given), found), name
    trained(tmp_path / "others", data, **{n: v for n, v in TRIED.items() if n not in CHANGES})


@pytest.mark.parametrize(
    "name", [*REFUSED, "neftune_noise_alpha", "group_by_length", "torch_compile", "push_to_hub"]
)
def test_every_other_argument_is_refused_in_one_line(tmp_path, name):
    if name not in TrainingArguments.__dataclass_fields__:
        pytest.skip("this transformers has no such argument")
    with pytest.raises(UsageError, match=f"--trainer {name}: .*; handed on are adam_beta1, ") as caught:
        check(schedule(tmp_path, trainer={name: "1"}), "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weight_decay": "abc"}, "weight_decay=abc: must be a number, 0 or more"),
        ({"weight_decay": float("nan")}, "must be a number"),
        ({"max_grad_norm": -1}, "must be a number, 0 or more"),
        ({"bf16": "maybe"}, "bf16=maybe: must be true or false"),
        ({"dataloader_num_workers": -1}, "must be a whole number, 0 or more"),
        ({"lr_scheduler_kwargs": [1]}, "must be an object"),
        ({"lr_scheduler_kwargs": {"nope": 1}}, "nope"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "a fit evaluates nothing"),
        ({"lr_scheduler_type": "nope"}, "nope"),
        ({"adam_beta1": 7}, "adam_beta1=7: Invalid beta"),
        ({"optim": "nope"}, "nope"),
        ({"optim": "adafactor", "optim_args": "nope=1"}, "takes no 'nope'"),
        ({"report_to": "nowhere"}, "nowhere is not supported"),
        ({"log_level": "loud"}, "loud"),
    ],
)
def test_a_value_nobody_can_train_with_is_refused_before_the_data(tmp_path, given, said):
    with pytest.raises(UsageError) as caught:
        check(schedule(tmp_path, trainer=given), "cpu")
    message = str(caught.value)
    assert message.startswith("--trainer ") and said in message and "\n" not in message


def test_only_whole_checkpoints_count(tmp_path):
    train(Toy(), random_examples(*[8] * 12), schedule(tmp_path), "cpu")
    assert last_whole(tmp_path).name == "checkpoint-6"
    state = tmp_path / "checkpoint-6" / "optimizer.pt"
    state.write_bytes(state.read_bytes()[:-1])
    assert last_whole(tmp_path).name == "checkpoint-4"
    (tmp_path / "checkpoint-4" / "whole.json").write_text("[]")
    assert last_whole(tmp_path) is None


# --- killed


def starts(monkeypatch):
    """Where every training from now on begins."""
    from harness.console.progress import FitDisplay

    found = []
    monkeypatch.setattr(FitDisplay, "start", lambda self, total, done: found.append(done))
    monkeypatch.setattr(FitDisplay, "step", lambda self, *_: None)
    return found


CASES = [
    ("beacon", ["--recompute", "--reconstruct", "0.5", "--skip-first"], False),
    ("beacon", ["--objective", "distill", "--draws", "2", "--start", "last", "--sinks", "1"], False),
    ("lora_experts", ["--rank", "4", "--shared-steps", "12"], False),  # killed in the shared phase
    ("lora_experts", ["--rank", "4", "--shared-steps", "2"], True),  # killed after it
]


@pytest.mark.parametrize(("method", "more", "torn"), CASES)
def test_a_killed_fit_ends_as_if_it_had_not_been(
    tiny_folder, tmp_path, forks, monkeypatch, method, more, torn
):
    data = repeating(tmp_path / "data.jsonl")
    wanted = ["--max-steps", 14, "--max-length", 90, "--save-dtype", "float32", *more]
    words = fit_words(tiny_folder, data, tmp_path / "out", *wanted, method=method)
    training = tmp_path / "out" / "training"
    kill_when(forks, words, lambda: (training / "checkpoint-4" / "whole.json").exists(), tmp_path)
    newest = last_whole(training)
    if torn:  # as if the power had failed
        weights = newest / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    begin, found = last_whole(training), starts(monkeypatch)
    assert not (tmp_path / "out" / adapters.CARD).exists() and (begin == newest) is not torn
    assert invoke(words) == 0
    assert found == [int(begin.name.partition("-")[2])]
    whole = fit_words(tiny_folder, data, tmp_path / "whole", *wanted, method=method)
    assert invoke(whole) == 0
    assert same(tensors(tmp_path / "out"), tensors(tmp_path / "whole"))
    curves = [(tmp_path / name / "loss.jsonl").read_text().splitlines() for name in ("out", "whole")]
    assert [json.loads(a)["loss"] for a in curves[0]] == [json.loads(b)["loss"] for b in curves[1]]


def test_killed_after_the_last_step_a_fit_makes_no_further_one(tiny_folder, tmp_path, monkeypatch):
    """`transformers` would: it looks whether it has made enough steps only after one."""
    more = ["--rank", 4, "--shared-steps", 2, "--max-length", 90, "--save-dtype", "float32"]
    data = repeating(tmp_path / "data.jsonl")
    words = fit_words(tiny_folder, data, tmp_path / "out", *more, method="lora_experts")
    assert invoke(words) == 0
    out = tmp_path / "out"
    whole, curve = tensors(out), (out / "loss.jsonl").read_bytes()
    for path in [*out.rglob("expert-*/*.safetensors"), out / adapters.CARD, out / "loss.jsonl"]:
        path.unlink()
    assert invoke(words) == 0
    assert same(tensors(out), whole) and (out / "loss.jsonl").read_bytes() == curve


HOLD = """
import sys
from pathlib import Path
from harness.results.run_folder import RunFolder

with RunFolder(Path(sys.argv[1])).open():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_on_one_folder(tiny_folder, tmp_path, capsys):
    data = repeating(tmp_path / "data.jsonl")
    training = tmp_path / "out" / "training"
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(training)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "held\n"
    assert invoke(fit_words(tiny_folder, data, tmp_path / "out")) == 2
    first.communicate()
    err = capsys.readouterr().err
    assert err == f"harness: another process is working on {training}; wait for it or stop it\n"
    assert [p.name for p in training.iterdir()] == [".lock"]


# --- several processes


@pytest.mark.skipif(not torch.distributed.is_available(), reason="no torch.distributed")
@pytest.mark.skipif(os.environ.get("HARNESS_SLOW_TESTS") != "1", reason="HARNESS_SLOW_TESTS=1 runs it")
@pytest.mark.parametrize("method", ["beacon", "lora_experts"])
def test_two_processes_share_each_batch(tiny_folder, tmp_path, method):
    data = repeating(tmp_path / "data.jsonl")
    words = fit_words(tiny_folder, data, tmp_path / "out", "--batch-size", 4, method=method)
    # What `accelerate launch` does for GPUs; for several processes of one CPU it would need MPI.
    for expected in ("4 steps, loss", "nothing was done"):
        done = launch(words)
        assert done.stdout.count(expected) == 1, done.stdout
    card = adapters.read_card(tmp_path / "out")
    assert card["processes"] == 2 and card["steps"] == 4 and tensors(tmp_path / "out")
