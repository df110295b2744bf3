"""LongBench as a task: prompts as the official code writes them, rows from wherever they lie."""

import importlib.util
import json
import zipfile

import pytest

from harness import Options, Prompt, ScoredSample, TaskEnvironment, UsageError, registry
from harness.tasks.longbench import LongBench, data
from harness.tasks.longbench import metrics as official
from harness.tasks.longbench.prompts import CATEGORIES, LONGBENCH_E, PAPER_SETS, PROTOCOLS


def task(dataset):
    return LongBench(Options(), f"longbench/{dataset}", dataset)


def environment(folder=None, **changes):
    def count(prompt, chat, answer_prefix):
        raise AssertionError("LongBench has no reason to count tokens")

    return TaskEnvironment(None, 4096, count, data_dir=folder, **changes)


def row(**changes):
    return {"_id": "r1", "input": "Who?", "context": "A text.", "answers": ["me"], "length": 3} | changes


def write(folder, dataset, *rows):
    lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    (folder / f"{dataset}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def samples(folder, dataset, **changes):
    return list(task(dataset).samples(environment(folder, **changes)))


def test_the_family():
    assert len(LongBench.variants) == len(set(LongBench.variants)) == 14 + 7 + 13
    assert LongBench.group == PAPER_SETS and len(PAPER_SETS) == 14
    assert [t.name for t in registry.tasks(["longbench"], {})] == [f"longbench/{d}" for d in PAPER_SETS]
    assert task("trec").preset == "longbench-official@1"
    assert task("trec").max_context() == 15_500


BRACED = "f({}) {0} {input} {context} \\frac{{a}}{b} %s \r\n"


@pytest.mark.parametrize("dataset", PROTOCOLS)
@pytest.mark.parametrize(("context", "question"), [("A text.", "Who?"), (BRACED, BRACED), ("", "")])
def test_a_prompt_is_what_str_format_gives(dataset, context, question):
    template = PROTOCOLS[dataset].template
    prompt = PROTOCOLS[dataset].render(context, question)
    assert prompt.text == template.format(context=context, input=question)
    assert prompt.context == context
    assert template.count("{context}") == 1 and "{input}" not in prompt.prefix


@pytest.mark.parametrize(
    ("dataset", "prefix", "suffix"),
    [
        ("lcc", "Please complete the code given below. \n", "Next line of code:\n"),
        ("repobench-p", "Please complete the code given below. \n", "Who?Next line of code:\n"),
        (
            "trec",
            "Please determine the type of the question below. Here are some examples of questions.\n\n",
            "\nWho?",
        ),
        (
            "samsum",
            "Summarize the dialogue into a few short sentences. The following are some examples.\n\n",
            "\n\nWho?",
        ),
    ],
)
def test_what_stands_around_the_context(dataset, prefix, suffix):
    assert PROTOCOLS[dataset].render("A text.", "Who?") == Prompt(prefix, "A text.", suffix, "Who?")


def test_misspellings_and_blanks_of_the_official_templates_are_kept():
    assert PROTOCOLS["narrativeqa"].template.count(" asconcisely as you can") == 2
    assert "\n\nArticle: {context}\n\n Answer the question" in PROTOCOLS["qasper"].template
    assert "summary of all news. \n\nNews:" in PROTOCOLS["multi_news"].template
    assert PROTOCOLS["passage_count"].template.endswith("The final answer is: ")
    assert PROTOCOLS["passage_retrieval_en"].template.endswith("The answer is: ")


@pytest.mark.parametrize(
    ("new_tokens", "datasets"),
    [
        (32, "hotpotqa 2wikimqa musique triviaqa passage_count passage_retrieval_en passage_retrieval_zh"),
        (64, "multifieldqa_en multifieldqa_zh trec lsht lcc repobench-p"),
        (128, "narrativeqa qasper dureader samsum"),
        (512, "gov_report qmsum multi_news vcsum"),
    ],
)
def test_answer_lengths(new_tokens, datasets):
    assert set(datasets.split()) == {n for n, p in PROTOCOLS.items() if p.new_tokens == new_tokens}


def test_the_sets_without_chat_template():
    without = {name for name, protocol in PROTOCOLS.items() if not protocol.chat}
    assert without == {"trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"}


def test_only_samsum_stops_at_a_newline(tmp_path):
    write(tmp_path, "samsum", row())
    [sample] = samples(tmp_path, "samsum")
    assert (sample.stop, sample.min_new_tokens, sample.new_tokens, sample.chat) == (("\n",), 1, 128, False)
    assert [name for name, protocol in PROTOCOLS.items() if protocol.stop] == ["samsum"]


def test_a_sample_from_a_folder(tmp_path):
    write(tmp_path, "hotpotqa", row(), row(_id="r2", answers="['you', \"they're\"]"))
    first, second = samples(tmp_path, "hotpotqa")
    assert first.id == "r1" and second.id == "r2"
    assert first.prompt == PROTOCOLS["hotpotqa"].render("A text.", "Who?")
    assert first.references == ("me",)
    assert second.references == ("you", "they're")  # a list written out as text
    assert first.metadata == {"length": 3}
    assert first.chat and first.stop == () and first.answer_prefix == ""


def test_ids_are_stable_and_unique(tmp_path):
    bare = {k: v for k, v in row().items() if k != "_id"}
    write(tmp_path, "qasper", bare, bare, row(), row(), row(_id="r1-1"), bare | {"context": "Other."})
    ids = [s.id for s in samples(tmp_path, "qasper")]
    assert len(set(ids)) == 6
    assert ids[1] == f"{ids[0]}-1"
    assert ids[2:5] == ["r1", "r1-1", "r1-1-1"]
    assert ids == [s.id for s in samples(tmp_path, "qasper")]
    write(tmp_path, "qasper", bare | {"context": "Other."})
    assert [s.id for s in samples(tmp_path, "qasper")] == [ids[5]]  # by content, wherever the row stands


def test_a_row_that_stands_again_is_told_once(tmp_path):
    write(tmp_path, "qasper", row(), row(_id="r2"), row(), row())
    told = []
    assert len(samples(tmp_path, "qasper", notify=told.append)) == 4
    file = tmp_path / "qasper.jsonl"
    assert told == [f"{file}, line 3: the same row as {file}, line 1; both are asked, and both count"]


def test_reading_stops_at_the_limit(tmp_path):
    write(tmp_path, "qasper", row(), row(_id="r2"), "no JSON")
    assert [s.id for s in samples(tmp_path, "qasper", limit=2)] == ["r1", "r2"]
    assert samples(tmp_path, "qasper", limit=0) == []


@pytest.mark.parametrize(
    ("dataset", "broken", "message"),
    [
        ("qasper", "{", r"qasper\.jsonl, line 3: not JSON"),
        ("qasper", "[]", "line 3: not a JSON object"),
        ("qasper", row(input=None), "line 3: field 'input' must be a string"),
        ("qasper", row(context=["a"]), "line 3: field 'context' must be a string"),
        ("qasper", row(answers="me"), "line 3: field 'answers' must be a list of strings"),
        ("qasper", row(answers="__import__('os')"), "line 3: field 'answers' must be a list of strings"),
        ("qasper", row(answers=[1]), "line 3: field 'answers' must be a list of strings"),
        ("trec", row(), "line 3: field 'all_classes' must be a list of strings"),
        ("qasper_e", row(length=None), "line 3: field 'length' must be a whole number"),
    ],
)
def test_a_broken_line_is_named(tmp_path, dataset, broken, message):
    write(tmp_path, dataset, row(all_classes=["me"]), "", broken)
    with pytest.raises(UsageError, match=message):
        samples(tmp_path, dataset)


def test_a_line_that_is_no_utf8_is_named(tmp_path):
    (tmp_path / "qasper.jsonl").write_bytes(json.dumps(row()).encode() + b'\n{"input": "\xff"}\n')
    with pytest.raises(UsageError, match=r"qasper\.jsonl, line 2: not JSON"):
        samples(tmp_path, "qasper")


def test_an_empty_or_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"longbench/qasper: cannot read .*qasper\.jsonl \(No such file"):
        samples(tmp_path, "qasper")
    write(tmp_path, "qasper", "")
    with pytest.raises(UsageError, match=r"qasper\.jsonl: no rows"):
        samples(tmp_path, "qasper")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that has the archive; what was asked of it is in the list."""
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("data/trec.jsonl", json.dumps(row(all_classes="['me', 'you']")) + "\n")
        file.writestr("data/qasper.jsonl", "{\n")
    asked = []

    def download(*names, **options):
        asked.append((*names, options))
        return str(archive)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return asked


@pytest.mark.parametrize("offline", [False, True])
def test_rows_from_the_archive(hub, offline):
    [sample] = samples(None, "trec", offline=offline)
    assert sample.metadata["all_classes"] == ["me", "you"]
    expected = {"repo_type": "dataset", "revision": None, "local_files_only": offline}
    assert hub == [("THUDM/LongBench", "data.zip", expected)]
    assert LongBench.fetch(offline=offline).name == "data.zip"


def test_what_is_wrong_with_the_archive_is_said(hub, tmp_path):
    with pytest.raises(UsageError, match=r"data\.zip:data/qasper\.jsonl, line 1: not JSON"):
        samples(None, "qasper")
    with pytest.raises(UsageError, match=r"no data/lcc\.jsonl in"):
        samples(None, "lcc")
    (tmp_path / "data.zip").write_text("no archive")
    with pytest.raises(UsageError, match="fetch it again"):
        samples(None, "trec")


@pytest.mark.parametrize("offline", [False, True])
def test_without_data_one_line_says_what_to_do(monkeypatch, offline):
    def download(*names, **options):
        raise ConnectionError("first\nsecond")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(UsageError) as caught:
        samples(None, "trec", offline=offline)
    message = str(caught.value)
    assert "\n" not in message and "--data-dir" in message and "harness data fetch longbench" in message
    assert ("--offline" in message) is offline


def test_scoring_a_sample(tmp_path):
    write(tmp_path, "trec", row(answers=["Food"], all_classes=["Food", "Date"]))
    [sample] = samples(tmp_path, "trec")
    assert task("trec").score(sample, "\nFood\nDate") == {"score": 1.0}
    assert task("trec").score(sample, "Food, Date") == {"score": 0.5}


@pytest.mark.parametrize("dataset", LONGBENCH_E)
def test_longbench_e_is_asked_and_scored_like_its_base_set(tmp_path, dataset):
    name = dataset.removesuffix("_e")
    answer = "Paragraph 3" if name == "passage_retrieval_en" else "3"
    for which in (name, dataset):
        write(tmp_path, which, row(answers=[answer], all_classes=["3", "4"]))
    [of_base], [of_e] = samples(tmp_path, name), samples(tmp_path, dataset)
    assert of_e == of_base
    for prediction in ("3", "3 or 4", "none"):
        assert task(dataset).score(of_e, prediction) == task(name).score(of_base, prediction)


def test_longbench_e_by_length():
    def scored(length, score):
        return ScoredSample("x", {"score": score}, {"length": length})

    some = [scored(0, 0.0), scored(3999, 1.0), scored(4000, 0.25), scored(7999, 0.75), scored(8000, 1.0)]
    assert task("trec_e").breakdown(some) == {"0-4k": 0.5, "4-8k": 0.5, "8k+": 1.0}
    assert task("trec_e").breakdown(some[:1]) == {"0-4k": 0.0}  # no bucket without samples
    assert task("trec").breakdown(some) == {}


def test_averages_are_over_sets_and_only_when_complete():
    means = {dataset: index / 100 for index, dataset in enumerate(PAPER_SETS)}
    averages = LongBench.averages(means)
    assert list(averages) == ["SingleDoc", "MultiDoc", "Summary", "FewShot", "Code", "Avg"]
    assert averages["SingleDoc"] == pytest.approx(0.01)
    assert averages["Code"] == pytest.approx(0.125)
    assert averages["Avg"] == pytest.approx(0.065)  # over fourteen sets; over five categories it is 0.069
    del means["qmsum"]
    assert list(LongBench.averages(means)) == ["SingleDoc", "MultiDoc", "FewShot", "Code"]
    assert LongBench.averages({"trec": 1.0, "trec_e": 1.0}) == {}


def test_the_thesis_baseline_is_a_mean_over_sets():
    """Table 4.1, Llama-2-7B-chat: the five categories give 36.83 only when sets are weighed."""
    table = {"SingleDoc": 24.12, "MultiDoc": 23.3, "Summary": 24.45, "FewShot": 63.11, "Code": 55.33}
    means = {
        dataset: table[category] / 100 for category, datasets in CATEGORIES.items() for dataset in datasets
    }
    averages = LongBench.averages(means)
    assert round(100 * averages["Avg"], 2) == 36.83
    assert round(100 * averages["FewShot"], 2) == 63.11


def test_samples_to_score_from_lines():
    sample = LongBench.sample_from_row("lsht", {"id": 7, "answers": ["a"], "all_classes": ["a", "b"]})
    assert (sample.id, sample.references, sample.metadata) == ("7", ("a",), {"all_classes": ["a", "b"]})
    with pytest.raises(UsageError, match="'all_classes'"):
        LongBench.sample_from_row("trec", {"answers": ["a"]})
    with pytest.raises(UsageError, match="'answers'"):
        LongBench.sample_from_row("qasper", {"answers": "a"})
    with pytest.raises(UsageError, match="name one"):
        LongBench.sample_from_row(None, {"answers": ["a"]})


@pytest.mark.skipif(importlib.util.find_spec("jieba") is None, reason="needs the extra zh")
def test_chinese_metrics():
    def score(dataset, prediction, answer):
        return task(dataset).score(LongBench.sample_from_row(dataset, {"answers": [answer]}), prediction)[
            "score"
        ]

    assert score("multifieldqa_zh", "北京。", "北京，") == 1.0  # Chinese punctuation does not count
    assert score("multifieldqa_zh", "。", "，") == 0.0
    assert score("vcsum", "我爱北京", "我爱北京") == pytest.approx(2 / (2 + 1e-8), abs=1e-12)
    assert score("dureader", "天气", "北京") == 0.0


def test_chinese_sets_without_jieba(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for dataset in ("multifieldqa_zh", "dureader", "vcsum"):
        with pytest.raises(UsageError, match=r"pip install 'long-context-harness\[zh\]'"):
            task(dataset)
    for dataset in ("lsht", "passage_retrieval_zh", "trec"):
        task(dataset)


def test_nothing_is_fetched_before_the_first_sample(hub):
    iterator = iter(task("trec").samples(environment()))
    assert hub == []
    next(iterator)
    assert len(hub) == 1


# --- rows that are not what they seem


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("['Paris' 'Lyon']", ("Paris", "Lyon")),
        ("['Ada Lovelace'\n 'A. Lovelace']", ("Ada Lovelace", "A. Lovelace")),
        ("['a', \"b's\"]", ("a", "b's")),
        ("['one']", ("one",)),
        ("['a' 'b', 'c']", ("a", "b", "c")),
    ],
)
def test_a_list_that_numpy_wrote_out_is_as_many_answers_as_it_was(written, read):
    assert data.text_list(written, "answers") == read


@pytest.mark.parametrize("written", ["[['a' 'b']]", "['a' ...]", "Paris", "array(['a'], dtype=object)"])
def test_what_is_no_list_of_strings_is_refused(written):
    with pytest.raises(UsageError, match="must be a list of strings"):
        data.text_list(written, "answers")


@pytest.mark.parametrize(
    ("dataset", "answers", "scores"),
    [
        ("hotpotqa", [], False),
        ("hotpotqa", [""], False),
        ("hotpotqa", ["..."], False),
        ("hotpotqa", ["The"], False),
        ("hotpotqa", ["", "blue"], True),
        ("trec", ["Datum"], False),
        ("trec", ["Date"], True),
        ("passage_retrieval_en", ["12"], False),
        ("passage_retrieval_en", ["Paragraph 12"], True),
        ("passage_count", ["many"], False),
        ("gov_report", ["."], False),
        ("gov_report", ["a b"], True),
        ("lcc", ["# a comment"], True),
    ],
)
def test_rows_on_which_nobody_could_score(dataset, answers, scores):
    assert official.unanswerable(dataset, answers, ["Date", "Other"]) is not scores


def test_rows_nobody_can_get_right_are_counted_and_named_before_anything_is_asked(tmp_path):
    rows = [
        {"_id": str(i), "input": "?", "context": "c", "answers": [["x"], [""], ["a"]][i % 3]}
        for i in range(6)
    ]
    (tmp_path / "hotpotqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match=r"hotpotqa\.jsonl, line 2: no answer can score here.* 4 of 6 rows"):
        samples(tmp_path, "hotpotqa")
    assert len(samples(tmp_path, "hotpotqa", limit=1)) == 1, "what is not asked does not matter"


@pytest.mark.parametrize("field", ["_id", "input", "context", "answers"])
def test_half_a_character_is_named_by_file_and_line(tmp_path, field):
    row = {"_id": "1", "input": "?", "context": "c", "answers": ["x"]}
    row[field] = ["\ud83d"] if field == "answers" else "a \udc00"
    (tmp_path / "hotpotqa.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UsageError, match=rf"hotpotqa\.jsonl, line 1: field '{field}' holds half a character"):
        samples(tmp_path, "hotpotqa")
    (tmp_path / "hotpotqa.jsonl").write_text(
        json.dumps({**row, field: "\U0001f600"} | {"answers": ["x"]}) + "\n"
    )
    assert len(samples(tmp_path, "hotpotqa")) == 1
