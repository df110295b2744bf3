"""Everything that ships keeps to its contract."""

from functools import partial

import pytest

from harness import registry
from harness._util import entry_points
from harness.testing import check_method, check_task, tiny_model

SMALL = partial(tiny_model, 256)

OPTIONS = {
    "beacon": {"interval": 32, "margin": 16},
    "lora_experts": {"interval": 32, "margin": 16},
    "two_pass": {"interval": 32, "calibration_contexts": 2},
    "streaming": {"sinks": 2, "recent": 40, "chunk": 32},
    "kvpress": {"compression_ratio": 0.5},
    "rag": {"chunk": 24},
    "summary": {"chunk": 100, "length": 12},
    "gist": {"segment": 32, "memory": 4},
    "quantized": {"bits": "4", "recent": 16},
}
"""For the small window, where the default options are too large. `harness check` takes the defaults."""

BUDGET = {"rag": 128, "summary": 110}
"""Where the window alone would leave too much room."""

FIT = {"train_ratios": "2,4,8"}

ONE_OF = {"kvpress": "kvpress:KnormPress"}
"""Of a family of methods, the member that is checked."""

MADE_HERE = ("niah", "passkey", "ruler")
"""Tasks that need no data of others: nothing about them may be left unchecked."""


def checked(name, fit):
    return check_method(
        ONE_OF.get(name, name), OPTIONS.get(name), fit_options=fit, model=SMALL, budget=BUDGET.get(name)
    )


SERVED = {"endpoint"}
"""Checked where there is a server for it: tests/plugins/test_endpoint.py."""


@pytest.mark.parametrize("name", sorted({*entry_points.entry_points("methods")} - SERVED))
def test_our_methods(name):
    if name in ONE_OF:
        pytest.importorskip(name)
    fit = FIT if name in ("beacon", "lora_experts") else {}
    found = {r.name: r for r in checked(name, fit)}
    assert not [r for r in found.values() if not r.ok]
    trainable = registry.listed_method(name).cls.trainable
    assert (found["save"].status == "ok") == (found["fit"].status == "ok") == trainable


@pytest.mark.parametrize("name", sorted(entry_points.entry_points("tasks")))
def test_our_tasks(name):
    found = {r.name: r for r in check_task(name)}
    assert not [r for r in found.values() if not r.ok]
    assert name not in MADE_HERE or {r.status for r in found.values()} == {"ok"}
