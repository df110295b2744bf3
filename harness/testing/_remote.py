"""A check of methods whose answers come from elsewhere: that text and question are sent there."""

from __future__ import annotations

from ._prompts import WORDS, prompt_from
from ._results import Failed
from ._trial import Trial

SENT = 4
"""So many questions are asked of one text, and one question of so many texts."""


def sent(trial: Trial) -> str:
    """Other answers come back to other questions, and to other texts. Raises Failed if all are the same."""
    size, context = len(trial.prompts[0]), [trial.prompts[0].prompt.context]
    questions = [f"Where is the {word}?" for word in WORDS.split()[:SENT]]
    asked = {
        "question": [prompt_from(trial.model, context, question) for question in questions],
        "text": [trial.prompt(size, 31 + seed, questions[0]) for seed in range(SENT)],
    }
    for what, prompts in asked.items():
        answers = {trial.alone(prompt).generation.text for prompt in prompts}
        if len(answers) == 1:
            raise Failed(
                f"{SENT} prompts that differ in the {what} alone got the same answer, {answers.pop()[:40]!r}; send the "
                f"{what} too, and keep no answer under what leaves it out (or is it the server that says this to "
                "everything?)"
            )
    return f"{2 * SENT} prompts"
