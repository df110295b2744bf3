"""Each optional package that is missing is one line, with the pip line that gets it."""

import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from harness import UsageError, registry
from harness.contracts import tracker
from harness.evaluation import engines
from harness.exchange import tables
from harness.models import embeddings
from harness.tasks.longbench import metrics
from harness.tasks.ruler import sentences
from harness.tasks.scbench import functions

ROOT = Path(__file__).resolve().parents[1]


def quantized(tiny, tmp_path):
    cls = registry.method("quantized").cls
    cls(tiny, cls.Options(bits="4"))


MISSING = {
    "zh": (("jieba",), lambda *_: metrics.require_jieba()),
    "ruler": (("nltk",), lambda *_: sentences.split(["A.", "B."], "punkt")),
    "repoqa": (("nltk", "tree_sitter_languages"), lambda *_: functions.require()),
    "dense": (("sentence_transformers",), lambda *_: embeddings.library_for("rag: --retrieval dense")),
    "quantized": (("optimum", "optimum.quanto"), quantized),
    "kvpress": (("kvpress",), lambda *_: registry.method("kvpress:SnapKVPress")),
    "xlsx": (("openpyxl",), lambda tiny, tmp_path: tables.write_xlsx({"a": []}, tmp_path / "a.xlsx")),
    "ray": (("ray",), lambda *_: engines.check("ray", None, None, False)),
    **{name: ((name,), lambda *_, name=name: tracker.check([name])) for name in tracker.PACKAGES},
}
"""For each extra the modules that are not there, and what asks for them."""


@pytest.mark.parametrize("extra", MISSING)
def test_what_is_missing_is_a_line_with_what_gets_it(extra, tiny, tmp_path, monkeypatch):
    modules, ask = MISSING[extra]
    for name in modules:
        for known in [k for k in sys.modules if k == name or k.startswith(f"{name}.")]:
            monkeypatch.delitem(sys.modules, known)
        monkeypatch.setitem(sys.modules, name, None)

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    if extra == "ray":
        monkeypatch.setattr(metadata, "version", absent)
    sentences._punkt.cache_clear()
    with pytest.raises(UsageError) as caught:
        ask(tiny, tmp_path)
    sentences._punkt.cache_clear()
    assert f"pip install 'long-context-harness[{extra}]'" in str(caught.value) and "\n" not in str(
        caught.value
    )
    assert not list(tmp_path.iterdir())


def test_no_extra_is_left_out():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(MISSING) == set(project["optional-dependencies"]) - {"dev", "docs"}
