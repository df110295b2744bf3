"""LongProc: prompts from the files of its repository, searches written out, answers scored and never run."""

import json

import pytest

from harness import UsageError, registry
from harness.tasks.longproc import NEW_TOKENS, SETS, LongProc, countdown, files, travel

from ..helpers.official import environment, run_on

PROMPTS = {
    "countdown": "Rules {{braces}}.\n{demonstration}\n\nNumbers: {nums}\nTarget: {target}",
    "path_traversal": "Find.\n{city_context}\n\nNow find the route from {src_city} to {dst_city}.",
    "tom_tracking": "[STORY]\n{story}\n\n[QUESTION]\n{question}\n\n[YOUR ANSWER]",
    "html_to_tsv": "{html_str}\nOn {task_topic}: {task_description}{filtering_instruction}\n{tsv_header}",
    "travel_planning": "EXAMPLES:\n{demonstration}\n\nYOUR TASK:\n{problem}\n",
}
TRIP = {
    "num_cities": 3,
    "constraints": [
        {"type": "duration", "city": "Rome", "num_days": 3},
        {"type": "duration", "city": "Oslo", "num_days": 2},
        {"type": "fixed", "city": "Oslo", "start_day": 3, "end_day": 4},
        {"type": "duration", "city": "Bern", "num_days": 4},
    ],
    "connected_cities": [["Rome", "Oslo"], ["Oslo", "Bern"], ["Bern", "Oslo"]],
    "disambig_question_text": "You plan to visit 3 European cities for 7 days.",
    "ground_truth_cities": "Rome**Oslo**Bern",
    "ground_truth_durations": "3**2**4",
    "estimated_output_tokens": 900,
}
STEPS = ("16 * 9 = 144", "18 - 6 = 12", "144 / 12 = 12")
ROWS = {
    "countdown": {"nums": [9, 16, 6, 18], "target": 12},
    "path_traversal": {
        "context_nl": "A to B by bus. B to C by train.",
        "question_repr": ["A", "C"],
        "answer_nl": "From A, take a bus to B.\nFrom B, take a train to C.",
    },
    "tom_tracking": {
        "story_components": "Agents: [Ann].",
        "story": "Step 0: Ann is in the hall.",
        "question": "Where is the pen?",
        "solution": "Ann's belief:\n- Step 0: {the pen is in the hall}\n- Step 1: {the pen is in the loft}",
    },
    "html_to_tsv": {
        "task_id": "W1",
        "html_path": "webpage/W1.html",
        "task_topic": "fruit",
        "task_description": "(1) name; (2) price",
        "gt": "name\tprice\nApple\t1.50\nPear\t2.00",
        "tsv_header": "name\tprice",
        "filtering_instruction": "",
    },
    "travel_planning": {"id": "t1", **TRIP},
}


def folder_with(folder, kind, *rows, template=None, size="0.5k"):
    """A data folder as the official repository has it, with one kind in it."""
    size = "2k" if kind == "travel_planning" else size
    path = folder / files.file_of(kind, size)
    (path.parent / "webpage").mkdir(parents=True)
    path.write_text(json.dumps(list(rows or [ROWS[kind]])), "utf-8")
    (path.parent / "webpage" / "W1.html").write_text("<p>Apple 1.50</p>", "utf-8")
    (path.parent / files.EXAMPLES).write_text(json.dumps([TRIP]), "utf-8")
    (path.parent / files.PROMPTS).write_text(
        json.dumps({"USER_PROMPT": PROMPTS[kind] if template is None else template}), "utf-8"
    )
    return f"{kind}_{size}"


def samples(folder, variant, **changes):
    [task] = registry.tasks([f"longproc/{variant}"], {})
    return task, list(task.samples(environment(folder, **changes)))


@pytest.mark.parametrize("kind", ROWS)
def test_prompts_are_those_of_the_files_parted_around_the_context(tmp_path, kind):
    variant = folder_with(tmp_path, kind)
    told = []
    task, [asked] = samples(tmp_path, variant, notify=told.append)
    row = ROWS[kind]
    examples = {"countdown": countdown.demos(), "travel_planning": None}.get(kind)
    if kind == "travel_planning":
        examples = (
            f"# Example\n{TRIP['disambig_question_text']}\n\n{travel.procedure(travel.trip_of(TRIP, ''))}"
        )
    fields = {
        "demonstration": examples,
        "city_context": row.get("context_nl"),
        "src_city": "A",
        "dst_city": "C",
        "html_str": "<p>Apple 1.50</p>",
        "problem": row.get("disambig_question_text"),
    }
    assert asked.prompt.text == PROMPTS[kind].format(**{**fields, **row})
    assert asked.prompt.context == fields.get("demonstration" if examples else "city_context") or kind in (
        "html_to_tsv",
        "tom_tracking",
    )
    assert (
        asked.prompt.question in asked.prompt.suffix
        and asked.new_tokens == NEW_TOKENS[variant.split("_")[-1]]
    )
    assert len(told) == (kind != "travel_planning"), told
    before = task.facts()
    (tmp_path / kind / files.PROMPTS).write_text(json.dumps({"USER_PROMPT": PROMPTS[kind] + "!"}), "utf-8")
    assert samples(tmp_path, variant)[0].facts() != before and list(before) == ["data"]


def test_only_trips_of_the_size_are_taken(tmp_path):
    rows = [
        {**ROWS["travel_planning"], "id": f"t{n}", "estimated_output_tokens": n} for n in (900, 3000, 5000)
    ]
    folder_with(tmp_path, "travel_planning", *rows)
    assert [s.id for s in samples(tmp_path, "travel_planning_2k")[1]] == ["t900"]
    assert [s.id for s in samples(tmp_path, "travel_planning_8k")[1]] == ["t5000"]


def test_the_search_for_a_number_is_written_out():
    lines = countdown.demonstration([9, 16, 6, 18], 12).split("\n")
    assert lines[:4] == [
        "# Search Procedure",
        "Initial number set: [9, 16, 6, 18], target: 12. Options for choosing two numbers: "
        "[(9, 16), (9, 6), (9, 18), (16, 6), (16, 18), (6, 18)].",
        " |- Pick two numbers (9, 16) (numbers left: [6, 18]). Try possible operations.",
        "  |- Try 16 + 9 = 25. Add 25 to the number set. Current number set: [25, 6, 18], target: 12. "
        "Options for choosing two numbers: [(25, 6), (25, 18), (6, 18)].",
    ]
    assert any(line.endswith("Try 31 / 18 = 1.7. 1.7 is a decimal, drop this branch.") for line in lines)
    assert lines[-6:] == ["<Solution>", *STEPS, "</Solution>", ""]
    assert "Try 0 / 0" not in "".join(lines)
    assert "Try 8 / 0 (invalid operation). drop this branch." in countdown.demonstration([5, 5, 2, 8], 2)
    with pytest.raises(UsageError, match="do not become 1999"):
        countdown.demonstration([1, 1, 1, 1], 1999)


@pytest.mark.parametrize(
    ("solution", "right"),
    [
        ("\n".join(STEPS), True),
        ("18 / 9 = 2\n16 - 6 = 10\n2 + 10 = 12", True),
        (" 18/9=2 \n16-6=10\n10+2=12", True),
        ("18 / 9 = 2\n16 - 6 = 10", False),
        ("18 / 9 = 2\n16 - 6 = 10\n2 + 9 = 11", False),
        ("18 / 9 = 2\n18 - 6 = 12\n12 + 0 = 12", False),
        ("18 / 9 = 3\n16 - 6 = 10\n2 + 10 = 12", False),
        ("18 / 0 = 2\n16 - 6 = 10\n2 + 10 = 12", False),
        ("__import__('os').abort() + 1 = 2\nx\ny", False),
        ("", False),
    ],
)
def test_equations_are_parsed_and_never_run(solution, right):
    assert countdown.solves([9, 16, 6, 18], 12, solution) is right


def scored(kind, said, **row):
    variant = f"{kind}_2k"
    [task] = registry.tasks([f"longproc/{variant}"], {})
    return task.score(LongProc.sample_from_row(variant, row), said)


def test_countdown_counts_the_search_up_to_the_first_mistake():
    item = ROWS["countdown"]
    gold = countdown.demonstration(item["nums"], item["target"])
    assert scored("countdown", gold, item=item) == {"score": 1, "partial": 1, "extracted": 1}
    lines = gold.split("Now we have")[0].strip().split("\n")
    whole = scored("countdown", "\n".join(lines), **item)
    assert whole["score"] == whole["extracted"] == 0 and whole["partial"] == (len(lines) - 3) / (
        len(lines) - 2
    )
    lines[3] = lines[3].replace("Try 16 + 9", "Try 16 + 8")
    assert scored("countdown", "\n".join(lines), **item)["partial"] == 1 / (len(lines) - 2)
    assert scored("countdown", "\n".join(lines[:2]), **item)["partial"] == 0, "officially less than nothing"
    assert scored("countdown", "I give up.", **item) == {"score": 0, "partial": 0, "extracted": 0}


@pytest.mark.parametrize(
    ("said", "score", "partial"),
    [
        ("<Route>\nFrom A, take a bus to B.\nFrom B, take a train to C.\n</Route>", 1, 1),
        ("<Route>From A, take a bus to B.\nFrom B, take a bus to C.</Route>", 0, 1),
        ("<Route>From A, take a bus to D.\nFrom B, take a train to C.</Route>", 0, 0.5),
        ("From A, take a bus to B.", 0, 0),
    ],
)
def test_routes(said, score, partial):
    found = scored("path_traversal", said, answers=ROWS["path_traversal"]["answer_nl"])
    assert (found["score"], found["partial"]) == (score, partial) and found["extracted"] == (
        "<Route>" in said
    )


@pytest.mark.parametrize(
    ("said", "score", "partial"),
    [
        ("So:\n- Step 0: the PEN in hall\n- Step 1: The pen's location is the loft", 0, 0.5),
        ("- Step 0: (the pen is in the hall)\n- Step 1: thinks pen at loft", 1, 1),
        ("- Step 0: the pen is in the hall", 0, 0.5),
        ("", 0, 0),
    ],
)
def test_beliefs(said, score, partial):
    found = scored("tom_tracking", said, answers=[ROWS["tom_tracking"]["solution"]])
    assert (found["score"], found["partial"]) == (score, partial)


@pytest.mark.parametrize(
    ("said", "f1", "extracted"),
    [
        ("```tsv\nx\ty\nthe apple\t1.50\nPEAR\t2,00\n```", 1, 1),
        ("name\tprice\nApple\t1.50\nPear\t2.00", 1, 1),
        ("```tsv\nname\tprice\nApple\t1.50\nCherry\t3\nThat is all.\n```", 0.5, 1),
        ("```\nname\tprice\nApple\t1.50\n```", 0, 0),
        ("```tsv\nname\tname\nApple\t1.50\n```", 0, 0),
        ("name\tprice", 0, 0),
        ("", 0, 0),
    ],
)
def test_tables(said, f1, extracted):
    found = scored("html_to_tsv", said, answers=ROWS["html_to_tsv"]["gt"])
    assert (found["score"], found["extracted"]) == (f1, extracted)


def test_trips_are_planned_and_scored():
    gold = travel.procedure(travel.trip_of(TRIP, "here"))
    assert gold.split("<Plan>\n")[1].startswith(
        "**Day 1-3:** Arriving in Rome and visit Rome for 3 days.\n**Day 3:** Fly"
    )
    assert (
        "|- The departure day of Bern is Day 4. The arrival day of Oslo is Day 3. Day 4 is later than (>)"
        in (
            travel.procedure(
                travel.trip_of(
                    {**TRIP, "constraints": [*TRIP["constraints"][3:], *TRIP["constraints"][:3]]}, ""
                )
            )
        )
    )
    row = {"answers": gold, "item": TRIP}
    assert scored("travel_planning", gold, **row) == {"score": 1, "partial": 1, "extracted": 1}
    other = gold.replace("**Day 3:** Fly from Rome", "**Day 2:** Fly from Rome")
    found = scored("travel_planning", other, **row)
    assert found["score"] == 0 and 0.8 < found["partial"] < 1
    assert scored("travel_planning", "no idea", **row) == {"score": 0, "partial": 0, "extracted": 0}
    with pytest.raises(UsageError, match="no plan keeps to"):
        travel.procedure(travel.trip_of({**TRIP, "connected_cities": []}, ""))


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("countdown", {"nums": [1, 2]}, "line 1: fields 'nums' and 'target' must be four whole numbers"),
        ("countdown", {"nums": [1, 1, 1, 1]}, "line 1: numbers .* do not become 12"),
        ("path_traversal", {"question_repr": ["A"]}, "line 1: field 'question_repr' must be two cities"),
        ("tom_tracking", {"solution": "x"}, "line 1: field 'solution' has no line"),
        ("html_to_tsv", {"html_path": "../W1.html"}, "line 1: page '../W1.html' lies outside"),
        ("html_to_tsv", {"html_path": "webpage/W2.html"}, "line 1: cannot read its page"),
        ("html_to_tsv", {"gt": "name"}, "line 1: field 'gt' is no table"),
        (
            "travel_planning",
            {"connected_cities": [1]},
            "line 1: constraints, connected_cities and num_cities",
        ),
        ("travel_planning", {"estimated_output_tokens": None}, "line 1: field 'estimated_output_tokens'"),
    ],
)
def test_a_broken_row_is_named(tmp_path, kind, changes, said):
    variant = folder_with(tmp_path, kind, {**ROWS[kind], **changes})
    with pytest.raises(UsageError, match=said):
        samples(tmp_path, variant)


def test_ids_once_and_templates_with_their_places(tmp_path):
    variant = folder_with(tmp_path / "twice", "html_to_tsv", *[ROWS["html_to_tsv"]] * 2)
    with pytest.raises(UsageError, match=r"line 1 \(row 2\): a second row with the id 'W1', after .*line 1;"):
        samples(tmp_path / "twice", variant)
    for number, (template, said) in enumerate(
        [
            ("x {nums}", "one place for {demonstration}"),
            ("{", "no USER_PROMPT"),
            ("{demonstration} {x}", "asks for {x}"),
        ]
    ):
        variant = folder_with(tmp_path / str(number), "countdown", template=template)
        with pytest.raises(UsageError, match=said):
            samples(tmp_path / str(number), variant)


def test_files_are_fetched_once_at_the_commit(tmp_path, monkeypatch):
    folder_with(tmp_path / "host", "html_to_tsv")
    asked = []

    class Page:
        def __init__(self, url):
            self.path = tmp_path / "host" / url.removeprefix(f"{files.RAW}/")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self):
            return self.path.read_bytes()

    monkeypatch.setattr(files, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr("harness._util.network.answers", lambda url: True)
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: asked.append(url) or Page(url))
    for _ in range(2):
        [task] = registry.tasks(["longproc/html_to_tsv_0.5k"], {})
        [sample] = list(task.samples(environment(None, limit=1)) if asked else _online(task))
    assert "<p>Apple 1.50</p>" in sample.prompt.context and len(asked) == 3
    assert all(files.COMMIT in url for url in asked)
    with pytest.raises(UsageError, match=r"countdown_0\.5k\.json was not fetched before, and --offline; run"):
        samples(None, "countdown_0.5k")


def _online(task):
    from dataclasses import replace

    return task.samples(replace(environment(None), offline=False))


def test_code_is_left_out_and_a_run_works(tiny_folder, tmp_path, monkeypatch):
    assert len(SETS) == 14 and not [name for name in SETS if name.startswith("pseudo")]
    assert LongProc.group == (
        "html_to_tsv_0.5k",
        "path_traversal_0.5k",
        "tom_tracking_0.5k",
        "countdown_0.5k",
    )
    folder_with(tmp_path / "data", "tom_tracking")
    monkeypatch.setitem(NEW_TOKENS, "0.5k", 8)
    _, records = run_on(tiny_folder, tmp_path / "out", tmp_path / "data", "longproc/tom_tracking_0.5k")
    assert [r["status"] for r in records.values()] == ["ok"]
