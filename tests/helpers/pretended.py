"""Devices that are not there: every tensor is the processor's, and knows which device it would be on.

An operation on tensors of two devices fails as torch would let it fail.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

HOST = torch.device("cpu")
PLACE = "_pretended"
MIXES = {torch.Tensor.copy_, torch.Tensor.__setitem__, torch.Tensor.__getitem__}
"""What takes tensors of two devices: copies, and indices that lie on the host."""
LOOKING = {torch._has_compatible_shallow_copy_type, torch.Tensor.tolist, torch.Tensor.numpy}
"""What computes nothing."""


def place(tensor: torch.Tensor) -> torch.device:
    """Where a tensor would be."""
    return getattr(tensor, PLACE, HOST)


class PretendedDevices(TorchFunctionMode):
    """While it lasts, ``tensor.to("xla:1")`` gives a tensor of such a device, which no other may meet.

    Attributes
    ----------
    computed
        Operations of each device. A mode is a thread's own: whoever works in another is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.computed: Counter[str] = Counter()

    def __enter__(self) -> Any:
        made = torch.Tensor._make_subclass  # of parameters: no mode is told

        def marked(cls: Any, data: torch.Tensor, *args: Any) -> torch.Tensor:
            return _marked(made(cls, data, *args), place(data))

        torch.Tensor._make_subclass = staticmethod(marked)
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        del torch.Tensor._make_subclass  # it is the base class's
        super().__exit__(*raised)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == torch.Tensor.device.__get__:
            return place(args[0])
        if func == torch.Tensor.data.__set__:
            setattr(args[0], PLACE, place(args[1]))
            return func(*args, **kwargs)
        if func is torch.Tensor.to:
            return self._to(args, kwargs)
        if func is torch.Tensor.cpu:
            return _put(args[0], HOST)
        if func in LOOKING:
            return func(*args, **kwargs)
        given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        at = _common(func, given)
        if kwargs.get("device") is not None:
            at, kwargs["device"] = torch.device(kwargs["device"]), "cpu"
        found = func(*args, **kwargs)
        self.computed[str(at)] += 1
        return tree_map(lambda x: _marked(x, at) if isinstance(x, torch.Tensor) else x, found)

    def _to(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        tensor, target, rest = args[0], place(args[0]), []
        for value in (*args[1:], kwargs.pop("device", None)):
            if isinstance(value, str | torch.device):
                target = torch.device(value)
            elif isinstance(value, torch.Tensor):
                target = place(value)
                rest.append(value.dtype)
            elif isinstance(value, torch.dtype):
                rest.append(value)
        kwargs = {name: value for name, value in kwargs.items() if name == "dtype" and value is not None}
        with torch._C.DisableTorchFunction():
            found = torch.Tensor.to(tensor, *rest, **kwargs) if rest or kwargs else tensor
        return _put(found, target, like=tensor)


def _put(tensor: torch.Tensor, target: torch.device, like: torch.Tensor | None = None) -> torch.Tensor:
    """It where it is to be: itself if it is there already."""
    own = place(tensor if like is None else like)
    if own != target and (like is None or tensor is like):
        with torch._C.DisableTorchFunction():
            tensor = tensor.clone()
    return _marked(tensor, target)


def _marked(tensor: torch.Tensor, at: torch.device) -> torch.Tensor:
    if place(tensor) != at:
        setattr(tensor, PLACE, at)
    return tensor


def _common(func: Any, given: list[torch.Tensor]) -> torch.device:
    """The device of an operation's tensors; numbers in a tensor of the host go with any."""
    if func in MIXES and given:
        others = {place(x) for x in given[1:] if x.dtype in (torch.long, torch.bool)} - {
            HOST,
            place(given[0]),
        }
        if func is not torch.Tensor.copy_ and others:
            raise RuntimeError(f"{func.__name__}: indices on {others}, the tensor on {place(given[0])}")
        return place(given[0])
    places = {place(x) for x in given if x.dim() or place(x) != HOST}
    if len(places) > 1:
        raise RuntimeError(f"{getattr(func, '__name__', func)}: tensors on {', '.join(map(str, places))}")
    return places.pop() if places else HOST
