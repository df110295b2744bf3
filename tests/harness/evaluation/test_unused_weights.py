"""A run of a model that is not all of its files says so: in its name, in `run.json` and beside its numbers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import load_runs
from harness.cli import invoke
from harness.errors import UsageError

from ...helpers.fits import fit_words, repeating


@pytest.fixture
def more(folder):
    """A model whose file holds a head that the model does not use."""
    path = folder / "model.safetensors"
    save_file({**load_file(path), "score.weight": torch.ones(2, 64)}, path, {"format": "pt"})
    return folder


def test_a_run_that_allows_unused_weights_is_marked(folder, tmp_path, capsys):
    path = folder / "model.safetensors"
    save_file({**load_file(path), "score.weight": torch.ones(2, 64)}, path, {"format": "pt"})
    line = ["run", "-m", "plain", "--model", str(folder), "--device", "cpu", "--limit", "1"]
    line += ["--set", "passkey.lengths=190", "--out", str(tmp_path / "runs")]
    assert invoke(line) == 2
    said = capsys.readouterr().err
    assert "1 weights of its files are not in the model, first score.weight" in said
    assert "--allow-unused-weights" in said
    assert invoke([*line, "--allow-unused-weights"]) == 0
    [run] = [run for run in load_runs(tmp_path / "runs") if run.status == "finished"]
    assert run.identity["allow_unused_weights"] is True
    assert run.content["model"]["unused_weights"] == ["score.weight"]
    assert any("--allow-unused-weights" in warning for warning in run.warnings)


def test_a_fit_that_allows_them_is_marked(more, tmp_path, capsys):
    line = fit_words(more, repeating(tmp_path / "data.jsonl"), tmp_path / "out", "--max-steps", 1)
    assert invoke([str(w) for w in line]) == 2
    assert "--allow-unused-weights" in capsys.readouterr().err
    assert invoke([*map(str, line), "--allow-unused-weights"]) == 0
    card = json.loads((tmp_path / "out" / "adapter.json").read_text())
    assert card["request"]["allow_unused_weights"] is True and card["unused_weights"] == ["score.weight"]


def test_synth_takes_the_flag_and_marks_its_pool(more, tmp_path, capsys):
    (tmp_path / "nouns.txt").write_text("cat\ndog\n")
    line = [
        "synth",
        "--recipe",
        "thesis",
        "--count",
        "2",
        "--items",
        "2",
        "--model",
        str(more),
        "--device",
        "cpu",
    ]
    line += ["--nouns", str(tmp_path / "nouns.txt"), "--set", "story_tokens=16", "--out", str(tmp_path / "o")]
    assert invoke(line) == 2
    assert "--allow-unused-weights" in capsys.readouterr().err
    invoke([*line[:-1], str(tmp_path / "p"), "--allow-unused-weights"])
    assert "wrote nothing usable" in capsys.readouterr().err, "a random model: but it wrote"
    told = [json.loads(f.read_text()) for f in (tmp_path / "p" / "pool").glob("*.json")]
    assert any(each.get("allow_unused_weights") is True for each in told)


def test_lm_evals_door_takes_it_and_marks_its_results(more):
    from harness.interop.lm_eval_model import HarnessLM

    with pytest.raises(UsageError, match="--allow-unused-weights"):
        HarnessLM(model=str(more), device="cpu").language_model.network  # noqa: B018
    lm = HarnessLM(model=str(more), device="cpu", allow_unused_weights=True)
    assert lm.language_model.network is not None
    told = lm.get_model_info()["harness"]
    assert told["allow_unused_weights"] is True and told["model"]["unused_weights"] == ["score.weight"]
