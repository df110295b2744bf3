"""The suite of methods: all of ours pass it, and each way of being broken fails its own check and no other."""

from functools import cache, partial

import pytest
import torch
import transformers.models.llama.modeling_llama as llama
from transformers import DynamicCache

from harness.testing import METHOD_CHECKS, _leaks, _trial, check_method, tiny_model

from .broken_methods import BROKEN, Keep, Whole
from .subtle_methods import SUBTLE

CHECKS = {check.name: check for check in METHOD_CHECKS}
SMALL = partial(tiny_model, 256)
"""The default window is for default options; for these a small one will do, and is faster."""

ALL = {check: [*BROKEN.get(check, []), *SUBTLE.get(check, [])] for check in CHECKS}

PATCHED = (
    (llama, "apply_rotary_pos_emb"),
    (DynamicCache, "get_seq_length"),
    (torch.nn.functional, "scaled_dot_product_attention"),
)
"""What broken methods replace for the whole process."""


@pytest.fixture(autouse=True)
def _mended(monkeypatch):
    """Whatever a broken method does to the process ends with its test."""
    for holder, name in PATCHED:
        monkeypatch.setattr(holder, name, getattr(holder, name))
    monkeypatch.setenv("KEEP_IS_AT", "")
    yield
    torch.backends.cuda.enable_flash_sdp(True)
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("cls", [Keep, Whole])
def test_a_method_that_keeps_to_the_contract_passes(cls):
    found = {r.name: r for r in check_method(cls, model=SMALL)}
    assert list(found) == list(CHECKS)
    assert not [r for r in found.values() if not r.ok]
    missing = {r.name for r in found.values() if r.status == "not applicable"}
    assert missing == (set() if cls is Keep else {"two-phase", "shared-state", "share-key", "fit", "save"})
    assert all(r.reason for r in found.values() if r.status == "not applicable")


@pytest.mark.parametrize(("check", "cls"), [(check, classes[0]) for check, classes in ALL.items()])
def test_a_broken_method_fails_its_own_check_and_no_other(check, cls, monkeypatch):
    for name, number in {"SAMPLES": 8, "WARM": 4, "TRACED": 2}.items():  # as good, and faster
        monkeypatch.setattr(_leaks, name, number)
    monkeypatch.setattr(_trial, "IN_A_ROW", (0, 1, 2, 2, 0))
    found = {r.name: r for r in check_method(cls, model=SMALL)}
    assert {name: r.reason for name, r in found.items() if r.status == "failed"}.keys() == {check}
    explained(found[check])
    assert {name for name, r in found.items() if r.status == "skipped"} == {
        name for name in CHECKS if depends(name, check)
    }


@pytest.mark.parametrize(
    ("check", "cls"), [(check, cls) for check, classes in ALL.items() for cls in classes[1:]]
)
def test_so_does_one_that_is_broken_in_another_way(check, cls):
    [found] = check_method(cls, only=[check], model=SMALL)
    assert found.status == "failed", found
    explained(found)


def explained(result):
    assert "; " in result.reason and "cannot go on" not in result.reason, "what was seen; what to do"


@cache
def depends(name, on):
    return any(need == on or depends(need, on) for need in CHECKS[name].needs)


def test_there_is_a_broken_method_for_every_check():
    assert all(ALL.values()) and {*BROKEN, *SUBTLE} == set(CHECKS)
