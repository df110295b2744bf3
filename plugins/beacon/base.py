"""What the methods that condense by beacons share: weights, their fitting, and decoding from a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness import Decoding, Generation, Method, Options, TokenizedPrompt, UsageError
from harness.models import adapters

from .._budget import NOT_CONDENSED
from .adapter_card import EXPERT_RATIOS, LORA_RANK, Kind, trained_ratios
from .form import settle
from .options import BeaconFitOptions
from .ratios import RAW, check_interval, usable

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from harness.contracts import FitReport, Schedule, TrainingData
    from harness.models import LanguageModel

    from .engine import ActivationBeacon
    from .form import Start
    from .reading import ChooseRatio, Reading


class CondensingMethod(Method):
    """What methods that read through the beacon engine share: weights, their fitting, the answer half."""

    trainable: ClassVar[bool] = True
    FitOptions: ClassVar[type[Options]] = BeaconFitOptions
    fit_trial: ClassVar[Mapping[str, Any]] = {"save_dtype": "float32"}

    def __init__(self, model: LanguageModel, options: Any) -> None:
        super().__init__(model, settle(options, None))
        self._given = options  # what it leaves open is the adapter's to say
        self._adapter: Path | None = None
        self._learned: dict[str, Any] = {}  # what a fit adds to the card
        self._save_dtype = "float32"

    @property
    def kind(self) -> Kind:
        """Which kind of beacon weights condenses."""
        return "beacon"

    @property
    def adapter_methods(self) -> tuple[str, ...]:
        """Methods whose adapters can be loaded."""
        return (self.kind,)

    @property
    def asked_ratios(self) -> Sequence[int]:
        """Ratios the user named, which have to divide the interval."""
        return ()

    @property
    def interval(self) -> int:
        """Raw tokens condensed together."""
        return int(self.options.interval)  # type: ignore[attr-defined]

    @property
    def sinks(self) -> int:
        """First tokens that are never condensed."""
        return int(self.options.sinks)  # type: ignore[attr-defined]

    @property
    def start(self) -> Start:
        """What a beacon is fed."""
        start: Start = self.options.start  # type: ignore[attr-defined]
        return start

    def check_form(self) -> None:
        """Refuse an interval that window or ratios do not allow. Raises UsageError."""
        check_interval(self.model, self.interval, self.asked_ratios, self.sinks)

    @cached_property
    def weights(self) -> Any:
        """The beacon weights: the adapter's, or untrained ones, which are the model's own projections."""
        from . import checkpoint

        if self._adapter is None:
            return checkpoint.untrained(self.model, self.start)
        return checkpoint.read_weights(self.kind, self._adapter, self.model)

    @property
    def scale(self) -> float:
        """Share of what the adapter learned that is added."""
        return float(self.options.adapter_scale)  # type: ignore[attr-defined]

    @cached_property
    def engine(self) -> ActivationBeacon:
        """The engine over the model and the weights, which add as much of what they learned as was asked for."""
        return self._engine(self.scale)

    def _engine(self, scale: float) -> ActivationBeacon:
        from .engine import ActivationBeacon

        network, weights = self.model.network, self.weights
        if scale != 1:
            if self._adapter is None:
                raise UsageError(
                    f"--adapter-scale {scale:g}: without an adapter nothing was learned; leave it out"
                )
            weights = weights.scaled(network, scale, self.start)
        return ActivationBeacon(network, weights, self.interval, self.start, self.sinks)

    @property
    def adapter_hash(self) -> str | None:
        """Hash of the adapter in use; None if the weights are untrained."""
        return None if self._adapter is None else adapters.fingerprint(self._adapter)

    def usable(self) -> tuple[int, ...]:
        """Ratios that divide the interval and that the weights know."""
        found = usable(self.interval)
        if self._adapter is None:
            return found
        known = trained_ratios(self.kind, self._adapter)
        return tuple(r for r in found if r == RAW or known is None or r in known)

    def facts(self) -> dict[str, Any]:
        if self._adapter is None and self.start == "last":
            return {
                "beacon_weights": "untrained",
                "warning": "beacon weights are untrained: the memory is the raw entries of every r-th token",
            }
        if self._adapter is None:
            return {
                "beacon_weights": "untrained",
                "warning": "beacon weights are untrained copies of the model's own",
            }
        card = adapters.read_card(self._adapter)
        names = ("base_model", "steps", "loss", "interval", "start", "sinks", "train_ratios")
        warning = None
        if card.get("interval") not in (None, self.interval):
            warning = (
                f"the weights were trained with intervals of {card['interval']} tokens, not {self.interval}"
            )
        return {
            "beacon_weights": "trained",
            "adapter": {"folder": str(self._adapter), **{name: card.get(name) for name in names}},
            "warning": warning,
        }

    def default_adapter(self) -> Path | None:
        return adapters.shipped(self.adapter_methods, self.model)

    def prepare(self, prompts: Sequence[TokenizedPrompt], decoding: Decoding) -> None:
        """Read the weights: an adapter that does not fit is refused once, not by every sample."""
        _ = self.engine

    def load(self, folder: Path) -> None:
        adapters.check(folder, self.adapter_methods, self.model)
        trained_ratios(self.kind, folder)
        self.options = settle(self._given, folder)
        self._adapter = folder
        self.forget()
        self.check_form()

    def forget(self) -> None:
        """Drop what was made with the weights of before."""
        self.__dict__.pop("weights", None)
        self.__dict__.pop("engine", None)

    def learnable(self, options: Any) -> tuple[Any, list[TrainerCallback]]:
        """Weights to train, from the loaded adapter on or from nothing, and callbacks of their training."""
        from . import checkpoint
        from .projections import MultiHeadBeacon

        if self._adapter is not None:
            return checkpoint.read_weights(self.kind, self._adapter, self.model, learn=True), []
        return MultiHeadBeacon(self.model.network, learn=True, start=self.start), []

    def _refuse_scale(self) -> None:
        if self.scale != 1:
            raise UsageError(f"--adapter-scale {self.scale:g} is for answering: a fit adds all; leave it out")

    def _begin_from(self, token: str | None, weights: Any) -> None:
        """Let every beacon embedding begin from that of a token, in place of the end token's."""
        import torch

        from harness.models.sharding import row

        if token is None:
            return
        ids = self.model.tokenizer(token, add_special_tokens=False)["input_ids"]
        if not ids:
            raise UsageError(f"--beacon-token {token!r} is no token of {self.model.name}")
        begun = row(self.model.network.model.embed_tokens.weight, ids[0])
        with torch.no_grad():
            for name, parameter in weights.named_parameters():
                if "beacon_embed" in name:
                    parameter.copy_(begun.view_as(parameter))

    def check_fit(self, options: Any) -> None:
        self._refuse_scale()
        options.ratios(self.interval)
        if options.beacon_token is not None and self.start == "last":
            raise UsageError("--beacon-token is for --start end: with last a beacon begins as its last token")

    def check_sharded(self, options: Any) -> None:
        """Nothing to refuse."""

    def fit(self, data: TrainingData | None, schedule: Schedule, options: Any) -> FitReport:
        import torch

        from .training import check_data, fit_beacons

        assert data is not None
        ratios = options.ratios(self.interval)
        check_data(self.model, data, self.interval, self.sinks, options)
        torch.manual_seed(schedule.seed)  # new weights are drawn before the trainer seeds anything
        weights, callbacks = self.learnable(options)
        if self._adapter is None:
            self._begin_from(options.beacon_token, weights)
        self.forget()
        self.weights = weights  # takes the place of the cached property until `forget`
        report = fit_beacons(self.model, self.engine, ratios, data, schedule, options, callbacks)
        self._learned = {
            "interval": self.interval,
            "train_ratios": ratios,
            "steps": report.steps,
            "loss": report.loss,
            "loss_of": adapters.loss_of(options.save_dtype),
            "fit_options": options.model_dump(mode="json"),
            **report.facts,
        }
        self._save_dtype = options.save_dtype
        report.parameters = self.parameters(options)
        return report

    def parameters(self, options: Any) -> list[dict[str, Any]]:
        """What is trained, on this model and on the papers'."""
        from .checkpoint import parameter_table

        rank = getattr(options, "rank", LORA_RANK)
        return parameter_table(self.model.network, self.model.name, EXPERT_RATIOS, rank)

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        import torch

        from .checkpoint import write_weights

        dtype = torch.bfloat16 if self._save_dtype == "bfloat16" else torch.float32
        form = {"start": self.start, "sinks": self.sinks}
        write_weights(folder, self.weights, self.model, {**facts, **form, **self._learned}, dtype)

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
        from harness.inference import stop_reason

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
                    **_noted(detail, end),
                    "ratios": list(state.ratios),
                    "memory": state.memory,
                    "raw": state.raw,
                    "ratios_while_answering": list(end.ratios[len(state.ratios) :]),
                },
            )
            for tokens, total, state, end, detail in zip(answers, prompt_tokens, states, after, details)
        ]


def _noted(detail: dict[str, Any], end: Reading) -> dict[str, Any]:
    """The notes of an answer; that nothing was condensed for it is one, as it tells nothing of the method."""
    nothing = [NOT_CONDENSED] if all(ratio == RAW for ratio in end.ratios) else []
    notes = [*detail.get("notes", ()), *nothing]
    return {"notes": notes} if notes else {}
