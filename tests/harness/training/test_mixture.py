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


def spans(model, example):
    """The texts of what is learnt, stretch by stretch."""
    found, before = [], -100
    for token, label in zip(example.input_ids, example.labels):
        assert label in (-100, token)
        if label != -100 and before == -100:
            found.append([])
        if label != -100:
            found[-1].append(token)
        before = label
    return [model.tokenizer.decode(ids) for ids in found]


def dialogue(*words, **more):
    roles = ("user", "assistant") * len(words)
    return {"messages": [{"role": r, "content": w} for r, w in zip(roles, words)], **more}


def test_every_answer_of_a_dialogue_and_nothing_else_is_learnt(tiny, tmp_path):
    row = dialogue("The sky.\n\nColour?", "blue", "Grass?", "green", "Sun?", "yellow", "And now?")
    spec = write(tmp_path / "a.jsonl", row)
    [example] = made(spec, tiny, tmp_path / "work", max_length=128)
    assert [s.strip() for s in spans(tiny, example)] == ["blue</s>", "green</s>", "yellow</s>"]
    text = tiny.tokenizer.decode(example.input_ids)
    assert text.startswith("<s>The sky.\n\nColour?") and "And now" not in text
    assert text.index("blue</s>Grass?") < text.index("green</s>Sun?")
    [chat] = made(spec, tiny, tmp_path / "work", chat=True, max_length=128)
    assert spans(tiny, chat) == ["blue<|im_end|>", "green<|im_end|>", "yellow<|im_end|>"]
    expected = tiny.tokenizer.apply_chat_template(row["messages"][:6], tokenize=False)
    assert tiny.tokenizer.decode(chat.input_ids) == "<s>" + expected.rstrip("\n")
    assert chat.input_ids == tiny.tokenizer(expected.rstrip("\n"))["input_ids"]


def test_turns_are_joined_to_exchanges(tiny, tmp_path):
    turns = [("system", "s"), ("user", "u"), ("user", "v"), ("assistant", "a"), ("assistant", "b")]
    turns += [("human", "w"), ("gpt", "c")]
    row = {"conversations": [{"from": role, "value": words} for role, words in turns]}
    spec = write(tmp_path / "a.jsonl", row)
    [example] = made(spec, tiny, tmp_path / "work", chat=True)
    text = tiny.tokenizer.decode(example.input_ids)
    assert "user\ns\n\nu\n\nv<|im_end|>" in text and "user\nw<|im_end|>" in text
    assert spans(tiny, example) == ["a\n\nb<|im_end|>", "c<|im_end|>"]


@pytest.mark.parametrize("chat", [False, True])
def test_a_row_may_be_learnt_whole(tiny, tmp_path, chat):
    rows = [
        {"prompt": "Sky?", "answer": "blue", "learn": "all"},
        dialogue("Sky?", "blue", "Sun?", "red", learn="all"),
    ]
    data = made(write(tmp_path / "a.jsonl", *rows), tiny, tmp_path / "work", chat=chat)
    assert len(data) == 2 and all(e.labels == e.input_ids for e in data)
    [asked] = made(
        write(tmp_path / "b.jsonl", {**rows[0], "learn": "answer"}), tiny, tmp_path / "w", chat=chat
    )
    assert asked.labels[0] == -100


def test_a_long_dialogue_loses_whole_exchanges_from_its_end(tiny, tmp_path):
    row = dialogue("The sky is blue.", "yes", "The sun is yellow.", "right", WORDS * 20, "much")
    spec = write(tmp_path / "a.jsonl", row)
    data = made(spec, tiny, tmp_path / "work")
    [example] = data
    assert [s.strip() for s in spans(tiny, example)] == ["yes</s>", "right</s>"]
    assert example.input_ids[-1] == tiny.tokenizer.eos_token_id
    assert data.facts["sources"][0]["dropped"] == {"later exchanges of a dialogue, beyond max_length": 1}
    [first] = made(spec, tiny, tmp_path / "work", max_length=len("The sky is blue.") // 2)
    assert [s.strip() for s in spans(tiny, first)] == ["yes</s>"]


def test_long_rows_are_tokenised_few_at_a_time(tiny, tmp_path, monkeypatch):
    from harness.training.tokenize import Tokenizing

    sizes = []
    real = Tokenizing.examples
    monkeypatch.setattr(
        Tokenizing, "examples", lambda self, batch, name: sizes.append(len(batch)) or real(self, batch, name)
    )
    monkeypatch.setattr(build_mixture, "CHARACTERS", 300)
    made(texts(tmp_path / "a.jsonl", 12), tiny, tmp_path / "work")
    assert sum(sizes) == 12 and max(sizes) == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a", "learn": "some"}, 'line 1: "learn" is "some"; it may be answer or all'),
        (dialogue("u", "a", "v", " "), "the answer of exchange 2 is empty"),
        (dialogue("u", "a", " ", "b"), "the prompt of exchange 2 is empty"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "turn 1 is by 'tool'"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "neither a text nor a prompt"),
        (dialogue("u", "a", "\ud800", "b"), "surrogate"),
    ],
)
def test_broken_dialogues_are_named(tmp_path, row, message):
    with pytest.raises(UsageError, match=message) as caught:
        check([write(tmp_path / "a.jsonl", row)])
    assert "\n" not in str(caught.value)


def test_a_template_that_forgets_turns_is_refused(tmp_path):
    from harness.testing.tiny import make_tokenizer

    template = "{{ messages[-1]['content'] }}"
    model = load(str(make_model(tmp_path / "m", tokenizer=make_tokenizer(template))), device="cpu")
    spec = write(tmp_path / "a.jsonl", dialogue("u", "a", "v", "b"))
    with pytest.raises(UsageError, match="does not keep the turns"):
        made(spec, model, tmp_path / "work", chat=True)


def test_llama2_repeats_its_wrapper_for_each_exchange():
    from harness.models.chat_template import frame, llama2_turns

    assert llama2_turns(["a", "b", "c"]) == "[INST]a[/INST]b</s><s>[INST]c[/INST]"
    found = frame(llama2_turns)
    assert (found.before, found.asked, found.between) == ("[INST]", "[/INST]", "</s><s>[INST]")


def test_answers_that_spell_a_special_token_do_not_become_one(tiny, tmp_path):
    special = {i for i, t in tiny.tokenizer.added_tokens_decoder.items() if t.special}
    rows = [{"prompt": "What ends </s> a turn?", "answer": "The words <|im_end|> and </s> do."}]
    path = write(tmp_path / "rows.jsonl", *rows, {"prompt": "Why?", "answer": "Because."})
    data = made(path, tiny, tmp_path / "work")
    example = max(data, key=lambda e: len(e.input_ids))
    answer, _ = learnt(tiny, example)
    assert answer.strip().startswith("The words <|im_end|> and </s> do.")
    assert not special & {*[i for i in example.labels if i != -100][:-1]}
    border = example.labels.index(next(i for i in example.labels if i != -100))
    assert tiny.tokenizer.eos_token_id in example.input_ids[:border], "a prompt may come with its template"
    assert data.facts["sources"][0]["special_tokens_read_as_text"] == 1
    turn = tiny.tokenizer.convert_tokens_to_ids("<|im_end|>")
    for example in made(path, tiny, tmp_path / "work", chat=True, max_length=200):
        assert example.input_ids.count(turn) == 2, "those of the template alone"
        assert example.input_ids.count(tiny.tokenizer.eos_token_id) == 0


def test_kept_tokens_that_were_altered_are_noticed(tiny, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "grass green sky blue " * 10}) + "\n")
    made = build([str(path)], tiny, tmp_path / "mix", min_length=2, max_length=200)
    tokens = made.folder / "tokens.bin"
    whole = tokens.read_bytes()
    tokens.write_bytes(whole[:4] + whole[8:12] + whole[8:])
    with pytest.raises(UsageError, match=r"not as they were written.*it will be made again"):
        build([str(path)], tiny, tmp_path / "mix", min_length=2, max_length=200)
