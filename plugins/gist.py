"""`gist`: memory tokens whose KV entries stand for a segment of the text, written by the model itself with a LoRA.

Sources: Li et al., "500xCompressor: Generalized Prompt Compression for Large Language Models",
https://arxiv.org/abs/2408.03094 (KV entries of memory tokens, a LoRA for the encoder, the model itself as decoder), and
Mu et al., "Learning to Compress Prompts with Gist Tokens", https://arxiv.org/abs/2304.08467. Segment after segment,
with the memory of those before in sight, is ours. Entries of the text are dropped: memory is really saved.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from harness import Decoding, Generation, Method, Options, UsageError
from harness.models import adapters

from ._budget import Condensed, answer, pieces

if TYPE_CHECKING:
    from harness.contracts import FitReport, Head, Schedule, TrainingData
    from harness.models import LanguageModel

    from .gist_memory import Memory

OWN, FILE = "gist", "gist.safetensors"
SEGMENT, MEMORY = 256, 32
"""Where neither the user nor an adapter says otherwise: eight tokens for each entry."""


class GistOptions(Options):
    """Options of `Gist`."""

    segment: int | None = Field(
        None, ge=2, description=f"tokens of a segment; default: the adapter's, else {SEGMENT}"
    )
    memory: int | None = Field(
        None, ge=1, description=f"memory tokens of a segment; default: the adapter's, else {MEMORY}"
    )


class GistFitOptions(Options):
    """Options of fitting `Gist`."""

    rank: int = Field(16, ge=1, description="rank of the LoRA on q, k, v and o that writes the memory")
    nested: bool = Field(
        True,
        description="draw how many memory tokens are used, all or a half or a quarter ..., for each sequence",
    )
    save_dtype: Literal["bfloat16", "float32"] = Field("float32", description="type of the saved weights")


class Gist(Method):
    """Condense each full segment of the text into the KV entries of a few memory tokens.

    The instruction stays as it is. Each segment of ``segment`` tokens is read after instruction and memory so far, with
    ``memory`` learned embeddings behind it, by the model with its LoRA; the entries of the memory tokens stay, turned
    to the next free positions. What is left at the end of the text, question and answer are read by the model alone.
    With ``--budget`` the first half, quarter ... of the memory tokens is used, as fits. Without an adapter the memory
    tokens are end tokens and nothing is added to the model, and the record says so.
    """

    Options = GistOptions
    FitOptions: ClassVar[type[Options]] = GistFitOptions  # type: ignore[valid-type]
    options: GistOptions
    trainable = True
    aims = True
    fit_trial: ClassVar[Mapping[str, Any]] = {"rank": 2}

    def __init__(self, model: LanguageModel, options: Any) -> None:
        super().__init__(model, options)
        self._card: dict[str, Any] = {}
        self._adapter: Path | None = None
        self._learned: dict[str, Any] = {}
        self._save_dtype = "float32"
        if self.options.segment is not None and self.options.memory is not None:
            self.context_limit()  # else the adapter has to be known first

    @property
    def segment(self) -> int:
        """Tokens of a segment."""
        return self.options.segment or int(self._card.get("segment", SEGMENT))

    @property
    def memory(self) -> int:
        """Memory tokens of a segment, at most."""
        return self.options.memory or int(self._card.get("memory", MEMORY))

    def context_limit(self) -> int:
        """So many segments as leave room for their memory, one segment being read, and one of question and answer."""
        most = (self.model.context_length - 2 * self.segment) // self.memory
        if most < 1 or self.memory >= self.segment:
            raise UsageError(
                f"method gist: --segment {self.segment} with --memory {self.memory} does not fit the window of "
                f"{self.model.context_length} tokens of {self.model.name}, or condenses nothing; lower them"
            )
        return max(self.model.context_length, most * self.segment)

    def tokens_to_process(self, tokens: int, decoding: Decoding) -> int:
        return tokens + tokens // self.segment * self.memory

    def share_key(self, context: int, reserve: int, decoding: Decoding) -> Hashable:
        """How many memory tokens a segment gets: under a budget the question's length counts."""
        return None if self.budget is None else reserve

    @cached_property
    def weights(self) -> Memory:
        """What was learned; without an adapter end tokens, and a LoRA that adds nothing."""
        from .gist_memory import Memory

        if self._adapter is None:
            import torch

            with torch.random.fork_rng(devices=[]):  # a LoRA is drawn, although this one adds nothing
                return Memory(self.model, self.memory, 1)
        tensors = adapters.read(self._adapter, FILE)
        return Memory(self.model, int(self._card["memory"]), int(self._card["rank"]), tensors)

    def prepare(self, prompts: Sequence[Any], decoding: Decoding) -> None:
        """Read the weights: an adapter that does not fit is refused once, not by every sample."""
        _ = self.weights

    def _used(self, head: Head, question: int, decoding: Decoding) -> int:
        """Memory tokens of each segment of a context. Raises UsageError if window or budget have no room at all."""
        segments, rest = divmod(len(head.context_ids), self.segment)
        around = len(head.prefix_ids) + rest + question - 1
        if around + segments * self.memory + decoding.max_new_tokens >= self.model.context_length:
            raise UsageError(
                f"method gist: instruction, question, answer and {segments} segments of {self.memory} entries do not "
                f"fit the window of {self.model.context_length} tokens of {self.model.name}"
            )
        used = self.memory
        while self.budget is not None and used > 1 and around + segments * used > self.budget:
            used //= 2
        return used

    def compress(
        self, contexts: Sequence[Head], reserve: Sequence[int], decoding: Decoding
    ) -> list[Condensed]:
        """The cache of each instruction, the memory of its segments, and the rest of the text."""
        import torch

        from harness.inference import KVCache, feed

        from .gist_memory import condense

        network, found = self.model.network, []
        for head, question in zip(contexts, reserve):
            used = self._used(head, question, decoding)
            cache, segments = KVCache(), pieces(head.context_ids, self.segment)
            rest = segments.pop() if segments and len(segments[-1]) < self.segment else ()
            with torch.no_grad():
                if head.prefix_ids:
                    [cache], _ = feed(network, [cache], [head.prefix_ids])
                for segment in segments:
                    cache = condense(network, self.weights, cache, segment, used)
                if rest:
                    [cache], _ = feed(network, [cache], [rest])
            details = {"segments": len(segments), "memory": used}
            found.append(Condensed(cache, len(head), details))
        return found

    def generate(
        self, states: Sequence[Condensed], questions: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[Generation]:
        return answer(self.model, states, questions, decoding)

    def facts(self) -> dict[str, Any]:
        trained = self._adapter is not None or bool(self._learned)
        warning = None if trained else "memory tokens are untrained: end tokens, read by the model as it is"
        names = ("base_model", "steps", "loss", "segment", "memory", "rank")
        return {
            "memory_tokens": "trained" if trained else "untrained",
            "adapter": {name: self._card[name] for name in names if name in self._card} or None,
            "warning": warning,
        }

    def check_sharded(self, options: Any) -> None:
        """Nothing to refuse."""

    def fit(self, data: TrainingData | None, schedule: Schedule, options: Any) -> FitReport:
        import torch

        from harness.training.trainer import train

        from .gist_memory import GistTraining, Memory

        assert data is not None
        if max(data.lengths, default=0) <= self.segment + 1:
            raise UsageError(
                f"no example is longer than a segment of {self.segment} tokens, so there is nothing to learn; lower "
                "--segment or give longer data"
            )
        torch.manual_seed(schedule.seed)  # a new LoRA is drawn before the trainer seeds anything
        self.model.network.requires_grad_(False).eval()
        weights = self.weights if self._adapter is not None else Memory(self.model, self.memory, options.rank)
        weights.requires_grad_(True)
        module = GistTraining(self.model.network, weights, self.segment, options.nested)
        report = train(module, data, schedule, str(self.model.network.device), schedule.observer)
        self.__dict__["weights"] = weights.requires_grad_(False)
        self._learned = {
            "segment": self.segment,
            "memory": len(weights.tokens),
            "rank": weights.lora.rank,
            "steps": report.steps,
            "loss": report.loss,
            "loss_of": adapters.loss_of(options.save_dtype),
            "fit_options": options.model_dump(mode="json"),
            **report.facts,
        }
        self._save_dtype = options.save_dtype
        report.parameters = [{"name": "gist", "parameters": sum(p.numel() for p in weights.parameters())}]
        return report

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        import torch

        if not self._learned:
            raise UsageError("method gist: nothing was fitted, so there is nothing to save")
        dtype = torch.bfloat16 if self._save_dtype == "bfloat16" else torch.float32
        tensors = {name: tensor.detach().to(dtype) for name, tensor in self.weights.tensors().items()}
        adapters.write(folder, OWN, self.model, {FILE: tensors}, {**facts, **self._learned})

    def load(self, folder: Path) -> None:
        """Take segment, memory tokens and LoRA of an adapter; options that contradict it are refused."""
        card = adapters.check(folder, (OWN,), self.model)
        for name in ("segment", "memory", "rank"):
            if not isinstance(card.get(name), int) or card[name] < 1:
                raise UsageError(f"--adapter {folder}: its card has no number {name!r}")
        if self.options.segment not in (None, card["segment"]):
            raise UsageError(
                f"--segment {self.options.segment}: the adapter was trained for segments of {card['segment']}; "
                "leave it out"
            )
        if self.options.memory is not None and self.options.memory > card["memory"]:
            raise UsageError(
                f"--memory {self.options.memory}: the adapter has {card['memory']} memory tokens"
            )
        self.__dict__.pop("weights", None)
        self._adapter, self._card, self._learned = folder, card, {}
        self.context_limit()
