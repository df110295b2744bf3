"""One loaded model for several runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .loading import load as load_model
from .model import LanguageModel

WEIGHTS = ("dtype", "device", "device_map", "trust_remote_code", "allow_unused_weights")
"""Settings that decide which weights are read, and where to."""
Note = Callable[[str], None]


class SharedModels:
    """`models.load` that reads weights once, however many ask for them; only those of the last model are kept.

    Who asks for another window or chat setting gets a model of its own over the same weights.
    """

    def __init__(self) -> None:
        self._weights: list[Any] = []
        self._models: dict[str, LanguageModel] = {}

    def __call__(self, name: str, *, notify: Note | None = None, **wanted: Any) -> LanguageModel:
        weights = [
            name,
            *(wanted.get(word) for word in WEIGHTS),
        ]
        if weights != self._weights:
            self.drop()  # before the next is loaded: there may be room for one only
            self._weights = weights
        key = json.dumps(wanted, sort_keys=True, default=str)
        if key not in self._models:
            model = load_model(name, notify=notify, **wanted)
            for first in list(self._models.values())[:1]:
                model.borrow(first)
            self._models[key] = model
        return self._models[key]

    def drop(self) -> None:
        """Let the models go, and with them the memory of their weights."""
        self._weights, self._models = [], {}
