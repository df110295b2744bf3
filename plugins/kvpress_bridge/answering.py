"""Presses that drop entries while the answer is written, as methods."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness import Decoding, Generation, UsageError

from .attention import ATTENTION, attention, register, untouched
from .press_method import Pressed, PressMethod

if TYPE_CHECKING:
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

    def _answer(self, state: Pressed, question: Sequence[int], decoding: Decoding) -> Generation:
        import torch

        from harness.contracts import phase
        from harness.inference import decode, end_token_ids, feed, stop_reason

        network, press = self.model.network, self._make()
        dropping = getattr(press, "decoding_press", press)
        self._check_target(dropping, state.read, len(question))
        ends, cache, tokens = end_token_ids(self.model, decoding), state.cache, list[int]()
        if not state.read:
            cache = running(None, 0)
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
            if len(question) > 1:
                if (
                    dropping is not None
                ):  # the question counts as one step, and its last token is still to be read
                    dropping.layer_step_counts = defaultdict(lambda: -1)
                with phase("prefill"), torch.no_grad():
                    [cache], _ = feed(network, [cache], [question[:-1]])
                getattr(dropping, "_running_attn_sum", {}).clear()
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
