"""The house's layers and directions of dependency, and what its code must never do, read from the syntax trees.

Inside `harness/` a package imports only from layers below its own; the table of layers is the one in
CONTRIBUTING.md. Imports inside functions count, so do those for type checkers only.

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
import functools
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


@functools.cache
def parsed(source: str) -> ast.Module:
    """The syntax tree of a source; many tests read the same."""
    return ast.parse(source)


@functools.cache
def read(path: Path) -> str:
    return path.read_text("utf-8")


def layers() -> dict[str, int]:
    """The layer of each package and module at the top of `harness/`, from the table in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    [table] = re.findall(r"<!-- layers -->\n(.*?)\n<!-- /layers -->", text, re.DOTALL)
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", table, re.MULTILINE)
    return {name: int(layer) for layer, cell in rows for name in re.findall(r"`([\w.]+)/?`", cell)}


def inner_imports() -> dict[str, list[tuple[int, str]]]:
    """(line, imported module) of every import of one module of the five folders by another, all modules as keys."""
    modules = {module: (is_init, path) for _, module, is_init, path in sources()}
    found = {}
    for module, (is_init, path) in modules.items():
        package = module.split(".") if is_init else module.split(".")[:-1]
        found[module] = [
            (line, name)
            for line, name in imported_modules(parsed(read(path)), package, modules)
            if name != module
        ]
    return found


def imported_modules(tree: ast.AST, package: list[str], modules):
    """(line, module) of every from-import of one of `modules`; a name that is a module itself is that module."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        source = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
        for alias in node.names:
            name = f"{source}.{alias.name}"
            if name in modules or source in modules:
                yield node.lineno, name if name in modules else source


def room(module: str) -> str:
    """The package or module at the top of `harness/` that a module of it belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def upward(imported: dict[str, list[tuple[int, str]]], layer: dict[str, int]) -> list[str]:
    """Imports inside `harness/` that leave their package for one of the same layer or a higher one."""
    found = []
    for module, names in imported.items():
        for line, name in names if owner(module) == "harness" else ():
            a, b = room(module), room(name)
            if owner(name) == "harness" and a != b and layer[b] >= layer[a]:
                found.append(f"{module}:{line} (layer {layer[a]}) imports {name} (layer {layer[b]})")
    return found


def circles(imported: dict[str, list[tuple[int, str]]]) -> list[list[str]]:
    """Modules that import each other in a circle: each strongly connected component of more than one."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for _, name in imported[module]:
            if name not in number:
                visit(name)
            if name in stack:
                lowest[module] = min(lowest[module], lowest[name])
        if lowest[module] == number[module]:
            cut = stack.index(module)
            if len(stack) - cut > 1:
                found.append(sorted(stack[cut:]))
            del stack[cut:]

    for module in imported:
        if module not in number:
            visit(module)
    return found


def test_every_package_has_a_layer_and_every_layer_its_packages():
    there = {
        path.stem
        for path in (ROOT / "harness").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert there == set(layers())


def test_no_import_runs_upwards():
    found = upward(inner_imports(), layers())
    assert not found, "\n".join(found)


def test_no_modules_import_each_other_in_a_circle():
    assert circles(inner_imports()) == []


def test_upward_imports_and_circles_are_seen():
    layer = {"errors": 1, "models": 3, "registry": 5}
    found = upward(
        {"harness.errors": [(1, "harness.registry")], "harness.registry": [(1, "harness.models.hub")]}, layer
    )
    assert found == ["harness.errors:1 (layer 1) imports harness.registry (layer 5)"]
    first = {"a": [(1, "b")], "b": [(2, "c")], "c": [(3, "a"), (3, "d")], "d": []}
    assert circles(first) == [["a", "b", "c"]]
    inside = ast.parse("def f():\n    from ..registry import method")
    assert list(imported_modules(inside, ["harness", "models"], {"harness.registry": None})) == [
        (2, "harness.registry")
    ]


def test_faces_are_short_and_sorted():
    """An `__init__.py` inside `harness/` hands names on: under 40 lines, with an `__all__`, which ruff sorts."""
    for path in sorted((ROOT / "harness").glob("*/__init__.py")):
        text = path.read_text("utf-8")
        assert len(text.splitlines()) < 40, path
        [names] = re.findall(r"^__all__[^=]*= (\[.*?\])$", text, re.DOTALL | re.MULTILINE)
        assert isinstance(ast.literal_eval(names), list), path


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
    for line, name, relative in imports(parsed(source), module, is_init):
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
    for node in ast.walk(parsed(source)):
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
        found += violations(folder, module, is_init, read(path))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("folder", "module", "source"),
    [
        ("harness", "harness.evaluation.runner", "from harness.results.run_folder import RunFolder"),
        ("harness", "harness.api", "from .tasks import passkey"),
        ("harness", "harness.cli.run", "def f():\n    from harness import plugins"),
        ("harness", "harness.api", "from . import plugins"),
        ("harness", "harness.evaluation.runner", "import plugins.beacon"),
        ("plugins", "harness.plugins.beacon.base", "from harness.plugins.plain import Plain"),
        ("plugins", "harness.plugins.beacon.base", "from harness.tasks import passkey"),
        ("plugins", "harness.plugins.plain", "from ..contracts.method import Method"),
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
        ("harness", "harness.cli.run", "from ..console.progress import RunDisplay\nimport torch"),
        ("plugins", "harness.plugins.beacon.base", "from harness import Method\nfrom .ratios import RAW"),
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
        tree = parsed(read(path))
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree) if folder == "harness" else ():
            text = node.value if isinstance(node, ast.Constant) and id(node) not in documentation else None
            if isinstance(text, str) and re.match(rf"({'|'.join(SIBLINGS)})\b", text):
                found.append(f"{module}:{node.lineno} {text!r}")
    assert not found, "\n".join(found)


def test_nothing_runs_code_that_came_with_data():
    found = [line for _, module, _, path in sources() for line in forbidden(module, read(path))]
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
        for line, name, relative in imports(parsed(read(path)), module, is_init):
            top = name.partition(".")[0]
            if relative or top == "harness" or top in sys.stdlib_module_names:
                continue
            if not known & {distribution(name) for name in owners.get(top, (top,))}:
                found.add(f"{module}:{line} {top}")
    assert not found, "\n".join(sorted(found))


def distribution(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
