"""A generator that answers from a script, and plans around it."""

import hashlib
import re

from harness import registry
from harness.contracts.recipe import Answer, Recipe
from harness.synthesis.inputs import parse_length
from harness.synthesis.plan import assemble_plan
from harness.synthesis.run import execute
from harness.synthesis.settings import SynthSettings

NOUNS = [f"noun{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(60)]


def story(seed: str, sentences: int = 8) -> str:
    """Sentences no two of which are alike, the same for one seed."""
    digits = hashlib.sha256(seed.encode()).hexdigest()
    parts = [f"In year {int(digits[i * 4 : i * 4 + 4], 16)} keeper {digits[i * 3 : i * 3 + 5]} found a lamp of type "
             f"{digits[-5 - i : -1 - i]} near {seed.replace(' ', '')}." for i in range(sentences)]  # fmt: skip
    return " ".join(parts)


class Script:
    """Answers every stage of both recipes with something usable, unless `say` has another answer."""

    window = None

    def __init__(self, batch_size=4, say=None):
        self.batch_size = batch_size
        self.say = say or {}
        self.asked = []

    def facts(self):
        return {"kind": "model", "content_hash": "script", "batch_size": self.batch_size}

    def speed(self):
        return None

    def generate(self, requests, seed):
        self.asked += [request.key for request in requests]
        return [self.answer(request, seed) for request in requests]

    def answer(self, request, seed):
        stage, index = request.key.rsplit(" ", 1)
        found = self.say.get(stage, self.usual(stage, index, seed, request.prompt))
        if callable(found):
            found = found(int(index))
        return found if isinstance(found, Answer) else Answer(found, True, len(found.split()))

    def usual(self, stage, index, seed, prompt):
        number = f"{seed}{index}"
        if stage in ("story", "passage", "similar_a", "linked_a"):
            return story(f"{stage} {number}")
        if stage in ("similar_b", "linked_b"):
            return story(f"{stage} {number}") + " The keeper found another lamp near here in that year."
        if stage.endswith("question") and stage.startswith(("top", "section", "detail", "local", "multi")):
            asked = f" What did keeper {stage.split('_')[0]}{number} find near the harbour?"
            return f"{asked}\n\nAnswer: A lamp of type {number}, found by a keeper."
        if stage.endswith("question"):
            asked = f" What did keeper {number} find near the harbour?"
            return f"{asked}\n\nAnswer: A lamp of type {number}, found by a keeper."
        if stage.endswith("_summary") and stage != "code_summary":
            return f"A keeper {number} found a lamp near the water in that year."
        if stage in ("summary", "sim_diff", "code_summary", "code_explain", "code_answer"):
            name = re.search(r"\b(noun\w+_\w+)", prompt)
            return f"A keeper {number} found a lamp near the water in that year, named {name[1] if name else 'so'}."
        if stage == "logic_a":
            return f"If keeper {number} sleeps, then the lamp of harbour {number} goes out."
        if stage == "logic_b":
            return f"If the lamp goes out, then ship {number} runs aground."
        if stage == "code_questions":
            return "1. What does the function return?\n2. Which arguments does the function take?"
        if "Invent three" in prompt:
            return "```python\nlamp_size = 12\nlamp_name = 'old'\n```"
        if "Invent a short" in prompt:
            return "```python\ndef brighten(a, b):\n    return a + b\n```"
        return f"```python\nresult_{stage[-1]} = unknown(1)\n```"


class Quiet:
    """A watcher that looks away."""

    def start(self, what, total, done):
        pass

    def step(self, number, rate=""):
        pass


def make(
    model, out, recipe="thesis", count=12, generator=None, nouns=NOUNS, length=None, options=None, **more
):
    """A plan for a scripted generator."""
    cls: type[Recipe] = registry.recipe(recipe).cls
    built = cls(cls.Options.parse(options or {"min_words": 5}, recipe))
    settings = SynthSettings(recipe, count, out, length=length, **more)
    wanted = parse_length(length) if length else built.default_range
    return assemble_plan(settings, built, model, generator or Script(), list(nouns), wanted)


def run(*args, **more):
    """The card of a data set made with `make`."""
    return execute(make(*args, **more), Quiet())
