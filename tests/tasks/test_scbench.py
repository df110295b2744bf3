"""SCBench: prompts of both modes, the scores of its twelve tasks, the numbers of its table, and runs of both modes."""

import pytest

from harness import UsageError, registry
from harness.evaluation.task_environment import task_environment
from harness.prompts.questions import joined, question_texts
from harness.tasks.scbench import functions
from harness.tasks.scbench.table import official_numbers

from ..helpers.official import environment, run_on, write_rows

ADD = "def add(a, b):\n    total = a + b\n    return total\n"
NEG = "def neg(a):\n    # the other sign\n    return -a\n"
ROWS = {
    "kv": [{"input": "Key k1?", "answer": "v1"}, {"input": "Key k2?", "answer": "v2"}],
    "prefix_suffix": [{"input": "Which?", "answer": "abXY"}, {"input": "And?", "answer": "cdXY"}],
    "vt": [{"input": "All with 1?", "answer": ["AA", "BB"]}, {"input": "All with 2?", "answer": ["CC"]}],
    "repoqa": [
        {"input": "Adds.", "answer": ADD, "name": "add"},
        {"input": "Negates.", "answer": NEG, "name": "neg"},
    ],
    "qa_eng": [{"input": "Who?", "answer": "Ann"}, {"input": "Where?", "answer": "Rome"}],
    "qa_chn": [{"input": "谁？", "answer": "李四"}, {"input": "哪里？", "answer": "上海"}],
    "choice_eng": [
        {"input": "Who?", "answer": "Bo", "options": ["Al", "Bo", "Cy", "Di"]},
        {"input": "Where?", "answer": "Al", "options": ["Al", "Bo", "Cy", "Di"]},
    ],
    "many_shot": [{"input": "(A) or (B)?", "answer": "(A)"}, {"input": "Again?", "answer": "(B)"}],
    "summary": [
        {"input": "Sum up one.", "answer": "It rains."},
        {"input": "Sum up two.", "answer": "It snows."},
    ],
    "mf": [
        {"input": "Only a number.\n\nThe largest number is:", "answer": 9},
        {"input": "The median is:", "answer": 4},
        {"input": "The mean of all is:", "answer": 4.5},
    ],
    "summary_with_needles": [
        {"input": "Sum up.", "answer": "It rains.", "task": "scbench_summary"},
        {"input": "Key?", "answer": "777", "task": "scbench_passkey"},
    ],
    "repoqa_and_kv": [
        {"input": "Adds.", "answer": ADD, "task": "scbench_repoqa", "name": "add"},
        {"input": "Key?", "answer": "v1", "task": "scbench_kv"},
    ],
}
CONTEXT = "First line of it.\nLast line."


def row(task, **changes):
    return {"id": 0, "context": CONTEXT, "multi_turns": ROWS[task], "lang": "python", "repo": "r", **changes}


def made(name, **options):
    [task] = registry.tasks([f"scbench/{name}"], {"scbench": options})
    return task


@pytest.fixture
def asked(tmp_path, tiny, monkeypatch):
    """The text before the questions, and each question, as the model reads them."""

    def texts(name, chat, **options):
        tiny.__dict__.pop("chat", None)
        if not chat:
            monkeypatch.setattr(tiny.tokenizer, "chat_template", None)
        write_rows(tmp_path / f"scbench_{name}.jsonl", row(name))
        env = task_environment(tiny, data_dir=tmp_path, offline=True)
        [sample] = made(name, **options).samples(env)
        parts = question_texts(sample, tiny)
        head = joined(sample.prompt, sample, parts[0], tiny)
        return head.prefix + head.context, ["".join(p.parts) for p in parts], [p.parts[-1] for p in parts]

    yield texts
    tiny.__dict__.pop("chat", None)


USER, END = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
NEXT = "<|im_end|>\n" + USER


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize(
    ("name", "before", "questions"),
    [
        (
            "kv",
            "Extract the value corresponding to the specified key in the JSON object below.\n\n",
            ["Key k1?", "Key k2?"],
        ),
        ("vt", "", ["All with 1?", "All with 2?"]),
        (
            "qa_eng",
            "Read the book and answer the question. Be very concise in your answer.\n\n",
            ["Question: Who?\nAnswer:", "Question: Where?\nAnswer:"],
        ),
        ("qa_chn", "阅读以下书籍然后回答问题。\n\n", ["问题：谁？\n答案：", "问题：哪里？\n答案："]),
        (
            "choice_eng",
            "Read the book and answer the question.\n\n",
            [f"Question: {q}\nA. Al\nB. Bo\nC. Cy\nD. Di\n\nThe the correct answer is" for q in ("Who?", "Where?")],
        ),
        (
            "mf",
            "Only a number.\n\nThe largest number is:\n\n",
            [
                "What is the largest number?\n\nOnly a number.\n\nThe largest number is:",
                "What is the median?\n\nThe median is:",
                "What is the mean of all?\n\nThe mean of all is:",
            ],
        ),
    ],
)  # fmt: skip
def test_many_requests_to_one_context_follow_it_with_nothing_between(asked, name, before, questions, chat):
    head, texts, _ = asked(name, chat)
    assert head == (USER if chat else "") + before + CONTEXT
    assert texts == [q + (END if chat else "") for q in questions]


@pytest.mark.parametrize("chat", [True, False])
def test_turns_follow_the_reference_answers(asked, chat):
    head, texts, last = asked("vt", chat, mode="multi-turn")
    assert head.endswith(CONTEXT) and texts[0] == "\n\nAll with 1?" + (END if chat else "")
    assert last[1] == "['AA', 'BB']" + (NEXT if chat else "\n\n") + "All with 2?" + (END if chat else "")
    assert texts[1] == texts[0] + last[1]


def test_oddities_of_turns_are_the_official_ones(asked):
    _, _, last = asked("mf", True, mode="multi-turn")
    assert (
        last[1] == f"9{NEXT}What is the mean of all?\n\nThe median is:{END}"
    )  # the last turn's, for all of them
    assert last[2].startswith(f"4{NEXT}What is the mean of all?\n\nThe mean")
    _, _, last = asked("summary", True, mode="multi-turn")
    assert last[1].endswith(f"{END}This paper") and not last[0].endswith("This paper")
    _, _, own = asked("summary", True, mode="multi-turn", answers="own")
    assert own[1] == f"{USER}Sum up two.{END}This paper", "as if it began a conversation"
    _, _, last = asked("choice_eng", True, mode="multi-turn")
    assert "The the correct answer is" in last[1]
    _, _, last = asked("choice_eng", False, mode="multi-turn")
    assert last[1].startswith("Bo\n\nQuestion: Where?")
    assert last[1].endswith("The letter of the correct answer is")
    _, _, last = asked("mf", False, mode="multi-turn")
    assert last[1] == "9\n\nWhat is the median?\n\nThe median is:"


@pytest.mark.parametrize(
    ("name", "number", "said", "score", "whole"),
    [
        ("kv", 0, "{v1}", 1, 1),
        ("kv", 0, "V1", 0, 0),
        ("vt", 0, "aa and nothing", 0.5, 0.5),
        ("qa_eng", 0, "It was ANN.", 1, 1),
        ("qa_eng", 0, "A", 0, 0),
        ("qa_chn", 0, "李", 1, pytest.approx(2 / 3)),  # officially one of its characters will do
        ("choice_eng", 0, "Because", 1, 1),
        ("choice_eng", 0, "Bo", 1, 1),
        ("choice_eng", 1, "the answer is: A", 1, 1),
        ("many_shot", 0, "(B)", 1, 0),  # a bracket of "(A)"
        ("many_shot", 0, "A", 1, 0),
        ("many_shot", 0, "none", 0, 0),
        ("summary", 0, "It rains.", 1, 1),
        ("mf", 0, "about 9.7", 1, 1),
        ("mf", 0, "1) 9", 0, 0),
        ("mf", 2, "4.50", 1, 1),
        ("mf", 2, "4", 0, 0),
        ("summary_with_needles", 1, "777.", 1, 1),
        ("summary_with_needles", 1, "7 7 7", 0, 0),
    ],
)
def test_the_official_scores(tmp_path, name, number, said, score, whole):
    write_rows(tmp_path / f"scbench_{name}.jsonl", row(name))
    task = made(name)
    [sample] = task.samples(environment(tmp_path))
    assert task.score(sample.asked(number), said) == {"score": score, "whole": whole}


def test_repoqa_asks_which_function_of_the_repository_is_repeated(tmp_path):
    pytest.importorskip("tree_sitter_languages")
    pytest.importorskip("nltk")
    write_rows(tmp_path / "scbench_repoqa.jsonl", row("repoqa"))
    task = made("repoqa")
    [sample] = task.samples(environment(tmp_path, limit=1))
    first, second = sample.asked(0), sample.asked(1)
    fenced = f"Sure:\n```python\nimport os\n{ADD}```\n"
    assert task.score(first, fenced)["score"] == 1 and task.score(second, fenced)["score"] == 0
    assert task.score(second, NEG)["score"] == 1
    assert task.score(first, "")["score"] == 0
    assert task.score(first, "def add(a, b): pass")["score"] == 0, "like it, and not like enough"
    assert functions.function_in("```\nx = 1\n```", "python") == "x = 1\n"
    assert functions.function_in("```go\nfunc Add(a int) int {\n\treturn a\n}\n```", "go").startswith(
        "func Add"
    )


def test_without_the_packages_repoqa_names_them_and_the_others_run(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tree_sitter_languages", None)
    for name in ("repoqa", "kv"):
        write_rows(tmp_path / "data" / f"scbench_{name}.jsonl", row(name))
    with pytest.raises(UsageError, match=r"pip install 'long-context-harness\[repoqa\]'"):
        list(made("repoqa").samples(environment(tmp_path / "data")))
    result, _ = run_on(tiny_folder, tmp_path / "runs", tmp_path / "data", "scbench", limit=1)
    assert [r["task"] for r in result.summary["tasks"]] == ["scbench/kv"]


def test_the_table_has_a_number_for_each_turn_and_kind():
    answers = [(1, "repoqa", 1.0), (2, "kv", 1.0), (1, "repoqa", 0.0), (2, "kv", 1.0)]
    assert official_numbers("repoqa_and_kv", False, answers) == {
        "turn 1 repoqa": 0.5,
        "turn 1 kv (not asked)": 0.0,
        "turn 2 repoqa (not asked)": 0.0,
        "turn 2 kv": 1.0,
    }
    assert official_numbers("repoqa_and_kv", True, answers) == {
        "repoqa": 0.5,
        "kv": 1.0,
        "kv, officially": 0.0,
    }
    assert official_numbers("kv", False, [(1, "kv", 1.0), (2, "kv", 0.0)]) == {"turn 1": 1.0, "turn 2": 0.0}
    assert official_numbers("kv", True, [(1, "kv", 1.0)]) == {}


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("kv", {"multi_turns": []}, "field 'multi_turns' must be a list of questions"),
        ("kv", {"context": ""}, "field 'context' must be a text"),
        (
            "kv",
            {"id": 1, "multi_turns": [{"input": "x", "answer": 3}]},
            "question 1: field 'answer' must be a text",
        ),
        (
            "mf",
            {"multi_turns": [{"input": "The sum is:", "answer": "7"}]},
            "question 1: the answer '7' must be a number",
        ),
        (
            "choice_eng",
            {"multi_turns": [{"input": "x", "answer": "Ed", "options": ["Al", "Bo", "Cy", "Di"]}]},
            "question 1: the answer 'Ed' is none of its options",
        ),
        (
            "summary_with_needles",
            {"multi_turns": ROWS["kv"]},
            "question 1: field 'task' is '' and must be one of",
        ),
        ("kv", {}, "a second row with the id '0'"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(tmp_path, name, change, said):
    write_rows(tmp_path / f"scbench_{name}.jsonl", row(name), row(name, **change))
    with pytest.raises(UsageError, match=rf"scbench_{name}.jsonl, line 2: {said}"):
        list(made(name).samples(environment(tmp_path)))


def test_an_early_revision_is_named(tmp_path):
    write_rows(tmp_path / "multi_turn_kv.jsonl", row("kv"))
    told = []
    task = made("kv")
    list(task.samples(environment(tmp_path, notify=told.append)))
    assert "early revision" in told[0] and task.facts()["revision"].startswith("early")


def test_five_turns_are_asked_unless_said(tmp_path):
    write_rows(tmp_path / "scbench_kv.jsonl", row("kv", multi_turns=ROWS["kv"] * 4))
    assert [len(s.questions) for s in made("kv").samples(environment(tmp_path))] == [5]
    assert [len(s.questions) for s in made("kv", max_turns=8).samples(environment(tmp_path))] == [8]


@pytest.mark.parametrize("mode", ["multi-request", "multi-turn"])
def test_it_runs_in_both_modes_with_an_answer_for_each_turn(tiny_folder, tmp_path, mode):
    write_rows(
        tmp_path / "data" / "scbench_mf.jsonl", row("mf"), row("mf", id="b", multi_turns=ROWS["mf"][:2])
    )
    result, records = run_on(
        tiny_folder,
        tmp_path / "runs",
        tmp_path / "data",
        "scbench/mf",
        task_settings={"scbench": {"mode": mode}},
    )
    assert [len(r["answers"]) for r in records.values()] == [3, 2]
    assert {r["context"]["compressions"] for r in records.values()} == {1}
    [summed] = result.summary["tasks"]
    names = {"multi-request": set(), "multi-turn": {"turn 1", "turn 2", "turn 3"}}
    assert set(summed["breakdown"]) == names[mode]


def test_a_file_of_answers_is_scored(tmp_path, capsys):
    from harness.cli import invoke

    lines = [
        {"task": "scbench/vt", "prediction": "AA", "answers": ["AA", "BB"], "id": 1},
        {"task": "scbench/summary_with_needles", "subtask": "passkey", "prediction": "777", "answers": "777"},
    ]
    write_rows(tmp_path / "said.jsonl", *lines)
    assert invoke(["score", str(tmp_path / "said.jsonl"), "--json"]) == 0
    assert "50" in capsys.readouterr().out
