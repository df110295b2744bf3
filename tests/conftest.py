"""A model and tokenizer small enough to be made on the spot: the tests download nothing."""

import os
import shutil
from pathlib import Path

import pytest

from harness.testing.tiny import make_model, make_tokenizer

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once

__all__ = ["make_model", "make_tokenizer"]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small matrices lose by sharing them out, most of all on a machine that has other work."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, session_cache):
    """No test reads or writes the user's cache, or takes a wheel from the user's environment."""
    monkeypatch.setenv("HARNESS_CACHE", str(session_cache))
    monkeypatch.delenv("HARNESS_SMOLLM2_WHEEL", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)  # tables are as wide as it says


@pytest.fixture(autouse=True)
def _hosts_answer(monkeypatch):
    """Clients that tests stand in for are asked, network or none."""
    monkeypatch.setattr("harness._util.network.answers", lambda url: True)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """Folder of the tiny Llama; copy it before changing anything."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder, session_cache):
    """The tiny Llama (about 100k parameters, 256 tokens), loaded. Shared: leave nothing on its modules."""
    from harness.models import loading

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(session_cache))
        model = loading.load(str(tiny_folder), device="cpu")
        assert model.content_hash and model.network is not None
    return model


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    """A copy of the tiny model that a test may spoil."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    """A cache folder of the test's own; not made yet."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory, tiny_folder) -> Path:
    """The tiny Llama as a float32 GGUF file."""
    from .helpers.loading import write_gguf

    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_folder)


@pytest.fixture
def no_default_tasks(monkeypatch):
    """lm-eval without its own thousands of tasks: reading their YAML takes half a minute on a busy machine."""
    from lm_eval.tasks import TaskManager

    real = TaskManager.__init__

    def init(self, *args, **kwargs):
        real(self, *args, **{**kwargs, "include_defaults": False})

    monkeypatch.setattr(TaskManager, "__init__", init)
