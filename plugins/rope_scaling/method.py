"""`rope_scaling`: the RoPE base raised to reach a window, and the model trained for it, stage after stage.

Sources: He et al., "Scaling Instruction-Tuned LLMs to Million-Token Contexts via Hierarchical Synthetic Data
Generation" (https://arxiv.org/abs/2504.12637), and Wang et al., "Bootstrap Your Own Context Length"
(https://arxiv.org/abs/2412.18860), whose rule is ``x4``. What is ours stands in docs/methods/rope_scaling.md.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness import Decoding, Generation, UsageError
from harness.models import adapters
from harness.models.placement import offloads

from ..plain import Plain
from ..rotary import check_scalable, rotary, turned
from .options import RopeFitOptions, RopeOptions, Scaling, own_scaling

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.fit import FitReport, Schedule, TrainingData
    from harness.models.model import LanguageModel

    from ..low_rank import LowRank

NAMES = ("rope_scaling",)
FILE = "weights.safetensors"
KINDS = ("lora", "full")


class RopeScaling(Plain):
    """Full attention over a longer window: the RoPE base raised, and the model trained for it by `fit`.

    Nothing is compressed and no memory is saved: the KV cache holds the whole prompt. The adapter's card says which
    window and base it was trained for, and a run takes both from there; a fit that goes on from it raises both. A
    model that comes with the ``llama3`` scaling of Llama 3.1 keeps it. Without an adapter the frequencies are
    changed and nothing is trained, and the record says so.
    """

    Options = RopeOptions
    FitOptions = RopeFitOptions
    trainable: ClassVar[bool] = True
    fit_trial: ClassVar[Mapping[str, Any]] = {"to_window": 16384}
    options: RopeOptions

    def __init__(self, model: LanguageModel, options: Any) -> None:
        super().__init__(model, options)
        check_scalable("rope_scaling", model)
        self._own = own_scaling(model.config, model.context_length)
        self._adapter: Path | None = None
        self._card: dict[str, Any] = {}
        self._learned: dict[str, Any] = {}  # what a fit adds to the card
        window = options.window or model.context_length
        if window < model.context_length:
            raise UsageError(
                f"--window {window}: the model reads {model.context_length} already; --context-length makes it smaller"
            )
        asked = options.theta is not None or options.rule is not None or options.window is not None
        self.scaling = (
            self._own.extended(model.config, window, options.theta, options.rule) if asked else self._own
        )

    def context_limit(self) -> int:
        """The window: the adapter's, or the one that was asked for."""
        return self.scaling.window

    def default_max_context(self) -> None:
        """No habit of the literature: whatever fits."""

    def facts(self) -> dict[str, Any]:
        trained = self._adapter is not None or bool(self._learned)
        names = ("base_model", "trained", "steps", "loss", "pose", "stages")
        return {
            "window": self.scaling.window,
            "rope_theta": self.scaling.theta,
            "rope_rule": self.scaling.rule,
            "rope_scaling": "trained" if trained else "untrained",
            "adapter": {name: self._card[name] for name in names if name in self._card} or None,
            "warning": None,  # the formula needs no training
        }

    # --- answering

    def compress(
        self, contexts: Sequence[Sequence[int]], reserve: Sequence[int], decoding: Decoding
    ) -> list[Any]:
        with self.changed():
            return super().compress(contexts, reserve, decoding)

    def generate(
        self, states: Sequence[Any], questions: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[Generation]:
        with self.changed():
            return super().generate(states, questions, decoding)

    @contextmanager
    def changed(self) -> Iterator[None]:
        """The model with the frequencies of the window and with what was learned; afterwards it is as it was."""
        network: Any = self.model.network
        with ExitStack() as undo:
            undo.enter_context(turned(network, self._rotary(network)))
            if self.lora is not None:
                undo.enter_context(self.lora.added(network.model))
            elif self.weights is not None:
                for name, parameter in network.named_parameters():
                    undo.callback(setattr, parameter, "data", parameter.data)
                    parameter.data = self.weights[name].to(parameter)
            yield

    def _rotary(self, network: Any) -> Any:
        window = self._own.window
        yarn = self.scaling.window / window if self.scaling.rule == "yarn" else None
        return rotary(network, self.scaling.theta, yarn, window)

    @cached_property
    def lora(self) -> LowRank | None:
        """The adapter's LoRA; None without one."""
        from ..low_rank import LowRank

        if self._adapter is None or self._card["trained"] != "lora":
            return None
        tensors = adapters.read(self._adapter, FILE)
        found = LowRank(self.model.network, self._card["rank"], self._card["lora_alpha"], tensors)
        return found.requires_grad_(False)

    @cached_property
    def weights(self) -> dict[str, Tensor] | None:
        """All weights, by the network's names, if the adapter was trained in full; else None."""
        if self._adapter is None or self._card["trained"] != "full":
            return None
        tensors = adapters.read(self._adapter, FILE)
        network: Any = self.model.network
        for name, parameter in network.named_parameters():
            if name not in tensors or tensors[name].shape != parameter.shape:
                raise UsageError(
                    f"--adapter {self._adapter}: {name} is missing or of another shape than the model's"
                )
        if offloads(network):
            raise UsageError(
                f"--adapter {self._adapter}: it takes the place of all weights, so none can be offloaded by "
                "--device-map; give all layers a device"
            )
        return {name: tensors[name].to(parameter.device) for name, parameter in network.named_parameters()}

    # --- learning

    def target(self, options: RopeFitOptions) -> Scaling:
        """What a fit trains for. Raises UsageError if that would shrink the window, or mix two kinds of scaling."""
        window = options.to_window or self.scaling.window
        if window < self.scaling.window:
            raise UsageError(
                f"--to-window {window}: smaller than the {self.scaling.window} tokens that can be read already"
            )
        if window == self.scaling.window and options.to_theta is None and options.to_rule is None:
            return self.scaling
        return self.scaling.extended(self.model.config, window, options.to_theta, options.to_rule)

    def check_fit(self, options: Any) -> None:
        self.target(options)
        if self._adapter is None:
            return
        if options.train != self._card["trained"]:
            kind = self._card["trained"]
            raise UsageError(
                f"--train {options.train}: the adapter has {kind} weights; go on with --train {kind}"
            )
        for name in ("rank", "lora_alpha") if options.train == "lora" else ():
            if name in options.model_fields_set and getattr(options, name) != self._card[name]:
                flag = name.replace("_", "-")
                raise UsageError(
                    f"--{flag} {getattr(options, name):g}: the adapter's is {self._card[name]:g}"
                )

    def check_sharded(self, options: Any) -> None:
        if options.train == "full":
            raise UsageError(
                "--shard-base splits weights that stay as they are; --train full trains them all"
            )

    def fit(self, data: TrainingData | None, schedule: Schedule, options: Any) -> FitReport:
        import torch

        from harness.training.trainer import train

        from .training import LongTraining, recomputing

        assert data is not None
        target = self.target(options)
        if (longest := max(data.lengths, default=0)) > target.window:
            raise UsageError(
                f"the longest example has {longest} tokens, the window {target.window}; lower --max-length"
            )
        before, self.scaling = self._stage(), target
        torch.manual_seed(schedule.seed)  # a new LoRA is drawn before the trainer seeds anything
        with ExitStack() as undo:
            network, trained = self._learnable(options, undo)
            undo.enter_context(recomputing(network, options.recompute))
            module = LongTraining(network, trained, target.window, options.pose)
            report = train(module, data, schedule, str(network.device), schedule.observer)
        self._keep(trained, options)
        self._learned = {
            "trained": options.train,
            "steps": report.steps,
            "loss": report.loss,
            "loss_of": adapters.loss_of(options.save_dtype),
            "pose": options.pose,
            "stages": [*self._card.get("stages", []), before] if before else self._card.get("stages", []),
            "fit_options": options.model_dump(mode="json"),
            **report.facts,
        }
        total = sum(p.numel() for p in trained.parameters())
        report.parameters = [{"name": f"{options.train} weights", "parameters": total}]
        return report

    def _stage(self) -> dict[str, Any]:
        """Where this stage begins, for the card."""
        return {
            "window": self.scaling.window,
            "rope_theta": self.scaling.theta,
            "rope_rule": self.scaling.rule,
        }

    def _learnable(self, options: RopeFitOptions, undo: ExitStack) -> tuple[Any, Any]:
        """The network to train through, turned for the target, and the module whose parameters are learnt."""
        from ..low_rank import LowRank
        from .training import all_of

        network: Any = self.model.network
        if options.train == "full":
            copied = copy.deepcopy(network).float()
            before = self.weights or {}
            for name, parameter in copied.named_parameters() if before else ():
                parameter.data = before[name].to(parameter, copy=True)
            undo.enter_context(turned(copied, self._rotary(copied)))
            return copied, all_of(copied.requires_grad_(True))
        network.requires_grad_(False).eval()
        lora = self.lora or LowRank(network, options.rank, options.lora_alpha or float(options.rank))
        lora.requires_grad_(True)
        undo.enter_context(turned(network, self._rotary(network)))
        undo.enter_context(lora.added(network.model))
        return network, lora

    def _keep(self, trained: Any, options: RopeFitOptions) -> None:
        """Answer with what was learned from now on."""
        trained.requires_grad_(False)
        full = options.train == "full"
        self.__dict__["lora"] = None if full else trained
        self.__dict__["weights"] = (
            {n.replace("/", "."): p.detach() for n, p in trained.named_parameters()} if full else None
        )
        self._save_dtype = options.save_dtype

    # --- adapters

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write what `fit` learned, with the window and the base it is for."""
        import torch

        if not self._learned:
            raise UsageError("method rope_scaling: nothing was fitted, so there is nothing to save")
        tensors = self.lora.tensors() if self.lora is not None else (self.weights or {})
        dtype = torch.bfloat16 if self._save_dtype == "bfloat16" else torch.float32
        shape = {} if self.lora is None else {"rank": self.lora.rank, "lora_alpha": self.lora.alpha}
        card = {**facts, **self._learned, **self._stage(), **shape}
        adapters.write(
            folder, NAMES[0], self.model, {FILE: {n: t.detach().to(dtype) for n, t in tensors.items()}}, card
        )

    def load(self, folder: Path) -> None:
        """Take window, base and weights of an adapter; options that contradict it are refused."""
        card = adapters.check(folder, NAMES, self.model)
        numbers = ["window", "rope_theta", *(("rank", "lora_alpha") if card.get("trained") == "lora" else ())]
        if bad := [n for n in numbers if not isinstance(card.get(n), int | float) or card[n] <= 0]:
            raise UsageError(f"--adapter {folder}: its card has no number {bad[0]!r}")
        if card.get("trained") not in KINDS or not isinstance(card.get("rope_rule"), str):
            raise UsageError(f"--adapter {folder}: its card does not say what was trained, or by which rule")
        theirs = {
            "window": int(card["window"]),
            "theta": float(card["rope_theta"]),
            "rule": card["rope_rule"],
        }
        for flag, there in theirs.items():
            mine = getattr(self.options, flag)
            if mine is not None and mine != there:
                raise UsageError(
                    f"--{flag} {mine}: the adapter was trained for {there}; leave it out (--to-{flag} fits on)"
                )
        for name in ("lora", "weights"):
            self.__dict__.pop(name, None)
        self._adapter, self._card, self._learned = folder, card, {}
        self.scaling = Scaling(theirs["window"], theirs["theta"], theirs["rule"])
