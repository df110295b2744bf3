"""How many samples run in one go: so many as the user said, or so many as there is memory for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..inference import memory

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from ..models.model import LanguageModel

AUTO: Literal["auto"] = "auto"
MOST = 32
"""Rows that ``--batch-size auto`` puts together at most: beyond, a pass is hardly cheaper a row."""
SHARE = 0.5
"""Of the free memory that such a batch may take: what a method needs besides is not known."""


class BatchLimit:
    """Rows of a batch.

    Parameters
    ----------
    size
        Rows, or `AUTO`.
    model
        What reads them; its memory is looked at when `rows` is first asked, with the weights loaded.
    """

    def __init__(self, size: int | Literal["auto"], model: LanguageModel) -> None:
        self._model = model
        self.automatic = size == AUTO
        self.most = MOST if size == AUTO else size
        self._room: float | None = None

    def rows(self, tokens: int) -> int:
        """Rows of up to so many `tokens` that may run together; at least one."""
        if not self.automatic:
            return self.most
        if self._room is None:
            self._room = self._free() * SHARE
        return int(max(1, min(self.most, self._room / self._bytes(tokens))))

    def failed(self, rows: int, tokens: int) -> None:
        """So many `rows` were too much: from now on half of them."""
        self._room = self._bytes(tokens) * max(1, rows // 2)

    def _free(self) -> float:
        """Bytes that are free; of a model that is spread, so that the device with least for its layers has enough."""
        places = self._model.places
        shares = {self._model.device: 1.0} if places is None else places.shares
        found = [(memory.free(at), share) for at, share in shares.items()]
        return min(float("inf") if free is None else free / share for free, share in found)

    def _bytes(self, tokens: int) -> float:
        size = {"float32": 4, "bfloat16": 2, "float16": 2}[self._model.dtype]
        return row_bytes(self._model.config, tokens, size)


def row_bytes(config: PretrainedConfig, tokens: int, size: int) -> float:
    """Bytes that full attention over `tokens` takes for one row of a batch, numbers of `size` bytes.

    Its KV entries twice (a batch is stacked from single caches), a layer's activations, and the mask that hides
    the padding. A method that compresses takes less.
    """
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    entry = 2 * config.num_hidden_layers * groups * head
    wide = 6 * config.hidden_size + 3 * (getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
    return float(size * tokens * (2 * entry + wide + tokens))
