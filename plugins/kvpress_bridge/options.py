"""The constructor of a kvpress press as an options class, and such options as a press."""

from __future__ import annotations

import inspect
import re
import types
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, create_model, model_validator

from harness import Options, UsageError

from .discovery import ABSTRACT, HIDES, REFUSED

RATIO = "compression_ratio"
INNER_PRESS = "SnapKVPress"
"""What a press that wraps another one wraps if the user does not say."""

RENAMED = {"seed": "press_seed"}
"""Parameters whose names are flags of every run."""

LEFT_OUT = {"decoding"}
"""Parameters under which a press of the context goes on while answering, which these methods do not."""


SEVERAL = (
    "presses one after the other, with commas, each with its options after colons: "
    "SnapKVPress:compression_ratio=0.3,ThinKPress:key_channel_compression_ratio=0.2"
)


class PressOptions(Options):
    """Base of the options of every press."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


@cache
def press_options(press: type) -> type[Options]:
    """The options class of a press: each constructor parameter a command line can carry.

    A parameter that is itself a press becomes the name of one, made with its defaults except for the ratio.

    Raises
    ------
    UsageError
        If a parameter that must be given is of no type a command line can carry.
    """
    hints, notes = get_type_hints(press.__init__), descriptions(press)  # type: ignore[misc]
    fields: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(press).parameters.items()):
        if name.startswith("_") or name in LEFT_OUT:
            continue
        kind, default = option_type(hints.get(name)), parameter.default
        if kind is None:
            if default is parameter.empty:
                raise UsageError(
                    f"kvpress:{press.__name__} needs {name}, which no option can carry; write a harness.Method for it"
                )
            continue
        if kind is PressName:
            may_lack = default is None and type(None) in get_args(hints[name])
            fields[name] = press_field(default, parameter.empty, notes.get(name, ""), may_lack)
            continue
        if kind is PressList:
            fields[name] = (list[str], Field(description=SEVERAL, min_length=1))
            continue
        limits: dict[str, Any] = {"ge": 0, "lt": 1} if name.endswith(RATIO) else {}
        note = notes.get(name) or "parameter of the press"
        if default is parameter.empty:
            fields[RENAMED.get(name, name)] = (kind, Field(description=note, **limits))
        else:
            annotation = kind | None if default is None else kind
            fields[RENAMED.get(name, name)] = (annotation, Field(default, description=note, **limits))
    if RATIO not in fields and _takes_ratio(press, fields):
        note = "fraction of key-value pairs to remove, of the wrapped press"
        fields[RATIO] = (float, Field(0.0, ge=0, lt=1, description=note))

    def whole(options: Any) -> Any:
        refuse(make_press(press, options.model_dump()))
        return options

    check: Any = model_validator(mode="after")(whole)
    made: type[Options] = create_model(
        f"{press.__name__}Options", __base__=PressOptions, __validators__={"whole": check}, **fields
    )
    return made


class PressName(str):
    """Stands for a parameter that is a press."""

    __slots__ = ()


class PressList(list[str]):
    """Stands for a parameter that is several presses."""

    __slots__ = ()


def option_type(annotation: Any) -> Any:
    """The type of an option for a parameter; None if a command line cannot carry it.

    `PressName` stands for a press, `PressList` for several.
    """
    import kvpress

    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return option_type(parts[0]) if parts else None
    if annotation in (bool, int, float, str) or get_origin(annotation) is Literal:
        return annotation
    if get_origin(annotation) is list and get_args(annotation)[0] in (int, float, str):
        return annotation
    if get_origin(annotation) is list and option_type(get_args(annotation)[0]) is PressName:
        return PressList
    return PressName if isinstance(annotation, type) and issubclass(annotation, kvpress.BasePress) else None


def press_field(default: Any, empty: Any, note: str, may_lack: bool) -> tuple[Any, Any]:
    """The option that names a wrapped press; a default of the press's own stays unless another is named.

    `may_lack`: there need not be any.
    """
    text = f"{note or 'press to wrap'}, with its options after colons: SnapKVPress:window_size=32"
    if may_lack:
        return str | None, Field(None, description=f"{text}; default: none")
    if default is empty or default is None:
        return str, Field(INNER_PRESS, description=text)
    return str | None, Field(None, description=f"{text}; default: one of its own")


def make_press(press: type, values: dict[str, Any]) -> Any:
    """A press from the values of its options.

    Raises
    ------
    ValueError
        With what the press says against them.
    """
    original = {new: old for old, new in RENAMED.items()}
    values = {original.get(name, name): value for name, value in values.items()}
    hints = get_type_hints(press.__init__)  # type: ignore[misc]
    accepted = inspect.signature(press).parameters
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in accepted:
            continue
        if option_type(hints.get(name)) is PressName:
            if value is None:
                continue
            value = _named(value)
        if option_type(hints.get(name)) is PressList:
            value = [_part(words, last=i == len(value) - 1) for i, words in enumerate(value)]
        given[name] = value
    made = _call(press, given)
    if RATIO in values and RATIO not in accepted:
        made.compression_ratio = values[RATIO]
    return made


def _named(words: str) -> Any:
    """A press by name and options: ``SnapKVPress:compression_ratio=0.3:window_size=32``. Raises ValueError."""
    import kvpress

    name, *settings = words.split(":")
    press = getattr(kvpress, name, None)
    if not (isinstance(press, type) and issubclass(press, kvpress.BasePress)) or name in ABSTRACT:
        raise ValueError(f"kvpress has no {name!r}")
    if why := next((REFUSED[base.__name__] for base in press.__mro__ if base.__name__ in REFUSED), None):
        raise ValueError(f"{name} cannot be run: {why}")
    pairs = [setting.partition("=") for setting in settings]
    if wrong := [key for key, equals, _ in pairs if not equals]:
        raise ValueError(f"{name}:{wrong[0]}: write {name}:OPTION=VALUE")
    try:
        options = press_options(press).parse({key.replace("-", "_"): v for key, _, v in pairs}, name)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return make_press(press, options.model_dump())


def _part(words: str, *, last: bool) -> Any:
    """One press of several that read a text one after the other. Raises ValueError."""
    made = _named(words)
    if (
        (why := stands_alone(made)) is None
        and {base.__name__ for base in type(made).__mro__} & HIDES
        and not last
    ):
        why = "it hides entries by their places, which a press after it changes; let it be the last"
    if why is not None:
        raise ValueError(f"{type(made).__name__} cannot be one of several: {why}")
    return made


def refuse(press: Any) -> None:
    """Raise ValueError for a press that goes on while answering and would drop nothing, or drop it wrongly."""
    import kvpress

    before = getattr(press, "prefilling_press", None)
    if before is not None and (why := stands_alone(before)) is not None:
        raise ValueError(f"{type(before).__name__} cannot be a prefilling press: {why}")
    if isinstance(press, kvpress.PrefillDecodingPress) and before is press.decoding_press is None:
        raise ValueError("it compresses nothing: give --prefilling-press or --decoding-press")
    dropping = getattr(press, "decoding_press", press)
    if isinstance(dropping, kvpress.DecodingPress) and isinstance(dropping.base_press, kvpress.AdaKVPress):
        raise ValueError("AdaKVPress hides entries and drops none while answering; give another --base-press")


def stands_alone(press: Any) -> str | None:
    """Why a press cannot be run by another one of kvpress; None: it can."""
    import kvpress

    if isinstance(press, kvpress.ComposedPress):
        return "name its presses instead"
    if isinstance(press, kvpress.DecodingPress | kvpress.PrefillDecodingPress):
        return "it compresses while answering, not the context"
    if type(press).__call__ is not kvpress.BasePress.__call__:
        return "it reads the text in passes of its own, which a press of several does not make"
    if isinstance(press, kvpress.KeyRerotationPress):
        return "it moves what is kept, and kvpress asks presses of several at the places before"
    return None


def _call(press: type, given: dict[str, Any]) -> Any:
    try:
        return press(**given)
    except (AssertionError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{press.__name__}: {str(error) or 'refuses these options'}") from error


def _takes_ratio(press: type, fields: dict[str, Any]) -> bool:
    """Whether a press without a ratio among its parameters lets one be set (that of the press it wraps)."""
    defaults = {name: field.default for name, (_, field) in fields.items() if not field.is_required()}
    try:
        make_press(press, defaults).compression_ratio = 0.0
    except (AttributeError, ValueError, TypeError):
        return False
    return isinstance(getattr(press, RATIO, None), property)


def descriptions(press: type) -> dict[str, str]:
    """The first sentence about each parameter, from the numpydoc of a press and its bases."""
    found: dict[str, str] = {}
    for cls in reversed(press.__mro__):
        _, _, parameters = inspect.cleandoc(cls.__dict__.get("__doc__") or "").partition("Parameters\n---")
        for name, text in re.findall(r"^(\w+) *:[^\n]*\n((?:[ \t]+[^\n]*\n?)+)", parameters, re.MULTILINE):
            sentence = re.split(r"(?<=[a-z)])\.(?:\s|$)", " ".join(text.split()), maxsplit=1)[0]
            found[name] = f"{sentence[:1].lower()}{sentence[1:]}"
    return found
