"""The wheel: everything that belongs in it, under the name it is imported by, and nothing else."""

import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("harness", "plugins", "tasks", "reports", "baselines")
PROJECT = "long-context-harness"

LOAD_ALL = """
import importlib.metadata, sys
[ours] = importlib.metadata.distributions(path=[sys.argv[1]])
for point in ours.entry_points:
    point.load()
    print(point.group, point.name, sys.modules[point.module].__file__)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what a wheel is made from, so that nothing is built in the checkout; with one data file."""
    copy = tmp_path_factory.mktemp("source") / "project"
    copy.mkdir()
    for name in ("pyproject.toml", "PACKAGE.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in (*FOLDERS, "tests", "tools"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "golden"))
    probe = copy / "baselines" / "probe" / "deeper" / "data.json"
    probe.parent.mkdir(parents=True)
    probe.write_text("{}", encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def installed_as(folder: str, path: Path) -> str:
    """Where a file of a folder lies in the wheel: ``plugins/x.py`` as ``harness/plugins/x.py``."""
    return (Path("harness") / (folder if folder != "harness" else "") / path).as_posix()


def test_every_module_and_every_data_file_is_in_it(source, names):
    expected = {
        installed_as(folder, path.relative_to(source / folder))
        for folder in FOLDERS
        for path in (source / folder).rglob("*.py")
    }
    data = source / "baselines"
    for kind in ("json", "safetensors", "yaml"):
        expected |= {installed_as("baselines", path.relative_to(data)) for path in data.rglob(f"*.{kind}")}
    templates = {p.relative_to(source / "harness") for p in (source / "harness").rglob("*.tmpl")}
    assert len(templates) == 17
    expected |= {installed_as("harness", path) for path in templates}
    assert any(name.endswith("adapter_model.safetensors") for name in expected)
    assert "harness/baselines/probe/deeper/data.json" in expected
    # A folder of modules that pyproject.toml does not list under `packages` shows here.
    assert expected - names == set()


def test_nothing_else_is_in_it(names):
    strangers = {
        name for name in names if not re.match(r"harness/|long_context_harness-[^/]+\.dist-info/", name)
    }
    assert strangers == set()
    assert not [name for name in names if re.search(r"(^|/)(tests?|tools)/|/test_|conftest", name)]


def test_the_licence_and_the_readme_are_in_it(wheel, names):
    [info] = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    with zipfile.ZipFile(wheel) as archive:
        description = archive.read(f"{info}/METADATA").decode("utf-8")
        licence = archive.read(f"{info}/licenses/LICENSE").decode("utf-8")
    assert licence == (ROOT / "LICENSE").read_text("utf-8")
    assert "License-Expression: Apache-2.0" in description
    assert (ROOT / "README.md").read_text("utf-8").splitlines()[0] in description


def test_entry_points_resolve_inside_it(wheel, tmp_path):
    """Each is loaded in a process that finds the unpacked wheel before the checkout."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOAD_ALL, str(site)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split(" ", 2) for line in done.stdout.splitlines()]
    found = {(group, name) for group, name, _ in rows}
    assert found >= {
        ("console_scripts", "harness"),
        ("harness.methods", "two_pass"),
        ("harness.tasks", "passkey"),
    }
    assert [row for row in rows if not row[2].startswith(f"{site}/")] == []


def pinned(name: str) -> dict[str, str]:
    """Versions by canonical name; each line an exact one, without a local version."""
    lines = [line for line in (ROOT / name).read_text("utf-8").splitlines() if not line.startswith("#")]
    found = dict(re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups() for line in lines)
    assert len(found) == len(lines)
    return {canonical(name): version for name, version in found.items()}


def test_every_package_it_needs_is_pinned():
    """Of the project and its dev extra, and of what those need in turn; what is not installed is not asked."""
    extras, file = {"dev"}, "constraints.txt"
    if installed("kvpress"):
        extras, file = {"dev", "kvpress"}, "constraints-kvpress.txt"
    pins = pinned(file)
    assert pins["torch"] == "2.13.0"
    assert needed(PROJECT, frozenset(extras)) - set(pins) == {"setuptools"}


def test_both_environments_have_the_same_versions_where_they_can():
    main, other = pinned("constraints.txt"), pinned("constraints-kvpress.txt")
    different = {name for name in main.keys() & other.keys() if main[name] != other[name]}
    assert different == {"transformers", "tokenizers", "huggingface-hub", "pandas"}
    assert re.fullmatch(r"5\.2\.\d+", other["transformers"]) and other["kvpress"]


def needed(
    name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]] | None = None
) -> set[str]:
    """Canonical names of everything installed that `name` requires here, directly or not."""
    seen = set() if seen is None else seen
    seen.add((name, extras))
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        wanted = [{"extra": extra} for extra in ("", *extras)]
        if requirement.marker is not None and not any(map(requirement.marker.evaluate, wanted)):
            continue
        key = (canonical(requirement.name), frozenset(requirement.extras))
        if key not in seen and installed(requirement.name):
            needed(*key, seen)
    return {name for name, _ in seen} - {PROJECT}


def installed(name: str) -> bool:
    return bool(list(metadata.distributions(name=name)))


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_an_index_shows_links_to_nothing_that_is_not_there():
    from tools.docs import PACKAGE, package_text

    text = PACKAGE.read_text("utf-8")
    assert text == package_text((ROOT / "README.md").read_text("utf-8")), "python tools/docs.py"
    assert not re.search(r"\]\((?!https?://)", text) and "![" not in text and "<!--" not in text
    assert "harness run --method two_pass --alpha 3" in text and "| `two_pass` |" in text
