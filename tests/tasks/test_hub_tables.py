"""Rows that the hub has as tables or files: asked for at a pinned revision, which is part of a run's identity."""

import datasets
import pytest

from harness import UsageError, registry
from harness.tasks.mrcr.rows import openai_files
from harness.tasks.scbench.rows import located

from ..helpers.official import environment

SHORT = {"input": "A.", "qa_pairs": "[{'Q': 'Who?', 'A': 'me'}]"}
WINDOW = {"id": 1, "context_window_id": 1, "context_window_text": "T.", "question": "Q?", "answer": "[7]"}


@pytest.fixture
def hub(monkeypatch):
    """A hub whose tables have three equal rows but for their ids; what was asked of it is in the list."""
    asked = []

    def load(repository, config, split, revision, download_config):
        asked.append((repository, config, split, revision, download_config.local_files_only))
        row = SHORT if "LooGLE" in repository else WINDOW
        return datasets.Dataset.from_list([{**row, "id": n} for n in range(3)])

    monkeypatch.setattr("datasets.load_dataset", load)
    return asked


@pytest.mark.parametrize(
    ("name", "config", "counted"),
    [("loogle/shortdep_qa", "shortdep_qa", 0), ("oolong/synth", None, 1), ("oolong/real", "dnd", 0)],
)
def test_a_table_is_read_at_its_revision(hub, name, config, counted):
    [task] = registry.tasks([name], {})
    told = []
    found = list(task.samples(environment(None, limit=2, notify=told.append)))
    [(repository, asked_config, split, revision, alone)] = hub
    assert len(found) == 2 and (asked_config, split, alone) == (config, "test", True)
    assert len(revision) == 40 and task.facts() == {"data": f"{repository}@{revision}"}
    assert len(told) == counted and all("has 3 rows, the published set has 5,200" in each for each in told)


@pytest.mark.parametrize("name", ["loogle", "oolong"])
def test_fetching_gets_all_tables(hub, name):
    registry.task_class(name)[0].cls.fetch(offline=True)
    assert len(hub) == {"loogle": 4, "oolong": 2}[name] and len({each[3] for each in hub}) <= 2


def test_a_table_that_cannot_be_had_is_said_in_a_line(monkeypatch):
    def load(*_, **__):
        raise ConnectionError("first\nsecond")

    monkeypatch.setattr("datasets.load_dataset", load)
    [task] = registry.tasks(["oolong/real"], {})
    with pytest.raises(UsageError, match=r"give --data-dir a folder with real\.jsonl") as caught:
        list(task.samples(environment(None)))
    assert "\n" not in str(caught.value)


def test_files_are_asked_for_at_their_revision(monkeypatch, tmp_path):
    asked = []

    def download(repository, name, revision, **_):
        asked.append((repository, revision))
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    _, mrcr = openai_files(2, environment(None))
    _, scbench = located("kv", environment(None))
    assert asked == [("openai/mrcr", mrcr)] * 2 + [("microsoft/SCBench", scbench)]
    assert len(mrcr) == len(scbench) == 40


def test_offline_no_connection_is_tried(monkeypatch, tmp_path):
    """`datasets` looks for a card and a revision on the network even where only local files are asked for."""
    tried = []

    def asked(self, *args, **options):
        tried.append(options)
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.HfApi.hf_hub_download", asked)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    for switch in ("datasets.config", "huggingface_hub.constants"):
        monkeypatch.setattr(
            f"{switch}.HF_HUB_OFFLINE", False
        )  # as for users; the tests' own environment says yes
    for name in ("loogle/shortdep_qa", "oolong/real"):
        [task] = registry.tasks([name], {})
        with pytest.raises(UsageError, match=r"not fetched before, and --offline"):
            list(task.samples(environment(None)))
    assert not tried and datasets.config.HF_HUB_OFFLINE is False, "turned back"
