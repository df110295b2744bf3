"""GraphWalks: the card's grade as meant and as printed, lm-eval's, published rows, and graphs of our own making."""

import pytest

from harness import UsageError, registry
from harness.evaluation.task_environment import task_environment
from harness.tasks.graphwalks.own import reached
from harness.tasks.graphwalks.scores import intended_f1, literal_f1, lm_eval_f1

from ..helpers.official import environment, run_on, write_rows

NAME = "graphwalks_128k_and_shorter.jsonl"
ROW = {
    "prompt": "Follow the example.\n\nThe graph has the following edges:\naa -> bb\nbb -> cc\n\n\nOperation:\n"
    "Find the parents of node cc.\n",
    "answer_nodes": ["bb"],
    "prompt_chars": 120,
    "problem_type": "parents",
}
TWO = ("aa", "bb")


def task(name, **options):
    [made] = registry.tasks([f"graphwalks/{name}"], {"graphwalks": options})
    return made


@pytest.mark.parametrize(
    ("said", "wanted", "meant", "printed", "strict", "flexible"),
    [
        ("So:\nFinal Answer: [aa, bb]", TWO, 1, 0.5, 1, 1),
        ("Final Answer: [aa]", ("aa",), 1, 1, 1, 1),  # as printed there is no overlap, and that is 1
        ("Final Answer: [cc]", ("aa",), 0, 1, 0, 0),
        ("Final Answer: [bb, aa, cc]", TWO, 0.8, 0.4, 0.8, 0.8),
        ("Final Answer: [aa, bb]\n", TWO, 0, 1, 1, 1),
        ("Final Answer: [aa, bb]\nThat is it.", TWO, 0, 1, 0, 1),
        ("Final Answer:   [aa, bb]", TWO, 0, 1, 1, 1),
        ("Final Answer: ['aa', \"bb\"]", TWO, 0, 1, 1, 1),
        ("Final Answer: []", (), 1, 1, 0, 0),
        ("Final Answer: [aa]", (), 0, 1, 0, 0),
        ("[aa, bb]", TWO, 0, 1, 0, 0),
        ("", (), 0, 1, 0, 0),
        ("Final Answer: [aa, aa, bb, cc]", TWO, 0.8, pytest.approx(2 / 3), 0.8, 0.8),
    ],
)
def test_the_four_readings_of_an_answer(said, wanted, meant, printed, strict, flexible):
    assert intended_f1(said, wanted) == meant
    assert literal_f1(said, wanted) == printed
    assert lm_eval_f1(said, wanted) == strict
    assert lm_eval_f1(said, wanted, anywhere=True) == flexible


def test_the_prompt_is_the_rows_and_the_question_its_last_part(tmp_path):
    write_rows(tmp_path / NAME, ROW)
    [sample] = task("upto_128k").samples(environment(tmp_path))
    assert sample.prompt.text == ROW["prompt"]
    assert sample.prompt.suffix == "Operation:\nFind the parents of node cc.\n"
    assert sample.prompt.question == "Find the parents of node cc." and sample.references == ("bb",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer_nodes": "bb"}, "field 'answer_nodes' must be a list"),
        ({"problem_type": "dfs"}, "field 'problem_type' must be one of bfs, parents"),
        ({"prompt": "Nothing is asked."}, "'prompt' has no line 'Operation:'"),
        ({"prompt": None}, "field 'prompt' must be a string"),
        ({}, "a second row with the id"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(tmp_path, change, said):
    write_rows(tmp_path / NAME, ROW, {**ROW, **change})
    with pytest.raises(UsageError, match=f"{NAME}, line 2: {said}"):
        list(task("upto_128k").samples(environment(tmp_path)))


def test_a_file_of_another_size_is_told(tmp_path):
    write_rows(tmp_path / NAME, ROW)
    told = []
    list(task("upto_128k").samples(environment(tmp_path, notify=told.append)))
    assert len(told) == 1 and "has 1 rows, the published set has 750" in told[0]


def test_own_graphs_have_their_length_and_the_right_answers(tiny):
    env = task_environment(tiny)
    made = task("own", lengths="1500", samples=6)
    found = list(made.samples(env))
    assert found == list(made.samples(env))
    for sample in found:
        assert 1200 < env.count(sample.prompt, True, "") <= 1500
        edges = [tuple(line.split(" -> ")) for line in sample.prompt.context.splitlines()]
        node = sample.prompt.question.rstrip(".").split("node ")[1].split(",")[0]
        if sample.metadata["problem_type"] == "parents":
            right = {a for a, b in edges if b == node}
        else:
            rings, seen = {node}, {node}
            for _ in range(sample.metadata["depth_of_search"]):
                rings = {b for a, b in edges if a in rings} - seen
                seen |= rings
            right = rings
        assert set(sample.references) == right
        said = f"Final Answer: [{', '.join(sample.references)}]"
        assert made.score(sample, said)["score"] == 1
    assert {s.metadata["problem_type"] for s in found} == {"bfs", "parents"}
    with pytest.raises(UsageError, match="eight edges take"):
        list(task("own", lengths="100").samples(env))


def test_a_walk_counts_the_shortest_way():
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("d", "a")]
    assert reached(edges, "a", 1) == {"b", "c"}
    assert reached(edges, "a", 2) == {"d"} and reached(edges, "a", 3) == set()


def test_it_runs_from_a_folder_and_is_scored_from_a_file(tiny_folder, tmp_path):
    write_rows(tmp_path / "data" / NAME, ROW)
    _, records = run_on(
        tiny_folder,
        tmp_path / "runs",
        tmp_path / "data",
        "graphwalks",
        task_settings={"graphwalks": {"new_tokens": "8"}},
    )
    [record] = records.values()
    assert set(record["scores"]) == {"score", "card_literal", "lm_eval_strict", "lm_eval_flexible"}
    made = task("upto_128k")
    sample = made.sample_from_row("upto_128k", {"answers": ["aa"]})
    assert made.score(sample, "Final Answer: [aa]")["score"] == 1
    with pytest.raises(UsageError, match="must be a list of nodes"):
        made.sample_from_row("upto_128k", {"answers": "aa"})
