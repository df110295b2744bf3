"""A run of a model that is not all of its files says so: in its name, in `run.json` and beside its numbers."""

import torch
from safetensors.torch import load_file, save_file

from harness import load_runs
from harness.cli import invoke


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
