"""The JSON schemas in the docs: made from the record's types, up to date, and true of what a run writes."""

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from harness import UsageError
from harness.contracts.run_file import RunFile
from harness.results.loading import load_run
from harness.results.run_folder import RUN, SAMPLES, SCHEMA, RunFolder
from harness.results.schemas import SCHEMAS, attributes

from ...helpers.making import failed, grid, record, write_run
from ...helpers.running import counting, run, settings, with_toy

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "schemas"


def wrong(kind, value):
    return [
        f"{'.'.join(map(str, e.path))}: {e.message}"
        for e in Draft202012Validator(SCHEMAS[kind]()).iter_errors(value)
    ]


def test_what_runs_write_keeps_to_the_schemas(tmp_path, tiny_folder, monkeypatch):
    """A run with an answer, one that fails, and several questions over a context; from files and from memory."""
    with_toy(monkeypatch)
    seen = []

    def before(prompts):
        seen.append(prompts)
        if len(seen) == 2:
            raise RuntimeError("no room")

    counting(monkeypatch, before)
    result, _ = run(settings(tiny_folder, tmp_path, method="own", tasks=("toy",)))
    content = json.loads((result.folder.path / RUN).read_text("utf-8"))
    assert wrong("run", content) == [] and content["status"] == "finished with failures"
    assert not set(content) - set(RunFile.__annotations__), "a field of run.json that its types do not have"
    lines = [json.loads(line) for line in (result.folder.path / SAMPLES).read_text("utf-8").splitlines()]
    assert [line["status"] for line in lines] == ["ok", "error", "ok", "ok"]
    assert [wrong("sample", line) for line in lines] == [[]] * 4
    made = write_run(tmp_path / "made", "two_pass", [*grid(0.5), failed("passkey", "x")])
    assert wrong("run", json.loads((made / RUN).read_text("utf-8"))) == []
    for line in (made / SAMPLES).read_text("utf-8").splitlines():
        assert wrong("sample", json.loads(line)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": {"accuracy": "1"}}, "scores.accuracy: '1' is not of type 'number'"),
        ({"scores": {"accuracy": 1.5}}, "scores.accuracy: 1.5 is greater than the maximum"),
        ({"status": "maybe"}, "status: 'maybe' is not one of"),
        ({"crc32": "xyz"}, "crc32: 'xyz' does not match"),
        ({"measured": {"kv_tokens": "many"}}, "measured.kv_tokens"),
        ({"id": None}, "id: None is not of type 'string'"),
    ],
)
def test_a_line_that_is_none_is_refused(change, words):
    line = {**record("passkey", "a", {"accuracy": 1.0}), **change}
    assert any(words in found for found in wrong("sample", line)), wrong("sample", line)


def test_a_finished_sample_has_its_scores():
    assert any(
        "'scores' is a required property" in w
        for w in wrong("sample", {"id": "a", "task": "t", "status": "ok"})
    )
    assert wrong("sample", {"id": "a", "task": "t", "status": "error"}) == []


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_in_the_docs_are_these(name):
    found = json.loads((FOLDER / f"{name}.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(found)
    assert found == SCHEMAS[name](), "run python tools/docs.py"
    assert found["$id"].endswith(f":{SCHEMA}")


def test_fields_have_the_words_of_their_docstrings():
    fields = SCHEMAS["sample"]()["properties"]
    assert fields["prompt_hash"]["description"].startswith("Sixteen hex digits")
    assert "declared" in fields and not {"extra", "answer_sought", "declared_kv_tokens"} & set(fields)
    assert attributes("One.\n\nAttributes\n----------\na, b\n    Two\n    words.\nc\n    More.\n") == {
        "a": "Two words.",
        "b": "Two words.",
        "c": "More.",
    }


def test_a_run_of_another_schema_is_one_line(tmp_path):
    folder = RunFolder(write_run(tmp_path, "plain", grid(0.5)))
    folder.write_run({**folder.read_run(), "schema": 2})
    with pytest.raises(UsageError, match=r"no run of this version of the harness: its schema is 2, not 1"):
        load_run(folder.path)
    assert wrong("run", folder.read_run()) != []


@pytest.mark.parametrize(("kind", "heading"), [("run", "### run.json"), ("sample", "### samples.jsonl")])
def test_the_page_on_records_has_every_field(kind, heading):
    page = (FOLDER.parent / "records.md").read_text("utf-8").partition(heading)[2].partition("\n#")[0]
    named = set(re.findall(r"`(\w+)`", page))
    assert set(SCHEMAS[kind]()["properties"]) <= named
