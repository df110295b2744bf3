"""`kvpress:<Press>`: every press of an installed kvpress as a method.

Source: https://github.com/NVIDIA/kvpress (Devoto et al., "Expected Attention", https://arxiv.org/abs/2510.00636,
presents the library; each press names its own paper). A press compresses the KV cache of the context while it is
prefilled and never sees the question, as in kvpress's own pipeline. Whether memory is really saved depends on the
press: some only hide entries. What the cache holds is measured; the ratio a press claims stands beside it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from harness import Decoding, Generation, Method, UsageError

from .attention import ATTENTION, attention, register, untouched
from .discovery import installed, version, without_template
from .placing import placed, shortened

if TYPE_CHECKING:
    from harness.contracts import TokenizedPrompt
    from harness.inference import KVCache


MARK = "[text]"
"""Stands for the text where a template is looked at."""

TRIED = 512
"""Tokens of a context that a press is tried on before a run."""

CLAIM_TOLERANCE = 0.05
"""Share of a context's KV bytes by which what a press frees may fall short of what it claims, unremarked."""


@dataclass(frozen=True)
class Pressed:
    """A context after a press.

    Attributes
    ----------
    cache
        What is left of it; layers may hold different numbers of entries. Keys are turned so that the next token
        has the rank after the first layer's last entry and all distances are those of the text.
    hidden
        For each layer the entries hidden from attention, as kvpress keeps them; None: none.
    read
        Tokens of the context.
    details
        What the press claims and what it freed.
    """

    cache: KVCache
    hidden: tuple[Any, ...]
    read: int
    details: dict[str, Any] = field(default_factory=dict)


class PressMethod(Method):
    """A press as a method; `KvPress.variant` makes a subclass of it for each.

    The context is prefilled under the press, alone, then each question is read and answered from what is left,
    at the positions it has in the text. Contexts of a batch are taken one by one: presses know no padding. Each is
    compressed by a press of its own, random draws from the same seed.
    """

    press: ClassVar[type]
    aims: ClassVar[bool] = True
    takes_device_map: ClassVar[bool] = False  # presses make tensors on one device and were tried on no two

    def aim(self, entries: int) -> None:
        """Of each context as much is kept as leaves room for its question; the press's ratio follows from that."""
        from .options import RATIO

        name = f"kvpress:{self.press.__name__}"
        if RATIO not in type(self.options).model_fields:
            raise UsageError(f"{name} has no compression ratio of its own, so it cannot aim at --budget")
        if RATIO in self.options.model_fields_set:
            raise UsageError(f"{name}: --compression-ratio and --budget both say how much stays; give one")
        super().aim(entries)

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"press": self.press.__name__, "kvpress": version()}
        if self.model.chat == "never":
            facts["prompt"] = (
                "as the harness writes it: kvpress's own pipeline puts BOS before, and a line's end after, the text of "
                "a model without a chat template"
            )
        return facts

    def facts_of(self, details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the press claimed and freed, the means over all answers."""
        seen = [
            (float(d["nominal_ratio"]), float(d["freed_ratio"]))
            for d in details
            if d.get("nominal_ratio") is not None and d.get("freed_ratio") is not None
        ]
        if not seen:
            return {}
        claimed, freed = (sum(part) / len(seen) for part in zip(*seen))
        warning = None
        if freed < -CLAIM_TOLERANCE:
            warning = (
                f"{self.press.__name__} claims to remove {claimed:.0%} of the context's KV cache, but the cache grew "
                f"to {1 - freed:.1f} times its bytes: it holds entries of its own beside the text's"
            )
        elif claimed - freed > CLAIM_TOLERANCE:
            warning = (
                f"{self.press.__name__} claims to remove {claimed:.0%} of the context's KV cache and freed {freed:.0%} "
                "of its bytes: the rest is masked or zeroed, not gone"
            )
        elif claimed == 0:
            warning = f"{self.press.__name__} removed nothing (its own ratio is 0): this is full attention"
        return {"claimed_ratio": claimed, "freed_ratio": freed, "warning": warning}

    def prepare(self, prompts: Sequence[TokenizedPrompt], decoding: Decoding) -> None:
        """Raise UsageError for a press that has nothing for this model, or fails whatever it is given.

        It is tried on the beginning of the longest context; should it fail there, on all of it.
        """
        network = self.model.network
        longest = max(prompts, key=lambda p: len(p.head_ids), default=None)
        try:
            with untouched(network):
                self._make().post_init_from_model(network)
        except Exception as error:
            raise self._refusal("cannot be set up for", error) from error
        if longest is None or not longest.head_ids:
            return
        try:
            self._try(longest, TRIED)
        except UsageError:
            raise
        except Exception:
            try:
                self._try(longest, len(longest.head_ids))
            except Exception as error:
                raise self._refusal("fails on every context of", error) from error

    def _try(self, prompt: TokenizedPrompt, tokens: int) -> None:
        """Press so many tokens of a prompt's context, for what goes wrong with it."""
        self._press(shortened(prompt.head_ids, tokens), 1)

    def _refusal(self, what: str, error: Exception) -> UsageError:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        return UsageError(
            f"kvpress:{self.press.__name__} {what} {self.model.name} with these options: {line}"
        )

    def _make(self) -> Any:
        from .options import make_press

        return make_press(self.press, self.options.model_dump())

    def share_key(self, context: int, reserve: int, decoding: Decoding) -> Hashable:
        """What is left of a context depends on the context alone; under a budget on the question's length too."""
        return () if self.budget is None else reserve

    def compress(
        self, contexts: Sequence[Sequence[int]], reserve: Sequence[int], decoding: Decoding
    ) -> list[Pressed]:
        """Prefill each context under the press; what follows plays no part."""
        return [self._press(context, question) for context, question in zip(contexts, reserve)]

    def _aimed(self, press: Any, context: int, question: int) -> None:
        """Set the ratio under which context and question together keep to the budget."""
        if self.budget is None:
            return
        kept = self.budget - (question - 1)
        if kept < 1:
            raise UsageError(
                f"kvpress:{self.press.__name__}: a question of {question} tokens leaves nothing of a --budget of "
                f"{self.budget} entries to its context"
            )
        # Presses keep int(tokens * (1 - ratio)): half an entry more keeps rounding from taking one.
        press.compression_ratio = max(0.0, 1 - (kept + 0.5) / context) if kept < context else 0.0

    def generate(
        self, states: Sequence[Pressed], questions: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[Generation]:
        return [self._answer(state, question, decoding) for state, question in zip(states, questions)]

    def _press(self, context: Sequence[int], question: int) -> Pressed:
        import torch
        from transformers import DynamicCache

        from harness.inference import KVCache

        kvpress, network = installed(self.press.__name__), self.model.network
        if not context:
            return Pressed(KVCache(), (), 0)
        press = self._make()
        self._aimed(press, len(context), question)
        self._ready(press, context)
        parts = getattr(press, "presses", [press])
        eager = any(isinstance(getattr(p, "press", p), kvpress.ObservedAttentionPress) for p in parts)
        devices = [network.device] if network.device.type == "cuda" else []
        bare = self.model.has_chat_template and not self._templated(context)
        with (
            untouched(network),
            attention(network, "eager" if eager else "sdpa"),
            torch.no_grad(),
            ExitStack() as undo,
        ):
            if bare:
                undo.enter_context(without_template())
            with torch.random.fork_rng(devices):
                torch.manual_seed(0)
                past = DynamicCache()
                with press(network):
                    network.model(
                        input_ids=torch.tensor([list(context)], device=network.device), past_key_values=past
                    )
            hidden = tuple(getattr(x.self_attn, "masked_key_indices", None) for x in network.model.layers)
            rerotated = isinstance(press, kvpress.KeyRerotationPress) or getattr(
                press, "rerotate_keys", False
            )
            cache = self._cache(past, None if rerotated else len(context))
        return Pressed(cache, hidden, len(context), self._details(press, past, hidden, len(context)))

    def _ready(self, press: Any, context: Sequence[int]) -> None:
        """Tell a press what it must know of what it is going to read. Nothing by default."""

    def _cache(self, past: Any, tokens: int | None) -> KVCache:
        """What kvpress left of a context, as questions are read after it (see `placed`)."""
        return placed(self.model.network, past, tokens)

    def _templated(self, context: Sequence[int]) -> bool:
        """Whether a context begins as the model's chat template has it."""
        begin = self.model.render_chat(MARK).partition(MARK)[0]
        given = getattr(context, "prefix", None)
        if given is None:
            given = self.model.tokenizer.decode(list(context[:TRIED]))
        return str(given).startswith(begin) if begin else True

    def _details(self, press: Any, past: Any, hidden: Sequence[Any], tokens: int) -> dict[str, Any]:
        held = [layer.keys.shape[2] for layer in past.layers]
        size = sum(layer.keys.nbytes + layer.values.nbytes for layer in past.layers)
        full = sum((x.keys.nbytes + x.values.nbytes) / n * tokens for x, n in zip(past.layers, held))
        masked = sum(len(indices[0]) for indices in hidden if indices is not None)
        pairs = sum(layer.keys.shape[1] * n for layer, n in zip(past.layers, held))
        try:
            claimed = press.compression_ratio
        except (AttributeError, AssertionError, ValueError):
            claimed = None
        freed = 1 - size / full
        return {
            "nominal_ratio": None if claimed is None else float(claimed),
            "freed_ratio": freed,
            "hidden_share": masked / pairs,
            **({"entries_by_layer": held} if len(set(held)) > 1 else {}),
        }

    def _answer(self, state: Pressed, question: Sequence[int], decoding: Decoding) -> Generation:
        import torch

        from harness.contracts import phase
        from harness.inference import decode, feed, stop_reason

        network, cache = self.model.network, state.cache
        register()
        with untouched(network), attention(network, ATTENTION):
            for layer, indices in zip(network.model.layers, state.hidden):
                layer.self_attn.masked_key_indices = indices
            with phase("prefill"), torch.no_grad():
                if len(question) > 1:
                    [cache], _ = feed(network, [cache], [question[:-1]])
            with phase("decode"):
                _, [tokens] = decode(self.model, [cache], [question[-1]], decoding)
        held = [keys.shape[1] for keys in cache.keys]
        return Generation(
            text=self.model.tokenizer.decode(tokens, skip_special_tokens=True),
            token_ids=tokens,
            stop_reason=stop_reason(self.model, decoding, tokens),
            prompt_tokens=state.read + len(question),
            kv_tokens=round(sum(held) / len(held)) if held else 0,
            details=dict(state.details),
        )
