"""`harness fit --shard-base`: two processes, each with half of the base model, learn what two with all of it learn."""

import json
import os
import signal
import socket
import time

import pytest
import torch

from harness import UsageError
from harness.cli import invoke
from harness.contracts.method import Method
from harness.models import adapters
from harness.models.loaded import LoadedModel
from harness.options import Options

from ...helpers.fits import WORDS, fit_words, same, tensors

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="no torch.distributed")

SLOW = pytest.mark.skipif(os.environ.get("HARNESS_SLOW_TESTS") != "1", reason="HARNESS_SLOW_TESTS=1 runs it")


@pytest.fixture
def data(tmp_path):
    """Texts of 1 to 8 intervals: what is read at a time takes each process another number of passes."""
    generator = torch.Generator().manual_seed(0)
    path = tmp_path / "data.jsonl"
    with path.open("w") as file:
        for number in torch.randint(9, 70, (16,), generator=generator).tolist():
            picks = torch.randint(len(WORDS), (number,), generator=generator).tolist()
            file.write(json.dumps({"text": " ".join(WORDS[i] for i in picks)}) + "\n")
    return path


def words(model, data, out, *more, method="lora_experts"):
    found = fit_words(model, data, out, "--max-length", 230, "--save-dtype", "float32", *more, method=method)
    if method not in ("beacon", "lora_experts"):
        for flag in ("--interval", "--train-ratios"):
            at = found.index(flag)
            del found[at : at + 2]
    return found


STARTED = {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
"""What a launcher says beside how many processes there are."""


class Pair:
    """Two processes started together, as `torchrun` does it."""

    def __init__(self, forks, words, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        self.forks, self.errors = forks, [folder / f"errors-{rank}" for rank in (0, 1)]
        self.pids = [
            forks.start(words, errors, environment={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank, errors in enumerate(self.errors)
        ]

    def finish(self):
        codes = [self.forks.wait(pid) for pid in self.pids]
        assert codes == [0, 0], [path.read_text()[-2000:] for path in self.errors]

    def kill_when(self, reached):
        deadline = time.monotonic() + 60
        while not reached() and time.monotonic() < deadline:
            time.sleep(0.005)
        for pid in self.pids:  # both, before one misses the other
            os.kill(pid, signal.SIGKILL)
        assert [self.forks.wait(pid) for pid in self.pids] == [-9, -9], "they had ended before"


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "loss.jsonl").read_text().splitlines()]


def test_a_sharded_fit_killed_and_resumed_ends_as_one_with_whole_models(tiny_folder, data, tmp_path, forks):
    more = ["--batch-size", 4, "--max-steps", 6, "--shared-steps", 3, "--recompute"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    Pair(forks, words(tiny_folder, data, whole, *more), tmp_path).finish()
    sharded = words(tiny_folder, data, out, *more, "--shard-base")
    reached = out / "training" / "checkpoint-2" / "whole.json"
    Pair(forks, sharded, tmp_path).kill_when(reached.exists)
    assert not (out / adapters.CARD).exists()
    Pair(forks, sharded, tmp_path).finish()
    assert losses(out) == losses(whole) and same(tensors(out), tensors(whole))
    assert [p.read_bytes() for p in sorted(out.glob("expert-*/*"))] == [
        p.read_bytes() for p in sorted(whole.glob("expert-*/*"))
    ]
    card = adapters.read_card(out)
    weights = 4 * sum(t.numel() for n, t in tensors(tiny_folder).items() if t.dim() == 2)
    shares = card["shard_base"]
    assert weights <= shares["bytes"] == 2 * shares["bytes_of_each_process"] < 1.02 * weights
    assert card["processes"] == 2 and "shard_base" not in adapters.read_card(whole)


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("beacon", ["--distill", "--start", "last", "--batch-size", 4, "--micro-batch", 2]),
        pytest.param("beacon", ["--trainer", "bf16=true"], marks=SLOW),
        pytest.param("lora_experts", ["--skip-first", "--dtype", "bfloat16"], marks=SLOW),
        pytest.param("gist", ["--segment", 32, "--memory", 8], marks=SLOW),
        pytest.param("rope_scaling", ["--to-window", 512, "--pose", 2, "--recompute"], marks=SLOW),
    ],
)
def test_sharded_or_whole_a_method_learns_the_same(tiny_folder, data, tmp_path, forks, method, more):
    for name, flags in (("whole", []), ("out", ["--shard-base"])):
        Pair(
            forks, words(tiny_folder, data, tmp_path / name, *more, *flags, method=method), tmp_path
        ).finish()
    assert losses(tmp_path / "out") == losses(tmp_path / "whole")
    assert same(tensors(tmp_path / "out"), tensors(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("method", "more", "processes", "said"),
    [
        ("lora_experts", [], None, "there is one; start several, for instance torchrun --nproc-per-node 2 "),
        ("lora_experts", [], "1", "there is one; start several"),
        ("two_pass", ["--interval", "32"], "2", "each would calibrate all for itself"),
        ("rope_scaling", ["--train", "full"], "2", "--train full trains them all"),
    ],
)
def test_what_cannot_be_sharded_is_refused(
    tiny_folder, data, tmp_path, monkeypatch, capsys, method, more, processes, said
):
    for name, value in STARTED.items() if processes == "2" else ():
        monkeypatch.setenv(name, value)
    if processes is not None:
        monkeypatch.setenv("WORLD_SIZE", processes)
    given = ["fit", "-m", method, "--model", tiny_folder, "--device", "cpu", "--out", tmp_path / "out"]
    assert invoke([*map(str, [*given, "--data", data, "--shard-base", *more])]) == 2
    err = capsys.readouterr().err
    assert err.startswith("harness: --shard-base") and said in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_method_that_says_nothing_and_a_model_in_memory_are_refused(tiny):
    class Own(Method):
        pass

    with pytest.raises(UsageError, match="--shard-base: method Own does not say that"):
        Own(tiny, Options()).check_sharded(Options())
    with pytest.raises(UsageError, match="is in memory already, whole"):
        LoadedModel(tiny.network, tiny.tokenizer).shard()
