"""Where each part of a model larger than one device lies: by accelerate, or by a file.

A decoder layer stays whole. Layers that no device has room for may lie in the machine's memory (``cpu``, beside GPUs)
or in the model's files (``disk``); they are brought to the first device for each pass.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._util.json_rows import json_row
from ..errors import UsageError
from . import devices

if TYPE_CHECKING:
    from transformers import PretrainedConfig

COMPUTED = ("auto", "balanced", "balanced_low_0", "sequential")
"""What accelerate works out from the memory there is; ``auto`` is ``balanced``."""
EMBEDDING, NORM, HEAD, ROTARY = "model.embed_tokens", "model.norm", "lm_head", "model.rotary_emb"
LAYERS = "model.layers"
DISK = "disk"
SHARE = 0.9
"""Of the free memory that weights may take; caches and activations need some too."""


@dataclass(frozen=True)
class Places:
    """Where the parts of a model lie.

    Attributes
    ----------
    at
        Device of each part, as torch writes it, or ``"disk"``: the embedding, each layer, the last norm, the head.
    """

    at: Mapping[str, str]

    @property
    def main(self) -> str:
        """The device of the embedding: token ids go there, and layers that lie elsewhere are brought there."""
        return self.at[EMBEDDING]

    def offloaded(self, part: str) -> bool:
        """Whether a part is brought to the main device for each pass: from files, or from memory to a GPU."""
        return self.at[part] == DISK or (self.at[part] == "cpu" and not self.main.startswith("cpu"))

    def home(self, part: str) -> str:
        """The device that computes a part."""
        return self.main if self.offloaded(part) else self.at[part]

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices that compute, in the order of the parts."""
        return tuple(dict.fromkeys(self.home(part) for part in self.at))

    @property
    def shares(self) -> dict[str, float]:
        """Share of the layers that each device computes."""
        found = Counter(self.home(part) for part in self.at if part.startswith(f"{LAYERS}."))
        return {device: number / found.total() for device, number in found.items()}

    def for_loading(self) -> dict[str, str]:
        """What transformers takes as ``device_map``."""
        return {**self.at, ROTARY: self.main}


def parts(config: PretrainedConfig) -> list[str]:
    """Names of what has a place, as in the model's files, in order."""
    return [EMBEDDING, *(f"{LAYERS}.{i}" for i in range(config.num_hidden_layers)), NORM, HEAD]


def check(asked: str, device: str) -> None:
    """Refuse what no model can be loaded by. Raises UsageError."""
    if importlib.util.find_spec("accelerate") is None:
        raise UsageError("--device-map needs accelerate: pip install accelerate")
    if device.partition(":")[2]:
        raise UsageError(f"--device-map says where the model lies, and so does --device {device}; give one")
    if asked not in COMPUTED and not Path(asked).is_file():
        raise UsageError(
            f"--device-map {asked}: no such file; give one, or choose from {', '.join(COMPUTED)}"
        )


def from_file(asked: str, config: PretrainedConfig, device: str) -> Places:
    """The places a JSON file names: ``{"model.embed_tokens": 0, "model.layers.0": 0, "lm_head": "cuda:1", ...}``.

    A name stands for all that begins with it (``"model"``, ``""``); the longest one counts.

    Raises
    ------
    UsageError
        One line: the file is damaged, a name or a device is unknown, a part has no place, or one that it cannot have.
    """
    flag, known = f"--device-map {asked}:", parts(config)
    try:
        said = json_row(Path(asked).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{flag} not JSON that can be read ({error})") from None
    if not isinstance(said, dict) or not said:
        raise UsageError(f"{flag} it must be an object of names and devices")
    names = {name: _named(flag, name, place) for name, place in said.items()}
    for name in names:
        if name != ROTARY and not any(_holds(name, part) for part in known):
            inside = any(_holds(part, name) for part in known)
            raise UsageError(
                f"{flag} {name} is " + ("part of what stays whole" if inside else "no part of this model")
            )
    found = {part: _longest(names, part) for part in known}
    if lacking := [part for part, place in found.items() if place is None]:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise UsageError(f"{flag} no place for {lacking[0]}{more}")
    places = Places({part: str(place) for part, place in found.items()})
    _check_whole(flag, places, config, device)
    return places


def _named(flag: str, name: str, place: Any) -> str:
    if isinstance(place, bool) or not isinstance(place, int | str):
        raise UsageError(
            f"{flag} {name or 'all'} is at {place!r}; write a GPU's number, a device, cpu or disk"
        )
    said = f"cuda:{place}" if isinstance(place, int) or place.isdecimal() else place
    return said if said == DISK else devices.checked("cuda:0" if said == "cuda" else said, flag)


def _holds(name: str, part: str) -> bool:
    return name in ("", part) or part.startswith(f"{name}.")


def _longest(names: Mapping[str, str], part: str) -> str | None:
    holding = [name for name in names if _holds(name, part)]
    return names[max(holding, key=len)] if holding else None


def _check_whole(flag: str, places: Places, config: PretrainedConfig, device: str) -> None:
    """Refuse places that parts cannot have together."""
    if away := [
        part for part in (EMBEDDING, NORM, HEAD) if places.at[part] == DISK or places.offloaded(part)
    ]:
        raise UsageError(f"{flag} {away[0]} is at {places.at[away[0]]}; only layers can be offloaded")
    if places.at[NORM] != places.at[HEAD]:
        raise UsageError(f"{flag} {NORM} and {HEAD} have to be on one device")
    if config.tie_word_embeddings and places.at[EMBEDDING] != places.at[HEAD]:
        raise UsageError(
            f"{flag} {EMBEDDING} and {HEAD} share their weights, so they have to be on one device"
        )
    kinds = sorted({place.partition(":")[0] for place in places.devices})
    if len(kinds) > 1:
        raise UsageError(f"{flag} {' and '.join(kinds)} compute differently; take one kind")
    if device not in ("auto", kinds[0]):
        raise UsageError(f"{flag} the model would be on {kinds[0]}, not on --device {device}")


def computed(
    how: str, config: PretrainedConfig, dtype: str, device: str, *, remote_code: bool = False
) -> Places:
    """Places by accelerate, from the memory that is free now; see `COMPUTED`."""
    import accelerate.utils
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, dtype), trust_remote_code=remote_code
        )
    network.tie_weights()
    whole = network._no_split_modules
    memory = free(device)
    if how != "sequential":
        memory = accelerate.utils.get_balanced_memory(
            network, memory, whole, network.dtype, low_zero=how == "balanced_low_0"
        )
    found = accelerate.utils.infer_auto_device_map(network, memory, whole, dtype=network.dtype)
    names = {name: f"cuda:{place}" if isinstance(place, int) else str(place) for name, place in found.items()}
    main = next((f"cuda:{place}" for place in memory if isinstance(place, int)), "cpu")
    return settled({part: _longest(names, part) or main for part in parts(config)}, main, config)


def settled(at: Mapping[str, str], main: str, config: PretrainedConfig) -> Places:
    """Places that parts can have together: embedding, norm and head stay on devices, the last two on one."""
    head = at[HEAD] if at[HEAD].startswith(main.partition(":")[0]) else main
    head = main if config.tie_word_embeddings else head
    return Places({**at, EMBEDDING: main, NORM: head, HEAD: head})


def free(device: str) -> dict[int | str, Any]:
    """Bytes that each device may be filled with, and the machine's memory; a run on a CPU fills that alone."""
    import accelerate.utils

    found = {place: int(size * SHARE) for place, size in accelerate.utils.get_max_memory().items()}
    return found if device.startswith("cuda") else {"cpu": found["cpu"]}


def facts(asked: str | None, places: Places | None) -> dict[str, Any]:
    """What ``run.json`` says of a map: what was asked for, and where parts are, once that is known."""
    if asked is None:
        return {}
    return {"device_map": {"asked": asked, "places": None if places is None else _in_few_words(places.at)}}


def _in_few_words(at: Mapping[str, str]) -> dict[str, str]:
    """``{"model.layers.0-15": "cuda:0"}``: neighbours of one place are written as one."""
    rows: list[tuple[str, str, str]] = []
    for part, place in at.items():
        numbered = part.startswith(LAYERS)
        if rows and numbered and rows[-1][0].startswith(LAYERS) and rows[-1][2] == place:
            rows[-1] = (rows[-1][0], part, place)
        else:
            rows.append((part, part, place))
    return {
        first if first == last else f"{first}-{last.rpartition('.')[2]}": place for first, last, place in rows
    }
