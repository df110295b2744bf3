"""The training data: what is read, what is learnt of it, what is refused, and that it is kept."""

import json
from types import SimpleNamespace

import pytest

from harness.errors import UsageError
from harness.models.loading import load
from harness.testing.tiny import make_model
from harness.training import build_mixture
from harness.training.build_mixture import build, check
from harness.training.tokenize import SEPARATORS

WORDS = "The grass is green. The sky is blue. "


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def texts(path, count, repeat=4):
    return write(path, *({"text": f"{number}. " + WORDS * repeat} for number in range(count)))


def made(specs, model, folder, **changes):
    specs = [specs] if isinstance(specs, str) else specs
    return build(specs, model, folder, **{"min_length": 1, "max_length": 64, **changes})


def learnt(model, example):
    """The text of what is learnt, and of what is not."""
    border = sum(label == -100 for label in example.labels)
    assert example.labels == [-100] * border + example.input_ids[border:]
    return model.tokenizer.decode(example.input_ids[border:]), model.tokenizer.decode(
        example.input_ids[:border]
    )


def test_a_text_is_truncated_and_learnt_as_a_whole(tiny, tmp_path):
    text = WORDS * 20
    whole = tiny.tokenizer(text)["input_ids"]
    data = made(write(tmp_path / "a.jsonl", {"text": text}), tiny, tmp_path / "work")
    assert len(data) == 1 and len(whole) > 64
    assert data[0].input_ids == whole[:64] == data[0].labels
    assert data[0].input_ids[0] == tiny.tokenizer.bos_token_id


def test_split_keeps_all_of_a_long_text_but_a_short_remainder(tiny, tmp_path):
    text = WORDS * 20
    bos, *body = tiny.tokenizer(text)["input_ids"]
    spec = write(tmp_path / "a.jsonl", {"text": text})
    data = made(spec, tiny, tmp_path / "work", split=True)
    by_place = sorted(
        data,
        key=lambda e: next(
            i for i in range(len(body)) if body[i:][: len(e.input_ids) - 1] == e.input_ids[1:]
        ),
    )
    assert all(example.input_ids[0] == bos for example in data)
    assert sum(len(example.input_ids) - 1 for example in by_place) == len(body)
    rest = len(body) % 63
    assert rest
    shorter = made(spec, tiny, tmp_path / "work", split=True, min_length=rest + 2)
    assert len(shorter) == len(data) - 1 and set(shorter.lengths) == {64}
    assert list(shorter.facts["sources"][0]["dropped"].values()) == [1]


def test_only_the_answer_of_a_pair_is_learnt(tiny, tmp_path):
    rows = [{"prompt": f"Question {n}:", "answer": f"blue {n}"} for n in range(30)]
    data = made(write(tmp_path / "a.jsonl", *rows), tiny, tmp_path / "work")
    answers, borders = set(), set()
    for example in data:
        answer, prompt = learnt(tiny, example)
        whole = prompt.removeprefix("<s>") + answer.removesuffix("</s>")
        [row] = [r for r in rows if whole.startswith(r["prompt"]) and whole.endswith(r["answer"])]
        assert answer.strip().startswith("blue") and answer.endswith("</s>")
        borders.add(whole[len(row["prompt"]) : -len(row["answer"])])
        answers.add(row["answer"])
    assert answers == {row["answer"] for row in rows}
    assert borders == set(SEPARATORS)
    assert data.facts["sources"][0]["labelled"] == sum(i != -100 for e in data for i in e.labels)


def test_a_long_prompt_loses_its_middle_and_the_answer_stays(tiny, tmp_path):
    row = {"prompt": "START " + WORDS * 20 + " END", "answer": "The passkey is 12345."}
    [example] = made(write(tmp_path / "a.jsonl", row), tiny, tmp_path / "work")
    answer, prompt = learnt(tiny, example)
    assert len(example.input_ids) == 64
    assert answer.strip() == "The passkey is 12345.</s>"
    assert prompt.startswith("<s>START") and prompt.rstrip().endswith("END")


def test_an_answer_that_does_not_fit_is_dropped_and_counted(tiny, tmp_path):
    spec = write(tmp_path / "a.jsonl", {"prompt": "a", "answer": WORDS * 20}, {"prompt": "a", "answer": "b"})
    data = made(spec, tiny, tmp_path / "work")
    assert len(data) == 1
    assert data.facts["sources"][0]["dropped"] == {"answer longer than max_length": 1}


def test_chat_wraps_the_prompt_and_ends_the_turn(tiny, tmp_path):
    spec = write(tmp_path / "a.jsonl", {"prompt": "Sky?", "answer": "blue"}, {"text": WORDS})
    data = made(spec, tiny, tmp_path / "work", chat=True)
    [pair] = [e for e in data if -100 in e.labels]
    answer, prompt = learnt(tiny, pair)
    assert answer == "blue<|im_end|>"
    assert prompt == "<s><|im_start|>user\nSky?<|im_end|>\n<|im_start|>assistant\n"
    assert len(data) == 2


def test_chat_without_a_template_is_refused(tmp_path, folder):
    model = load(str(folder), device="cpu", chat="never")
    with pytest.raises(UsageError, match="no chat template"):
        made(texts(tmp_path / "a.jsonl", 1), model, tmp_path / "work", chat=True)


def test_a_bos_in_the_text_is_not_doubled(tiny, tmp_path):
    data = made(write(tmp_path / "a.jsonl", {"text": "<s>" + WORDS}), tiny, tmp_path / "work")
    assert data[0].input_ids.count(tiny.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        ({"prompt": "p", "output": "a"}, "p", "a"),
        ({"instruction": "i", "input": "x", "output": "a"}, "i\n\nx", "a"),
        ({"instruction": "i", "input": "", "output": "a"}, "i", "a"),
        ({"input": "x", "output": "a"}, "x", "a"),
        ({"instruction": "i", "output": "a", "text": "all"}, "i", "a"),
        ({"question": "q", "answer": "a"}, "q", "a"),
        ({"context": "c", "question": "q", "answer": "a"}, "c\n\nq", "a"),
        ({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}, "u", "a"),
        (
            {
                "conversations": [
                    {"from": "system", "value": "s"},
                    {"from": "human", "value": "u"},
                    {"from": "gpt", "value": "a"},
                    {"from": "human", "value": "more"},
                ]
            },
            "s\n\nu",
            "a",
        ),
    ],
)
def test_known_fields(tiny, tmp_path, row, prompt, answer):
    [example] = made(write(tmp_path / "a.jsonl", row), tiny, tmp_path / "work")
    end, begin = learnt(tiny, example)
    whole = begin.removeprefix("<s>") + end.removesuffix("</s>")
    assert whole in [prompt + separator + answer for separator in SEPARATORS]
    assert end.strip() == answer + "</s>"


def test_a_count_draws_without_replacement_by_seed(tiny, tmp_path):
    spec = texts(tmp_path / "a.jsonl", 40)

    def drawn(seed):
        data = made(f"{spec}:10", tiny, tmp_path / "work", seed=seed)
        assert data.facts["sources"][0]["lines"] == 40 and data.facts["sources"][0]["taken"] == 10
        return [tuple(example.input_ids) for example in data]

    assert len(set(drawn(1))) == 10
    assert drawn(1) == drawn(1)
    assert set(drawn(1)) != set(drawn(2))


def test_a_count_is_of_usable_rows(tiny, tmp_path):
    rows = [{"text": WORDS * (4 if number % 2 else 1)} for number in range(20)]
    data = made(f"{write(tmp_path / 'a.jsonl', *rows)}:8", tiny, tmp_path / "work", min_length=40)
    source = data.facts["sources"][0]
    assert len(data) == 8 == source["taken"]
    assert source["read"] == 8 + source["dropped"]["shorter than min_length"]


def test_sources_are_mixed_and_told_apart(tiny, tmp_path):
    write(tmp_path / "synth" / "data.jsonl", *({"prompt": f"p{n}", "answer": "a"} for n in range(20)))
    seen = []
    data = made(
        [texts(tmp_path / "a.jsonl", 20), f"{tmp_path / 'synth'}/:10"],
        tiny,
        tmp_path / "work",
        progress=lambda done, total: seen.append((done, total)),
    )
    sources = [example.source for example in data]
    assert sorted(sources) == [0] * 20 + [1] * 10 and sources != sorted(sources)
    assert all((-100 in example.labels) == bool(example.source) for example in data)
    assert [len(example.input_ids) for example in data] == list(data.lengths)
    assert sum(data.lengths) == data.facts["tokens"] == sum(s["tokens"] for s in data.facts["sources"])
    assert seen[-1] == (30, 30) and seen == sorted(seen)
    json.dumps(data.facts)
    with pytest.raises(IndexError):
        data[len(data)]


def test_the_same_request_is_not_tokenised_twice(tiny, tmp_path, monkeypatch):
    spec = texts(tmp_path / "a.jsonl", 5)
    first = made(spec, tiny, tmp_path / "work")
    other = texts(tmp_path / "moved" / "b.jsonl", 5)  # the same content under another name
    monkeypatch.setattr(build_mixture, "_write", None)
    again = made(other, tiny, tmp_path / "work")
    assert list(again) == list(first) and again.facts["sources"][0]["given"] == other
    for change in ({"seed": 1}, {"max_length": 32}, {"min_length": 2}, {"split": True}, {"chat": True}):
        with pytest.raises(TypeError):
            made(spec, tiny, tmp_path / "work", **change)
    with pytest.raises(TypeError):
        made(f"{spec}:4", tiny, tmp_path / "work")


def test_another_tokenizer_is_another_mixture(tiny, tmp_path):
    from harness.testing.tiny import make_tokenizer

    spec = texts(tmp_path / "a.jsonl", 2)
    other = load(
        str(make_model(tmp_path / "other", tokenizer=make_tokenizer(eos_token="<|im_end|>"))), device="cpu"
    )
    assert made(spec, tiny, tmp_path / "work").folder != made(spec, other, tmp_path / "work").folder


def test_an_interrupted_build_leaves_nothing(tiny, tmp_path):
    spec = texts(tmp_path / "a.jsonl", 40)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(spec, tiny, tmp_path / "work", progress=stop)
    assert not list((tmp_path / "work").iterdir())
    assert len(made(spec, tiny, tmp_path / "work")) == 40


def test_damage_is_named(tiny, tmp_path):
    spec = texts(tmp_path / "a.jsonl", 3)
    kept = made(spec, tiny, tmp_path / "work").folder
    (kept / "tokens.bin").write_bytes((kept / "tokens.bin").read_bytes()[:-4])
    with pytest.raises(UsageError, match="damaged"):
        made(spec, tiny, tmp_path / "work")


GOOD = b'{"text": "a"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (GOOD + b'{"text": \n', "line 2: not JSON"),
        (GOOD + b"\n[1]\n", "line 3: not a JSON object"),
        (GOOD + b'{"title": "x"}\n', "line 2: neither a text nor a prompt.*title"),
        (GOOD + b'{"text": 3}\n', "line 2: neither"),
        (b'{"prompt": "p", "answer": " "}\n', "line 1: the answer is empty"),
        (b'{"prompt": "", "answer": "a"}\n', "line 1: the prompt is empty"),
        (GOOD + b'{"text": "\xff"}\n', "line 2: not UTF-8"),
        (b'{"text": "\\ud800"}\n', "line 1: holds half"),
    ],
)
def test_broken_files_are_named_with_the_line(tiny, tmp_path, content, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    for attempt in (lambda: check([str(path)]), lambda: made(f"{path}", tiny, tmp_path / "work")):
        with pytest.raises(UsageError, match=message) as caught:
            attempt()
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_broken_line_is_found_even_if_it_is_not_drawn(tiny, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD * 50 + b"{\n")
    check([f"{path}:1"])  # the first lines are well-formed
    with pytest.raises(UsageError, match="line 51: not JSON"):
        made(f"{path}:1", tiny, tmp_path / "work")


def test_a_byte_order_mark_does_no_harm(tiny, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") * 2)
    assert len(made(str(tmp_path / "a.jsonl"), tiny, tmp_path / "work")) == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("none.jsonl", "no such file or folder"),
        ("none.jsonl:5", "no such file or folder"),
        ("none/", "no such file or folder"),
        ("redpajama", "SOURCE"),
        ("", "SOURCE"),
        ("hub:alone", "SOURCE"),
        ("a.jsonl:0", "at least 1"),
        ("a.jsonl:many", "'many' is not a number"),
        ("bare:5", "holds no data.jsonl"),
    ],
)
def test_specs_that_name_nothing(tmp_path, monkeypatch, spec, message):
    monkeypatch.chdir(tmp_path)
    texts(tmp_path / "a.jsonl", 1)
    (tmp_path / "bare").mkdir()
    with pytest.raises(UsageError, match=message) as caught:
        check([spec])
    assert "\n" not in str(caught.value)


def test_no_source_at_all(tiny, tmp_path):
    for attempt in (lambda: check([]), lambda: made([], tiny, tmp_path)):
        with pytest.raises(UsageError, match="no training data"):
            attempt()


def test_a_count_beyond_the_file_says_how_many_there_are(tiny, tmp_path):
    with pytest.raises(UsageError, match="has only 3 lines"):
        made(f"{texts(tmp_path / 'a.jsonl', 3)}:4", tiny, tmp_path / "work")


def test_nothing_long_enough_says_how_many_were_dropped(tiny, tmp_path):
    spec = texts(tmp_path / "a.jsonl", 3)
    with pytest.raises(UsageError, match="3 shorter than min_length"):
        build([spec], tiny, tmp_path / "work")
    assert not list((tmp_path / "work").iterdir())


def test_lengths_that_contradict_are_refused(tiny, tmp_path):
    with pytest.raises(UsageError, match="from 65 to 64"):
        made(texts(tmp_path / "a.jsonl", 1), tiny, tmp_path / "work", min_length=65)


class Stream(list):
    """The two things of a streamed data set that are used."""

    def shuffle(self, seed, buffer_size):
        return Stream(sorted(self, key=lambda row: (hash(row["text"]), seed)))


@pytest.fixture
def hub(monkeypatch):
    import datasets
    import huggingface_hub

    asked = []

    def load_dataset(*names, **options):
        asked.append((names, options))
        return Stream({"text": f"{n} {WORDS}"} for n in range(6))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    api = SimpleNamespace(dataset_info=lambda name: SimpleNamespace(sha="c0ffee"))
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    return asked


def test_a_data_set_of_the_hub_is_streamed_at_a_fixed_revision(tiny, tmp_path, hub):
    check(["hub:owner/name/small@validation:4"])
    seen = []
    data = made(
        "hub:owner/name/small@validation:4", tiny, tmp_path / "work", progress=lambda *told: seen.append(told)
    )
    options = {"split": "validation", "streaming": True, "revision": "c0ffee"}
    assert hub == [(("owner/name", "small"), options)]
    assert len(data) == 4 and data.facts["sources"][0]["revision"] == "c0ffee" and seen[-1] == (4, None)
    made("hub:owner/name", tiny, tmp_path / "work")
    assert hub[1] == (("owner/name", None), {**options, "split": "train"})


def test_the_hub_has_too_few_rows_or_may_not_be_asked(tiny, tmp_path, hub):
    with pytest.raises(UsageError, match="only 6 rows"):
        made("hub:owner/name:7", tiny, tmp_path / "work")
    with pytest.raises(UsageError, match="nothing may be fetched"):
        made("hub:owner/name", tiny, tmp_path / "work", offline=True)


def test_a_hub_that_does_not_answer_is_one_line(tiny, tmp_path):
    with pytest.raises(UsageError, match="cannot be read from the Hub") as caught:
        made("hub:owner/name", tiny, tmp_path / "work")
    assert "\n" not in str(caught.value)
