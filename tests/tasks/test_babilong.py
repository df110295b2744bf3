"""BABILong: facts hidden as its script hides them, prompts and comparison as in its code."""

import json
from itertools import islice

import pytest

from harness import ScoredSample, UsageError
from harness.tasks.babilong import Babilong, facts, hiding, prompts
from harness.tasks.babilong.published import config

from ..helpers.official import environment, run_on, write_rows

BABI = (
    "1 Ann went to the attic.\n2 Bob ran to the cellar.\n3 Where is Ann? \tattic\t1\n4 Ann went to the porch.\n"
    "5 Where is Ann? \tporch\t4\n1 Bob went home.\n2 Where is Bob? \thome\t1\n"
)


class Words:
    """One token for each word, with the blanks before it."""

    def __init__(self):
        self.known = []

    def __call__(self, text, add_special_tokens=False):
        found = []
        for word in text.replace(" ", "\0 ").split("\0"):
            if word:
                self.known.append(word)
                found.append(len(self.known) - 1)
        return {"input_ids": found}

    def decode(self, ids):
        return "".join(self.known[i] for i in ids)


def task(name="qa1", **options):
    return Babilong(Babilong.Options(**options), f"babilong/{name}", name)


def test_the_family():
    assert len(Babilong.variants) == 20 and Babilong.group == ("qa1", "qa2", "qa3", "qa4", "qa5")
    assert task().preset == "babilong-yyy@1 7a6efee"
    assert Babilong.averages(dict.fromkeys(Babilong.group, 0.5)) == {"Avg": 0.5}
    assert Babilong.averages({"qa1": 1.0}) == {}


def test_a_prompt_has_its_parts_and_the_blank_lines_of_those_left_out():
    asked = prompts.Parts(("a",), "Read.", "<example>\nx\n</example>\n<context>\n", "Say it.")
    whole = asked.render(" The {text}. \n", "Where? ", (True, True, True))
    assert whole.text == (
        "Read.\n\n<example>\nx\n</example>\n<context>\n\n\nSay it.\n\n"
        "<context>\nThe {text}.\n</context>\n\nQuestion: Where?"
    )
    assert (whole.context, whole.question) == ("The {text}.", "Where?")
    assert asked.render("t", "q", (True, False, True)).text.startswith("Read.\n\n\n\nSay it.\n\n<context>")
    assert asked.render("t", "q", (False, False, False)).text == "<context>\nt\n</context>\n\nQuestion: q"


def test_the_words_are_those_of_the_official_code():
    said = prompts.parts("qa1")
    assert said.labels == ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
    assert "’person’ is ’location’" in said.post_prompt, "typographic quotes"
    assert prompts.parts("qa10").examples.endswith("</example>\n<context>\n"), "an unclosed tag is kept"
    assert all(prompts.parts(name).instruction for name in prompts.TASKS)


@pytest.mark.parametrize(
    ("name", "target", "output", "question", "right"),
    [
        ("qa1", "kitchen", "The KITCHEN. Not the office.", "Where is Mary? ", True),
        ("qa1", "kitchen", "kitchen or office", "Where is Mary? ", False),
        ("qa1", "kitchen", "1. kitchen", "Where is Mary? ", False),
        ("qa1", "kitchen", "kitchen<context>office", "Where is Mary? ", True),
        ("qa1", "kitchen", "kitchen question office", "Where is Mary? ", False),
        ("qa3", "office", "It was the office before the bedroom", "before the bedroom? ", True),
        ("qa3", "bedroom", "the bedroom", "before the bedroom? ", False),
        ("qa6", "no", "I do not know", "Is Mary in the office? ", True),
        ("qa7", "none", "none", "How many? ", False),
        ("qa7", "two", "two", "How many? ", True),
        ("qa8", "apple,milk", "milk and an apple", "What? ", True),
        ("qa8", "apple,milk", "milk, apple, football", "What? ", False),
        ("qa19", "s,e", "s,e", "How? ", True),
        ("qa19", "s,e", "s, e", "How? ", False),
        ("qa19", "s,e", "s,e,n", "How? ", False),
    ],
)
def test_an_answer_is_right_by_the_official_comparison(name, target, output, question, right):
    assert prompts.right(name, target, output, question) is right
    sample = Babilong.sample_from_row(name, {"target": target, "question": question})
    assert task(name).score(sample, output) == {"score": float(right)}


def test_a_story_is_cut_into_one_sample_for_each_question():
    first, second, third = facts.parsed(BABI.splitlines(), "file")
    assert first == facts.Story(
        ("Ann went to the attic.", "Bob ran to the cellar."),
        "Where is Ann? ",
        "attic",
        ("Ann went to the attic.",),
    )
    assert second.facts == (*first.facts, "Ann went to the porch.") and second.answer == "porch"
    assert third.facts == ("Bob went home.",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Ann went.", "begins with its number"),
        ("2 Where? \t\t1", "needs an answer"),
        ("2 Where? \ta\t9", "facts before"),
    ],
)
def test_a_broken_line_of_babi_is_named(line, said):
    with pytest.raises(UsageError, match=f"file, line 2: .*{said}"):
        facts.parsed(["1 Ann went.", line], "file")


SENTENCES = [f"{name} one two three four five six seven eight nine ten." for name in "ABCDEFGH"]


def test_facts_keep_their_order_and_the_text_is_exactly_as_long_as_asked():
    told = ["Ann went to the attic.", "Bob ran to the cellar."]
    made = hiding.hide(told, ["Too short.", *SENTENCES], 50, Words(), 7)
    assert made.tokens == len(made.text.split()) == 50
    assert made.text.index(told[0]) < made.text.index(told[1])
    assert "Too short" not in made.text and "A one two" in made.text
    again = hiding.hide(told, SENTENCES, 50, Words(), 7)
    assert again == hiding.hide(told, SENTENCES, 50, Words(), 7)
    bare = hiding.hide(told, SENTENCES, -300, Words(), 7)
    assert bare.text == " " + " ".join(told), "no room: the facts alone"


def test_facts_may_be_held_to_a_share_of_the_text():
    told = ["Ann went to the attic."]
    made = hiding.hide(told, SENTENCES, 60, Words(), 7, (0.5, 1.0))
    assert all(11 * place >= 30 for place in made.positions)
    with pytest.raises(UsageError, match="no sentence begins in the share"):
        hiding.hide(told, SENTENCES, 60, Words(), 7, (0.95, 1.0))


def test_a_background_that_ends_too_soon_is_an_error():
    with pytest.raises(UsageError, match=r"ends .* tokens before the 500 that are wanted"):
        hiding.hide(["Ann went."], SENTENCES, 500, Words(), 7)


def babi(folder):
    write_rows(folder / "tasks" / "qa1_single-supporting-fact_train.txt", *(BABI * 3).splitlines())
    return folder


def test_samples_are_made_from_babi_and_books_and_stay_the_same(tiny, tmp_path):
    babi(tmp_path)
    book = " ".join(f"Chapter {n} tells of rain on a grey hill, and of nobody at all." for n in range(400))
    write_rows(tmp_path / "books" / "one.txt", book)
    asked = task(lengths=[0, 700], samples=3)
    env = environment(tmp_path, tiny.tokenizer)
    found = list(asked.samples(env))
    assert [sample.id for sample in found] == ["0-0", "700-0", "0-1", "700-1", "0-2", "700-2"]
    assert [sample.prompt.text for sample in found] == [s.prompt.text for s in asked.samples(env)]
    bare, hidden = found[:2]
    assert bare.prompt.context == "Ann went to the attic. Bob ran to the cellar." and bare.references == (
        "attic",
    )
    length = len(tiny.tokenizer(hidden.prompt.context, add_special_tokens=False)["input_ids"])
    assert abs(length - 400) <= 2, "300 of the length are left to the question; the outer blank is stripped"
    assert "Chapter" in hidden.prompt.context and "Ann went to the attic." in hidden.prompt.context
    assert asked.facts()["source"] == "babi" and len(asked.facts()["background"]) == 1
    other = [s.prompt.text for s in asked.samples(environment(tmp_path, tiny.tokenizer, seed=1))]
    assert other != [s.prompt.text for s in found]


def test_stories_of_our_own_can_be_answered(tiny):
    for name in facts.OWN:
        stories = list(islice(facts.made(name, "seed"), 20))
        assert stories == list(islice(facts.made(name, "seed"), 20))
        for story in stories:
            assert any(story.answer in fact for fact in story.facts)
            assert prompts.right(name, story.answer, f"It is the {story.answer}.", story.question)
    [sample] = task("qa2", source="own", lengths=[900], samples=1).samples(environment(None, tiny.tokenizer))
    assert sample.metadata["length"] == 900 and sample.references[0] in sample.prompt.context


def test_a_thing_is_where_its_bearer_went_last():
    """An own way of following the people, against the answers of qa2 and qa3."""
    for name in ("qa2", "qa3"):
        for story in islice(facts.made(name, "check"), 30):
            where, bearer, been = {}, {}, {}
            for fact in story.facts:
                words = fact.rstrip(".").split()
                if words[-1] == "there":
                    bearer[words[-2]] = words[0]
                    been[words[-2]] = [where[words[0]]]
                else:
                    where[words[0]] = words[-1]
                    for thing in [t for t, who in bearer.items() if who == words[0]]:
                        been[thing].append(words[-1])
            thing = next(t for t in facts.THINGS if t in story.question)
            assert story.answer == been[thing][-1 if name == "qa2" else -2]


def test_published_rows_are_read_and_counted(tmp_path):
    rows = [{"input": "Ann went.", "question": "Where is Ann? ", "target": "attic"}] * 2
    write_rows(tmp_path / "1k" / "qa1.jsonl", *rows)
    told = []
    asked = task(lengths=[1000])
    found = list(asked.samples(environment(tmp_path, notify=told.append)))
    assert [sample.id for sample in found] == ["1000-0", "1000-1"]
    assert told == [
        "babilong/qa1: qa1.jsonl has 2 rows, the published set has 100; its numbers are not comparable with "
        "published ones"
    ]
    write_rows(tmp_path / "1k" / "qa1.jsonl", rows[0], {**rows[0], "target": ""})
    with pytest.raises(UsageError, match=r"qa1.jsonl, line 2: field 'target' is empty"):
        list(asked.samples(environment(tmp_path)))
    with pytest.raises(UsageError, match=r"no 2k/qa1.jsonl or 2k/qa1.json in --data-dir"):
        list(task(lengths=[2000]).samples(environment(tmp_path)))
    assert (config(0), config(128_000), config(1_000_000)) == ("0k", "128k", "1M")
    with pytest.raises(UsageError, match="no published rows of 1500 tokens"):
        config(1500)


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(UsageError, match="more than the 300 tokens"):
        Babilong.Options.parse({"lengths": "200"}, "task babilong")
    with pytest.raises(UsageError, match="source=own makes qa1, qa2, qa3 only"):
        list(task("qa5", source="own").samples(environment(None)))
    with pytest.raises(UsageError, match=r"source=babi needs bAbI's qa4_\*train.txt"):
        list(task("qa4", source="babi").samples(environment(None)))
    with pytest.raises(UsageError, match="field 'question' must be a string"):
        Babilong.sample_from_row("qa1", {"target": "attic"})


def test_means_by_length():
    scored = [ScoredSample(str(i), {"score": i % 2}, {"length": 1000 * i}) for i in range(3)]
    assert task().breakdown(scored) == {"length 0": 0, "length 1000": 1, "length 2000": 0}


def test_it_runs(tiny_folder, tmp_path):
    (tmp_path / "data").mkdir()
    options = {"babilong": {"lengths": [0, 600], "source": "own", "examples": False}}
    _, records = run_on(
        tiny_folder, tmp_path / "out", tmp_path / "data", "babilong/qa1", task_settings=options, limit=2
    )
    assert [json.dumps(r["metadata"]["length"]) for r in records.values()] == ["0", "600"]
    assert {record["status"] for record in records.values()} == {"ok"}
