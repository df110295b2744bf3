"""A check that nothing else happens where nothing is condensed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contracts.prompt import TokenizedPrompt
from ..inference.decoding import decode
from ..inference.forward import feed
from ..inference.kvcache import KVCache
from ._answers import same
from ._prompts import BETWEEN, SHORT, prompt_in_lines
from ._results import Failed, NotApplicable
from ._trial import Seen, Trial


def identity(trial: Trial) -> str:
    """Where nothing is condensed, the answer's logits are those of the model that read everything."""
    advice = "see to it that a text of which nothing is dropped is read as it is, at its own positions"
    if (lossless := trial.cls.lossless) is not None:
        for prompt in trial.prompts[:2]:
            same(trial, _plain(trial, prompt), _with(trial, lossless, prompt), "nothing is condensed", advice)
        return ", ".join(f"{name}={value}" for name, value in lossless.items())
    if trial.adapter is not None:
        raise NotApplicable("what an adapter learned is not the model's own")
    if all(seen.entries >= len(prompt) - 1 for prompt, seen in zip(trial.prompts, trial.first)):
        raise NotApplicable("it never condenses: another model is what it may be")
    longest = 0
    for size in SHORT:
        try:
            prompt = trial.prompt(size, 21)
        except Failed:
            continue
        seen = trial.alone(prompt)
        if seen.entries not in (len(prompt) - 1, len(prompt)):
            continue
        same(trial, _plain(trial, prompt), seen, "nothing is condensed", advice)
        longest = len(prompt)
        _in_lines(trial, longest)
    if longest:
        return f"a text of {longest} tokens is read as by the model alone"
    raise NotApplicable("it condenses the shortest text; name options under which it does not in `lossless`")


def _in_lines(trial: Trial, tokens: int) -> None:
    """Raise Failed if a text as long as one that is read whole loses its line ends, or has them changed."""
    try:
        prompt = prompt_in_lines(trial.model, tokens, trial.questions[0])
    except Failed:
        return
    seen = trial.alone(prompt)
    if seen.entries < len(prompt) - 1 - len(BETWEEN):
        return  # lines are what it chooses among, and some were left out
    advice = (
        "hand on the tokens of the text, or text from which its line ends, indents and blanks were not taken"
    )
    same(trial, _plain(trial, prompt), seen, "nothing is condensed and the text has line ends", advice)


def _with(trial: Trial, options: Mapping[str, Any], prompt: TokenizedPrompt) -> Seen:
    given = {**trial.options.model_dump(exclude_unset=True), **options}
    method = trial.cls(trial.model, trial.cls.Options.parse(given, f"method {trial.name}"))
    method.prepare([prompt], trial.decoding)
    return trial.watch(method, prompt)


def _plain(trial: Trial, prompt: TokenizedPrompt) -> Seen:
    """What the model answers that reads the whole prompt."""
    import torch

    from ..contracts.outputs import Generation
    from ..inference.meter import observe
    from ._trial import heard

    model = trial.model
    with observe(model.network, model.device, 1) as meter, heard(model.network) as logits, torch.no_grad():
        caches, _ = feed(model.network, [KVCache()], [prompt.ids[:-1]])
        _, [tokens] = decode(model, caches, [prompt.ids[-1]], trial.decoding)
    answer = Generation("", tokens, "length", len(prompt), len(prompt) - 1)
    return Seen(answer, meter, [step[0] for step in logits])
