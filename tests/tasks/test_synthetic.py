"""The recipes' words and items, the tree of calls, and synthetic data asked as a task."""

import json
import random

import pytest

from harness import registry
from harness.contracts.recipe import Answer, Dropped, LengthRange, TooShort
from harness.errors import UsageError
from harness.evaluation.task_environment import task_environment
from harness.synthesis.run import execute
from harness.tasks.synthetic import filters, programs, thesis
from harness.tasks.synthetic.filling import Deck, fill

from ..helpers.synthesizing import Quiet, Script, make, run


def rows(folder):
    return [json.loads(line) for line in (folder / "data.jsonl").read_text("utf-8").splitlines()]


def said(text, ended=True):
    return Answer(text, ended, len(text.split()))


@pytest.fixture(scope="module")
def stories(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("thesis")
    run(tiny, folder, count=24)
    return folder, rows(folder)


@pytest.fixture(scope="module")
def six(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("experts")
    run(tiny, folder, "experts", count=60, length="2000-9000")
    return folder, rows(folder)


def items(folder, stage):
    lines = (folder / "pool" / f"{stage}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


# --- the thesis


def test_thesis_prompts_are_those_of_the_appendix():
    assert thesis.STORY.format(noun="tea") == (
        "Write a long story with long paragraphs about tea. Do not ask questions and do not add itemized items."
        "\n\nStory:"
    )
    once = (
        "Create only one specific question and only one answer based on the story. The question should be "
        "specific to the story, not a general question that could be asked of any story, and the answer should "
        "be based only on information given in the story."
    )
    asked = thesis.QA.format(story="Once.")
    assert asked == f"You are given a story. {once}\n\nStory: Once.\n\n{once}\n\nQuestion:"
    told = thesis.SUMMARY.format(story="Once.")
    assert told == (
        "You are given a story. Write a summary for the story.\n\nStory: Once.\n\nWrite a summary for the "
        "story.\n\nSummary:"
    )


def test_thesis_samples_are_those_of_the_figures(stories):
    folder, found = stories
    story = {item["text"]: item for item in items(folder, "story")}
    summary = [item.get("text") for item in items(folder, "summary")]
    qa = items(folder, "qa")
    for row in found:
        evidence = [story[row["prompt"][slice(*e["chars"])]] for e in row["evidence"]]
        numbers = [e["passage"] for e in row["evidence"]]
        n, prompt = row["passages"], row["prompt"]
        if row["task"] == "qa":
            assert prompt.startswith(
                "Memorize the following stories and then answer the question based on the given stories.\n"
                "Story 1 begins.\n"
            )
            end = f"\nStory {n} ends.\nAnswer the question based on the given stories.\nQuestion: {row['question']}"
            assert prompt.endswith(end)
            assert row["answer"] == f"Answer: {qa[evidence[0]['i']]['answer']}"
        elif row["task"] == "summarization":
            asked = {f"Story {k}, the story about {s['noun']}" for k, s in zip(numbers, evidence)}
            suffix = prompt[row["suffix"][0] :]
            assert suffix.startswith("Write a summary for Story ") and suffix.endswith(".")
            assert all(one in suffix for one in asked) and suffix.count("a summary for") == len(asked)
            expected = {summary[s["i"]] for s in evidence}
            assert set(row["answer"].removeprefix("Summary: ").split("\n")) == expected
        else:
            kind = "Question: " if row["task"] == "few_shot_qa" else "Summary: "
            assert prompt.count("Story:\n") == n and prompt.count(kind) >= n - 1
            assert numbers == [n]
    assert {row["task"] for row in found} == set(thesis.Thesis.tasks)


def test_an_answer_that_did_not_come_with_its_question_is_asked_for(tiny, tmp_path):
    script = Script(
        say={"question": "What did the keeper find?", "qa": "A brass lamp in the year of keeper."}
    )
    run(tiny, tmp_path, generator=script)
    assert "qa 0" in script.asked
    assert items(tmp_path, "qa")[0]["answer"].startswith("A brass lamp")


# --- the experts


def test_experts_ask_what_the_paper_asks(six):
    _, found = six
    by_task = {}
    for row in found:
        by_task.setdefault(row["task"], []).append(row)
    assert {task: len(some) for task, some in by_task.items()} == dict.fromkeys(by_task, 10)
    assert len(by_task) == 6
    asked = "Answer the question based on the passages. "
    for task, evidence in (("single_doc_qa", 1), ("multi_doc_qa", 2), ("multi_doc_logic", 2)):
        for row in by_task[task]:
            assert (
                row["prompt"].endswith(f"\n\n{asked}{row['question']}") and len(row["evidence"]) == evidence
            )
    for row in by_task["sim_diff"]:
        assert "\n\nIdentify the similarities and differences in the two passages about noun" in row["prompt"]
        assert len(row["evidence"]) == 2
    for row in by_task["summarization"]:
        suffix = row["prompt"][row["suffix"][0] :]
        for one in row["evidence"]:
            assert f"a summary for Passage {one['passage']}, the passage about noun" in suffix
        assert len(row["answer"].split("\n")) == len(row["evidence"])


def test_code_answers_follow_from_the_code_in_the_context(six):
    _, found = six
    kinds = set()
    for row in (row for row in found if row["task"] == "code"):
        kinds.add(row["kind"])
        context = row["prompt"][slice(*row["context"])]
        blocks = [passage.partition(":\n")[2] for passage in context.split("\n\nPassage ")]
        name = row["question"].rstrip("?").split()[-1]
        if row["kind"] == "produced":
            line = next(b for b in blocks if b.startswith(f"{name} = "))
            assert line == f"{name} = {line.partition('= ')[2]}" and f"= {row['answer']}(" in line
        elif row["kind"] == "participated":
            slug = name.split("_")[0]
            own = [b for b in blocks if b.startswith((f"{slug}_", f"def {slug}_"))]
            assert ", ".join(programs.trace(own).participants(name)) == row["answer"]
            spans = [row["prompt"][slice(*e["chars"])] for e in row["evidence"]]
            for used in (*row["answer"].split(", "), name):
                assert any(f"{used} = " in span for span in spans)
    assert {"produced", "participated"} & kinds


def test_two_facts_always_have_a_question(tiny, tmp_path):
    say = {
        "logic_a": lambda i: (
            "If-Then is a conditional statement." if i < 4 else "the keeper wakes up at night."
        ),
        "logic_b": "then the harbour is lit.",
        "logic_question": "I am ready to help.",
    }
    run(tiny, tmp_path, "experts", generator=Script(say=say))
    first, second, asked = (items(tmp_path, f"logic_{name}") for name in ("a", "b", "qa"))
    assert {item.get("dropped") for item in first[:4]} == {"no implication"}
    assert (
        first[4]["text"].endswith("then the keeper wakes up at night.") and first[4]["origin"] == "repaired"
    )
    assert second[4]["text"] == "If the keeper wakes up at night, then the harbour is lit."
    assert asked[4]["question"] == f"If {first[4]['start']}, what follows from it in the end?"
    assert asked[4]["answer"] == "The harbour is lit." and asked[4]["origin"] == "fixed form"
    card = json.loads((tmp_path / "card.json").read_text())
    made = len(first) - 4
    assert card["pool"]["stages"]["logic_qa"]["origins"] == {"fixed form": made}


def test_an_explanation_that_names_another_value_is_dropped(tiny, tmp_path):
    wrong = "The variable noun lamp size and name is set to 99 at first."
    card = run(tiny, tmp_path, "experts", generator=Script(say={"code_explain": wrong}))
    assert card["pool"]["stages"]["code_explain"]["dropped"]["wrong"] > 0


def test_a_program_is_traced_through_all_its_calls():
    program = programs.trace(
        ["a = 1\nb = a + 2", "def f(x, y):\n    return x * y", "c = f(a, b)", "d = f(c, a)"]
    )
    assert program.produced == {"c": "f", "d": "f"}
    assert program.participants("d") == ["a", "b", "c"] and program.participants("c") == ["a", "b"]
    assert program.block == {"a": 0, "b": 0, "f": 1, "c": 2, "d": 3}


@pytest.mark.parametrize(
    "blocks",
    [
        ["import os"],
        ["a = open('x')"],
        ["a = 1", "a = 2"],
        ["a = b"],
        ["def f(x):\n    global y\n    return x"],
        ["def f(x):\n    return other"],
        ["def f(x):\n    x.y = 1\n    return x"],
        ["def f(x, y=2):\n    return x"],
        ["a = 1", "def f(x):\n    return x + a"],
        ["a = 1", "def f(x):\n    return x", "b = f(a, a)"],
        ["def f(x):\n    return x", "b = f(1)"],
    ],
)
def test_code_whose_tree_might_be_another_is_refused(blocks):
    with pytest.raises(ValueError):
        programs.trace(blocks)


def test_steps_keep_what_parses_and_repair_the_rest():
    program = programs.Program()
    rng = random.Random(0)
    text = "Sure!\n```python\nTea_Size = 3\nkind = 'green'\nprint(kind)\nbad = = 2\nx = open('f')\n```"
    assert programs.variables_step(text, "tea", program, rng) == ("tea_size = 3\ntea_kind = 'green'", "model")
    code, origin = programs.variables_step("I would use cup_size and leaf_count.", "tea", program, rng)
    assert origin == "repaired" and list(programs.trace([code]).used) == ["tea_cup_size", "tea_leaf_count"]
    assert programs.variables_step("No.", "tea", program, rng) is None
    good = "```\ndef brew(a, b):\n    # mix\n    return a + b\n\nprint(brew(1, 2))\n```"
    assert programs.function_step(good, "tea", program) == ("def tea_brew(a, b):\n    return a + b", "model")
    code, origin = programs.function_step("def brew(self, cup):\n    self.x = ", "tea", program)
    assert origin == "repaired" and programs.trace([code]).functions == {"tea_brew": 2}
    known = programs.trace(["tea_size = 3", "def tea_brew(a):\n    return a"])
    called = programs.call_step("cup = tea_brew(tea_size)", "tea", known, "tea_brew", ["tea_size"])
    assert called == ("tea_cup = tea_brew(tea_size)", "model")
    called = programs.call_step("hot = tea_brew(water)", "tea", known, "tea_brew", ["tea_size"])
    assert called == ("tea_hot = tea_brew(tea_size)", "repaired")
    called = programs.call_step("print(5)", "tea", known, "tea_brew", ["tea_size"])
    assert called == ("tea_brew_result = tea_brew(tea_size)", "repaired")


# --- filters


def test_filters_say_why():
    assert filters.prose(said("  "), 3) == Dropped("empty")
    assert filters.prose(said("Two words."), 3) == Dropped("too short")
    assert filters.prose(said("the cat sat on the mat " * 9), 3) == Dropped("repetitive")
    assert filters.prose(said("It ended well. Then the", False), 3) == "It ended well."
    assert filters.prose(said("No. But then the story went on and on without", False), 1) == Dropped(
        "truncated"
    )
    assert filters.prose(said("**Story:** It ended well."), 3, ("Story",)) == "It ended well."
    passage = "Mara sold the brass lamp to a sailor in Genoa."
    assert filters.pair(said("What did Mara sell?\nAnswer: A brass lamp."), passage) == (
        "What did Mara sell?",
        "A brass lamp.",
    )
    assert filters.pair(said("What did Mara sell?"), passage) == ("What did Mara sell?", "")
    assert filters.pair(said("Mara sold it. Answer: A lamp."), passage) == Dropped("unanswerable")
    assert filters.pair(said("What did Mara sell? Answer: Bananas."), passage) == Dropped("unanswerable")
    assert filters.pair(said("Did Mara sell a lamp? Answer: Mara sell lamp."), passage) == Dropped(
        "unanswerable"
    )
    assert filters.about(said(passage + " Indeed."), passage, 3) == Dropped("too long")


# --- filling


def test_a_deck_deals_everything_before_anything_twice():
    deck = Deck(random.Random(1), range(10), lambda i: i == 3)
    first = [deck.draw() for _ in range(9)]
    assert sorted(first) == [0, 1, 2, 4, 5, 6, 7, 8, 9] and deck.round == 0
    deck.draw()
    assert deck.round == 1
    assert Deck(random.Random(1), range(3), lambda i: True).draw() is None
    assert len(Deck(random.Random(1), range(3)).take(9)) == 3


def test_a_fill_comes_close_and_never_above():
    rng = random.Random(0)
    for _ in range(50):
        target = rng.randint(500, 1000)
        taken, repeats = fill(
            Deck(rng, range(100)), target, LengthRange(500, 1000), 50, 1, lambda i, n: 20 + i % 30
        )
        total = 50 + sum(20 + i % 30 for i in taken)
        assert 500 <= total <= 1000 and abs(total - target) <= 25 and repeats == 0
    with pytest.raises(TooShort):
        fill(Deck(rng, range(3)), 10, LengthRange(0, 40), 50, 1, lambda i, n: 9)


# --- the task


def task(**options):
    return registry.tasks(["synthetic"], {"synthetic": options})[0]


def test_the_data_is_a_task(tiny, stories):
    folder, found = stories
    asked = task(file=str(folder))
    samples = list(asked.samples(task_environment(tiny)))
    assert [s.id for s in samples] == [row["id"] for row in found]
    for sample, row in zip(samples, found):
        assert (
            sample.prompt.text == row["prompt"]
            and sample.prompt.context == row["prompt"][slice(*row["context"])]
        )
        assert sample.metadata["evidence"] == row["evidence"]
        assert asked.score(sample, row["answer"])["score"] == pytest.approx(1)
        assert asked.score(sample, "Unrelated zebra")["score"] < 0.2
    assert len(list(asked.samples(task_environment(tiny, limit=3)))) == 3
    only = task(file=str(folder / "data.jsonl"), tasks="few_shot_qa")
    assert {s.metadata["task"] for s in only.samples(task_environment(tiny))} == {"few_shot_qa"}


def test_other_data_is_another_protocol(stories, tmp_path):
    folder, _ = stories
    lines = (folder / "data.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "data.jsonl").write_text("".join(lines))
    assert task(file=str(tmp_path)).preset == task(file=str(folder)).preset
    (tmp_path / "data.jsonl").write_text("".join(lines[1:]))
    assert task(file=str(tmp_path)).preset != task(file=str(folder)).preset


def test_broken_or_missing_data_is_one_line(tiny, tmp_path):
    env = task_environment(tiny)
    (tmp_path / "data.jsonl").write_text('{"id": 1}\n')
    for options, words in (
        ({}, "name the data"),
        ({"file": str(tmp_path)}, "line 1: no sample"),
        ({"file": str(tmp_path / "none")}, "cannot be read"),
    ):
        with pytest.raises(UsageError, match=words):
            list(task(**options).samples(env))


def test_a_pool_of_one_noun_still_ends(tiny, tmp_path):
    """Nothing can distract where every passage is about the same noun; the samples are short, and counted."""
    plan = make(tiny, tmp_path, count=8, nouns=["cat"], length="2000-9000")
    card = execute(plan, Quiet())
    assert card["samples"]["below_length_range"] > 0


@pytest.mark.parametrize(
    ("stage", "task"),
    [
        ("summary", "summarization"),
        ("sim_diff", "sim_diff"),
        ("logic_a", "multi_doc_logic"),
        ("linked_b", "multi_doc_qa"),
        ("code_0", "code"),
    ],
)
def test_a_kind_of_item_that_never_came_costs_its_task_only(tiny, tmp_path, stage, task):
    say = (
        {stage: "No.", "code_3": "No.", "code_4": "No.", "code_5": "No."}
        if task == "code"
        else {stage: "No."}
    )
    made = run(tiny, tmp_path, "experts", generator=Script(say=say))["samples"]["made"]
    assert made == {name: 0 if name == task else 2 for name in made}
