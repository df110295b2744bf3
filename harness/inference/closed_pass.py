"""Whether a forward pass can run any code but the model's own, the harness's and the libraries'.

Hearing of every module that runs makes torch call each of them the slow way, a fifth of a token's time on a small
model. A pass that is closed in this sense cannot run a foreign module, so nobody needs to listen while it lasts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..models import attention

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIBRARIES = ("torch", "transformers")


class ClosedPasses:
    """Tells the closed passes of one network. Made before anything is hung on it for measuring.

    Parameters
    ----------
    config
        The network's configuration, which names its attention; None: no pass is closed.
    modules
        All modules of the network.
    """

    def __init__(self, config: Any, modules: Sequence[Any]) -> None:
        from ..models.feed_forward import written_by

        self._config = config
        self._states = [vars(module) for module in modules]
        self._kinds = [written_by(kind) for kind in {type(module) for module in modules}]
        self._bare = hanging(self._states) == _ours(self._states)
        self._parts = self._children()

    def closed(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether the base model called with `kwargs` is closed, if nothing but the harness hangs on it.

        Nothing hung on the network before; its modules are those of the beginning and compute as a library says;
        attention is the harness's; and nothing that could be called is handed in.
        """
        return (
            self._bare
            and self._ours()
            and all(_inert(value) for value in kwargs.values())
            and all(_of_library(kind.forward) for kind in self._kinds)
            and self._parts == self._children()
        )

    def _ours(self) -> bool:
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        name = getattr(self._config, "_attn_implementation", None)
        return name == attention.ATTENTION and ALL_ATTENTION_FUNCTIONS[name] is attention.attend

    def _children(self) -> list[Any]:
        return [part for state in self._states for part in state["_modules"].values()]


def modules_of(network: Any) -> list[Any]:
    """What ``list(network.modules())`` holds, in a tenth of the time; empty for what is no module."""
    found: dict[int, Any] = {}
    waiting = [network] if hasattr(network, "_modules") else []
    while waiting:
        module = waiting.pop()
        if module is not None and id(module) not in found:
            found[id(module)] = module
            waiting.extend(module._modules.values())
    return list(found.values())


def hanging(states: Sequence[Mapping[str, Any]]) -> int:
    """Hooks and functions that hang on modules, given what `vars` says of each."""
    return sum(len(s["_forward_hooks"]) + len(s["_forward_pre_hooks"]) + ("forward" in s) for s in states)


def _ours(states: Sequence[Mapping[str, Any]]) -> int:
    """How many of them the harness hung there as it loaded the network."""
    from ..models.placement import Ours

    hooks = (s[side].values() for s in states for side in ("_forward_hooks", "_forward_pre_hooks"))
    return sum(isinstance(hook, Ours) for each in hooks for hook in each)


def _inert(value: Any) -> bool:
    """Whether an argument of a pass runs no code of its own: numbers, plain tensors, caches of transformers or ours."""
    import torch

    from .growing import GrowingLayer

    if value is None or type(value) in (bool, int, float, str, torch.Tensor, torch.nn.Parameter):
        return True
    layers = getattr(value, "layers", None)
    return (
        isinstance(layers, list)
        and _of_library(type(value))
        and all(type(x) is GrowingLayer or _of_library(type(x)) for x in layers)
    )


def _of_library(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] in LIBRARIES
