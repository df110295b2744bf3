"""InfiniteBench's official words and limits: ``src/prompt.py`` and ``eval_utils.py`` of OpenBMB/InfiniteBench.

Each set of templates belongs to a model the authors ran. Misspellings are theirs and stay: a corrected prompt
would be another protocol. Left out are ``kimi``, whose templates upload the text as a file after the question,
and ``rwkv``, which only ever had a template for the passkey.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.contracts import Prompt
from harness.errors import UsageError

COMMIT = "prompt-753b69f score-88b3daa"
"""Which versions of the official ``prompt.py`` and ``compute_scores.py`` are followed; in each run's preset."""

NEW_TOKENS: dict[str, int] = {
    "passkey": 6,
    "number_string": 12,
    "kv_retrieval": 50,
    "longdialogue_qa_eng": 40,
    "longbook_sum_eng": 1200,
    "longbook_choice_eng": 40,
    "longbook_qa_eng": 40,
    "longbook_qa_chn": 40,
    "math_find": 3,
    "math_calc": 30000,
    "code_run": 5,
    "code_debug": 5,
}
"""Most tokens of an answer, for each of the twelve tasks, in the official order."""

TASKS: tuple[str, ...] = tuple(NEW_TOKENS)
CHOICE: frozenset[str] = frozenset({"longbook_choice_eng", "code_debug"})
"""Tasks with four options, one of which is right."""

_HIDDEN = "There is an important info hidden inside a lot of irrelevant text. Find it"
_QUIZ = " I will quiz you about the important information"
_VALUE = (
    "Extract the value corresponding to the specified key in the JSON object below.\n\n{context}\n\n{input}"
)
_OPTIONS = "A. {OPTION_A}\nB. {OPTION_B}\nC. {OPTION_C}\nD. {OPTION_D}"
_FIND = "{prefix}\n\n{context}\n\n{input}"
_MASKED = (
    'Below is a dialogue script where one random occurrence of a character name is replaced with "$$MASK$$", '
    "and you should try to guess who that character is.\n\n"
)
_DIALOGUE = (
    f"{_MASKED}The dialogue:\n\n---\n\n{{context}}\n\n---\n\nEnd of dialogue.\n\n"
    'Which character is most likely "$$MASK$$"? Just say the name used by the scriptwriter (before the colon '
    "marks) of one single character and nothing else."
)
_LETTER = (
    "Read the book and answer the question.\n\n{context}\n\nQuestion: {question}\n\nOnly one of the following "
    "options is correct, tell me the answer using one single letter (A, B, C, or D). Don't say anything else."
    f"\n{_OPTIONS}"
)
_SUMMARY = "Summarize the following book.\n\n{context}"
_CHINESE = "请根据以下书籍回答我的问题。\n\n{context}\n\n问题：{question}\n请尽量简短地回答。"


def _values(gap: str) -> str:
    """math_calc's template with its two worked examples, `gap` after the first line."""
    return (
        f"Let us calculate the intermediate values of an expression.\n{gap}Expression: 1 + 3 + 4\n"
        "Values: [1, 4, 8]\n\nExpression: 8 - 3 + 2 - 4\nValues: [8, 5, 7, 3]\n\n"
        "Expression: {context}\nValues:"
    )


def _error(inspect: str) -> str:
    """code_debug's template for chat models; two sets differ in one phrase."""
    return (
        "There is ONLY ONE function in the large project that is deliberately made to include an obvious "
        "error. Please find the function that contains the most obvious errors. I will give you four options "
        f"to narrow your scope. You can {inspect} and think. Eventually, tell me the answer using one single "
        "letter (A, B, C, or D).\n\n{context}\n\nWhich funtion has deliberate error?\n"
        f"{_OPTIONS}\n\nYou should first find the functions in the options. Repeat their content, inspect "
        "through code, and at last give me your answer for the function that has the deliberate and obvious "
        "error in A, B, C, or D."
    )


YARN_MISTRAL: dict[str, str] = {
    "passkey": f"{_HIDDEN} and memorize it.{_QUIZ}.\n\n{{context}}\n\n{{input}}\n\nThe pass key is",
    "number_string": f"{_HIDDEN}.{_QUIZ} there.\n\n{{context}}\n\n{{input}}\n\nThe sequence of digits is",
    "kv_retrieval": _VALUE,
    "longbook_sum_eng": "Summarize the book below.\n\n{context}\n\nSummary:",
    "longbook_choice_eng": "Read the book and answer the question.\n\n{context}\n\nQuestion: {question}\n"
    f"{_OPTIONS}\n\nThe letter of the correct answer is",
    "longbook_qa_eng": "Read the book and answer the question. Be very concise in your answer.\n\n{context}"
    "\n\nQuestion: {question}\nAnswer:",
    "longbook_qa_chn": "阅读以下书籍然后回答问题。\n\n{context}\n\n问题：{question}\n答案：",
    "math_find": _FIND,
    "math_calc": _values("\n"),
    "code_run": "There is a function called {func} in the following Python code.\n\n{context}\n\nPlease "
    "compute the exact value of {func_call}. The value of {func_call} is",
    "code_debug": "Following is a Python code where exactly one of the functions/methods has a deliberate "
    f"error that makes it crash.\n\n{{context}}\n\nOptions:\n{_OPTIONS}\n\nThe correct option is:",
    "longdialogue_qa_eng": f"{_MASKED}{{context}}\n\nThe name that has been replaced with $$MASK$$ is likely",
}

GPT4: dict[str, str] = {
    "passkey": f"{_HIDDEN} and memorize them.{_QUIZ} there.\n\n{{context}}\n\n{{input}}",
    "number_string": f"{_HIDDEN}.{_QUIZ} there.\n\n{{context}}\n\n{{input}}",
    "kv_retrieval": _VALUE,
    "longbook_sum_eng": _SUMMARY,
    "longbook_choice_eng": _LETTER,
    "longbook_qa_eng": "Read the book below and answer a question.\n\n{context}\n\nQuestion: {question}\n\n"
    "Be very concise.",
    "longbook_qa_chn": _CHINESE,
    "math_find": _FIND,
    # There is a template, but `create_prompt` returns the bare expression before it looks at it.
    "math_calc": "{context}",
    "code_run": "Following is a set of Python functions. There is a function called named {func}.\n\n"
    "{context}\n\nPlease give me the exact number of the return value of {func_call}. Be concise. Your "
    "response must end with the final returned value.",
    "code_debug": _error("inspect the options"),
    "longdialogue_qa_eng": _DIALOGUE,
}

CLAUDE2: dict[str, str] = {
    "passkey": f"{_HIDDEN} and memorize them.{_QUIZ} there.\n\n{{context}}\n{{input}}\nThe pass key is",
    "number_string": f"{_HIDDEN}.{_QUIZ} there.\n\n{{context}}\n{{input}}\nThe sequence of digits is",
    "kv_retrieval": f"{_HIDDEN}.{_QUIZ} there.\n\n{{context}}\n{{input}}",
    "longbook_sum_eng": _SUMMARY,
    "longbook_choice_eng": _LETTER,
    "longbook_qa_eng": "Read the novel below and answer a question:\n\n{context}\n\n{input}\nPlease answer as "
    "short as possible. The answer is: ",
    "longbook_qa_chn": _CHINESE,
    "math_find": _FIND,
    "math_calc": _values(""),
    "code_run": "In the file functions_module.py, there is a function called ${func}.\n\n\nHere is the "
    "content of functions_module.py:\n{context}\n\nPlease give me the exact number of the return value of "
    "{func_call}. Your response should end with the sentence 'The return value is:'.",
    "code_debug": _error("inspect through the options"),
    "longdialogue_qa_eng": _DIALOGUE,
}


@dataclass(frozen=True)
class Preset:
    """One of the authors' ways of asking.

    Attributes
    ----------
    templates
        The raw prompt of each task, with the fields `fields` gives and ``{context}`` exactly once.
    chat
        Whether the model behind it was talked to as an assistant; else it read the bare text.
    max_context
        Tokens to which the official script cuts the middle out of longer prompts; None: no script is public.
    """

    templates: Mapping[str, str]
    chat: bool
    max_context: int | None

    def render(self, task: str, context: str, question: str, options: Sequence[str] = ()) -> Prompt:
        """The prompt; its parts joined are what ``str.format`` would give.

        The fields are filled in one pass, into the template only: rows are full of braces. Only `math_find`
        and `code_run` name what is asked before the context, so in all others two questions about one text
        share prefix and context.

        Raises
        ------
        UsageError
            As `fields` does.
        """
        filled = fields(task, question, options)
        head, _, tail = self.templates[task].partition("{context}")
        suffix = _fill(tail, filled)
        asked = filled.get("func_call", question.strip())
        return Prompt(_fill(head, filled), context, suffix, asked if asked in suffix else "")


PRESETS: dict[str, Preset] = {
    "yarn-mistral": Preset(YARN_MISTRAL, chat=False, max_context=131_072),
    "gpt4": Preset(GPT4, chat=True, max_context=127_000),
    "claude2": Preset(CLAUDE2, chat=True, max_context=None),
}


def fields(task: str, question: str, options: Sequence[str] = ()) -> dict[str, str]:
    """What a row puts into a template, but for its context, under the official names.

    Raises
    ------
    UsageError
        If the question of `math_find` or `code_run` does not name what is asked for, as the official code
        finds it there, or a task with options has not four of them.
    """
    found = {"input": question, "question": question}
    if task == "math_find":
        target = re.search(r"The .+ of", question)
        if target is None:
            raise UsageError(f"field 'input' must hold 'The ... of', not {question[:80]!r}")
        found["prefix"] = f"What is {target[0].lower().removesuffix(' of')} in the following list?"
    if task == "code_run":
        call = re.search(r"func_[0-9]+\(-?[0-9]+\)", question)
        if call is None:
            raise UsageError(f"field 'input' must hold a call as func_1(2), not {question[:80]!r}")
        found |= {"func_call": call[0], "func": call[0].partition("(")[0]}
    if task in CHOICE:
        if len(options) != 4:
            raise UsageError(f"field 'options' must be a list of four strings, not {len(options)}")
        found |= {f"OPTION_{letter}": option for letter, option in zip("ABCD", options)}
    return found


def _fill(part: str, filled: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda field: filled[field[1]], part)
