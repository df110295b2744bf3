"""``harness fit``: data mixed, a method trained or calibrated on it, an adapter folder written.

The folder is the adapter; what is needed to go on after a kill (checkpoints, tokenised data, the request)
lies in its ``training`` sub-folder, which may be deleted once the fit has ended.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import registry
from .._util.processes import launched
from .._version import __version__
from ..contracts import tracker
from ..contracts.fit import FitObserver, Schedule
from ..contracts.method import Method
from ..errors import UsageError
from ..models import adapters
from ..models.loading import load as load_model
from ..models.model import LanguageModel
from ..options import Options
from . import build_mixture
from .settings import FitSettings

if TYPE_CHECKING:
    pass

TRAINING = "training"
REQUEST = "fit.json"
CONTENT = "content.json"
CURVE = "loss.jsonl"
FIGURE = "loss.png"
AGAIN = "make room and run again"


@dataclass
class FitPlan:
    """A fit that has passed every check; nothing heavy is loaded yet."""

    settings: FitSettings
    model: LanguageModel
    method: Method
    options: Options
    adapter: Path | None


def plan_fit(
    settings: FitSettings,
    note: Callable[[str], None] | None = None,
    load: Callable[..., LanguageModel] = load_model,
) -> FitPlan:
    """Check everything that can be checked before the model's weights are loaded.

    `load` is called as `harness.models.loading.load` is.

    Raises
    ------
    UsageError
        For anything wrong with the request, in one line.
    """
    tracker.check(settings.track)
    plugin = registry.method(settings.method)
    if not plugin.cls.trainable:
        raise UsageError(f"method {settings.method} has nothing to fit")
    owner = f"method {settings.method}"
    if launched() < 2 and settings.shard_base:
        raise UsageError(
            "--shard-base splits the base model among processes, but there is one; start several, for instance "
            "torchrun --nproc-per-node 2 -m -- harness fit ..."
        )
    options = plugin.cls.Options.parse(settings.options, owner)
    fit_options = plugin.cls.FitOptions.parse(settings.fit_options, f"fit of {owner}")
    for name, least in (
        ("batch_size", 1),
        ("micro_batch", 1),
        ("save_every", 1),
        ("min_length", 2),
        ("warmup_steps", 0),
    ):
        if (value := getattr(settings, name)) < least:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    for name in ("learning_rate", "epochs"):
        if not 0 < (value := getattr(settings, name)) < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} must be greater than 0 and finite, not {value:g}")
    if not 0 <= settings.seed < 2**32:  # as numpy and torch take it
        raise UsageError(f"--seed must be 0 to {2**32 - 1}, not {settings.seed}")
    schedule_of(settings).passes()
    if settings.max_steps is not None and settings.max_steps < 1:
        raise UsageError(f"--max-steps must be at least 1, not {settings.max_steps}")
    if settings.min_length > settings.max_length:
        raise UsageError(f"--min-length {settings.min_length} is above --max-length {settings.max_length}")
    if settings.data:
        build_mixture.check(settings.data)
    elif plugin.cls.needs_data:
        raise UsageError(f"{owner} learns from data: give --data FILE.jsonl[:COUNT], once or more")
    model = load(
        settings.model,
        dtype=settings.dtype,
        device=_own_device(settings.device),
        offline=settings.offline,
        trust_remote_code=settings.trust_remote_code,
        allow_unused_weights=settings.allow_unused_weights,
        notify=note,
    )
    method = plugin.cls(model, options)
    # What learns begins from nothing; what only calibrates does it for the weights that a run would use.
    adapter = adapters.resolve(
        settings.adapter, (lambda: None) if plugin.cls.needs_data else method.default_adapter
    )
    if adapter is not None:
        method.load(adapter)
    method.check_fit(fit_options)
    if settings.shard_base:
        method.check_sharded(fit_options)
        model.shard()
    if settings.trainer:  # else there is nothing to refuse, and what would refuse it takes seconds to import
        from . import trainer

        trainer.check(schedule_of(settings), model.device)
    if (settings.out / adapters.CARD).exists():
        same_request(settings.out, request_of(settings, method, fit_options, adapter))
        finished(settings.out)
    return FitPlan(settings, model, method, fit_options, adapter)


def schedule_of(settings: FitSettings, observer: FitObserver | None = None) -> Schedule:
    """The schedule that a method is given."""
    return Schedule(
        folder=settings.out / TRAINING,
        batch_size=settings.batch_size,
        micro_batch=settings.micro_batch,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        epochs=settings.epochs,
        max_steps=settings.max_steps,
        save_every=settings.save_every,
        seed=settings.seed,
        trainer=settings.trainer,
        observer=observer,
    )


def _own_device(device: str) -> str:
    """The device of this process among those started together: the one of its local rank."""
    rank = os.environ.get("LOCAL_RANK", "-1")
    if rank == "-1" or device not in ("auto", "cuda"):
        return device
    import torch

    return f"cuda:{rank}" if torch.cuda.is_available() else device


def request_of(
    settings: FitSettings, method: Method, options: Options, adapter: Path | None
) -> dict[str, Any]:
    """Everything that can change what is learned; JSON-ready."""
    return {
        "harness": __version__,
        "method": settings.method,
        "method_version": method.version,
        "options": method.options.model_dump(mode="json"),
        "given_options": settings.options,
        "fit_options": options.model_dump(mode="json"),
        "model": settings.model,
        "model_hash": method.model.content_hash,
        "dtype": method.model.dtype,
        "data": list(settings.data),
        **({"allow_unused_weights": True} if settings.allow_unused_weights else {}),
        **({"micro_batch": settings.micro_batch} if settings.micro_batch > 1 else {}),
        "from_adapter": None if adapter is None else adapters.fingerprint(adapter),
        **{
            name: getattr(settings, name)
            for name in (
                "min_length",
                "max_length",
                "split_documents",
                "chat_prompts",
                "batch_size",
                "learning_rate",
                "warmup_steps",
                "epochs",
                "max_steps",
                "seed",
                "trainer",
            )
        },
    }


def same_request(out: Path, request: dict[str, Any]) -> None:
    """Raise UsageError unless the fit in `out` was asked for in the same words."""
    try:
        before = json.loads((out / TRAINING / REQUEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = adapters.read_card(out).get("request", {})
    wanted = json.loads(json.dumps(request))
    names = {*wanted, *before} - {"given_options"}  # how it was typed makes no difference
    other = sorted(name for name in names if wanted.get(name) != before.get(name))
    if other:
        was, now = before.get(other[0]), wanted.get(other[0])
        name = other[0].replace("_", " ")
        if isinstance(was, dict) and isinstance(now, dict):  # the first option that differs, not all of them
            key = next(key for key in sorted({*was, *now}) if was.get(key) != now.get(key))
            name, was, now = f"{key} of the {name}", was.get(key), now.get(key)
        raise UsageError(
            f"{out} holds a fit with another {name} ({was!r}, not {now!r}); choose another --out or delete it"
        )


def finished(out: Path) -> dict[str, Any]:
    """The card of a fit that has ended. Raises UsageError if what it wrote is gone or was altered since."""
    card = adapters.read_card(out)
    try:
        adapters.check_files(out, card)
    except UsageError as error:
        raise UsageError(
            f"{str(error).removeprefix('--adapter ')}; delete {out / adapters.CARD} to write it again from the "
            "checkpoints"
        ) from None
    return card
