"""``--model-args``: a model said in the words of lm-eval and lighteval."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError, unknown_name

NAMES = {
    "pretrained": "model",
    "model": "model",
    "model_name": "model",
    "revision": "revision",
    "dtype": "dtype",
    "device": "device",
    "device_map": "device_map",
    "parallelize": "device_map",
    "max_length": "context_length",
    "max_model_length": "context_length",
    "max_model_len": "context_length",
    "batch_size": "batch_size",
    "trust_remote_code": "trust_remote_code",
}
"""What they call it, and what a run calls it."""

BACKENDS = ("hf", "hf-auto", "huggingface", "accelerate")
"""What they give as ``--model``: there the model itself is in the arguments."""

TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse(text: str) -> dict[str, Any]:
    """The settings of a run that ``NAME=VALUE,NAME=VALUE`` stands for.

    Raises
    ------
    UsageError
        For another form, a name that is none of these (with the nearest one), or a value of another type.
    """
    found: dict[str, Any] = {}
    for pair in filter(None, text.split(",")):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value):
            raise UsageError(f"--model-args {pair}: write NAME=VALUE,NAME=VALUE")
        if name not in NAMES:
            raise unknown_name("name in --model-args", name, NAMES)
        if NAMES[name] in found:
            raise UsageError(f"--model-args: {NAMES[name]} is said twice")
        found[NAMES[name]] = _value(name, NAMES[name], value)
    revision = found.pop("revision", None)
    if revision is not None:
        if "model" not in found:
            raise UsageError(f"--model-args revision={revision}: say of which model, with pretrained=NAME")
        found["model"] = f"{found['model']}@{revision}"
    return found


def _value(name: str, field: str, value: str) -> Any:
    if name in ("trust_remote_code", "parallelize"):
        if value.lower() not in TRUTHS:
            raise UsageError(f"--model-args {name}={value}: write true or false")
        true = TRUTHS[value.lower()]
        return true if name == field else "auto" if true else None
    if field == "context_length" or (field == "batch_size" and value != "auto"):
        if not value.isdecimal():
            raise UsageError(f"--model-args {name}={value}: write a whole number")
        return int(value)
    return value


def over(text: str | None, typed: dict[str, Any]) -> dict[str, Any]:
    """What was typed, and below it what ``--model-args`` says. Raises UsageError if the two name a model each."""
    if text is None:
        return typed
    given = parse(text)
    if "model" in given and typed.get("model", given["model"]) != given["model"]:
        if typed["model"] not in BACKENDS:
            raise UsageError(f"--model {typed['model']} and --model-args name a model each: leave one out")
        typed = {name: value for name, value in typed.items() if name != "model"}
    return {**given, **typed}
