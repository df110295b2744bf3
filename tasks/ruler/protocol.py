"""RULER's thirteen tasks as NVIDIA's `synthetic.yaml` and `constants.py` define them: words, numbers, metrics.

Every template is in three parts, around the long text; joined they are the official template. The answer
prefix follows the assistant's header, blanks included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.contracts import Prompt

PRESET = "ruler-nvidia@1"
THRESHOLD = 0.856
"""Llama-2-7B's mean at 4K: a length counts as effective while the mean over the 13 tasks reaches it."""

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NEEDLE = "One of the special magic {kind} for {key} is: {value}."
DEPTHS = tuple(round(100 * i / 39) for i in range(40))
"""Forty places between 0 and 100 percent, rounded to whole percents."""

SHORT = 4096
"""Below this length the official generators take smaller steps and smaller examples."""


@dataclass(frozen=True)
class Wording:
    """A template around its context: fields in braces are filled by `fill`."""

    head: str
    tail: str
    question: str
    answer_prefix: str

    def fill(self, context: str, example: str = "", **fields: str) -> tuple[Prompt, str]:
        """The prompt, led by `example`, and the answer prefix."""
        question = self.question.format(**fields)
        tail = self.tail.format(question=question)
        prompt = Prompt(example + self.head.format(**fields), context, tail, question)
        return prompt, self.answer_prefix.format(**fields)


NIAH = Wording(
    head="Some special magic {kind} are hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {kind} afterwards.\n",
    tail="\n{question}",
    question="What are all the special magic {kind} for {query} mentioned in the provided text?",
    answer_prefix=" The special magic {kind} for {query} mentioned in the provided text are",
)
NIAH_ONE = Wording(  # the official code rewrites the template above when there is one answer
    head="A special magic {kind} is hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {kind} afterwards.\n",
    tail="\n{question}",
    question="What is the special magic {kind} for {query} mentioned in the provided text?",
    answer_prefix=" The special magic {kind} for {query} mentioned in the provided text is",
)
VT = Wording(
    head="Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n",
    tail="\nQuestion: {question}",
    question="Find all variables that are assigned the value {query} in the text above.",
    answer_prefix=" Answer: According to the chain(s) of variable assignment in the text above, {count} "
    "variables are assigned the value {query}, they are: ",
)
CWE = Wording(
    head="Below is a numbered list of words. In these words, some appear more often than others. "
    "Memorize the ones that appear most often.\n",
    tail="\nQuestion: {question}",
    question="What are the 10 most common words in the above list?",
    answer_prefix=" Answer: The top 10 words that appear most often in the list are:",
)
FWE = Wording(
    head="Read the following coded text and track the frequency of each coded word. Find the three most "
    "frequently appeared coded words. ",
    tail="\nQuestion: {question}",
    question="Do not provide any explanation. Please ignore the dots '....'. What are the three most "
    "frequently appeared words in the above coded text?",
    answer_prefix=" Answer: According to the coded text above, the three most frequently appeared words are:",
)
QA = Wording(
    head="Answer the question based on the given documents. Only give me the answer and do not output any "
    "other words.\n\nThe following are given documents.\n\n",
    tail="\n\nAnswer the question based on the given documents. Only give me the answer and do not output "
    "any other words.\n\nQuestion: {question}",
    question="{query}",
    answer_prefix=" Answer:",
)

Metric = Literal["all", "part"]


@dataclass(frozen=True)
class Spec:
    """One of the thirteen: its kind of generator, most new tokens, its metric."""

    kind: Literal["niah", "vt", "cwe", "fwe", "qa"]
    new_tokens: int
    metric: Metric = "all"


@dataclass(frozen=True)
class Needles(Spec):
    """A needle task: what the text is made of, what keys and values are, and how many there are.

    ``keys`` different keys are hidden, each with ``values`` values; ``queries`` of the keys are asked for.
    """

    kind: Literal["niah"] = "niah"
    new_tokens: int = 128
    haystack: Literal["noise", "essay", "needle"] = "essay"
    key: Literal["words", "numbers", "uuids"] = "words"
    value: Literal["words", "numbers", "uuids"] = "numbers"
    keys: int = 1
    values: int = 1
    queries: int = 1


SPECS: dict[str, Spec] = {
    "niah_single_1": Needles(haystack="noise"),
    "niah_single_2": Needles(),
    "niah_single_3": Needles(value="uuids"),
    "niah_multikey_1": Needles(keys=4),
    "niah_multikey_2": Needles(haystack="needle"),
    "niah_multikey_3": Needles(haystack="needle", key="uuids", value="uuids"),
    "niah_multivalue": Needles(values=4),
    "niah_multiquery": Needles(keys=4, queries=4),
    "vt": Spec("vt", 30),
    "cwe": Spec("cwe", 120),
    "fwe": Spec("fwe", 50),
    "qa_1": Spec("qa", 32, "part"),
    "qa_2": Spec("qa", 32, "part"),
}
