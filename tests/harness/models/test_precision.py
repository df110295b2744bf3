"""`--dtype auto`: bfloat16 where the hardware computes it, float32 elsewhere, and one run whichever way it is said."""

from types import SimpleNamespace

import pytest
import torch

from harness.cli import invoke
from harness.evaluation.plan import plan_run
from harness.models import precision
from harness.testing.tiny import make_model

from ...helpers.running import settings

WIDE, SMALL = SimpleNamespace(hidden_size=precision.NARROW), SimpleNamespace(hidden_size=precision.NARROW - 1)


def processor(monkeypatch, amx=False, avx=False):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False)


@pytest.mark.parametrize("amx, avx, wide", [(1, 1, "bfloat16"), (0, 1, "bfloat16"), (0, 0, "float32")])
def test_a_processor_decides_and_narrow_models_stay_exact(monkeypatch, amx, avx, wide):
    processor(monkeypatch, bool(amx), bool(avx))
    assert precision.automatic("cpu", WIDE) == wide
    assert precision.automatic("cpu", SMALL) == "float32"


def test_a_torch_that_does_not_say_means_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert precision.automatic("cpu", WIDE) == "float32"


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_that_only_emulates_it_is_given_float32(monkeypatch, native):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or native
    )
    assert precision.automatic("cuda:1", SMALL) == ("bfloat16" if native else "float32")
    assert precision.automatic("meta", WIDE) == "float32"


@pytest.mark.parametrize("native, taken", [(True, "bfloat16"), (False, "float32")])
def test_auto_is_the_run_of_the_type_it_takes(monkeypatch, tmp_path, native, taken):
    processor(monkeypatch, amx=native)
    folder = make_model(tmp_path / "wide", hidden_size=precision.NARROW, num_hidden_layers=1)
    planned = {d: plan_run(settings(folder, tmp_path, dtype=d)) for d in ("auto", "float32", "bfloat16")}
    assert planned["auto"].model.dtype == taken
    assert planned["auto"].folder.path == planned[taken].folder.path
    assert planned["float32"].folder.path != planned["bfloat16"].folder.path


def test_the_doctor_says_what_auto_takes(monkeypatch, capsys):
    processor(monkeypatch, amx=True)
    assert invoke(["doctor"]) == 0
    assert "--dtype auto takes bfloat16 on cpu" in capsys.readouterr().out
    processor(monkeypatch)
    assert invoke(["doctor"]) == 0
    assert "--dtype auto takes float32 on cpu" in capsys.readouterr().out
