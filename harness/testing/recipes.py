"""A recipe tried with a generator that answers from a script, on the tiny model's tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contracts.recipe import Answer, Recipe, Request
from ..synthesis.inputs import parse_length, read_nouns
from ..synthesis.plan import DATA, assemble_plan
from ..synthesis.run import execute
from ..synthesis.settings import SynthSettings
from .tiny import tiny_model

Say = Callable[[Request], str | Answer]
"""What is written for a request: a text, which then ended by itself, or an `Answer`."""


class _Scripted:
    """A generator that asks no model."""

    batch_size = 4
    window: int | None = None

    def __init__(self, say: Say) -> None:
        self._say = say

    def facts(self) -> dict[str, Any]:
        return {"kind": "script"}

    def speed(self) -> None:
        return None

    def generate(self, requests: Sequence[Request], seed: int) -> list[Answer]:
        found = [self._say(request) for request in requests]
        return [a if isinstance(a, Answer) else Answer(a, True, len(a.split())) for a in found]


class _Unseen:
    def start(self, what: str, total: int, done: int) -> None:
        pass

    def step(self, number: int, rate: str = "") -> None:
        pass


def synthesize(
    cls: type[Recipe],
    say: Say,
    out: Path,
    *,
    count: int = 4,
    length: str | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 42,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Make samples by a recipe, with no model: for a recipe's own tests.

    Parameters
    ----------
    cls
        The recipe.
    say
        Answers a request; the same answer for the same request, or the samples differ from time to time.
    out
        Folder of the data, as ``harness synth --out``.
    count, length, options, seed
        As the flags of ``harness synth``; tokens are those of the tiny model.

    Returns
    -------
    tuple
        The data card, and the samples as their lines have them (``input``, ``output``, ``evidence`` ...).

    Raises
    ------
    UsageError
        As ``harness synth`` does: options out of range, no usable item.
    """
    recipe = cls(cls.Options.parse(dict(options or {}), f"recipe {cls.__name__}"))
    settings = SynthSettings(cls.__name__, count, out, length=length, seed=seed, model="tiny")
    wanted = parse_length(length) if length else recipe.default_range
    plan = assemble_plan(settings, recipe, tiny_model(), _Scripted(say), read_nouns(None), wanted)
    card = execute(plan, _Unseen())
    lines = (out / DATA).read_text(encoding="utf-8").splitlines()
    return card, [json.loads(line) for line in lines]
