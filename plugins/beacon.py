"""`beacon`: Activation Beacon v1, each full interval condensed into fewer key-value entries.

Source: Zhang et al., "Soaring from 4K to 400K: Extending LLM's Context with Activation Beacon",
arXiv 2401.03462 (v1, January 2024). Condensed entries replace the raw ones: memory is really saved.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from harness import Decoding, Generation, Method, Options, TokenizedPrompt, UsageError
from harness.models import adapters

from ._kinds import EXPERT_RATIOS, LORA_RANK, Kind, trained_ratios
from ._ratios import RAW, capacity, check_interval, parse_ratio, smallest_ratio, usable

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from harness.contracts.fit import FitReport, Schedule, TrainingData
    from harness.models.model import LanguageModel

    from ._activation_beacon import ActivationBeacon, ChooseRatio, Reading


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


class BeaconFitOptions(Options):
    """Options of fitting `Beacon`; the defaults are the paper's."""

    train_ratios: str = Field(
        "2,4,8,16,32,64,128", description="ratios to train, comma-separated; each window draws one"
    )
    skip_first: bool = Field(
        False, description="leave each sequence's first window out of the loss: it depends on no memory"
    )
    distill: bool = Field(
        False, description="learn the model's own predictions over the uncompressed text, not the text"
    )
    reconstruct: float = Field(
        0.0, ge=0, le=1, description="share of sequences turned into: half the text, then the same half again"
    )
    recompute: bool = Field(
        False, description="gradient checkpointing: each window is computed twice, its activations not kept"
    )
    beacon_token: str | None = Field(
        None, description="text whose first token's embedding the beacons begin from; default: the end token"
    )
    save_dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="type of the saved weights")

    @field_validator("train_ratios")
    @classmethod
    def _condense(cls, value: str) -> str:
        for part in value.split(","):
            if parse_ratio(part) < 2:
                raise ValueError(f"{part.strip()!r} condenses nothing; choose from 2, 4 ... 1024")
        return value

    def ratios(self, interval: int) -> list[int]:
        """The ratios to train, ascending. Raises UsageError for one that does not divide the interval."""
        found = sorted({parse_ratio(part) for part in self.train_ratios.split(",")})
        if uneven := [r for r in found if interval % r]:
            raise UsageError(f"--train-ratios: {uneven[0]} does not divide the interval of {interval} tokens")
        return found


class CondensingMethod(Method):
    """What methods that read through the beacon engine share: weights, their fitting, the answer half."""

    trainable: ClassVar[bool] = True
    FitOptions: ClassVar[type[Options]] = BeaconFitOptions
    fit_trial: ClassVar[Mapping[str, Any]] = {"save_dtype": "float32"}

    def __init__(self, model: LanguageModel, options: Any) -> None:
        super().__init__(model, options)
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

    @cached_property
    def weights(self) -> Any:
        """The beacon weights: the adapter's, or untrained ones, which are the model's own projections."""
        from . import _weights

        if self._adapter is None:
            return _weights.untrained(self.model)
        return _weights.read_weights(self.kind, self._adapter, self.model)

    @cached_property
    def engine(self) -> ActivationBeacon:
        """The engine over the model and the weights."""
        from ._activation_beacon import ActivationBeacon

        return ActivationBeacon(self.model.network, self.weights, self.options.interval)  # type: ignore[attr-defined]

    @property
    def adapter_hash(self) -> str | None:
        """Hash of the adapter in use; None if the weights are untrained."""
        return None if self._adapter is None else adapters.fingerprint(self._adapter)

    def usable(self) -> tuple[int, ...]:
        """Ratios that divide the interval and that the weights know."""
        found = usable(self.options.interval)  # type: ignore[attr-defined]
        if self._adapter is None:
            return found
        known = trained_ratios(self.kind, self._adapter)
        return tuple(r for r in found if r == RAW or known is None or r in known)

    def facts(self) -> dict[str, Any]:
        if self._adapter is None:
            return {
                "beacon_weights": "untrained",
                "warning": "beacon weights are untrained copies of the model's own",
            }
        card = adapters.read_card(self._adapter)
        names = ("base_model", "steps", "loss", "interval", "train_ratios")
        interval = self.options.interval  # type: ignore[attr-defined]
        warning = None
        if card.get("interval") not in (None, interval):
            warning = f"the weights were trained with intervals of {card['interval']} tokens, not {interval}"
        return {
            "beacon_weights": "trained",
            "adapter": {"folder": str(self._adapter), **{name: card.get(name) for name in names}},
            "warning": warning,
        }

    def default_adapter(self) -> Path | None:
        return adapters.shipped(self.adapter_methods, self.model)

    def prepare(self, prompts: Sequence[TokenizedPrompt], decoding: Decoding) -> None:
        """Read the weights: an adapter that does not fit is refused once, not by every sample."""
        _ = self.weights

    def load(self, folder: Path) -> None:
        adapters.check(folder, self.adapter_methods, self.model)
        trained_ratios(self.kind, folder)
        self._adapter = folder
        self.forget()

    def forget(self) -> None:
        """Drop what was made with the weights of before."""
        self.__dict__.pop("weights", None)
        self.__dict__.pop("engine", None)

    def learnable(self, options: Any) -> tuple[Any, list[TrainerCallback]]:
        """Weights to train, from the loaded adapter on or from nothing, and callbacks of their training."""
        from . import _weights
        from ._activation_beacon import MultiHeadBeacon

        if self._adapter is not None:
            return _weights.read_weights(self.kind, self._adapter, self.model, learn=True), []
        return MultiHeadBeacon(self.model.network, learn=True), []

    def _begin_from(self, token: str | None, weights: Any) -> None:
        """Let every beacon embedding begin from that of a token, in place of the end token's."""
        import torch

        if token is None:
            return
        ids = self.model.tokenizer(token, add_special_tokens=False)["input_ids"]
        if not ids:
            raise UsageError(f"--beacon-token {token!r} is no token of {self.model.name}")
        row = self.model.network.model.embed_tokens.weight[ids[0]]
        with torch.no_grad():
            for name, parameter in weights.named_parameters():
                if "beacon_embed" in name:
                    parameter.copy_(row.view_as(parameter))

    def check_fit(self, options: Any) -> None:
        options.ratios(self.options.interval)  # type: ignore[attr-defined]

    def fit(self, data: TrainingData | None, schedule: Schedule, options: Any) -> FitReport:
        import torch

        from ._fitting import check_data, fit_beacons

        assert data is not None
        interval: int = self.options.interval  # type: ignore[attr-defined]
        ratios = options.ratios(interval)
        check_data(self.model, data, interval, options)
        torch.manual_seed(schedule.seed)  # new weights are drawn before the trainer seeds anything
        weights, callbacks = self.learnable(options)
        if self._adapter is None:
            self._begin_from(options.beacon_token, weights)
        self.forget()
        self.weights = weights  # takes the place of the cached property until `forget`
        report = fit_beacons(self.model, self.engine, ratios, data, schedule, options, callbacks)
        self._learned = {
            "interval": interval,
            "train_ratios": ratios,
            "steps": report.steps,
            "loss": report.loss,
            "fit_options": options.model_dump(mode="json"),
            **report.facts,
        }
        self._save_dtype = options.save_dtype
        report.parameters = self.parameters(options)
        return report

    def parameters(self, options: Any) -> list[dict[str, Any]]:
        """What is trained, on this model and on the papers'."""
        from ._weights import parameter_table

        rank = getattr(options, "rank", LORA_RANK)
        return parameter_table(self.model.network, self.model.name, EXPERT_RATIOS, rank)

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        import torch

        from ._weights import write_weights

        dtype = torch.bfloat16 if self._save_dtype == "bfloat16" else torch.float32
        write_weights(folder, self.weights, self.model, {**facts, **self._learned}, dtype)

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
        from harness.inference.stopping import stop_reason

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
        check_interval(model, options.interval, self._listed or usable(options.interval))

    def load(self, folder: Path) -> None:
        super().load(folder)
        known = self.usable()
        if lacking := [r for r in self._listed or () if r not in known and r > 1]:
            there = ", ".join(str(r) for r in known if r != RAW)
            raise UsageError(
                f"--ratio {lacking[0]}: the adapter {folder} has no expert for it; it has {there}"
            )

    def context_limit(self) -> int | None:
        ratios = [max(self.usable())] if self._listed is None else self._listed
        return capacity(ratios, self.model.context_length, self.options.interval)

    def _ratios(self, tokens: int) -> list[int]:
        """The ratio of each interval, the last repeated, for so many `tokens`, prompt and answer."""
        if self._listed is not None:
            return self._listed
        window = self.model.context_length
        return [smallest_ratio(tokens, window, self.options.interval, self.usable())]

    def _planned(self, context: int, reserve: int, decoding: Decoding) -> list[int]:
        """The ratios for so many tokens of context and of question, and the answer's room."""
        return self._ratios(context + reserve + max(self.options.margin, decoding.max_new_tokens))

    def share_key(self, context: int, reserve: int, decoding: Decoding) -> Hashable:
        """The ratios: room for question and answer decides nothing else."""
        return tuple(self._planned(context, reserve, decoding))

    def reads(self, tokens: int, decoding: Decoding) -> int:
        [ratio, *_] = self._ratios(tokens + max(self.options.margin, decoding.max_new_tokens))
        return tokens if ratio == RAW else tokens + tokens // ratio

    def compress(
        self, contexts: Sequence[Sequence[int]], reserve: Sequence[int], decoding: Decoding
    ) -> list[tuple[Reading, list[int], int]]:
        """Each state is (reading, the ratios it uses, tokens read)."""
        import torch

        from ._activation_beacon import Reading

        plans = [self._planned(len(c), r, decoding) for c, r in zip(contexts, reserve)]
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

        from harness.contracts.phases import phase

        plans = [plan for _, plan, _ in states]
        with phase("prefill"), torch.no_grad():
            readings = self.engine.read([s[0] for s in states], [q[:-1] for q in questions], _pick(plans))
        totals = [tokens + len(q) for (_, _, tokens), q in zip(states, questions)]
        details: list[dict[str, Any]] = [{} for _ in states]
        return self.answer(readings, [q[-1] for q in questions], totals, decoding, _pick(plans), details)


def _pick(plans: Sequence[Sequence[int]]) -> ChooseRatio:
    """The engine's ratio callback for one list of ratios a row, the last repeated."""
    return lambda row, window: plans[row][min(window, len(plans[row]) - 1)]
