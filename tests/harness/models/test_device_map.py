"""Models spread over devices by a map: how it is said, what is refused, and that nothing computes otherwise."""

import copy
import json

import accelerate
import accelerate.utils
import pytest
import torch
from torch.func import functional_call

from harness import UsageError
from harness.inference import KVCache, feed, kept
from harness.inference.closed_pass import ClosedPasses, modules_of
from harness.inference.meter import observe
from harness.models import LanguageModel, SharedModels, attention, device_map, loading, placement
from harness.models.device_map import Places

from ...conftest import make_model
from ...helpers.pretended import PretendedDevices
from ...test_docs import block, document

IDS = list(range(3, 60))


@pytest.fixture(scope="module")
def deep_folder(tmp_path_factory):
    """A tiny Llama of four layers."""
    return make_model(tmp_path_factory.mktemp("models") / "deep", num_hidden_layers=4)


@pytest.fixture
def deep(deep_folder) -> LanguageModel:
    return loading.load(str(deep_folder), device="cpu")


def named(path, **changed):
    """A file of places: all on the CPU but for `changed`, by the last part of their names."""
    path.write_text(json.dumps({"": "cpu", **{f"model.layers.{n[1:]}": at for n, at in changed.items()}}))
    return str(path)


def over(model, places="0110", kind="xla") -> LanguageModel:
    """The model over pretended devices, a digit a layer; to be used under `PretendedDevices`."""
    at = dict.fromkeys(device_map.parts(model.config), f"{kind}:0")
    at |= {f"model.layers.{i}": f"{kind}:{n}" if n.isdecimal() else "cpu" for i, n in enumerate(places)}
    _ = model.network
    with PretendedDevices():
        placement.spread(model.network, Places(at))
    return model


def read(network, twice=True):
    with torch.no_grad():
        caches, hidden = feed(network, [KVCache()], [IDS])
        if twice:
            caches, hidden = feed(network, caches, [IDS[:9]])
    return caches[0], hidden


def test_layers_on_disk_compute_the_same_and_leave_again(deep, deep_folder, tmp_path):
    spread = loading.load(str(deep_folder), device_map=named(tmp_path / "map.json", l1="disk", l3="disk"))
    ours, theirs = read(spread.network), read(deep.network)
    assert torch.equal(ours[1], theirs[1])
    assert all(map(torch.equal, ours[0].keys, theirs[0].keys))
    away = {name for name, p in spread.network.named_parameters() if p.is_meta}
    assert {name.rpartition(".layers.")[2][0] for name in away} == {"1", "3"}
    assert (spread.device, spread.network.device) == ("cpu", torch.device("cpu"))
    assert spread.facts()["device_map"]["places"]["model.layers.1"] == "disk"
    assert "device_map" not in deep.facts()
    layer = spread.network.model.layers[1]
    with pytest.raises(AttributeError):
        layer("no hidden states")
    assert all(p.is_meta for p in layer.parameters()), "weights stay behind where a pass failed"


def test_other_weights_in_the_place_of_those_on_disk_are_used(deep, deep_folder, tmp_path):
    spread = loading.load(str(deep_folder), device_map=named(tmp_path / "map.json", l1="disk"))
    place = "layers.1.self_attn.q_proj.weight"
    given = {"input_ids": torch.tensor([IDS])}
    other = {place: torch.randn_like(deep.network.model.get_parameter(place))}
    with torch.no_grad():
        whole, ours = (
            functional_call(m.network.model, other, kwargs=given).last_hidden_state for m in (deep, spread)
        )
        plain = spread.network.model(**given).last_hidden_state
    assert torch.equal(whole, ours) and not torch.equal(ours, plain)


@pytest.mark.parametrize("places", ["0110", "0c1c", "1111"])
def test_passes_over_two_devices(deep_folder, places):
    """Pretended ones. Layers marked ``c`` lie in the machine's memory, and device 0 computes them."""
    one, two = (over(loading.load(str(deep_folder), device="cpu"), each) for each in ("0000", places))
    with PretendedDevices():
        (mine, hidden), (theirs, wanted) = read(two.network), read(one.network)
        assert [str(keys.device) for keys in mine.keys] == [f"xla:{n}".replace("c", "0") for n in places]
        assert str(hidden.device) == "xla:0"
        resting = str(two.network.model.layers[1].self_attn.q_proj.weight.device)
        assert resting == ("cpu" if places[1] == "c" else "xla:1")
        hooks = two.network.model.layers[1]._forward_pre_hooks.values()
        assert not any(hook._known for hook in hooks if isinstance(hook, placement.Arriving))  # nothing stays
    assert torch.equal(hidden, wanted)
    assert all(map(torch.equal, mine.keys, theirs.keys))


def test_what_accelerate_hung_on_a_network_is_gone(deep_folder, deep):
    network = loading.load(str(deep_folder), device="cpu").network
    accelerate.cpu_offload(network, torch.device("cpu"))
    assert network.model.norm.weight.is_meta and "forward" in vars(network.model.norm)
    placement.spread(network, Places(dict.fromkeys(device_map.parts(network.config), "cpu")))
    assert not any("forward" in vars(module) for module in network.modules())
    assert torch.equal(read(network)[1], read(deep.network)[1])


def test_what_is_pretended_fails_where_devices_meet(deep_folder):
    """Else the tests here could not fail."""
    two = over(loading.load(str(deep_folder), device="cpu"))
    hooks = [layer._forward_pre_hooks for layer in two.network.model.layers]
    for each in hooks:
        each.clear()
    with PretendedDevices(), pytest.raises(RuntimeError, match="tensors on"):
        read(two.network, twice=False)


def test_caches_whose_layers_differ(deep_folder):
    one, two = (over(loading.load(str(deep_folder), device="cpu"), places) for places in ("0000", "0110"))
    found = []
    with PretendedDevices(), torch.no_grad():
        for model in (one, two):
            cache, _ = read(model.network, twice=False)
            chosen = [[torch.arange(20 + layer + head) for head in range(2)] for layer in range(4)]
            fewer = kept(model.network, cache, chosen)
            after, hidden = feed(model.network, [fewer, fewer], [IDS[:5], IDS[:9]])
            found.append((hidden, after[0].keys, fewer.keys))
    for ours, theirs in zip(*found):
        assert all(map(torch.equal, ours, theirs))


def test_hooks_of_loading_leave_passes_closed(deep_folder, tmp_path, deep):
    spread = loading.load(str(deep_folder), device_map=named(tmp_path / "map.json", l2="disk"))
    for model, changed in ((spread, False), (over(deep), False), (spread, True)):
        hook = model.network.model.norm.register_forward_hook(lambda *_: None) if changed else None
        closed = ClosedPasses(model.network.config, modules_of(model.network)).closed({"use_cache": True})
        assert closed is not changed
        if hook is not None:
            hook.remove()


def test_the_meter_asks_every_gpu(deep, monkeypatch):
    at = dict.fromkeys(device_map.parts(deep.config), "cuda:0") | {"model.layers.2": "cuda:1"}
    setattr(deep.network, placement.PLACES, Places(at))
    for module in ("memory", "meter"):
        monkeypatch.setattr(f"harness.inference.{module}.wait", lambda devices: None, raising=False)
    monkeypatch.setattr("harness.inference.memory.reset_peak", lambda device: True)
    monkeypatch.setattr("harness.inference.memory.peak", {"cuda:0": 7, "cuda:1": 5}.get)
    with observe(deep.network, "cuda:0") as meter:
        pass
    assert meter.peak_bytes == 12 and meter.devices == ("cuda:0", "cuda:1")
    assert Places(at).shares == {"cuda:0": 0.75, "cuda:1": 0.25}


def test_a_moved_mask_is_still_known(deep_folder):
    with PretendedDevices():
        mask = attention.causal_mask(3, 5, torch.float32, "cpu")
        moved = placement.on(mask, torch.device("xla:1"))
        assert attention.known_causal(moved) and moved is not mask
        assert placement.on(moved, torch.device("xla:1")) is moved
        mask.fill_(0)
        assert not attention.known_causal(placement.on(mask, torch.device("xla:0")))


@pytest.mark.parametrize("how", device_map.COMPUTED)
def test_accelerate_fills_devices_and_leaves_the_rest(deep_folder, monkeypatch, how):
    config = loading.load(str(deep_folder), device="cpu").config
    size = 500_000  # the whole model has 622,848 bytes
    monkeypatch.setattr(accelerate.utils, "get_max_memory", lambda: {0: size, 1: size, "cpu": size})
    places = device_map.computed(how, config, "float32", "cuda")
    assert list(places.at) == device_map.parts(config)
    assert places.main == places.at["lm_head"] == places.at["model.norm"] == "cuda:0"  # one table of weights
    assert set(places.at.values()) <= {"cuda:0", "cuda:1", "cpu", "disk"} and "cuda:1" in places.devices
    monkeypatch.setattr(accelerate.utils, "get_max_memory", lambda: {0: size, "cpu": size})
    small = device_map.computed(how, config, "float32", "cpu")
    assert small.main == "cpu" and "disk" in small.at.values()


def test_a_model_that_memory_has_no_room_for_is_run_from_disk(deep, deep_folder, monkeypatch):
    monkeypatch.setattr(accelerate.utils, "get_max_memory", lambda: {"cpu": 250_000})
    model = SharedModels()(str(deep_folder), device="cpu", device_map="auto")
    assert torch.equal(read(model.network)[1], read(deep.network)[1])
    assert model.facts()["device_map"]["asked"] == "auto" and "disk" in model.places.at.values()


def test_the_documents_file_says_what_the_page_says(deep, tmp_path, monkeypatch):
    monkeypatch.setattr(
        device_map.devices, "checked", lambda device, flag: device
    )  # as if there were two GPUs
    path = tmp_path / "map.json"
    path.write_text(block(document("docs/models.md"), "device map"))
    config = copy.deepcopy(deep.config)
    config.num_hidden_layers = 24
    places = device_map.from_file(str(path), config, "cuda")
    layers = [places.at[f"model.layers.{number}"] for number in range(24)]
    assert layers == [*["cuda:0"] * 20, "cuda:1", "cpu", "disk", "cuda:0"]
    assert places.main == places.at["lm_head"] == places.at["model.embed_tokens"] == "cuda:0"


BAD = {
    "not JSON": ("{", {}),
    "an object": ([], {}),
    "'model.layers.1' stands twice": ('{"": "cpu", "model.layers.1": "disk", "model.layers.1": "cpu"}', {}),
    "no part of this model": ({"": "cpu", "model.layers.9": "cpu"}, {}),
    "part of what stays whole": ({"": "cpu", "model.layers.1.mlp": "cpu"}, {}),
    "no place for model.layers.1 and 2 more": (
        {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.3": "cpu", "lm_head": "cpu"},
        {},
    ),
    "this machine has 0 CUDA devices": ({"": 0}, {}),
    "not a device": ({"": "gpu"}, {}),
    "map.json: all is at None; write a GPU's number": ({"": None}, {}),
    "only layers can be offloaded": ({"": "cpu", "lm_head": "disk"}, {}),
    "not on --device cuda": ({"": "cpu"}, {"device": "cuda"}),
    "so does --device cpu:0": ({"": "cpu"}, {"device": "cpu:0"}),
}


@pytest.mark.parametrize("said", BAD)
def test_a_bad_map_is_one_line(deep_folder, tmp_path, said, monkeypatch):
    content, more = BAD[said]
    if more.get("device") == "cuda":
        monkeypatch.setattr("harness.models.devices.checked", lambda device, flag="": device)
    path = tmp_path / "map.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UsageError, match=said) as error:
        loading.load(str(deep_folder), device_map=str(path), **more)
    assert "\n" not in str(error.value) and "--device" in str(error.value)


def test_maps_that_are_none_and_accelerate_that_is_missing(deep_folder, monkeypatch):
    with pytest.raises(UsageError, match="no such file; give one, or choose from auto"):
        loading.load(str(deep_folder), device_map="everywhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install accelerate"):
        device_map.check("auto", "auto")


def test_parts_that_belong_together(deep_folder, monkeypatch):
    config = loading.load(str(deep_folder), device="cpu").config
    at = dict.fromkeys(device_map.parts(config), "cuda:0")
    for changed, said in (
        ({"lm_head": "cuda:1"}, "on one device"),
        ({"lm_head": "cuda:1", "model.norm": "cuda:1"}, "share their weights"),
        ({"model.layers.0": "mps"}, "compute differently"),
        ({"model.norm": "cpu"}, "only layers"),
    ):
        with pytest.raises(UsageError, match=said):
            device_map._check_whole("--device-map X:", Places(at | changed), config, "auto")
    device_map._check_whole("--device-map X:", Places(at | {"model.layers.0": "cpu"}), config, "cuda")
