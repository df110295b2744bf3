"""Every method over a model on several devices, or partly on disk: the records of a model on one device."""

import json
from contextlib import nullcontext

import pytest
import torch

import harness
from harness import UsageError
from harness.evaluation.plan import plan_run
from harness.evaluation.runner import execute
from harness.inference import KVCache, feed, loglikelihood
from harness.interop.lm_eval_model import HarnessLM
from harness.models import adapters, device_map, loading, placement
from harness.models.device_map import Places
from harness.plugins.beacon import together
from harness.plugins.beacon.engine import ActivationBeacon
from harness.plugins.beacon.lora_projections import Expert, LoraExperts
from harness.plugins.beacon.projections import MultiHeadBeacon
from harness.plugins.beacon.reading import Reading
from harness.plugins.gist_memory import Memory, condense
from harness.plugins.plain import Plain
from harness.plugins.rope_scaling.method import RopeScaling
from harness.plugins.streaming import Streaming

from ..conftest import make_model
from ..helpers.asking import prompt
from ..helpers.pretended import PretendedDevices
from ..helpers.running import Watcher, settings
from .test_gist import MEMORY, RANK
from .test_gist import learned as learned_gist
from .test_lora_experts import random_expert
from .test_together import IDS, RATIOS, learned

INTERVAL = 32
KEPT = {"sinks": "2", "recent": "40", "chunk": "32"}
METHODS = {
    "plain": {},
    "streaming": KEPT,
    "rag": {"chunk": "48"},
    "summary": {"chunk": "100", "length": "20"},
    "quantized": {"bits": "8"},
    "gist": {"segment": "32", "memory": "4"},
    "position_scaling": {},
    "rope_scaling": {"window": "512"},
    "beacon": {"interval": str(INTERVAL)},
    "two_pass": {"interval": str(INTERVAL), "start": "last", "reuse": "raw"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Llama of four layers, with biases as Qwen2 has them."""
    made = tmp_path_factory.mktemp("models") / "deep"
    return make_model(made, num_hidden_layers=4, attention_bias=True)


def over(folder, places):
    """The model over pretended devices, a digit a layer."""
    model = loading.load(str(folder), device="cpu")
    at = dict.fromkeys(device_map.parts(model.config), "cpu:0")
    at |= {f"model.layers.{i}": f"cpu:{n}" for i, n in enumerate(places)}
    model.places, _ = Places(at), model.network
    with PretendedDevices():
        placement.spread(model.network, model.places)
    return model


@pytest.fixture(scope="module")
def pairs(folder, tmp_path_factory):
    """Models that have to agree, and under what: on one device and two, in memory and partly on disk."""
    file = tmp_path_factory.mktemp("map") / "map.json"
    file.write_text(json.dumps({"": "cpu", "model.layers.1": "disk", "model.layers.3": "disk"}))
    disk = loading.load(str(folder), device="cpu", device_map=str(file))
    return {
        "two devices": (over(folder, "0000"), over(folder, "0111"), PretendedDevices),
        "disk": (loading.load(str(folder), device="cpu"), disk, nullcontext),
    }


def records(model, folder, out, **wanted):
    """What a run wrote, without times; and its hash."""
    few = {"task_settings": {"passkey": {"depths": "0,100" if "batch_size" in wanted else "50"}}}
    plan = plan_run(settings(folder, out, **{**few, **wanted}), None, lambda name, **_: model)
    assert not execute(plan, Watcher()).failed
    found = [json.loads(line) for line in (plan.folder.path / "samples.jsonl").read_text().splitlines()]
    for record in found:
        cost = record.pop("cost")
        record["cost"] = {name: cost[name] for name in ("kv_bytes", "forwards", "positions")}
        record.pop("crc32")
    return plan.folder.path.name, found


ON_DISK = ("plain", "streaming", "quantized", "gist", "beacon", "two_pass")
"""The others read weights in no other way."""
RUNS = [(method, "two devices") for method in METHODS] + [(method, "disk") for method in ON_DISK]


@pytest.mark.parametrize("method,kind", RUNS)
def test_a_run_writes_the_same_records(pairs, folder, tmp_path, monkeypatch, method, kind):
    one, other, under = pairs[kind]
    batch = {"batch_size": 2} if method in ("streaming", "beacon") else {}
    for module in ("asking", "generate"):  # in this thread, which pretends
        monkeypatch.setattr(f"harness.evaluation.{module}.apart", lambda work, *a, **k: work(*a, **k))
    found = []
    for model in (one, other):
        with under() as pretended:
            out = tmp_path / str(len(found))
            found.append(records(model, folder, out, method=method, options=METHODS[method], **batch))
        if pretended is not None:
            devices = {"cpu:0", "cpu:1"} if model is other else {"cpu:0"}
            assert {at for at, number in pretended.computed.items() if number > 99} >= devices
    assert found[0] == found[1]


def weights_of(kind, model, given):
    """Weights that have learned something, by tensors that do not lie with the model."""
    if kind == "copies":
        return MultiHeadBeacon(model.network, given)
    return LoraExperts({r: Expert(model.network, 4, 6.0, tensors) for r, tensors in given.items()})


@pytest.mark.parametrize("devices", ["two devices", "disk"])
@pytest.mark.parametrize("kind", ["copies", "copies without biases", "experts"])
def test_beacons_that_learned(pairs, folder, monkeypatch, kind, devices):
    one, other, under = pairs[devices]
    whole = loading.load(str(folder), device="cpu")
    if kind == "experts":
        given = {r: random_expert(whole, r).tensors() for r in (2, 4, 8, 32)}
    else:
        given = learned(whole.network).tensors(whole.network)
        given = {n: t.detach() for n, t in given.items() if "bias" not in n or kind == "copies"}
    found = []
    with under(), torch.no_grad():
        for model in (one, other):
            weights = weights_of(kind.partition(" ")[0], model, given)
            rows = []
            for many, scale, heard in ((True, 1, None), (True, 0.5, lambda *_: None), (False, 1, None)):
                monkeypatch.setattr(together, "possible", lambda _, many=many: many)
                used = weights if scale == 1 else weights.scaled(model.network, scale, "last")
                engine = ActivationBeacon(model.network, used, INTERVAL, "last", 2)
                rows += engine.read(
                    [Reading()] * 2, [IDS[:200], IDS[9:99]], lambda row, n: RATIOS[n + row], heard
                )
            found.append([t.cpu() for row in rows for t in (*row.cache.keys, *row.cache.values)])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("devices", ["two devices", "disk"])
def test_gist_that_learned(pairs, folder, devices):
    one, other, under = pairs[devices]
    given = learned_gist(loading.load(str(folder), device="cpu")).tensors()
    found = []
    with under(), torch.no_grad():
        for model in (one, other):
            weights = Memory(model, MEMORY, RANK, {name: t.detach() for name, t in given.items()})
            cache, _ = feed_once(model)
            found.append([k.cpu() for k in condense(model.network, weights, cache, IDS[:40], MEMORY).keys])
    assert all(map(torch.equal, *found))


def test_likelihoods(pairs):
    """Over chunks of a text, of several continuations, in a batch."""
    found = []
    for model in pairs["two devices"][:2]:
        method = Streaming(model, Streaming.Options.parse(KEPT, "it"))
        asked = [prompt(model, words) for words in (60, 40)]
        with PretendedDevices():
            scored = loglikelihood(method, asked, [[[5, 6, 7], [8, 9]], [[5], [6, 8]]])
            found.append([(x.logprob, x.greedy) for each in scored for x in each.likelihoods])
    assert found[0] == found[1] and len(found[0]) == 4


def feed_once(model):
    [cache], hidden = feed(model.network, [KVCache()], [IDS[:10]])
    return cache, hidden


@pytest.mark.parametrize("devices", ["two devices", "disk"])
def test_an_adapter_in_place_of_all_weights(pairs, folder, tmp_path, devices):
    one, other, under = pairs[devices]
    whole = loading.load(str(folder), device="cpu")
    tensors = {n: p.detach() * 1.1 for n, p in whole.network.named_parameters()}
    card = {"trained": "full", "window": 512, "rope_theta": 1e5, "rope_rule": "x4"}
    adapters.write(tmp_path / "a", "rope_scaling", whole, {"weights.safetensors": tensors}, card)
    found = []
    with under(), torch.no_grad():
        for model in (one, other):
            method = RopeScaling(model, RopeScaling.Options())
            method.load(tmp_path / "a")
            if devices == "disk" and model is other:
                with (
                    pytest.raises(UsageError, match="none can be offloaded by --device-map"),
                    method.changed(),
                ):
                    pass
                return
            with method.changed():
                found.append(feed_once(model)[1].cpu())
            assert not torch.equal(found[-1], feed_once(model)[1].cpu())
    assert torch.equal(*found)


def test_what_cannot_be_spread_is_refused_before_anything_is_read(folder, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="--engine ray each process one"):
        plan_run(settings(folder, tmp_path, device_map="auto", engine="ray"))
    with pytest.raises(UsageError, match="no such file; give one, or choose from auto"):
        plan_run(settings(folder, tmp_path, device_map="everywhere"))
    whole = loading.load(str(folder), device="cpu")
    with pytest.raises(UsageError, match="the loaded model lies on its device"):
        harness.run(model=whole.network, tokenizer=whole.tokenizer, device_map="auto")
    monkeypatch.setattr(Plain, "takes_device_map", False)
    with pytest.raises(UsageError, match="method plain needs the whole model on one device"):
        HarnessLM(model=str(folder), device_map="auto")
    with pytest.raises(UsageError, match="method plain needs the whole model on one device"):
        plan_run(settings(folder, tmp_path, device_map="auto"))
