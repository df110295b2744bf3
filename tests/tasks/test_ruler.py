"""RULER: official words and scores, lengths that are never passed, samples that depend on nothing else."""

import dataclasses
import json
import os
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest

from harness import ScoredSample, TaskEnvironment, UsageError, registry
from harness.evaluation import score_file
from harness.evaluation.task_environment import task_environment
from harness.prompts.rendering import render
from harness.results.summary import summarise
from harness.tasks.ruler import Ruler, RulerOptions, sentences, sources
from harness.tasks.ruler.counting import Counter
from harness.tasks.ruler.metrics import cleaned, score
from harness.tasks.ruler.needles import Essays
from harness.tasks.ruler.protocol import DEPTHS, NOISE, SPECS

PARITY = Path(
    os.environ.get("RULER_PARITY", Path(__file__).parents[2] / "../shared/parity/ruler_scores.jsonl")
)
NO_DATA = ("niah_single_1", "niah_multikey_2", "niah_multikey_3", "vt", "cwe", "fwe")
LENGTHS = {"fwe": 700, "cwe": 2300, "vt": 1900}


def task(variant, **options):
    settings = {"sentences": "rules", "samples": 3, **options}
    return Ruler(RulerOptions(**settings), f"ruler/{variant}", variant)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Stand-ins of the three files, with the official structure and words of our own."""
    folder = tmp_path_factory.mktemp("ruler")
    rng = random.Random(0)
    words = "tea boat river lamp green walk slow under hill seven paper wind".split()

    def sentence():
        return " ".join(rng.choices(words, k=7)).capitalize() + "."

    text = "  ".join(sentence() + ("\n" if i % 3 == 0 else "") for i in range(150))
    (folder / sources.ESSAYS).write_text(json.dumps({"text": text}), "utf-8")
    articles = []
    for a in range(12):
        paragraphs = []
        for p in range(5):
            asked = [
                {"question": f"Who? {a}{p}", "answers": [{"text": f"me{a}{p}"}] * 2, "is_impossible": False},
                {"question": "Never?", "answers": [], "is_impossible": True},
            ]
            paragraphs.append({"context": f"Article {a}, part {p}: me{a}{p}. {sentence()}", "qas": asked})
        articles.append({"title": str(a), "paragraphs": paragraphs})
    (folder / sources.SQUAD).write_text(json.dumps({"data": articles}), "utf-8")
    rows = [
        {
            "question": f"Which {i}?",
            "answer": f"title {i}",
            "context": [[f"title {10 * i + j}", [sentence(), " " + sentence()]] for j in range(3)],
        }
        for i in range(8)
    ]
    (folder / sources.HOTPOTQA).write_text(json.dumps(rows), "utf-8")
    return folder


@pytest.fixture(scope="module")
def env(tiny, data_dir):
    return task_environment(tiny, data_dir=data_dir, offline=True)


def taken(variant, env, **options):
    options.setdefault("lengths", [LENGTHS.get(variant, 1100)])
    return list(task(variant, **options).samples(env))


@pytest.mark.skipif(not PARITY.is_file(), reason=f"no recorded official scores at {PARITY}")
def test_recorded_official_scores(tmp_path):
    rows = [json.loads(line) for line in PARITY.read_text("utf-8").splitlines()]
    assert len(rows) > 200 and {row["task"] for row in rows} == set(SPECS)
    file = tmp_path / "predictions.jsonl"
    file.write_text("\n".join(json.dumps(row | {"task": f"ruler/{row['task']}"}) for row in rows), "utf-8")
    got = score_file.score_file(file).scores
    # The official function rounds its result, and was asked for one line at a time.
    ours = [round(100 * value, 2) / 100 for value in got]
    assert [n for n, (g, row) in enumerate(zip(ours, rows), start=1) if abs(g - row["score"]) > 1e-9] == []


@pytest.mark.parametrize(
    ("metric", "prediction", "references", "expected"),
    [
        ("all", "ONE and three", ["one", "two", "Three"], 2 / 3),
        ("all", "12\x0034", ["1234"], 0.0),  # a control character becomes a newline, it is not removed
        ("all", "I know", ["no"], 1.0),
        ("all", "anything", [], 0.0),
        ("part", "Paris, France", ["france", "Gaul"], 1.0),
        ("part", "", ["France"], 0.0),
    ],
)
def test_scores(metric, prediction, references, expected):
    assert score(metric, prediction, references) == pytest.approx(expected, abs=1e-12)


def test_an_answer_is_stripped_around_its_control_characters():
    assert cleaned("\x1f a\tb\r\n ") == "a\nb"


def test_the_family():
    assert [t.name for t in registry.tasks(["ruler"], {})] == [f"ruler/{v}" for v in SPECS]
    assert len(SPECS) == 13
    assert [s.new_tokens for s in SPECS.values()] == [128] * 8 + [30, 120, 50, 32, 32]
    assert [v for v, s in SPECS.items() if s.metric == "part"] == ["qa_1", "qa_2"]
    assert (len(DEPTHS), DEPTHS[0], DEPTHS[1], DEPTHS[-1]) == (40, 0, 3, 100)


@pytest.mark.parametrize("variant", SPECS)
def test_lengths_are_never_passed_and_answers_are_there(env, variant):
    found = taken(variant, env)
    assert [s.id for s in found] == [f"len{s.metadata['length']}-{i}" for i, s in enumerate(found)]
    for sample in found:
        total = env.count(sample.prompt, sample.chat, sample.answer_prefix) + sample.new_tokens
        # Essays lose 500 words at a time, questions ten documents: half this length and more.
        least = 0.3 if "essay" in str(SPECS[variant]) or variant.startswith("qa") else 0.7
        assert least * sample.metadata["length"] < total <= sample.metadata["length"]
        assert sample.references and all(
            reference in sample.prompt.context for reference in sample.references
        )
        assert sample.prompt.question in sample.prompt.suffix and sample.answer_prefix.startswith(" ")
        json.dumps(sample.metadata)


@pytest.mark.parametrize("variant", SPECS)
def test_a_sample_depends_on_seed_length_and_number_alone(env, variant):
    length = LENGTHS.get(variant, 1100)
    both = {s.id: s for s in taken(variant, env, lengths=[length + 200, length])}
    assert len(both) == 6
    limited = dataclasses.replace(env, limit=2)
    for sample in taken(variant, limited, lengths=[length], samples=500):
        assert both[sample.id] == sample
    other = taken(variant, dataclasses.replace(env, seed=7), lengths=[length])
    assert all(sample.prompt != both[sample.id].prompt for sample in other)


def test_a_limit_takes_all_lengths_and_makes_no_more(env):
    found = taken("niah_single_1", dataclasses.replace(env, limit=3), lengths=[700, 900], samples=10**6)
    assert [s.id for s in found] == ["len700-0", "len900-0", "len700-1"]


def test_one_needle_is_asked_for_in_the_singular(env):
    [sample] = taken("niah_single_1", env, samples=1)
    prompt, [value] = sample.prompt, sample.references
    assert prompt.prefix == (
        "A special magic number is hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the number afterwards.\n"
    )
    [key] = re.findall(
        rf"^One of the special magic numbers for (\w+-[\w-]+) is: {value}\.$", prompt.context, re.M
    )
    assert prompt.suffix == f"\nWhat is the special magic number for {key} mentioned in the provided text?"
    assert sample.answer_prefix == f" The special magic number for {key} mentioned in the provided text is"
    assert re.fullmatch(r"[1-9]\d{6}", value)
    assert {line for line in prompt.context.split("\n") if value not in line} == {NOISE}


def test_several_needles(env):
    [values] = taken("niah_multivalue", env, samples=1)
    assert (
        len(set(values.references)) == 4
        and "What are all the special magic numbers for " in values.prompt.suffix
    )
    assert len(re.findall(r"One of the special", values.prompt.context)) == 4
    [queries] = taken("niah_multiquery", env, samples=1)
    assert re.search(r"numbers for ([\w-]+, ){3}and [\w-]+ mentioned", queries.prompt.suffix)
    assert queries.answer_prefix.endswith(" mentioned in the provided text are")
    [keys] = taken("niah_multikey_1", env, samples=1)
    assert len(keys.references) == 1 and keys.prompt.context.count("One of the special") == 4
    [uuids] = taken("niah_multikey_3", env, samples=1)
    lines = uuids.prompt.context.split("\n")
    assert len(set(lines)) == len(lines) > 5
    assert all(
        re.fullmatch(r"One of the special magic uuids for [\da-f-]{36} is: [\da-f-]{36}\.", x) for x in lines
    )


def test_essays_are_repeated_where_they_are_too_short(env, data_dir):
    words = sources.essays(env)
    [sample] = taken("niah_single_2", env, lengths=[9000], samples=1)
    needle = re.search(r"One of the special .*?: \d+\. ", sample.prompt.context + " ")[0]
    rest = (sample.prompt.context + " ").replace(needle, "").split()
    assert len(rest) > len(words)
    assert all(word == words[i % len(words)] for i, word in enumerate(rest))


def test_variable_tracking(env):
    first, second, _ = taken("vt", env)
    for sample in (first, second):
        example, _, question = sample.prompt.prefix.rpartition("\n\nMemorize")
        value = sample.metadata["value"]
        assert question.startswith(" and track the chain(s)") and example.startswith("Memorize and track")
        names = example.split("they are:  ")[1].split()
        assert len(set(names)) == 5 and all(re.fullmatch("[A-Z]{3}", name) for name in names)
        assert f"VAR {names[1]} = VAR {names[0]} \n" in example
        lines = [line for line in sample.prompt.context.split("\n") if line.startswith("VAR")]
        chain = list(sample.references)
        assert lines[0] == f"VAR {chain[0]} = {value}"
        assert lines[1:] == [f"VAR {b} = VAR {a} " for a, b in pairwise(chain)]
        assert sample.answer_prefix.endswith(f"5 variables are assigned the value {value}, they are: ")
    shape = [re.sub(r"\b[A-Z]{3}\b|\d{5}", "#", s.prompt.prefix) for s in (first, second)]
    assert shape[0] == shape[1] and first.prompt.prefix != second.prompt.prefix


def test_common_words(env):
    [sample] = taken("cwe", env, samples=1)
    example, head, _ = sample.prompt.prefix.rpartition("\nBelow is a numbered list")
    assert head and example.count("\n") == 2
    shown = re.findall(r"\d+\. (\S+)", example.split("Question:")[0])
    answer = re.findall(r"\d+\. (\S+)", example.split("in the list are: ")[1])
    counts = {word: shown.count(word) for word in shown}
    assert len(counts) == 20 and [counts[word] for word in answer] == [3] * 10
    listed = re.findall(r"\d+\. (.+?)(?= \d+\. |\Z)", sample.prompt.context)
    assert {w: listed.count(w) for w in sample.references} == dict.fromkeys(sample.references, 6)
    assert len(sample.references) == 10 and all(
        listed.count(w) == 1 for w in {*listed} - {*sample.references}
    )


def test_the_example_of_common_words_stands_in_the_one_turn_of_the_user(env, tiny):
    [sample] = taken("cwe", env, samples=1)
    asked = render(sample.prompt, tiny, chat=True, answer_prefix=sample.answer_prefix).text
    assert asked.count("<|im_start|>user") == asked.count("<|im_start|>assistant") == 1
    assert asked.count("Below is a numbered list") == 2
    assert asked.index("<|im_start|>user") < asked.index("Below is") and asked.count("<s>") <= 1


def test_from_4k_common_words_occur_thirty_times(env):
    [sample] = taken("cwe", env, lengths=[9000], samples=1)
    listed = re.findall(r"\d+\. (.+?)(?= \d+\. |\Z)", sample.prompt.context)
    assert {listed.count(w) for w in listed} == {30, 3}


def test_frequent_words(env):
    [sample] = taken("fwe", env, samples=1)
    words = sample.prompt.context.split(" ")
    ranked = sorted({*words}, key=words.count, reverse=True)
    assert ranked[0] == "..." and tuple(ranked[1:4]) == sample.references
    n = words.count("...") / 0.6079
    assert abs(words.count(ranked[1]) - n * 0.6079 / 4) < 2


def test_questions_over_documents(env):
    first, second, _ = taken("qa_1", env, lengths=[1600])
    assert (first.references, second.prompt.question) == (("me00", "me00"), "Who? 01")
    documents = re.findall(r"^Document (\d+):\n(.+)$", first.prompt.context, re.M)
    assert [int(n) for n, _ in documents] == list(range(1, len(documents) + 1))
    texts = [text for _, text in documents]
    assert sum(text.startswith("Article 0, ") for text in texts) == 5  # its own article comes first
    assert first.prompt.suffix.endswith("\n\nQuestion: Who? 00") and first.answer_prefix == " Answer:"
    [hotpot] = taken("qa_2", env, samples=1)
    assert "title 0\n" in hotpot.prompt.context and hotpot.references == ("title 0",)


def test_a_question_file_that_ends_ends_the_task(env):
    assert len(taken("qa_2", env, samples=500)) == 8


@pytest.mark.parametrize(
    ("variant", "name"),
    [("niah_single_2", sources.ESSAYS), ("qa_1", sources.SQUAD), ("qa_2", sources.HOTPOTQA)],
)
def test_a_missing_file_is_named(env, tmp_path, variant, name, empty_cache):
    with pytest.raises(UsageError, match=f"this task needs {name}") as caught:
        taken(variant, dataclasses.replace(env, data_dir=tmp_path))
    assert "\n" not in str(caught.value)


def test_six_tasks_need_no_file(env):
    bare = dataclasses.replace(env, data_dir=None)
    assert all(len(taken(variant, bare, samples=1)) == 1 for variant in NO_DATA)


def test_a_broken_file_is_named(env, tmp_path):
    (tmp_path / sources.SQUAD).write_text('{"data": [{}]}', "utf-8")
    with pytest.raises(UsageError, match=r"squad\.json is not RULER's squad\.json \(KeyError"):
        taken("qa_1", dataclasses.replace(env, data_dir=tmp_path))


def test_hosted_files_are_fetched_once(env, data_dir, empty_cache, monkeypatch):
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        name = next(name for name, hosted in sources.HOSTED.items() if hosted == url)
        content = data_dir / name
        return content.open("rb") if content.is_file() else (data_dir / sources.SQUAD).open("rb")

    monkeypatch.setattr(sources.urllib.request, "urlopen", urlopen)
    online = dataclasses.replace(env, data_dir=None, offline=False)
    assert len(taken("qa_1", online)) == len(taken("qa_1", dataclasses.replace(online, offline=True))) == 3
    assert asked == [sources.HOSTED[sources.SQUAD]]
    assert Ruler.fetch(offline=False) == empty_cache / "ruler"
    assert len(asked) == 3


def test_what_cannot_be_fetched_is_one_line(env, empty_cache, monkeypatch):
    def urlopen(url, timeout):
        raise OSError("no route\nto host")

    monkeypatch.setattr(sources.urllib.request, "urlopen", urlopen)
    with pytest.raises(UsageError, match=r"cannot get squad\.json from .* no route to host\)") as caught:
        taken("qa_1", dataclasses.replace(env, data_dir=None, offline=False))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variant", SPECS)
def test_a_length_without_room_is_refused(env, variant):
    with pytest.raises(UsageError, match=rf"ruler/{variant}: length 150 is too short"):
        taken(variant, env, lengths=[150])


def test_words_count_what_the_tokenizer_counts(env):
    counter = Counter(env)
    gaps = {
        counter.exact(s.prompt, s.answer_prefix) - counter.prompt_words(s.prompt, s.answer_prefix)
        for variant in SPECS
        for s in taken(variant, env)
    }
    assert len(gaps) == 1  # template and special tokens: always as many


def test_beyond_the_exact_lengths_words_decide(env, monkeypatch):
    """The same samples come out whether each is counted whole or by its words."""
    from harness.tasks.ruler import fitting

    for variant in ("niah_multikey_3", "niah_single_2", "vt", "qa_1"):
        whole = taken(variant, env)
        asked = []

        def count(*arguments, asked=asked):
            asked.append(arguments)
            return env.count(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(fitting, "ALWAYS_EXACT", 0)
            assert taken(variant, dataclasses.replace(env, count=count)) == whole
        # The search: the smallest text, four texts for each round; of the samples those near their limit.
        assert len(asked) <= 1 + 2 * len(fitting.CALIBRATION) + (3 if variant == "qa_1" else 0)


def test_a_tokenizer_that_joins_words_is_counted_exactly(env):
    """Where word-wise counts are wrong, the margin makes the environment's own count decide."""

    def count(prompt, chat, answer_prefix):
        return len(prompt.text) // 3 + 11

    class Letters:
        def __call__(self, texts, **_):
            return {"input_ids": [range(len(text)) for text in texts]}

    odd = TaskEnvironment(Letters(), 4096, count, limit=3)
    for sample in taken("niah_single_1", odd, lengths=[900]):
        assert sample.metadata["length"] - 250 < count(sample.prompt, True, "") + 128 <= 900


def test_sentences_by_rules():
    text = 'He met Dr. Smith in the U.S. today. "Why?" Nobody knew! So 3.5 it was. and on. 7 came (all.) Then'
    words = text.split(" ")
    found = sentences.ends(words)
    cuts = [" ".join(words[a:b]) for a, b in zip([0, *found], found)]
    assert cuts == [
        "He met Dr. Smith in the U.S. today.",
        '"Why?"',
        "Nobody knew!",
        "So 3.5 it was. and on.",
        "7 came (all.)",
        "Then",
    ]
    assert sentences.ends([]) == []


def test_punkt_where_it_is_and_a_line_where_it_is_not(monkeypatch):
    monkeypatch.setattr(sentences, "_punkt", lambda: lambda text: ["One two.", "Three."])
    assert sentences.split("One two. Three.".split(), "punkt") == ["One two.", "Three."]
    monkeypatch.setattr(sentences, "_punkt", lambda: None)
    with pytest.raises(UsageError, match=r"ruler\.sentences=rules"):
        sentences.split(["One."], "punkt")


def test_what_else_decides_is_in_the_preset():
    assert re.fullmatch(r"ruler-nvidia@1 wonderwords-[\d.]+", task("vt").preset)
    assert task("niah_single_2").preset.endswith(" sentences-rules")


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("lengths", "", "at least one"),
        ("lengths", "9,9", "twice"),
        ("lengths", "0", "at least 1"),
        ("samples", "0", "1"),
    ],
)
def test_options_are_checked(option, value, reason):
    with pytest.raises(UsageError, match=rf"task ruler: option {option}=.*{reason}"):
        registry.tasks(["ruler"], {"ruler": {option: value}})


def test_score_takes_ruler_files(tmp_path):
    path = tmp_path / "p.jsonl"
    lines = [
        {"task": "ruler/vt", "prediction": "ABCDE FGHIJ", "outputs": ["ABCDE", "KLMNO"]},
        {"dataset": "qa_2", "prediction": "yes.", "answers": ["Yes"]},
    ]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    assert score_file.score_file(path).means() == {"ruler/vt": 50.0, "ruler/qa_2": 100.0}
    path.write_text('{"task": "ruler/vt", "prediction": ""}', "utf-8")
    with pytest.raises(UsageError, match="field 'outputs' must be a list"):
        score_file.score_file(path)


def scored(variant, length, value):
    return ScoredSample(f"{variant}-{length}", {"score": value}, {"length": length})


def test_lengths_and_the_mean_over_the_thirteen():
    assert task("vt").breakdown([scored("vt", 8192, 0.5), scored("vt", 4096, 1.0)]) == {
        "length 4096": 1.0,
        "length 8192": 0.5,
    }
    assert task("vt").breakdown([scored("vt", 4096, 1.0)]) == {}
    means = dict.fromkeys(SPECS, 0.5) | {"vt": 1.0}
    assert Ruler.averages(means) == {"Avg": pytest.approx((12 * 0.5 + 1) / 13)}
    assert Ruler.averages({"vt": 1.0}) == {}


@pytest.mark.parametrize(
    ("means", "effective"),
    [
        ({4096: 0.9, 8192: 0.856, 16384: 0.8}, "8,192"),
        ({4096: 0.8, 8192: 0.9}, "below 4,096"),
        ({4096: 0.9, 8192: 0.8, 16384: 0.9}, "4,096"),
        ({16384: 0.9, 4096: 0.9}, "16,384"),
    ],
)
def test_effective_length(means, effective):
    verdict = Ruler.verdict({f"length {length}": {"Avg": mean} for length, mean in means.items()})
    assert verdict.startswith(f"effective length {effective} (mean of 85.6 or more)")
    assert Ruler.verdict({"length 4096": {"Avg": 0.9}}) == ""


def test_weighted_averages():
    assert Ruler.verdict({"length 1": {"Avg": 0.9}, "length 2": {"Avg": 0.6}}).endswith(
        "wAvg inc 70.00  wAvg dec 80.00"
    )


def test_a_run_of_all_thirteen_ends_in_a_verdict():
    from ..harness.results.test_summary import record

    tasks = [task(v) for v in SPECS]
    records = {}
    for each in tasks:
        for length, value in ((4096, 1.0), (8192, 0.5)):
            sample_id = f"len{length}-0"
            records[each.name, sample_id] = record(
                length, value, each.name, id=sample_id, scores={"score": value}, metadata={"length": length}
            )
    [found] = summarise(tasks, list(records), records)["averages"].values()
    assert found["values"] == {"Avg": 0.75}
    assert found["parts"] == {"length 4096": {"Avg": 1.0}, "length 8192": {"Avg": 0.5}}
    assert found["verdict"].startswith("effective length 4,096")


def test_a_sentence_that_ends_inside_a_word_moves_no_other_boundary(monkeypatch):
    found = ["At that rate.", "But alcohol.[3]", "It is so.", "Here is more."]
    monkeypatch.setattr(sentences, "_punkt", lambda: lambda text: found * text.count("rate"))
    made = Essays("At that rate.But alcohol.[3] It is so. Here is more.".split(), "punkt")
    assert made.first(10) == found and made.first(20) == [*found, *found]
    assert made.first(7) == found[:3] and made.first(3) == [found[0], "But"]
    assert made.first(8) == [*found[:3], "Here"] and made.first(2) == ["At that"]
