"""The documentation as a site: it builds, loads nothing from a network, and describes every public name."""

import importlib
import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .test_docs import ROOT, document

DOCS = ROOT / "docs"
MODULES = {
    re.search(r"^::: (\S+)$", page.read_text("utf-8"), re.M)[1]: page
    for page in sorted((DOCS / "reference").glob("*.md"))
    if page.stem != "index"
}
"""What plugins and notebooks import: a page of the API reference for each."""


def undocumented():
    """Public classes and functions of `MODULES`, and public members of classes, without a docstring."""
    for module in map(importlib.import_module, MODULES):
        own = [n for n, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        for name in getattr(module, "__all__", own):
            value = getattr(module, name)
            if name.startswith("_") or not callable(value):
                continue
            if not inspect.getdoc(value):
                yield f"{module.__name__}.{name}"
            if inspect.isclass(value):
                yield from (f"{module.__name__}.{name}.{member}" for member in bare(value))


def bare(cls):
    for name, member in vars(cls).items():
        described = inspect.isfunction(member) or isinstance(member, property | classmethod | staticmethod)
        if described and not name.startswith("_") and not inspect.getdoc(getattr(cls, name)):
            yield name


def pages(nav):
    """The pages that a navigation names."""
    for item in nav:
        value = next(iter(item.values())) if isinstance(item, dict) else item
        yield from pages(value) if isinstance(value, list) else (value,)


def test_every_public_name_has_a_docstring():
    assert {"harness", "harness.testing", "harness.api"} <= set(MODULES)
    assert list(undocumented()) == []


def test_the_navigation_has_every_page_once():
    nav = list(pages(yaml.safe_load(document("mkdocs.yml"))["nav"]))
    assert sorted(nav) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


@pytest.mark.skipif(
    not importlib.util.find_spec("zensical"), reason="zensical is not installed: the extra `docs`"
)
def test_it_builds_and_loads_nothing_from_a_network(tmp_path):
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copytree(ROOT / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "build" / "site"
    loads = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)=\"?(?:https?:)?//[^>]*>")
    for page in DOCS.rglob("*.md"):
        html = (site / page.relative_to(DOCS).with_suffix(".html")).read_text("utf-8")
        assert not loads.search(html), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:|@import", sheet.read_text("utf-8")), sheet
    for module, page in MODULES.items():
        html = (site / "reference" / f"{page.stem}.html").read_text("utf-8")
        assert html.count("doc-heading") >= len(getattr(importlib.import_module(module), "__all__", "x")) - 1
    for module in ("harness", "harness.testing", "harness.api"):
        assert "Raises" in (site / "reference" / f"{MODULES[module].stem}.html").read_text("utf-8")
