"""BABILong's own prompts and labels, and its comparison of answers (booydar/babilong @7a6efee, Apache-2.0).

``prompts.json`` has ``TASK_LABELS`` and ``DEFAULT_PROMPTS`` of ``prompts.py`` and ``metrics.py`` as they stand,
an unclosed ``<context>`` at the end of some examples included.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from harness.contracts import Prompt

COMMIT = "7a6efee"
TASKS = tuple(f"qa{number}" for number in range(1, 21))
NEW_TOKENS = 20
CUTS = (".", "<context>", "<example>", "Question")
"""Where an answer ends; the last never occurs, for the answer is in lower case by then. The official code has it."""


@dataclass(frozen=True)
class Parts:
    """What is said around the text of a task, and the words that count as answers."""

    labels: tuple[str, ...]
    instruction: str
    examples: str
    post_prompt: str

    def render(self, context: str, question: str, use: tuple[bool, bool, bool]) -> Prompt:
        """The prompt, with or without `use` of instruction, examples and post-prompt.

        A part that is left out leaves its blank lines behind; the whole is stripped, as officially.
        """
        said = (self.instruction, self.examples, self.post_prompt)
        opening = "".join(f"{part if wanted else ''}\n\n" for part, wanted in zip(said, use))
        closing = f"\n</context>\n\nQuestion: {question}"
        return Prompt(f"{opening}<context>\n".lstrip(), context.strip(), closing.rstrip(), question.strip())


@cache
def parts(task: str) -> Parts:
    """What the official code says in `task`."""
    text = resources.files(__package__).joinpath("prompts.json").read_text("utf-8")
    found = json.loads(text)[task]
    return Parts(tuple(found.pop("labels")), **found)


def answer_of(output: str) -> str:
    """The part of a model's words that is compared: lower case, up to the first period."""
    output = output.lower()
    for cut in CUTS:
        output = output.partition(cut)[0]
    return output


def right(task: str, target: str, output: str, question: str) -> bool:
    """The official ``compare_answers``: the target and no other label of the task stands in the answer.

    Labels are looked for as parts of words, and those in the question do not count. So "none" holds "one", and qa7's
    target "none" can never be right.
    """
    labels = {label.lower() for label in parts(task).labels}
    said = answer_of(output)
    found = {label for label in labels if label in said} - {
        label for label in labels if label in question.lower()
    }
    target = target.lower()
    if "," in target and len(target) > 3:
        wanted = target.split(",")
        return set(wanted) <= found and len(wanted) == len(found)
    return target in found and len(found) == 1
