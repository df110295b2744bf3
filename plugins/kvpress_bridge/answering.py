"""Presses that drop entries while the answer is written, as methods."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness import Decoding, Generation, UsageError

from .attention import ATTENTION, attention, register, untouched
from .placing import shortened
from .press_method import TRIED, Pressed, PressMethod

if TYPE_CHECKING:
    from harness.contracts import TokenizedPrompt
    from harness.inference import KVCache


class AnsweringPressMethod(PressMethod):
    """A press of kvpress that compresses while answering (`DecodingPress` and its kind), before it too or not.

    What an answer begins from is the whole context, or what a press of the context left of it: that is measured as of
    any method. What is held when the answer ends stands in the records (``kv_tokens_at_end``), in each layer the same
    positions as in the text. The press counts its steps as in kvpress's own pipeline, where the question is one; tokens
    are decoded one by one, also where likelihoods are taken, so that entries go at the same tokens.
    """

    def _cache(self, past: Any, tokens: int | None) -> KVCache:
        return running(past, past.get_seq_length() if tokens is None else tokens)

    def facts_of(self, details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What was claimed and freed of the contexts, and the entries that answers began from and ended with."""
        known = [d for d in details if d.get("kv_tokens_at_end") is not None]
        if not known:
            return {}
        begun = sum(d["kv_tokens_at_start"] for d in known) / len(known)
        ended = sum(d["kv_tokens_at_end"] for d in known) / len(known)
        written = sum(d["written"] for d in known) / len(known)
        dropped = round(begun + written - ended)
        warning = (
            None
            if dropped
            else f"{self.press.__name__} dropped nothing while answering: answers were too short"
        )
        facts = {"kv_tokens_at_start": begun, "kv_tokens_at_end": ended, "dropped_while_answering": dropped}
        return {**super().facts_of(details), **facts, "warning": warning}

    def prepare(self, prompts: Sequence[TokenizedPrompt], decoding: Decoding) -> None:
        """Raise UsageError as any press does, and for one that fails where it first drops something while answering."""
        super().prepare(prompts, decoding)
        longest = max(prompts, key=lambda p: len(p.head_ids), default=None)
        if longest is None or not longest.head_ids:
            return
        try:
            self._try_dropping(longest, min(len(p.suffix_ids) for p in prompts), decoding)
        except Exception as error:
            raise self._refusal("fails when it first drops entries while answering with", error) from error

    def _try_dropping(self, prompt: TokenizedPrompt, question: int, decoding: Decoding) -> None:
        """Drop entries after so many tokens as an answer to a question of `question` tokens has by then."""
        from harness.inference import decode

        press = self._make()
        dropping = getattr(press, "decoding_press", press)
        interval = None if dropping is None else dropping.compression_interval
        if interval is None or decoding.max_new_tokens < interval:
            return  # answers are too short for anything to go
        # Hidden states since the last drop are at hand: with those of the question, if there is but one drop.
        states = interval + (question - 1 if decoding.max_new_tokens < 2 * interval else 0)
        width = min(states - 1, dropping.hidden_states_buffer_size) + 1
        state = self._press(shortened(prompt.head_ids, TRIED), question)
        target = width + held(state.cache) // 2
        dropping.target_size, dropping._resolve_target_size = target, lambda kwargs: target
        tokens = [prompt.ids[i % len(prompt)] for i in range(width)]
        with self._answering(press, state):
            cache = self._read(dropping, state.cache, tokens, interval - 2)
            decode(self.model, [cache], tokens[-1:], decoding, at_most=1)

    @contextmanager
    def _answering(self, press: Any, state: Pressed) -> Iterator[None]:
        """The model under `press`, with what is hidden of `state`; as it was afterwards."""
        import torch

        network = self.model.network
        devices = [network.device] if network.device.type == "cuda" else []
        register()
        with (
            untouched(network),
            attention(network, ATTENTION),
            torch.random.fork_rng(devices),
            press(network),
        ):
            torch.manual_seed(0)
            for layer, indices in zip(network.model.layers, state.hidden):
                layer.self_attn.masked_key_indices = indices
            yield

    def _read(self, dropping: Any, cache: KVCache, question: Sequence[int], steps: int) -> KVCache:
        """The cache after all tokens of a question but the last, which count as one step after `steps`."""
        import torch

        from harness.contracts import phase
        from harness.inference import feed

        if dropping is not None:
            dropping.layer_step_counts = defaultdict(lambda: steps)
        if len(question) > 1:
            with phase("prefill"), torch.no_grad():
                [cache], _ = feed(self.model.network, [cache], [question[:-1]])
            getattr(dropping, "_running_attn_sum", {}).clear()
        elif dropping is not None:
            dropping.layer_step_counts = defaultdict(lambda: steps + 1)
        return cache

    def _answer(self, state: Pressed, question: Sequence[int], decoding: Decoding) -> Generation:
        from harness.contracts import phase
        from harness.inference import decode, end_token_ids, stop_reason

        press = self._make()
        dropping = getattr(press, "decoding_press", press)
        self._check_target(dropping, state.read, len(question))
        ends, tokens = end_token_ids(self.model, decoding), list[int]()
        with self._answering(press, state):
            # The question counts as one step, and its last token is still to be read.
            cache = self._read(dropping, state.cache if state.read else running(None, 0), question, -1)
            begun = held(cache)
            with phase("decode"):
                while len(tokens) < decoding.max_new_tokens and not (tokens and tokens[-1] in ends):
                    last = tokens[-1] if tokens else question[-1]
                    [cache], [new] = decode(
                        self.model, [cache], [last], decoding, produced=len(tokens), at_most=1
                    )
                    tokens += new
        return Generation(
            text=self.model.tokenizer.decode(tokens, skip_special_tokens=True),
            token_ids=tokens,
            stop_reason=stop_reason(self.model, decoding, tokens),
            prompt_tokens=state.read + len(question),
            kv_tokens=begun,
            details={
                **state.details,
                "kv_tokens_at_start": begun,
                "kv_tokens_at_end": held(cache),
                "written": len(tokens),
            },
        )

    def _check_target(self, press: Any, read: int, question: int) -> None:
        """Raise UsageError for a question that would be dropped while it is read, which kvpress does in one pass."""
        import torch

        if press is None:
            return
        target = press._resolve_target_size({"position_ids": torch.tensor([[read + question - 1]])})
        if question >= target:
            raise UsageError(
                f"kvpress:{self.press.__name__}: a question of {question} tokens is not less than the {target} entries "
                "that are to stay; raise --target-size, or lower the ratio"
            )


def running(past: Any, seen: int) -> KVCache:
    """A cache whose places run on as in the text, whatever of it a press has dropped: `seen` tokens were read."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    from harness.inference import OwnCache

    class Running(DynamicLayer):  # type: ignore[misc]
        """A layer that counts what it was given, beside what it holds."""

        seen = 0

        @property
        def held(self) -> int:
            """KV entries in memory."""
            return int(super().get_seq_length())

        def get_seq_length(self) -> int:
            return self.seen

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
            self.seen += key_states.shape[-2]
            return super().update(key_states, value_states, *args, **kwargs)

    class RunningCache(DynamicCache):  # type: ignore[misc]
        """A cache of such layers, made as the model asks for them."""

        def __init__(self) -> None:
            super().__init__()
            self.layer_class_to_replicate = Running

    made = RunningCache()
    for layer in () if past is None else past.layers:
        own = Running()
        own.keys, own.values, own.is_initialized = layer.keys, layer.values, True
        own.dtype, own.device, own.seen = layer.keys.dtype, layer.keys.device, seen
        made.layers.append(own)
    return OwnCache(cache=made)


def held(cache: Any) -> int:
    """KV entries of a cache that `running` made, the mean of its layers."""
    layers = [layer.held for layer in cache.cache.layers]
    return round(sum(layers) / len(layers)) if layers else 0
