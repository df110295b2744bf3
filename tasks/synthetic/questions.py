"""The questions of a dialogue, each as a sample over what stood before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.contracts.prompt import Prompt
from harness.contracts.task import Sample

SHORT_ANSWER = 96
"""Most tokens of an answer that is a sentence or two."""


def asked(row: Mapping[str, Any]) -> list[Sample]:
    """The samples of a line with ``messages`` and ``turns``, as `harness.synthesis` writes dialogues.

    Questions between two documents share their context: all up to the end of the document read last, with the
    questions and answers that came before it. What was asked since then is left out of it.

    Raises
    ------
    KeyError, IndexError, TypeError
        If the line is no dialogue, or its turns and messages do not go together.
    """
    turns, messages = row["turns"], [str(message["content"]) for message in row["messages"]]
    if len(messages) != 2 * len(turns) or not turns:
        raise IndexError(f"{len(turns)} turns, {len(messages)} messages")
    found: list[Sample] = []
    context, since, documents = "", "", 0
    place = 0  # characters of the dialogue before this turn
    moved: list[
        tuple[int, int]
    ] = []  # where a document begins in the dialogue, and by how much it is elsewhere here
    for number, turn in enumerate(turns):
        user, answer = messages[2 * number : 2 * number + 2]
        border = int(turn["read"])
        if border:
            context, since = context + since, ""
            moved.append((place, len(context) - place))
            context += user[:border]
            documents += 1
        question = user[border:]
        since += f"{question}\n{answer}\n\n"
        facts = {
            "task": str(row["task"]),
            "kind": turn["kind"],
            "label": "",
            "passages": documents,
            "about": list(turn["about"]),
            "evidence": [_shifted(span["chars"], moved) for span in turn["evidence"]],
        }
        sample = Sample(
            f"{row['id']}-{number + 1:03d}",
            Prompt("", context, question, question.partition(": ")[2] or question),
            (answer,),
            SHORT_ANSWER,
            metadata=facts,
        )
        found.append(sample)
        place += len(user) + len(answer)
    return found


def _shifted(span: list[int], moved: list[tuple[int, int]]) -> dict[str, list[int]]:
    """A stretch of the dialogue as one of the context: by as much as the document it is in was moved."""
    by = next(shift for begin, shift in reversed(moved) if begin <= span[0])
    return {"chars": [span[0] + by, span[1] + by]}
