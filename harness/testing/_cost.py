"""Checks of what a method says about its cost: entries that it keeps, and time that somebody books."""

from __future__ import annotations

from typing import Any

from ..contracts.prompt import TokenizedPrompt
from ..errors import MeasurementError
from ..inference.meter import observe
from ..inference.proof import TOLERANCE_TOKENS
from ..inference.verification import asked_of, check, proved
from ._results import Failed
from ._trial import Seen, Trial

UNBOOKED = 0.05
"""Share of a sample's forward passes that may lie in no phase."""


def declared(trial: Trial) -> str:
    """What the method says it keeps is what the model was seen holding, and it grows by the answer alone."""
    ratios = [_ratio(trial, prompt, seen) for prompt, seen in zip(trial.prompts, trial.first)]
    if trial.two_phase:
        prompt = trial.prompts[0]
        method = trial.fresh([prompt])
        method.make_query_agnostic()
        try:
            _ratio(trial, prompt, trial.watch(method, prompt))
        except Failed as error:
            raise Failed(f"made query-agnostic: {error}") from None
    return f"prompt tokens for each KV entry: {', '.join(f'{r:.2f}' for r in ratios)}"


def _ratio(trial: Trial, prompt: TokenizedPrompt, seen: Seen) -> float:
    generation, meter = seen.generation, seen.meter
    try:
        asked = asked_of(trial.model, prompt.ids, trial.decoding)
        measured = check(generation, meter, 0, len(prompt))
        _, doubts = proved(generation, meter, 0, len(prompt), asked)
    except MeasurementError as error:
        said = str(error).partition("; the run")[0]
        raise Failed(
            f"{said}; count what is in the cache before the first answer token is read, and choose each token "
            "greedily from the pass that was fed the one before it"
        ) from None
    if doubts and trial.strict:
        raise Failed(
            f"strictly: {'; '.join(doubts)}; answer by the model's own passes, with nothing hung on it"
        )
    if not measured.verified:
        raise Failed(
            "no forward pass of a single token was seen, so nothing proves kv_tokens; answer token by token "
            'with model.network, inside harness.inference.phase("decode")'
        )
    end, most = (meter.resident or [0])[0], generation.kv_tokens + len(generation.token_ids)
    if end > most + TOLERANCE_TOKENS:
        raise Failed(
            f"the cache held {end} entries after an answer of {len(generation.token_ids)} tokens that began "
            f"from {generation.kv_tokens}; what was dropped must not come back while answering"
        )
    return measured.compression or 0.0


def phases(trial: Trial) -> str:
    """What the model computes is booked as compression, prefill or decoding, and the answer as decoding."""
    prompt = trial.prompts[0]
    method = trial.fresh([prompt])
    network: Any = trial.model.network
    passes: list[tuple[int, str | None]] = []

    def note(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = args[0] if args else kwargs.get("input_ids")
        given = kwargs.get("inputs_embeds") if given is None else given
        passes.append((0 if given is None else int(given.shape[1]), meter.phase))

    with observe(network, trial.model.device, 1) as meter:
        hook = network.model.register_forward_pre_hook(note, with_kwargs=True)
        try:
            [answer] = trial.ask(method, [prompt])
        finally:
            hook.remove()
    nowhere = sum(phase is None for _, phase in passes)
    if nowhere > UNBOOKED * len(passes):
        raise Failed(
            f"{nowhere} of {len(passes)} forward passes lie in no phase, so that their time stands in no "
            'column; put what reads and answers into harness.inference.phase("compress"), ("prefill") or ("decode")'
        )
    answering = {phase for width, phase in passes[-len(answer.token_ids) :] if width == 1}
    if answering and "decode" not in answering:
        raise Failed(
            f"the answer is written in the phase {answering.pop()!r}, so that its time stands in a column of another "
            'name; put what answers into harness.inference.phase("decode")'
        )
    return ", ".join(f"{name} {meter.seconds[name]:.3f} s" for name in meter.seconds)
