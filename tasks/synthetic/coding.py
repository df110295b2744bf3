"""The items of the code task: programs written step by step, and what was asked about them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from harness.contracts.recipe import Answer, Dropped, Items, Request, Stage

from .filters import clean, one_question, prose
from .programs import STEPS, Program, actions, call_step, function_step, slug_of, trace, variables_step

QUESTIONS = 5
MEASURED = {"code": ""}

VARIABLES = (
    "Invent three Python variables about {noun} and initialize them, one on each line, for example:\n"
    "```python\n{slug}_size = 12\n```\nWrite only the code."
)
FUNCTION = (
    "Invent a short Python function about {noun}. It takes two arguments and returns a value computed from "
    "them. Its name begins with {slug}_. Write only the code."
)
CALL = (
    "Here is Python code:\n```python\n{code}\n```\nWrite one line of Python that calls {function}({arguments}) "
    "and stores the result in a new variable with a descriptive name. Write only the code."
)
EXPLAIN = "Here is Python code:\n```python\n{code}\n```\nExplain how the variable {name} is initialized?"
ASK = "Here is Python code:\n```python\n{code}\n```\nAsk 5 diverse questions about this function {name}."
REPLY = "Here is Python code:\n```python\n{code}\n```\n{question} Answer in one or two sentences."
SUMMARIZE = "Here is Python code:\n```python\n{code}\n```\nSummarize the function {name}."


class Coding:
    """Stages of the code task.

    A program has seven steps, chosen by a random policy; each is prompted with what it needs of the code so
    far. Which function is called with which variables is the policy's choice, so that values travel through
    several calls; names and bodies are the model's, or a fixed form around its names (``repaired``).
    """

    def __init__(self, size: int, seed: int, noun: Any) -> None:
        self.size = size
        self.seed = seed
        self._noun = noun

    def stages(self) -> list[Stage]:
        """The steps, the tree of calls, and the questions that the model asks and answers itself."""
        n = self.size
        steps = [self._step_stage(step) for step in range(STEPS)]
        return [
            *steps,
            Stage("program", n, 0, self._program, _nothing),
            Stage("code_explain", n, 50, self._ask_explain, self._explained),
            Stage("code_questions", n, 90, self._ask_questions, _questions),
            Stage("code_answer", n * QUESTIONS, 40, self._ask_answer, self._answered),
            Stage("code_summary", n, 50, self._ask_summary, self._summarized),
        ]

    def code(self, pool: Items, index: int, before: int = STEPS) -> dict[int, str]:
        """Blocks of a program that were kept, by the number of their step."""
        found = {step: pool.record(f"code_{step}", index) for step in range(before)}
        return {step: str(record["code"]) for step, record in found.items() if record is not None}

    def _rng(self, index: int, what: object) -> random.Random:
        return random.Random(f"{self.seed}-program-{index}-{what}")

    # --- steps

    def _step_stage(self, step: int) -> Stage:
        def ask(index: int, pool: Items) -> Request | None:
            noun = self._noun(pool, index)
            action = actions(self._rng(index, "actions"))[step]
            key = f"code_{step} {index}"
            if action != "call":
                prompt = (VARIABLES if action == "variables" else FUNCTION).format(
                    noun=noun, slug=slug_of(noun)
                )
                return Request(key, prompt, 120 if action == "function" else 60, 0.7, 50)
            blocks = self.code(pool, index, step)
            chosen = self._call(index, step, trace(list(blocks.values())))
            if chosen is None:
                return None
            code = "\n\n".join(blocks.values())
            prompt = CALL.format(code=code, function=chosen[0], arguments=", ".join(chosen[1]))
            return Request(key, prompt, 40, 0.7, 50)

        def judge(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
            if not answer.text.strip():
                return Dropped("empty")
            noun, rng = self._noun(pool, index), self._rng(index, f"values {step}")
            action = actions(self._rng(index, "actions"))[step]
            program = trace(list(self.code(pool, index, step).values()))
            slug = slug_of(noun)
            if action == "variables":
                made = variables_step(answer.text, slug, program, rng)
            elif action == "function":
                made = function_step(answer.text, slug, program)
            else:
                function, arguments = self._call(index, step, program) or ("", [])
                made = call_step(answer.text, slug, program, function, arguments)
            if made is None:
                return Dropped("unparsable")
            return {"noun": noun, "action": action, "origin": made[1], "code": made[0]}

        return Stage(f"code_{step}", self.size, 50, ask, judge, MEASURED)

    def _call(self, index: int, step: int, program: Program) -> tuple[str, list[str]] | None:
        """The policy's function and arguments: results of earlier calls first, so that the tree grows deep."""
        rng = self._rng(index, f"call {step}")
        if not program.functions or not program.used:
            return None
        function = rng.choice(list(program.functions))
        results = [name for name in program.produced if rng.random() < 0.8]
        values = [name for name in program.variables if name not in results]
        rng.shuffle(values)
        order = [*reversed(results), *values]
        wanted = program.functions[function]
        if len(order) < wanted:
            order += rng.choices(program.variables, k=wanted - len(order))
        return function, order[:wanted]

    # --- the tree, and questions

    def _program(self, index: int, pool: Items) -> dict[str, Any] | None:
        blocks = self.code(pool, index)
        program = trace(list(blocks.values()))
        if not program.produced:
            return None
        steps = list(blocks)
        return {
            "noun": self._noun(pool, index),
            "steps": steps,
            "block": {name: steps[number] for name, number in program.block.items()},
            "functions": list(program.functions),
            "produced": program.produced,
            "participants": {name: program.participants(name) for name in program.produced},
        }

    def subject(self, pool: Items, index: int, what: str) -> tuple[str, int] | None:
        """The variable or function of a program that the model is asked about, and the step that defines it."""
        program = pool.record("program", index)
        if program is None:
            return None
        if what == "function":
            names = program["functions"]
        else:
            names = [
                n for n in program["block"] if n not in program["produced"] and n not in program["functions"]
            ]
        if not names:
            return None
        name = self._rng(index, what).choice(names)
        return name, int(program["block"][name])

    def _about(
        self, key: str, index: int, pool: Items, what: str, prompt: str, tokens: int
    ) -> Request | None:
        subject = self.subject(pool, index, what)
        if subject is None:
            return None
        code = self.code(pool, index)[subject[1]]
        return Request(f"{key} {index}", prompt.format(code=code, name=subject[0]), tokens, 0.1, 10)

    def _ask_explain(self, index: int, pool: Items) -> Request | None:
        return self._about("code_explain", index, pool, "variable", EXPLAIN, 80)

    def _ask_questions(self, index: int, pool: Items) -> Request | None:
        return self._about("code_questions", index, pool, "function", ASK, 160)

    def _ask_summary(self, index: int, pool: Items) -> Request | None:
        return self._about("code_summary", index, pool, "function", SUMMARIZE, 80)

    def _ask_answer(self, index: int, pool: Items) -> Request | None:
        asked = pool.record("code_questions", index // QUESTIONS)
        if asked is None or index % QUESTIONS >= len(asked["questions"]):
            return None
        subject = self.subject(pool, index // QUESTIONS, "function")
        if subject is None:
            return None
        code = self.code(pool, index // QUESTIONS)[subject[1]]
        prompt = REPLY.format(code=code, question=asked["questions"][index % QUESTIONS])
        return Request(f"code_answer {index}", prompt, 64, 0.1, 10)

    def _explained(self, index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
        return self._told(index, pool, "variable", answer)

    def _summarized(self, index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
        return self._told(index, pool, "function", answer)

    def _told(self, index: int, pool: Items, what: str, answer: Answer) -> dict[str, Any] | Dropped:
        subject = self.subject(pool, index, what)
        text = one_paragraph(answer, 5)
        if isinstance(text, Dropped):
            return text
        if subject is None or not _mentions(text, subject[0], self.code(pool, index)[subject[1]]):
            return Dropped("unanswerable")
        if what == "variable" and not _says_value(text, subject[0], self.code(pool, index)[subject[1]]):
            return Dropped("wrong")
        return {"name": subject[0], "step": subject[1], "text": text}

    def _answered(self, index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
        subject = self.subject(pool, index // QUESTIONS, "function")
        asked = pool.record("code_questions", index // QUESTIONS)
        text = one_paragraph(answer, 3)
        if isinstance(text, Dropped):
            return text
        if subject is None or asked is None:
            return Dropped("unanswerable")
        question = asked["questions"][index % QUESTIONS]
        code = self.code(pool, index // QUESTIONS)[subject[1]]
        if not _mentions(text, subject[0], code) or text == question:
            return Dropped("unanswerable")
        return {"name": subject[0], "step": subject[1], "question": question, "text": text}


def one_paragraph(answer: Answer, least_words: int) -> str | Dropped:
    """The first paragraph of prose in an answer about code, fences left out, on one line."""
    text = clean(re.sub(r"```.*?(?:```|\Z)", "", answer.text, flags=re.DOTALL))
    first, rest, _ = text.partition("\n\n")
    kept = prose(Answer(first, answer.ended or bool(rest), answer.tokens), least_words)
    return kept if isinstance(kept, Dropped) else " ".join(kept.split())


def _says_value(text: str, name: str, code: str) -> bool:
    """Whether an explanation of how a variable is initialized has the value it is initialized with."""
    value = next(
        (line.partition(" = ")[2] for line in code.splitlines() if line.startswith(f"{name} = ")), ""
    )
    wanted = re.findall(r"\w+", value.lower())
    return set(wanted) <= set(re.findall(r"\w+", text.lower()))


def _mentions(text: str, name: str, code: str) -> bool:
    """Whether a text is about a piece of code: it names the subject, or shares a word with the code."""
    said = set(re.findall(r"[a-z0-9]{2,}", text.lower()))
    return name in text.lower() or len(said & set(re.findall(r"[a-z0-9]{2,}", code.lower()))) >= 2


def _questions(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
    lines = [line for line in clean(answer.text).splitlines() if "?" in line]
    found = list(dict.fromkeys(q for q in map(one_question, lines) if q is not None))[:QUESTIONS]
    return {"questions": found} if found else Dropped("no question" if answer.text.strip() else "empty")


def _nothing(index: int, pool: Items, answer: Answer) -> Dropped:
    return Dropped("empty")  # never called: what this stage makes follows from the steps


def code_question(
    pool: Items, rng: random.Random, index: int, program: Mapping[str, Any]
) -> tuple[str, str, str, list[int]]:
    """(kind, question, answer, steps it depends on): mechanical ones from the tree, the others the model's."""
    kinds = ["produced", "participated"]
    told = {name: pool.record(f"code_{name}", index) for name in ("explain", "summary")}
    kinds += [name for name, record in told.items() if record is not None]
    first = index * QUESTIONS
    asked = [
        r for r in (pool.record("code_answer", n) for n in range(first, first + QUESTIONS)) if r is not None
    ]
    kind = rng.choice([*kinds, *(["asked"] if asked else [])])
    if kind in ("produced", "participated"):
        variable = rng.choice(list(program["produced"]))
        block = program["block"]
        if kind == "produced":
            question = f"Which function produced the variable {variable}?"
            return kind, question, program["produced"][variable], [block[variable]]
        names = program["participants"][variable]
        question = f"List all the variables that participated in computing {variable}"
        return kind, question, ", ".join(names), sorted({block[name] for name in (*names, variable)})
    record = rng.choice(asked) if kind == "asked" else told[kind] or {}
    name = record["name"]
    question = {
        "explain": f"Explain how the variable {name} is initialized?",
        "summary": f"Summarize the function {name}.",
    }.get(kind) or f"About the function {name}: {record['question']}"
    return kind, question, record["text"], [record["step"]]
