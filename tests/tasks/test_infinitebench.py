"""InfiniteBench as a task: official prompts, rows from wherever they lie, texts made at any length."""

import dataclasses
import json
import random
import re
import tracemalloc
from itertools import islice, pairwise

import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from harness import Prompt, ScoredSample, TaskEnvironment, UsageError, registry
from harness.cli import invoke
from harness.evaluation import score_file
from harness.evaluation.task_environment import task_environment
from harness.prompts.truncation import truncate
from harness.tasks.infinitebench import InfiniteBench, InfiniteBenchOptions, data, prompts
from harness.tasks.infinitebench.generators import GENERATED, repeated_digits
from harness.tasks.infinitebench.prompts import CHOICE, NEW_TOKENS, PRESETS, TASKS
from harness.tasks.passkey import FILLER

OPTIONS = ["first", "second", "third", "{context}"]
QUESTIONS = {
    "math_find": "What is it?\nThe Second largest number of the list is:",
    "code_run": "Please tell me func_12(-3).",
}
ANSWERS = {"math_find": [7], "code_run": [-3], "math_calc": [1, -2]}
BRACED = "f({}) {0} {input} {context} \\frac{{a}}{b} %s \r\n"


def task(variant, **options):
    return InfiniteBench(InfiniteBenchOptions(**options), f"infinitebench/{variant}", variant)


def environment(folder=None, **changes):
    def count(prompt, chat, answer_prefix):
        raise AssertionError("nothing has to be counted")

    return TaskEnvironment(None, 4096, count, data_dir=folder, **changes)


def row(variant, **changes):
    found = {"id": 3, "context": "A text.", "input": QUESTIONS.get(variant, "Who?"), "options": []}
    found["answer"] = ANSWERS.get(variant, ["me"])
    if variant in CHOICE:
        found |= {"options": OPTIONS, "answer": ["second"]}
    return found | changes


def write(folder, variant, *rows):
    lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    (folder / f"{variant}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def samples(folder, variant, preset="yarn-mistral", **changes):
    return list(task(variant, preset=preset).samples(environment(folder, **changes)))


def test_the_family():
    assert len(TASKS) == 12
    assert [t.name for t in registry.tasks(["infinitebench"], {})] == [
        f"infinitebench/{name}" for name in TASKS
    ]
    assert list(NEW_TOKENS.values()) == [6, 12, 50, 40, 1200, 40, 40, 40, 3, 30000, 5, 5]
    assert task("passkey").preset == "infinitebench-yarn-mistral@1 prompt-753b69f score-88b3daa"
    assert task("passkey", preset="gpt4").preset.startswith("infinitebench-gpt4@1 ")
    with pytest.raises(UsageError, match="name one, as in infinitebench/passkey"):
        InfiniteBench(InfiniteBenchOptions(), "infinitebench")


def test_where_the_middle_is_cut_out():
    assert [task("code_run", preset=p).max_context() for p in PRESETS] == [131_072, 127_000, None]
    assert task("passkey", lengths=[262_144]).max_context() is None


def test_both_ends_of_a_cut_are_decoded_together(tmp_path):
    """A tokenizer in the manner of SentencePiece drops the blank before whatever is decoded first."""
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "▁spam": 1, "▁egg": 2}, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    words.decoder = tokenizers.decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?")
    write(tmp_path, "longbook_qa_eng", row("longbook_qa_eng", context="spam egg " * 40))
    [sample] = samples(tmp_path, "longbook_qa_eng")
    prompt = dataclasses.replace(sample.prompt, prefix="", suffix="spam egg")
    ids = tokenizer(prompt.text)["input_ids"]
    cut, facts = truncate(prompt, InfiniteBench.truncation, 8, tokenizer)
    assert facts.truncated and cut.text == tokenizer.decode(ids[:4] + ids[-4:], skip_special_tokens=True)
    assert cut.text == "spam egg spam egg spam egg spam egg"
    assert truncate(prompt, "middle", 8, tokenizer)[0].text == "spam egg spam eggspam egg spam egg"


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("variant", TASKS)
@pytest.mark.parametrize("context", ["A text.", BRACED])
def test_a_prompt_is_what_str_format_gives(preset, variant, context):
    question = QUESTIONS.get(variant, context)
    protocol = PRESETS[preset]
    prompt = protocol.render(variant, context, question, OPTIONS)
    filled = prompts.fields(variant, question, OPTIONS)
    assert prompt.text == protocol.templates[variant].format(context=context, **filled)
    assert prompt.context == context
    assert protocol.templates[variant].count("{context}") == 1
    assert prompt.question in prompt.suffix


@pytest.mark.parametrize(
    ("variant", "prefix", "suffix", "question"),
    [
        (
            "passkey",
            "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
            "I will quiz you about the important information.\n\n",
            "\n\nWho?\n\nThe pass key is",
            "Who?",
        ),
        ("longbook_sum_eng", "Summarize the book below.\n\n", "\n\nSummary:", ""),
        (
            "longbook_choice_eng",
            "Read the book and answer the question.\n\n",
            "\n\nQuestion: Who?\nA. first\nB. second\nC. third\nD. {context}\n\nThe letter of the correct answer is",
            "Who?",
        ),
        (
            "math_find",
            "What is the second largest number in the following list?\n\n",
            "\n\nWhat is it?\nThe Second largest number of the list is:",
            "What is it?\nThe Second largest number of the list is:",
        ),
        (
            "math_calc",
            "Let us calculate the intermediate values of an expression.\n\nExpression: 1 + 3 + 4\nValues: "
            "[1, 4, 8]\n\nExpression: 8 - 3 + 2 - 4\nValues: [8, 5, 7, 3]\n\nExpression: ",
            "\nValues:",
            "",
        ),
        (
            "code_run",
            "There is a function called func_12 in the following Python code.\n\n",
            "\n\nPlease compute the exact value of func_12(-3). The value of func_12(-3) is",
            "func_12(-3)",
        ),
    ],
)
def test_what_stands_around_the_context(variant, prefix, suffix, question):
    found = PRESETS["yarn-mistral"].render(variant, "A text.", QUESTIONS.get(variant, "Who?"), OPTIONS)
    assert found == Prompt(prefix, "A text.", suffix, question)


def test_oddities_of_the_official_templates_are_kept():
    gpt4, claude2 = PRESETS["gpt4"].templates, PRESETS["claude2"].templates
    assert "\n\nWhich funtion has deliberate error?\n" in gpt4["code_debug"]
    assert "There is a function called named {func}." in gpt4["code_run"]
    assert "find it and memorize them" in gpt4["passkey"].lower()
    assert gpt4["math_calc"] == "{context}"  # the official code asks the bare expression
    assert "called ${func}." in claude2["code_run"]
    assert claude2["kv_retrieval"].startswith("There is an important info hidden")


@pytest.mark.parametrize("variant", [name for name in TASKS if name not in ("math_find", "code_run")])
@pytest.mark.parametrize("preset", PRESETS)
def test_questions_about_one_text_share_what_goes_before_them(tmp_path, variant, preset):
    other = {"input": "Why?", "id": 4} | ({"options": OPTIONS[::-1]} if variant in CHOICE else {})
    write(tmp_path, variant, row(variant), row(variant, **other))
    first, second = (s.prompt for s in samples(tmp_path, variant, preset))
    assert (first.prefix, first.context) == (second.prefix, second.context)


@pytest.mark.parametrize(("preset", "chat"), [("yarn-mistral", False), ("gpt4", True), ("claude2", True)])
@pytest.mark.parametrize("variant", TASKS)
def test_a_sample_from_a_folder(tmp_path, variant, preset, chat):
    write(tmp_path, variant, row(variant))
    [sample] = samples(tmp_path, variant, preset)
    assert sample.id == "3" and sample.chat is chat and sample.new_tokens == NEW_TOKENS[variant]
    assert sample.prompt == PRESETS[preset].render(
        variant, "A text.", row(variant)["input"], row(variant)["options"]
    )
    assert sample.metadata == ({"letter": "B"} if variant in CHOICE else {})
    expected = {"math_find": "7", "code_run": "-3", "math_calc": "[1, -2]"} | dict.fromkeys(CHOICE, "second")
    assert sample.references == (expected.get(variant, "me"),)


@pytest.mark.parametrize(
    ("variant", "answer", "expected"),
    [
        ("passkey", "01234", ("01234",)),
        ("passkey", ["01234"], ("01234",)),
        ("longbook_qa_eng", ["a", "b"], ("a", "b")),
        ("math_find", 7.5, ("7.5",)),
        ("math_find", "7", ("7",)),
        ("math_calc", [[1, 2]], ("[1, 2]",)),
        ("math_calc", "[1, 2]", ("[1, 2]",)),
        ("code_debug", "second", ("second",)),
        ("code_debug", ["any.name", "D"], ("any.name",)),
    ],
)
def test_forms_of_an_answer(tmp_path, variant, answer, expected):
    write(tmp_path, variant, row(variant, answer=answer))
    [sample] = samples(tmp_path, variant)
    assert sample.references == expected


@pytest.mark.parametrize(
    ("variant", "broken", "message"),
    [
        ("code_run", "{", r"code_run\.jsonl, line 3: not JSON"),
        ("code_run", "[]", "line 3: not a JSON object"),
        ("longbook_qa_eng", {"context": None}, "line 3: field 'context' must be a string"),
        ("longbook_qa_eng", {"input": 1}, "line 3: field 'input' must be a string"),
        ("longbook_qa_eng", {"answer": []}, "line 3: field 'answer' must be a string or a list of strings"),
        ("passkey", {"answer": 1234}, "line 3: field 'answer' must be a string"),
        ("code_run", {"answer": 1.5}, "line 3: field 'answer' must be a whole number"),
        ("code_run", {"input": "run it"}, "line 3: field 'input' must hold a call as func_1"),
        ("math_find", {"answer": True}, "line 3: field 'answer' must be a number"),
        ("math_find", {"input": "the largest?"}, "line 3: field 'input' must hold 'The ... of'"),
        ("math_calc", {"answer": []}, "line 3: field 'answer' must be a list of whole numbers"),
        ("math_calc", {"answer": [1, 2.5]}, "line 3: field 'answer' must be a list of whole numbers"),
        ("code_debug", {"answer": "fifth"}, "line 3: field 'answer' must be one of the options"),
        (
            "code_debug",
            {"options": ["second"]},
            "line 3: field 'options' must be a list of four strings, not 1",
        ),
        ("code_debug", {"options": "ABCD"}, "line 3: field 'options' must be a list of four strings"),
    ],
)
def test_a_broken_line_is_named(tmp_path, variant, broken, message):
    write(tmp_path, variant, row(variant), "", row(variant, **broken) if isinstance(broken, dict) else broken)
    with pytest.raises(UsageError, match=message) as caught:
        samples(tmp_path, variant)
    assert "\n" not in str(caught.value)


def test_a_missing_or_empty_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"infinitebench/code_run: no code_run\.jsonl in --data-dir"):
        samples(tmp_path, "code_run")
    write(tmp_path, "code_run", "")
    with pytest.raises(UsageError, match=r"code_run\.jsonl: no rows"):
        samples(tmp_path, "code_run")


def test_ids_and_limit(tmp_path):
    bare = {key: value for key, value in row("code_run").items() if key != "id"}
    write(tmp_path, "code_run", row("code_run"), row("code_run"), bare, "no JSON")
    assert [s.id for s in samples(tmp_path, "code_run", limit=3)] == ["3", "3-1", "2"]
    assert samples(tmp_path, "code_run", limit=0) == []


def test_one_line_is_in_memory_at_a_time(tmp_path):
    long = json.dumps(row("longbook_qa_eng", context="x" * 500_000))
    write(tmp_path, "longbook_qa_eng", *[long] * 40)
    tracemalloc.start()
    for sample in task("longbook_qa_eng").samples(environment(tmp_path)):
        assert len(sample.prompt.context) == 500_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000  # of a file of 20 MB


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that has one file; what was asked of it is in the list."""
    write(tmp_path, "code_run", row("code_run"))
    asked = []

    def download(repository, name, **options):
        asked.append((repository, name, options))
        if name != "code_run.jsonl":
            raise ConnectionError("first\nsecond")
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return asked


@pytest.mark.parametrize("offline", [False, True])
def test_rows_from_the_hub(hub, offline):
    [sample] = samples(None, "code_run", offline=offline)
    options = {"repo_type": "dataset", "revision": None, "local_files_only": offline}
    assert sample.references == ("-3",) and hub == [(data.HUB_REPOSITORY, "code_run.jsonl", options)]


@pytest.mark.parametrize("offline", [False, True])
def test_without_data_one_line_says_what_to_do(hub, offline):
    with pytest.raises(UsageError) as caught:
        samples(None, "code_debug", offline=offline)
    message = str(caught.value)
    assert "\n" not in message and "code_debug.jsonl" in message and "--data-dir" in message
    assert "harness data fetch infinitebench" in message and ("--offline" in message) is offline


def test_fetching_gets_the_nine_that_are_not_made_here(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download",
        lambda _, name, **options: asked.append(name) or str(tmp_path / name),
    )
    assert InfiniteBench.fetch(offline=False) == tmp_path
    assert asked == [f"{name}.jsonl" for name in TASKS if name not in GENERATED] and len(asked) == 9


# --- what is made here


def made(variant, count, **changes):
    return list(task(variant).samples(environment(limit=count, **changes)))


def test_official_sizes_need_no_tokenizer():
    [sample] = made("passkey", 1)
    assert sample.id == "official-0" and sample.prompt.context.count("\n") == 5221
    [pairs] = made("kv_retrieval", 1)
    assert len(json.loads(pairs.prompt.context.removeprefix("JSON data:\n"))) == 2500
    assert [spec.samples for spec in GENERATED.values()] == [590, 590, 500]


def test_depths_are_the_official_ones_and_spread_at_once():
    """0/58 ... 58/58 of 5,220 lines are the official steps of 90; the first ten leave no gap of a fifth."""
    maker = GENERATED["passkey"].maker(lambda context, question: Prompt("", context, question))
    places = [maker.draw(5220, random.Random(0), i).facts["needle_position"] for i in range(59)]
    line = len(FILLER) + 1
    assert sorted(places) == [90 * line * i for i in range(59)]
    assert max(b - a for a, b in pairwise(sorted(places[:10]))) < 0.2 * 5220 * line
    pairs = GENERATED["kv_retrieval"].maker(lambda context, question: Prompt("", context, question))
    depths = [pairs.draw(10, random.Random(0), i).facts["depth"] for i in range(500)]
    assert sorted(depths) == [pytest.approx(i / 5) for i in range(500)]


def test_needles():
    for variant, name, length in (("passkey", "pass key", 5), ("number_string", "sequence of digits", 10)):
        found = made(variant, 3)
        for sample in found:
            [digits], context = sample.references, sample.prompt.context
            assert re.fullmatch(rf"\d{{{length}}}", digits)
            needle = f"The {name} is {digits}. Remember it. {digits} is the {name}.\n"
            assert context[sample.metadata["needle_position"] :].startswith(needle)
            assert {*context.replace(needle, "").split("\n")} == {FILLER, ""}
            assert sample.prompt.question == f"What is the {name}?"
        assert len({s.references for s in found}) == 3


def test_passkeys_may_begin_with_zeros():
    found = islice(task("passkey").samples(environment()), 60)
    assert any(sample.references[0].startswith("0") for sample in found)


def test_ten_digits_are_five_with_repetitions():
    """Each digit that was put in stands beside itself: cutting runs leaves five digits at most."""
    for seed in range(20):
        digits = repeated_digits(random.Random(seed))
        assert len(digits) == 10 and len(re.sub(r"(\d)\1+", r"\1", digits)) <= 5


def test_pairs():
    first, second = made("kv_retrieval", 2)
    for sample in (first, second):
        pairs = json.loads(sample.prompt.context.removeprefix("JSON data:\n"))
        [key] = re.findall(r'\n\n\nKey: "([\da-f-]{36})"\nThe value associated', sample.prompt.suffix)
        assert sample.references == (pairs[key],)
        assert sample.prompt.suffix.endswith("with the specified key is: ")
        assert list(pairs).index(key) == sample.metadata["depth"] * 25
    assert (first.metadata["depth"], second.metadata["depth"]) == (0, 61.8)


@pytest.fixture(scope="module")
def env(tiny):
    return task_environment(tiny, offline=True)


@pytest.mark.parametrize("variant", GENERATED)
@pytest.mark.parametrize("preset", ["yarn-mistral", "gpt4"])
def test_lengths_are_never_passed_and_nearly_reached(env, variant, preset):
    asked = task(variant, lengths=[700, 1500], samples=3, preset=preset)
    found = list(asked.samples(env))
    assert [s.id for s in found] == [f"len{n}-{i}" for i in range(3) for n in (700, 1500)]
    for sample in found:
        total = env.count(sample.prompt, sample.chat, sample.answer_prefix) + sample.new_tokens
        # A line takes some 40 tokens of this tokenizer, a pair some 100.
        assert 0 <= sample.metadata["length"] - total < 250
        assert sample.references[0] in sample.prompt.context
        json.dumps(sample.metadata)


@pytest.mark.parametrize("variant", GENERATED)
def test_a_sample_depends_on_seed_length_and_number_alone(env, variant):
    many = {s.id: s for s in task(variant, lengths=[900, 700], samples=4).samples(env)}
    limited = dataclasses.replace(env, limit=2)
    few = list(task(variant, lengths=[700]).samples(limited))
    assert [s.id for s in few] == ["len700-0", "len700-1"] and all(many[s.id] == s for s in few)
    other = task(variant, lengths=[700]).samples(dataclasses.replace(limited, seed=7))
    assert all(sample.prompt != many[sample.id].prompt for sample in other)


def test_a_length_without_room_is_refused(env):
    with pytest.raises(UsageError, match="infinitebench/passkey: length 60 is too short"):
        list(task("passkey", lengths=[60]).samples(env))


def test_the_official_file_comes_before_what_is_made(tmp_path, env):
    write(
        tmp_path,
        "passkey",
        {"context": "The pass key is 00001.", "input": "What?", "answer": "00001", "len": 4},
    )
    there = dataclasses.replace(env, data_dir=tmp_path)
    [sample] = task("passkey").samples(there)
    assert (sample.id, sample.references, sample.metadata) == ("0", ("00001",), {})
    assert [s.id for s in task("passkey", lengths=[700], samples=1).samples(there)] == ["len700-0"]
    assert [s.id for s in task("passkey", samples=1).samples(there)] == ["official-0"]
    assert next(iter(task("number_string").samples(there))).id == "official-0"


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("lengths", "9,9", "twice"),
        ("lengths", "0", "at least 1"),
        ("samples", "0", "1"),
        ("preset", "kimi", "'yarn-mistral', 'gpt4' or 'claude2'"),
    ],
)
def test_options_are_checked(option, value, reason):
    with pytest.raises(UsageError, match=rf"task infinitebench: option {option}=.*{reason}"):
        registry.tasks(["infinitebench"], {"infinitebench": {option: value}})


# --- scores of a run


def scored(depth, length, value):
    return ScoredSample(f"{depth}-{length}", {"score": value}, {"depth": depth, "length": length})


def test_means_of_lengths_and_tenths():
    some = [scored(0.0, 700, 1.0), scored(9.9, 900, 0.0), scored(98.3, 700, 1.0), scored(100.0, 900, 0.0)]
    expected = {"length 700": 1.0, "length 900": 0.0, "depth 0": 0.5, "depth 90": 0.5}
    assert task("passkey", lengths=[700, 900]).breakdown(some) == expected
    assert task("code_run").breakdown([ScoredSample("x", {"score": 1.0}, {})]) == {}
    official = [ScoredSample("x", {"score": 1.0}, {"depth": d}) for d in (0.0, 50.0)]
    assert task("passkey").breakdown(official) == {"depth 0": 1.0, "depth 50": 1.0}


def test_the_average_is_over_all_twelve_or_missing():
    means = dict.fromkeys(TASKS, 0.5) | {"code_run": 1.0}
    assert InfiniteBench.averages(means) == {"Avg": pytest.approx(6.5 / 12)}
    assert InfiniteBench.averages({"code_run": 1.0}) == {}


def test_gpt4s_first_number_is_passed_over_in_its_preset_alone(tmp_path):
    write(tmp_path, "math_calc", row("math_calc", answer=[1, 4]))
    for preset, expected in (("gpt4", 1.0), ("yarn-mistral", 0.0)):
        [sample] = samples(tmp_path, "math_calc", preset)
        assert task("math_calc", preset=preset).score(sample, "3, 1, 4") == {"score": expected}


def test_score_takes_lines_of_every_task(tmp_path):
    path = tmp_path / "p.jsonl"
    lines = [
        {"task": "infinitebench/passkey", "prediction": " 01234.", "answers": ["01234"]},
        {"dataset": "kv_retrieval", "prediction": "ab-1", "label": "ab-1"},
        {"dataset": "number_string", "prediction": "1", "answer": "1"},
        {"dataset": "longdialogue_qa_eng", "prediction": "Ann", "answer": ["ANN"]},
        {"dataset": "longbook_sum_eng", "prediction": "a b", "answer": ["a b"]},
        {"dataset": "longbook_choice_eng", "prediction": "B", "ground_truth": ["x", "B"]},
        {"dataset": "longbook_qa_eng", "prediction": "x", "answers": ["X."]},
        {"dataset": "longbook_qa_chn", "prediction": "北京", "answers": ["北京"]},
        {"dataset": "math_find", "prediction": "7", "label": 7},
        {"dataset": "math_calc", "prediction": "1 2", "label": [1, 2]},
        {"dataset": "code_run", "prediction": "-7", "label": [-7]},
        {"dataset": "code_debug", "prediction": "B.", "answer": "x", "options": ["w", "x", "y", "z"]},
    ]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    assert score_file.score_file(path).means() == {f"infinitebench/{name}": 100.0 for name in TASKS}
    path.write_text('{"dataset": "code_run", "prediction": ""}', "utf-8")
    with pytest.raises(UsageError, match="field 'answers' must be a whole number"):
        score_file.score_file(path)


def test_a_run(tiny_folder, tmp_path, capsys):
    command = (
        "run -m plain -t infinitebench/passkey --set infinitebench.lengths=250 --limit 1 --device cpu --json"
    )
    assert invoke([*command.split(), "--model", str(tiny_folder), "--out", str(tmp_path)]) == 0
    [found] = json.loads(capsys.readouterr().out)["tasks"]
    assert (found["task"], found["n_ok"], found["n"], found["truncated"]) == (
        "infinitebench/passkey",
        1,
        1,
        0,
    )
