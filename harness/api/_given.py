"""What may be given for a method and for a model: names, and what a notebook holds already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from ..contracts.method import Method
from ..errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..models.model import LanguageModel

MethodLike = str | type[Method] | Method
"""A method's name, its class (one written in a cell too), or an instance with its options."""


ModelLike = Union[str, "PreTrainedModel"]
"""A model's name, folder or file, or a model of transformers that is loaded."""


def named_method(method: MethodLike) -> tuple[str, dict[str, Any]]:
    """The name under which a method is known from now on, and the options that an instance brings."""
    from .. import registry

    if isinstance(method, str):
        return method, {}
    if isinstance(method, type):
        return registry.register_class(method), {}
    given = method.options.model_dump(exclude_unset=True)
    return registry.register_class(type(method)), given


def named_model(
    model: ModelLike, tokenizer: Any, settings: Mapping[str, Any], verb: str = "run"
) -> tuple[str, Callable[..., LanguageModel]]:
    """A model's name, and what makes it: one that is in memory is what it is, whatever it is asked for as.

    `verb` is the function that was called, for messages.

    Raises
    ------
    UsageError
        For a tokenizer without a loaded model or the other way round, and for settings that the model has itself.
    """
    from ..models.loading import load

    if isinstance(model, str | Path):
        if tokenizer is not None:
            raise UsageError(f"{verb}(tokenizer=...) belongs to a loaded model; one by name has its own")
        return str(model), load
    from transformers import PreTrainedModel

    from ..models.loaded import LoadedModel

    if not isinstance(model, PreTrainedModel):
        raise UsageError(
            f"{verb}(model={type(model).__name__}): give a model's name, folder or file, or a PreTrainedModel of "
            "transformers with tokenizer=..."
        )
    if tokenizer is None:
        raise UsageError(f"{verb}(model=...): give the loaded model's tokenizer too: tokenizer=...")
    for name, has in (("dtype", str(model.dtype).removeprefix("torch.")), ("device", str(model.device))):
        if settings.get(name, "auto") not in ("auto", has):
            raise UsageError(
                f"{verb}({name}={settings[name]!r}): the loaded model is in {has}; move it, or leave it out"
            )
    if settings.get("device_map") is not None:
        raise UsageError(
            f"{verb}(device_map=...): the loaded model lies on its device; give its name or folder"
        )
    if settings.get("engine", "local") != "local" or settings.get("join"):
        raise UsageError(
            "other processes cannot use a loaded model: save it, and give its folder as model=..."
        )
    found = LoadedModel(
        model, tokenizer, context_length=settings.get("context_length"), chat=settings.get("chat", "auto")
    )
    return found.name, lambda name, **wanted: found


def hushed(progress: bool | None) -> bool:
    """Whether progress is kept back: shown if asked for, and where nobody says so in a notebook alone."""
    from ..console.notebook import in_notebook

    return not (in_notebook() if progress is None else progress)
