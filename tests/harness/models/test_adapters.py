"""Adapter folders: complete or not at all, for this very model, and the right one of those that ship."""

import copy
import hashlib
import json
from pathlib import Path

import pytest
import torch

from harness import UsageError
from harness._util import artifacts
from harness.cli import invoke
from harness.evaluation.plan import plan_run
from harness.models import adapters

from ...helpers.running import settings

PARTS = {"one.safetensors": {"w": torch.arange(4.0)}, "sub/two.safetensors": {"v": torch.ones(2, 2)}}


def write(folder, model, method="beacon", **facts):
    adapters.write(folder, method, model, PARTS, facts, {"sub/note.json": "{}\n"})
    return folder


def refused(folder, model, methods=("beacon",)):
    with pytest.raises(UsageError) as caught:
        adapters.check(folder, methods, model)
    message = str(caught.value)
    assert message.startswith(f"--adapter {folder}: ") and "\n" not in message
    return message


def test_what_was_written_is_read(tiny, tmp_path):
    card = adapters.check(write(tmp_path / "a", tiny, steps=3), ("x", "beacon"), tiny)
    assert card["steps"] == 3 and set(card["files"]) == {*PARTS, "sub/note.json"}
    assert torch.equal(adapters.read(tmp_path / "a", "sub/two.safetensors")["v"], torch.ones(2, 2))


def test_every_file_is_held_to_the_card(tiny, tmp_path):
    for name in (*PARTS, "sub/note.json"):
        folder = write(tmp_path / "a", tiny)
        path = folder / name
        path.write_bytes(path.read_bytes()[:-1])
        assert f"{name} is damaged" in refused(folder, tiny)
        path.unlink()
        assert f"{name} cannot be read: No such file" in refused(folder, tiny)


def test_a_card_of_another_base_or_method_or_without_files(tiny, tmp_path):
    folder = write(tmp_path / "a", tiny)
    assert "made for method 'beacon', not for x or y" in refused(folder, tiny, ("x", "y"))
    card = adapters.read_card(folder)
    for changes, message in (({"base_hash": "0" * 64}, "trained on"), ({"files": {}}, "lists no files")):
        (folder / adapters.CARD).write_text(json.dumps({**card, **changes}))
        assert message in refused(folder, tiny)


def test_another_tokenizer_under_the_same_weights(tiny, tmp_path):
    folder = write(tmp_path / "a", tiny)
    assert adapters.read_card(folder)["token_hash"] == tiny.token_hash
    other = copy.copy(tiny)
    other.__dict__ = {**tiny.__dict__, "token_hash": "0" * 64}
    assert "trained with another tokenizer than that of" in refused(folder, other)
    card = adapters.read_card(folder)
    del card["token_hash"]  # of an earlier version
    (folder / adapters.CARD).write_text(json.dumps(card))
    adapters.check(folder, ("beacon",), other)


def test_a_half_written_folder_is_no_adapter(tiny, tmp_path, monkeypatch):
    folder = write(tmp_path / "a", tiny, steps=1)

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        write(folder, tiny, steps=2)
    assert "no adapter.json there" in refused(folder, tiny)


def test_a_copy_holds_the_adapter_and_nothing_else(tiny, tmp_path):
    folder = write(tmp_path / "a", tiny)
    (folder / "training").mkdir()
    (folder / "training" / "optimizer.pt").write_bytes(b"large")
    adapters.copy(folder, tmp_path / "b")
    assert adapters.fingerprint(tmp_path / "b") == adapters.fingerprint(folder)
    assert adapters.check(tmp_path / "b", ("beacon",), tiny) and not (tmp_path / "b" / "training").exists()


@pytest.fixture
def shipping(tiny, tmp_path, monkeypatch):
    """A package that ships an adapter of each kind for the tiny model, and one for another."""
    root = tmp_path / "package"
    for method in ("beacon", "lora_experts"):
        write(root / "adapters" / "tiny" / method, tiny, method)
    other = write(root / "adapters" / "other" / "two_pass", tiny, "two_pass")
    card = {**adapters.read_card(other), "base_hash": "0" * 64}
    (other / adapters.CARD).write_text(json.dumps(card))
    monkeypatch.setattr(artifacts, "folders", lambda: [root])
    return root / "adapters" / "tiny"


def test_what_ships_is_found_by_the_models_hash_in_the_order_of_the_methods(tiny, shipping):
    assert adapters.shipped(("two_pass", "lora_experts", "beacon"), tiny) == shipping / "lora_experts"
    assert adapters.shipped(("beacon", "lora_experts"), tiny) == shipping / "beacon"
    assert adapters.shipped(("two_pass",), tiny) is None


def test_a_run_takes_what_ships_unless_it_is_told_not_to(shipping, tiny_folder, tmp_path, capsys):
    def planned(adapter):
        wanted = {"method": "beacon", "options": {"interval": "32"}, "limit": 1, "adapter": adapter}
        return plan_run(settings(tiny_folder, tmp_path / "runs", **wanted)).identity["adapter"]

    default = adapters.fingerprint(shipping / "beacon")
    assert planned(None) == default and planned(shipping / "beacon") == default
    words = ["run", "-m", "beacon", "--interval", "32", "--ratio", "4", "--limit", "1", "--adapter", "none"]
    words += ["--model", str(tiny_folder), "--device", "cpu", "--out", str(tmp_path / "runs"), "--json"]
    assert invoke(words) == 0
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    assert json.loads((folder / "run.json").read_text())["identity"]["adapter"] is None


def test_what_ships_is_whole():
    """Every adapter under `baselines` has the files its card lists, as they were written."""
    root = Path(__file__).resolve().parents[3] / "baselines" / "adapters"
    cards = sorted(root.glob(f"*/*/{adapters.CARD}"))
    assert cards
    for path in cards:
        files = adapters.read_card(path.parent)["files"]
        assert {n: hashlib.sha256((path.parent / n).read_bytes()).hexdigest() for n in files} == files
    assert sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) < 30e6
