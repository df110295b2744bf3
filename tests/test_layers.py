"""The house's directions of dependency, and what its code must never do, read from the syntax trees.

========== ================= ==========================================
folder     imports as        may import
========== ================= ==========================================
harness    harness           third-party packages only
plugins    harness.plugins   harness
tasks      harness.tasks     harness
reports    harness.reports   harness, harness.baselines
baselines  harness.baselines harness
========== ================= ==========================================

Inside a folder imports are relative, across folders absolute.
"""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"harness": "harness", **{n: f"harness.{n}" for n in ("plugins", "tasks", "reports", "baselines")}}
SIBLINGS = tuple(name for name in FOLDERS.values() if name != "harness")
MAY_IMPORT = {
    "harness": (),
    "plugins": ("harness",),
    "tasks": ("harness",),
    "reports": ("harness", "harness.baselines"),
    "baselines": ("harness",),
}
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
TORCH_LOAD = {"torch.load", "torch.jit.load", "torch.hub.load"}


def sources():
    """(folder, dotted name of the module, whether it is a package's __init__, path) of every module."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            is_init = parts[-1] == "__init__"
            yield folder, ".".join((package, *parts[: -1 if is_init else None])), is_init, path


def owner(module: str) -> str:
    """The folder's import name that a dotted module name belongs to: ``harness.plugins``, else ``harness``."""
    return next((name for name in SIBLINGS if f"{module}.".startswith(f"{name}.")), "harness")


def imports(tree: ast.AST, module: str, is_init: bool):
    """(line, what is imported, whether by a relative import) of every import, nested ones included.

    ``from harness import plugins`` imports ``harness.plugins``, so a name from the top package is joined
    to it where that makes a sibling folder's name.
    """
    package = module.split(".") if is_init else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
            joined = {f"{source}.{alias.name}" for alias in node.names} & set(SIBLINGS)
            yield from ((node.lineno, name, node.level > 0) for name in joined or {source})


def violations(folder: str, module: str, is_init: bool, source: str) -> list[str]:
    """What a module imports against the rules, a line each."""
    own = FOLDERS[folder]
    found = []
    for line, name, relative in imports(ast.parse(source), module, is_init):
        ours = name.partition(".")[0] == "harness"
        if relative and owner(name) != own:
            found.append(f"{module}:{line} leaves its folder by a relative import of {name}")
        elif not relative and ours and owner(name) == own:
            found.append(f"{module}:{line} imports its own folder's {name} absolutely")
        elif not relative and ours and owner(name) not in MAY_IMPORT[folder]:
            found.append(f"{module}:{line} must not import {name}")
        elif not relative and name.partition(".")[0] in (*FOLDERS, "tests", "tools") and not ours:
            found.append(f"{module}:{line} imports {name}, which exists only in a checkout")
    return found


def forbidden(module: str, source: str) -> list[str]:
    """Calls that can run code which came with data, a line each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += [f"{module}:{node.lineno} {name}" for name in names if name in TORCH_LOAD | UNPICKLERS]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in {"eval", "exec"} | TORCH_LOAD or called.partition(".")[0] in UNPICKLERS:
            found.append(f"{module}:{node.lineno} {called}()")
        for keyword in node.keywords:
            value = isinstance(keyword.value, ast.Constant) and keyword.value.value
            if keyword.arg in ("trust_remote_code", "allow_pickle") and value is True:
                found.append(f"{module}:{node.lineno} {keyword.arg}=True")
    return found


def test_every_folder_imports_only_what_it_may():
    found = []
    for folder, module, is_init, path in sources():
        found += violations(folder, module, is_init, path.read_text("utf-8"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("folder", "module", "source"),
    [
        ("harness", "harness.evaluation.runner", "from harness.results.run_folder import RunFolder"),
        ("harness", "harness.evaluation.runner", "from .tasks import passkey"),
        ("harness", "harness.cli.run", "def f():\n    from harness import plugins"),
        ("harness", "harness.evaluation.runner", "from . import plugins"),
        ("harness", "harness.evaluation.runner", "import plugins.beacon"),
        ("plugins", "harness.plugins.beacon.base", "from harness.plugins.plain import Plain"),
        ("plugins", "harness.plugins.beacon.base", "from harness.tasks import passkey"),
        ("plugins", "harness.plugins.beacon.base", "from ..method import Method"),
        ("plugins", "harness.plugins.beacon.base", "from harness import baselines"),
        ("tasks", "harness.tasks.longbench.data", "from ...options import Options"),
        ("reports", "harness.reports.summary", "from harness.plugins import plain"),
    ],
)
def test_the_rules_see_what_is_against_them(folder, module, source):
    assert len(violations(folder, module, False, source)) == 1


@pytest.mark.parametrize(
    ("folder", "module", "source"),
    [
        ("harness", "harness.cli.run", "from ..display import RunDisplay\nimport torch"),
        ("plugins", "harness.plugins.beacon.base", "from harness import Method\nfrom ._ratios import RAW"),
        ("tasks", "harness.tasks.longbench.data", "from ..passkey import FILLER\nfrom . import metrics"),
        ("reports", "harness.reports.summary", "from harness.baselines import artifacts"),
    ],
)
def test_the_rules_let_the_rest_pass(folder, module, source):
    assert violations(folder, module, False, source) == []


def test_the_core_names_no_module_of_a_sibling_folder():
    """Not in a string either (`importlib.import_module`): docstrings may, code may not."""
    found = []
    for folder, module, _, path in sources():
        tree = ast.parse(path.read_text("utf-8"))
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree) if folder == "harness" else ():
            text = node.value if isinstance(node, ast.Constant) and id(node) not in documentation else None
            if isinstance(text, str) and re.match(rf"({'|'.join(SIBLINGS)})\b", text):
                found.append(f"{module}:{node.lineno} {text!r}")
    assert not found, "\n".join(found)


def test_nothing_runs_code_that_came_with_data():
    found = [line for _, module, _, path in sources() for line in forbidden(module, path.read_text("utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from torch import load",
        "torch.load(path)",
        "eval(text)",
        "exec(text)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "numpy.load(path, allow_pickle=True)",
    ],
)
def test_code_from_data_is_seen(source):
    assert forbidden("module", source)


def test_evaluation_mode_and_module_loading_are_no_code_from_data():
    assert (
        forbidden("module", "network.eval()\nspec.loader.exec_module(module)\nf(trust_remote_code=flag)")
        == []
    )


def test_every_imported_package_is_declared():
    """A package that happens to be installed with another one may be gone with its next release.

    One of an extra that is not installed here is taken to be named as it is imported.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = project["dependencies"] + [r for rs in project["optional-dependencies"].values() for r in rs]
    known = {distribution(re.split(r"[^\w.-]", requirement)[0]) for requirement in declared}
    owners = metadata.packages_distributions()
    found = set()
    for _, module, is_init, path in sources():
        for line, name, relative in imports(ast.parse(path.read_text("utf-8")), module, is_init):
            top = name.partition(".")[0]
            if relative or top == "harness" or top in sys.stdlib_module_names:
                continue
            if not known & {distribution(name) for name in owners.get(top, (top,))}:
                found.add(f"{module}:{line} {top}")
    assert not found, "\n".join(sorted(found))


def distribution(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
