"""A network whose parts lie on several devices, or in memory and files until a pass needs them.

What a part is given is moved to its device by hooks of ours, once a pass for what all layers are given (masks,
positions). Accelerate's own hooks would replace the forward of every module and copy a mask for every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from . import attention, weights
from .device_map import DISK, Places

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PLACES, READ, HOME = "_harness_places", "_harness_read", "_harness_home"
"""Attributes: of a network its places; of a weight that lies elsewhere what gives its values, and where to."""


class Ours:
    """A hook that the harness hung on a network as it was loaded: it changes no numbers."""


class Arriving(Ours):
    """Moves what a part is given to its device."""

    def __init__(self, device: Any, known: dict[tuple[int, str], tuple[Tensor, Tensor]]) -> None:
        self.device, self._known = device, known

    def __call__(
        self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Hidden states come by place, and are another tensor for each layer; what all layers get comes by name."""
        moved = {name: self._once(value) for name, value in kwargs.items()}
        return tuple(on(value, self.device) for value in args), moved

    def _once(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._once, value))
        if getattr(value, "device", self.device) == self.device:
            return value
        key = (id(value), str(self.device))
        if key not in self._known:
            self._known[key] = (value, on(value, self.device))
        return self._known[key][1]


class Departed(Ours):
    """Lets go of what was moved once the pass is over."""

    def __init__(self, known: dict[Any, Any]) -> None:
        self._known = known

    def __call__(self, *_: Any) -> None:
        self._known.clear()


class Fetching(Ours):
    """Brings a layer's weights to the device that computes it, unless others stand in their place."""

    def __init__(self, layer: Any) -> None:
        self._kept = [
            (module, name, parameter)
            for module in layer.modules()
            for name, parameter in module._parameters.items()
            if parameter is not None
        ]

    def __call__(self, *_: Any) -> None:
        for module, name, parameter in self._kept:
            if module._parameters[name] is parameter:
                module._parameters[name] = present(parameter)


class Leaving(Ours):
    """Takes them away again."""

    def __init__(self, fetching: Fetching) -> None:
        self._kept = fetching._kept

    def __call__(self, *_: Any) -> None:
        for module, name, parameter in self._kept:
            module._parameters[name] = parameter


@contextmanager
def fitting(name: str, device: str, dtype: str) -> Iterator[None]:
    """Turn a device's memory running out into a `UsageError`."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"model {name} does not fit on {device} in {dtype}; harness run --device-map auto spreads it over devices, "
            "harness fit --shard-base over processes"
        ) from error


def spread(network: Any, places: Places, files: Iterable[Path] = ()) -> Any:
    """Let a network compute with its parts where `places` has them; returns it.

    Parameters
    ----------
    network
        A causal language model, its parts where they are to be, or anywhere.
    files
        Safetensors with the weights of the layers that are to stay on disk.

    Raises
    ------
    UsageError
        If the files name the weights of such a layer otherwise than the network does.
    """
    import torch

    _bare(network)
    known: dict[Any, Any] = {}
    several = len(places.devices) > 1
    stored = _stored(files) if DISK in places.at.values() else {}
    for part in places.at:
        module, at = network.get_submodule(part), torch.device(places.home(part))
        if several:
            module.register_forward_pre_hook(Arriving(at, known), with_kwargs=True)
        if places.offloaded(part):
            _offload(module, part, at, stored if places.at[part] == DISK else None)
        else:
            module.to(at)
    if several:
        network.model.register_forward_hook(Departed(known), always_call=True)
    setattr(network, PLACES, places)
    return network


def _offload(module: Any, part: str, at: torch.device, stored: Mapping[str, Path] | None) -> None:
    """Let a layer's weights lie in memory, or in files, between passes."""
    module.to("cpu" if stored is None else "meta")
    for name, parameter in module.named_parameters():
        read = (
            _reader(parameter, at)
            if stored is None
            else _file_reader(f"{part}.{name}", stored, parameter, at)
        )
        setattr(parameter, READ, read)
        setattr(parameter, HOME, at)
    fetching = Fetching(module)
    module.register_forward_pre_hook(fetching)
    module.register_forward_hook(Leaving(fetching), always_call=True)


def _bare(network: Any) -> None:
    """Take off what transformers hung on a network that it loaded by a map."""
    from accelerate.hooks import remove_hook_from_module

    remove_hook_from_module(network, recurse=True)
    for module in network.modules():
        vars(module).pop("forward", None)  # left behind as it was


def _stored(files: Iterable[Path]) -> dict[str, Path]:
    """Which file holds which weight."""
    return {name: path for path in files for name in weights.header(path)}


def _reader(parameter: Any, at: torch.device) -> Callable[[], Tensor]:
    held = parameter.detach()
    return lambda: held.to(at)


def _file_reader(
    name: str, stored: Mapping[str, Path], parameter: Any, at: torch.device
) -> Callable[[], Tensor]:
    from safetensors import safe_open

    found = next((n for n in (name, name.removeprefix("model.")) if n in stored), None)
    if found is None:
        raise UsageError(f"--device-map: the model's files have no {name}, so it cannot stay on disk")
    path, dtype = stored[found], parameter.dtype

    def read() -> Tensor:
        with safe_open(path, "pt") as file:
            values: Tensor = file.get_tensor(found).to(at, dtype)
        return values

    return read


def on(value: Any, device: Any) -> Any:
    """A tensor on a device, known to attention as before if it is a plain causal mask; anything else as it is."""
    import torch

    if not isinstance(value, torch.Tensor) or value.device == device:
        return value
    moved = value.to(device)
    return attention.marked_causal(moved) if attention.known_causal(value) else moved


def present(parameter: Any) -> Any:
    """A weight's values on the device that computes with them, wherever it lies between passes."""
    read = getattr(parameter, READ, None)
    return parameter if read is None else read()


def home(parameter: Any) -> torch.device:
    """The device that computes with a weight."""
    found: torch.device = getattr(parameter, HOME, parameter.device)
    return found


def offloads(network: Any) -> bool:
    """Whether weights of a network are elsewhere between passes."""
    places = getattr(network, PLACES, None)
    return places is not None and any(map(places.offloaded, places.at))


def devices(network: Any, device: str) -> tuple[str, ...]:
    """Devices whose memory a network takes: the GPUs of its map, else `device`, where it is said to be."""
    places = getattr(network, PLACES, None)
    if places is None or not device.startswith("cuda"):
        return (device,)
    found: tuple[str, ...] = places.devices
    return found
