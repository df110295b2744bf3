"""Measurement: what the model was seen doing, independent of what a method says about itself.

While a method works, a hook on the model's forward pass notes how many KV entries each sequence attends
to and how many bytes they occupy. What a method declares is held against that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import MeasurementError

if TYPE_CHECKING:
    from .method import Generation

TOLERANCE = 0.01
"""Share by which declared and observed KV entries may differ (and never less than `TOLERANCE_TOKENS`)."""

TOLERANCE_TOKENS = 2

PHASES = ("compress", "prefill", "decode")

_current: ContextVar[Meter | None] = ContextVar("meter", default=None)


@dataclass
class Meter:
    """What was observed during one call of a method.

    Attributes
    ----------
    seconds
        Wall-clock time of each of `PHASES`, nested phases counted once, for the innermost.
    forwards
        Forward passes of the base model.
    positions
        Token positions those passes computed, padding included: the work that was done.
    resident
        KV entries of each row after the last forward pass (padding excluded); None if none was seen.
    started
        The same just before the first pass of the ``decode`` phase: what the answer began from.
    kv_bytes
        Bytes of the KV cache of the whole batch just before the first pass of the ``decode`` phase.
    peak_bytes
        Peak memory of the device during the call (of the process, on a CPU); None if not to be had.
    """

    device: str = "cpu"
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    forwards: int = 0
    positions: int = 0
    resident: list[int] | None = None
    started: list[int] | None = None
    kv_bytes: int | None = None
    peak_bytes: int | None = None
    _stack: list[str] = field(default_factory=list)
    _since: float = 0.0

    def _switch(self) -> None:
        """Book the time since the last switch on the innermost phase."""
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def before(self, kwargs: dict[str, Any]) -> None:
        """Note the cache a forward pass starts from."""
        cache = kwargs.get("past_key_values")
        if self._stack and self._stack[-1] == "decode" and self.started is None:
            new = _width(kwargs)
            self.started = _rows(kwargs, 0 if cache is None else int(cache.get_seq_length()), new, minus=new)
            self.kv_bytes = _nbytes(cache)

    def after(self, kwargs: dict[str, Any]) -> None:
        """Note what a forward pass left behind."""
        cache = kwargs.get("past_key_values")
        self.forwards += 1
        self.positions += _width(kwargs) * _batch(kwargs)
        if cache is not None:
            self.resident = _rows(kwargs, int(cache.get_seq_length()), _width(kwargs), minus=0)


def _tokens(kwargs: dict[str, Any]) -> Any:
    ids = kwargs.get("input_ids")
    return ids if ids is not None else kwargs["inputs_embeds"]


def _width(kwargs: dict[str, Any]) -> int:
    return int(_tokens(kwargs).shape[1])


def _batch(kwargs: dict[str, Any]) -> int:
    return int(_tokens(kwargs).shape[0])


def _rows(kwargs: dict[str, Any], length: int, new: int, *, minus: int) -> list[int]:
    """Entries each row may attend to: those its mask leaves, or all of them; `minus` are not counted."""
    mask = kwargs.get("attention_mask")
    if mask is None or mask.ndim not in (2, 4):
        return [length] * _batch(kwargs)
    visible = mask.bool() if mask.dtype.is_floating_point is False else mask > -1
    if mask.ndim == 4:  # the newest position's row; all heads see alike
        visible = visible[:, 0, -1].expand(_batch(kwargs), -1)
    return [int(n) - minus for n in visible.sum(-1).tolist()]


def _nbytes(cache: Any) -> int:
    """Bytes of every tensor a transformers cache holds."""
    total = 0
    for layer in getattr(cache, "layers", ()):
        for side in ("keys", "values"):
            tensor = getattr(layer, side, None)
            if tensor is not None:
                total += tensor.numel() * tensor.element_size()
    return total


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Book the time of the enclosed block as `name` (one of `PHASES`); without a meter it does nothing."""
    meter = _current.get()
    if meter is None:
        yield
        return
    meter._switch()
    meter._stack.append(name)
    try:
        yield
    finally:
        meter._switch()
        meter._stack.pop()


@contextmanager
def observe(network: Any, device: str) -> Iterator[Meter]:
    """Watch every forward pass of `network`'s base model during the block; nothing is left behind."""
    meter = Meter(device)
    before = network.model.register_forward_pre_hook(
        lambda module, args, kwargs: meter.before(_named(args, kwargs)), with_kwargs=True
    )
    after = network.model.register_forward_hook(
        lambda module, args, kwargs, output: meter.after(_named(args, kwargs)), with_kwargs=True
    )
    token = _current.set(meter)
    reset_peak(device)
    try:
        yield meter
    finally:
        _current.reset(token)
        before.remove()
        after.remove()
        meter.peak_bytes = peak(device)


def check(generation: Generation, meter: Meter, row: int) -> dict[str, Any]:
    """Hold what a method declares for one sample against what the model was seen attending to.

    Parameters
    ----------
    generation
        The method's answer.
    meter
        What was observed while it was made.
    row
        The sample's row in the batch.

    Returns
    -------
    dict
        ``kv_tokens`` (observed if anything was), ``verified`` (whether it was observed), ``compression``
        (prompt tokens read for each entry that stood for them).

    Raises
    ------
    MeasurementError
        If the model attended to more than was declared (it only pretended to compress), or to less.
    """
    declared, answer = generation.kv_tokens, len(generation.token_ids)
    seen: int | None = None
    if meter.started is not None and row < len(meter.started):
        seen = meter.started[row]
    elif meter.resident is not None and row < len(meter.resident):
        # No decode phase was marked. The last forward pass left the prompt and every new token but the newest.
        seen = meter.resident[row] - answer
    if seen is not None and abs(seen - declared) > max(TOLERANCE_TOKENS, TOLERANCE * declared):
        verb = "compressed" if seen > declared else "kept"
        raise MeasurementError(
            f"the method says it {verb} {generation.prompt_tokens} prompt tokens {'to' if seen > declared else 'as'} "
            f"{declared} KV entries, but the model was seen attending to {seen} when the answer began; "
            "the run is not to be believed"
        )
    kept = declared if seen is None else seen
    return {
        "kv_tokens": kept,
        "verified": seen is not None,
        "compression": (generation.prompt_tokens - 1) / kept if kept > 0 else None,
    }


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """A forward pass's arguments by name; token ids may come as the first positional one."""
    return {"input_ids": args[0], **kwargs} if args else kwargs


def reset_peak(device: str) -> None:
    """Start a new peak-memory measurement."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats()
        return
    try:  # Linux: "5" resets the resident-set high-water mark of this process
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        pass


def peak(device: str) -> int | None:
    """Peak memory in bytes since `reset_peak`: allocated on the GPU, or resident of this process."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
