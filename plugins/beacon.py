"""`beacon`: Activation Beacon v1, each full interval condensed into fewer key-value entries.

Source: Zhang et al., "Soaring from 4K to 400K: Extending LLM's Context with Activation Beacon",
arXiv 2401.03462 (v1, January 2024). Condensed entries replace the raw ones: memory is really saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from harness import Decoding, Generation, Method, Options, adapters

from ._ratios import capacity, check_interval, parse_ratio, smallest_ratio, usable

if TYPE_CHECKING:
    from harness.models import LanguageModel

    from ._activation_beacon import ActivationBeacon, ChooseRatio, MultiHeadBeacon, Reading


class BeaconOptions(Options):
    """Options of `Beacon`."""

    interval: int = Field(1024, ge=2, description="raw tokens condensed together (the paper's window)")
    ratio: str = Field(
        "adapt",
        description="tokens per beacon: raw, 1, 2, 4 ... 1024, or adapt (the lowest under which everything "
        "fits), or a comma-separated list, one for each interval, the last repeated",
    )
    margin: int = Field(1024, ge=0, description="tokens that adapt keeps free for the answer, at least")

    @field_validator("ratio")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != "adapt":
            for part in value.split(","):
                parse_ratio(part)
        return value


class CondensingMethod(Method):
    """What methods that read through the beacon engine share: its weights, an adapter, the answer half."""

    def __init__(self, model: LanguageModel, options: Any) -> None:
        super().__init__(model, options)
        self._adapter: Path | None = None

    @cached_property
    def weights(self) -> MultiHeadBeacon:
        """The beacon weights: the adapter's, or untrained copies of the model's own."""
        from ._activation_beacon import MultiHeadBeacon

        tensors = None
        if self._adapter is not None:
            _, tensors = adapters.read(self._adapter, ("beacon",), self.model)
        return MultiHeadBeacon(self.model.network, tensors)

    @cached_property
    def engine(self) -> ActivationBeacon:
        """The engine over the model and the weights."""
        from ._activation_beacon import ActivationBeacon

        return ActivationBeacon(self.model.network, self.weights, self.options.interval)  # type: ignore[attr-defined]

    @property
    def adapter_hash(self) -> str | None:
        """Hash of the adapter in use; None if the weights are untrained."""
        return None if self._adapter is None else adapters.fingerprint(self._adapter)

    def facts(self) -> dict[str, Any]:
        return {
            "beacon_weights": "trained" if self._adapter else "untrained",
            "warning": None if self._adapter else "beacon weights are untrained copies of the model's own",
        }

    def load(self, folder: Path) -> None:
        adapters.check(folder, ("beacon",), self.model)
        self._adapter = folder
        self.forget()

    def forget(self) -> None:
        """Drop what was made with the weights of before."""
        self.__dict__.pop("weights", None)
        self.__dict__.pop("engine", None)

    def save(self, folder: Path) -> None:
        tensors = self.weights.tensors(self.model.network)
        adapters.write(folder, "beacon", self.model, tensors, {"options": self.options.model_dump()})

    def answer(
        self,
        states: Sequence[Reading],
        last: Sequence[int],
        prompt_tokens: Sequence[int],
        decoding: Decoding,
        ratio: ChooseRatio,
        details: Sequence[dict[str, Any]],
    ) -> list[Generation]:
        """Decode from each state; `ratio` is asked for intervals that fill on the way."""
        from harness.kvcache import stop_reason

        after, answers = self.engine.generate(self.model, states, last, decoding, ratio)
        return [
            Generation(
                text=self.model.tokenizer.decode(tokens, skip_special_tokens=True),
                token_ids=tokens,
                stop_reason=stop_reason(self.model, decoding, tokens),
                prompt_tokens=total,
                kv_tokens=len(state.cache),
                details={
                    **detail,
                    "ratios": list(state.ratios),
                    "memory": state.memory,
                    "raw": state.raw,
                    "ratios_while_answering": list(end.ratios[len(state.ratios) :]),
                },
            )
            for tokens, total, state, end, detail in zip(answers, prompt_tokens, states, after, details)
        ]


class Beacon(CondensingMethod):
    """Condense every full interval of W tokens into W / ratio beacons; attend to those and the open interval.

    Only the memory and the raw entries of the open interval are kept: ``M + R`` entries a layer. Without an
    adapter the beacon weights are untrained copies of the model's own, and the record says so.
    """

    Options: ClassVar[type[Options]] = BeaconOptions
    options: BeaconOptions

    def __init__(self, model: LanguageModel, options: BeaconOptions) -> None:
        super().__init__(model, options)
        self._listed = (
            None if options.ratio == "adapt" else [parse_ratio(r) for r in options.ratio.split(",")]
        )
        self._choice = usable(options.interval)
        check_interval(model, options.interval, self._listed or self._choice)

    def context_limit(self) -> int | None:
        ratios = [max(self._choice)] if self._listed is None else self._listed
        return capacity(ratios, self.model.context_length, self.options.interval)

    def _ratios(self, tokens: int) -> list[int]:
        """The ratio of each interval, the last repeated, for so many `tokens`, prompt and answer."""
        if self._listed is not None:
            return self._listed
        window = self.model.context_length
        return [smallest_ratio(tokens, window, self.options.interval, self._choice)]

    def compress(
        self, contexts: Sequence[Sequence[int]], reserve: Sequence[int], decoding: Decoding
    ) -> list[tuple[Reading, list[int], int]]:
        """Each state is (reading, the ratios it uses, tokens read)."""
        import torch

        from ._activation_beacon import Reading

        free = max(self.options.margin, decoding.max_new_tokens)
        plans = [self._ratios(len(c) + r + free) for c, r in zip(contexts, reserve)]
        with torch.no_grad():
            readings = self.engine.read([Reading()] * len(contexts), contexts, _pick(plans))
        return [(reading, plan, len(c)) for reading, plan, c in zip(readings, plans, contexts)]

    def generate(
        self,
        states: Sequence[tuple[Reading, list[int], int]],
        questions: Sequence[Sequence[int]],
        decoding: Decoding,
    ) -> list[Generation]:
        import torch

        from harness.measure import phase

        plans = [plan for _, plan, _ in states]
        with phase("prefill"), torch.no_grad():
            readings = self.engine.read([s[0] for s in states], [q[:-1] for q in questions], _pick(plans))
        totals = [tokens + len(q) for (_, _, tokens), q in zip(states, questions)]
        details: list[dict[str, Any]] = [{} for _ in states]
        return self.answer(readings, [q[-1] for q in questions], totals, decoding, _pick(plans), details)


def _pick(plans: Sequence[Sequence[int]]) -> ChooseRatio:
    """The engine's ratio callback for one list of ratios a row, the last repeated."""
    return lambda row, window: plans[row][min(window, len(plans[row]) - 1)]
