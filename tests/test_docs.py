"""What the documentation says is what the code does, and nothing in the repository names a machine."""

import ast
import importlib.util
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OWN_METHOD = "docs/your-own-method.md"
FOLDERS = ("harness", "plugins", "tasks", "reports", "baselines")

PAGES = ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))]

# Written so that the patterns do not match themselves. Registries are named in words, never by their host.
MACHINE = re.compile(
    r"(?<![\w.~-])/(?:home|root|Users|work)/[\w.]"
    r"|[A-Z]:\\Users\\"
    r"|py[p]i\.(?:org|io)|python[h]osted\.org|ana[c]onda\.(?:org|com)|registry\.np[m]js",
    re.IGNORECASE,
)


def document(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def block(text: str, marker: str) -> str:
    """What stands in the one code block between ``<!-- marker -->`` and the closing comment."""
    [found] = re.findall(rf"<!-- {marker} -->\n```\w*\n(.*?)\n```\n<!-- /", text, re.DOTALL)
    return str(found)


def repository_files() -> list[Path]:
    """Tracked files and those git does not ignore; outside a checkout all but what tools leave behind."""
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode == 0:
        paths = [ROOT / name for name in done.stdout.decode("utf-8").split("\0") if name]
    else:
        left = re.compile(
            r"(^|/)(\.venv[\w-]*|\.git|build|dist|runs|__pycache__|[^/]*[_.]cache|[^/]*\.egg-info|\.hypothesis)/"
        )
        paths = [p for p in ROOT.rglob("*") if not left.search(f"{p.relative_to(ROOT).as_posix()}/")]
    return [path for path in paths if path.is_file()]


def test_the_generated_parts_of_the_pages_are_up_to_date():
    command = [sys.executable, str(ROOT / "tools" / "docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_installs_with_the_pins_and_runs_the_main_job():
    for name, extras, last in (
        ("run", ".", ".venv/bin/harness run --method two_pass --alpha 3"),
        ("test", "'.[dev]'", ".venv/bin/pytest"),
    ):
        steps = block(document("README.md"), f"command: {name}").split(" && ")
        assert steps == [
            "python3 -m venv .venv",
            f".venv/bin/pip install -q -c constraints.txt -e {extras}",
            last,
        ]


def test_ci_takes_its_commands_from_the_documents():
    script = document(".ci/run")
    assert 'commands README.md "command: test"' in script
    assert "commands CONTRIBUTING.md checks" in script
    checks = block(document("CONTRIBUTING.md"), "checks").splitlines()
    assert [line.removeprefix(".venv/bin/").split()[0] for line in checks] == [
        "ruff",
        "ruff",
        "mypy",
        "zensical",
        "pytest",
    ]


def test_ci_also_tests_in_the_environment_that_has_kvpress():
    steps = block(document("CONTRIBUTING.md"), "kvpress").split(" && ")
    assert steps[:2] == [
        "python3 -m venv .venv-kvpress",
        ".venv-kvpress/bin/pip install -q -c constraints-kvpress.txt -e '.[dev,kvpress]'",
    ]
    python, *words = steps[2].split()
    assert python == ".venv-kvpress/bin/pytest" and "tests/plugins/test_kvpress.py" in words
    assert all((ROOT / word).exists() for word in words)
    assert "commands CONTRIBUTING.md kvpress" in document(".ci/run")


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The method of `OWN_METHOD` in a file; what it registers is gone after the test."""
    from harness import registry

    monkeypatch.setattr(registry, "_local_methods", {})
    code = block(document(OWN_METHOD), "example")
    assert sum(bool(line.strip()) for line in code.splitlines()) < 40
    path = tmp_path / "ends.py"
    path.write_text(code + "\n", encoding="utf-8")
    return path


def test_the_documented_method_compresses_what_it_says(example, tiny_folder, tmp_path, capsys):
    from harness.cli import invoke

    words = ["run", "--plugin", example, "--method", "ends", "--sinks", 3, "--recent", 40]
    words += [
        "--model",
        tiny_folder,
        "--device",
        "cpu",
        "--batch-size",
        2,
        "--out",
        tmp_path / "runs",
        "--json",
    ]
    words += ["--set", "passkey.lengths=400,450"]
    assert invoke([str(word) for word in words]) == 0, capsys.readouterr().err
    summary = json.loads(capsys.readouterr().out)
    [row] = summary["tasks"]
    assert (row["n_ok"], row["n"], row["verified"], row["truncated"]) == (6, 6, True, 0)
    samples = (Path(summary["folder"]) / "samples.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["measured"]["kv_tokens"] for line in samples] == [43] * 6
    assert row["compression"] > 8


def test_the_documented_method_turns_keys_to_their_new_place(example, tiny):
    """First-layer keys depend on token and place alone: they must be those of reading only what was kept."""
    import torch

    from harness import registry
    from harness.inference.forward import feed
    from harness.inference.kvcache import KVCache

    registry.register_file(example)
    cls = registry.method("ends").cls
    method = cls(tiny, cls.Options(sinks=3, recent=40))
    ids = [5 + (7 * i) % 400 for i in range(150)]
    cache = method.read(ids)
    [fresh], _ = feed(tiny.network, [KVCache()], [ids[:3] + ids[-40:]])
    torch.testing.assert_close(cache.keys[0], fresh.keys[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(cache.values[0], fresh.values[0])


def test_everything_public_is_documented():
    """Modules, and public classes and functions at their top, in all five folders."""
    missing = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            public = [
                node
                for node in tree.body
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and not node.name.startswith("_")
            ]
            missing += [
                f"{path.relative_to(ROOT)} {getattr(node, 'name', 'the module')}"
                for node in (tree, *public)
                if not (ast.get_docstring(node) or "").strip()
            ]
    assert not missing, "\n".join(missing)


def test_every_task_has_a_page_with_its_version_options_and_changelog():
    from harness import registry
    from harness._util import entry_points

    families = entry_points.entry_points("tasks")
    assert {path.stem for path in (ROOT / "docs" / "tasks").glob("*.md")} == {*families, "index"}
    for family in families:
        cls = registry.task_class(family)[0].cls
        page = document(f"docs/tasks/{family}.md")
        head, _, changes = page.partition("\n## Changelog\n")
        assert head.startswith(f"# {family}\n") and f" Version {cls.version}.\n" in head, family
        assert cls.changelog[-1].startswith(f"{cls.version}: "), family
        assert [line[2:] for line in changes.splitlines() if line] == list(cls.changelog), family
        assert re.findall(rf"^\| `{family}\.(\w+)` \|", head, re.M) == list(cls.Options.model_fields), family


def test_every_method_has_a_page_with_its_paper_memory_training_and_limits():
    from harness import registry
    from harness._util import entry_points

    names = set(entry_points.entry_points("methods"))
    assert {path.stem for path in (ROOT / "docs" / "methods").glob("*.md")} == {*names, "index"}
    for name in names:
        page = document(f"docs/methods/{name}.md")
        assert page.startswith(f"# {name}\n") and "\n## Options" in page and "\n## Limits\n" in page, name
        for row in ("memory saved", "trainable", "protocol"):
            assert f"\n| {row} | " in page, (name, row)
        assert re.search(r"^\| (paper|papers|source) \| ", page, re.M), name
        protocol = "query-aware" if registry.listed_method(name).cls.sees_question else "query-agnostic"
        assert f"\n| protocol | {protocol}" in page, name


def test_the_readme_says_whose_code_and_data_each_benchmark_is():
    told = {
        line.split("`")[1]: [cell.strip() for cell in line.split("|")[3:7]]
        for line in document("README.md").splitlines()
        if re.match(r"\| `\w+` \|(.*\|){5}$", line)
    }
    index = document("docs/tasks/index.md").partition("## Benchmarks")[2]
    for name in re.findall(r"^\| \[`(\w+)`\]", index, re.M):
        code, licence, judge, prompts = told[name]
        assert "@" in code or name in ("ruler", "mrcr", "graphwalks"), name
        assert code != "–" and (licence != "–" or name == "ruler") and judge != "–" and prompts != "–", name


def test_the_readme_has_at_most_200_lines():
    assert len(document("README.md").splitlines()) <= 200


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_exists(name):
    """Files, and the headings of pages; GitHub and the site name headings alike."""
    text = re.sub(r"^```.*?^```", "", document(name), flags=re.DOTALL | re.M)
    text = re.sub(r"`[^`\n]*`", lambda match: match[0].replace("](", "] ("), text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / name).parent / path if path else ROOT / name
        assert found.exists(), target
        if anchor:
            assert anchor in headings(found.read_text("utf-8")), target


def headings(text: str) -> set[str]:
    plain = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.M)
    lines = re.findall(r"^#+ (.*)$", plain, re.M)
    return {
        re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", line)).strip().lower())
        for line in lines
    }


STARTERS = ("sbatch", "srun", "ssh", "do", "torchrun", "accelerate")
"""Words of a shell that another command follows."""


def commands(text: str) -> list[list[str]]:
    """The commands of `harness` in the shell blocks of a page, as words, those that another command starts too."""
    found = []
    for shell in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.M):
        for line in shell.splitlines():
            line = re.sub(r'--wrap "([^"]*)"', r"\1", line)
            for part in re.split(r" && | & | \| |; ", line.partition(" > ")[0] if " > " in line else line):
                words = shlex.split(part, comments=True)
                names = [word.rpartition("/")[2] for word in words]
                if "harness" in names and (names[0] == "harness" or words[0] in STARTERS):
                    found.append(words[names.index("harness") + 1 :])
    return found


METHODS = ("ends", "keep_ends", "fitted_ends", "my_idea")
STAND_INS = {**dict.fromkeys(METHODS, "streaming"), "where_is": "passkey"}
"""For the plugins that a page writes: one that has all of their options."""


@pytest.mark.parametrize("name", [*PAGES, "CONTRIBUTING.md", "SECURITY.md"])
def test_every_command_of_the_documentation_parses(name):
    import click

    from harness.cli import VERBS, cli

    for words in commands(document(name)):
        verb, *args = words
        assert verb in VERBS, words
        if verb == "lm-eval" or any(word.startswith("kvpress:") for word in args):
            continue  # lm-eval's own words, and presses of a package that is elsewhere
        if "--plugin" in args:
            at = args.index("--plugin")
            del args[at : at + 2]
        args = [STAND_INS.get(word, word) for word in args]
        command = cli.get_command(click.Context(cli), verb)
        while isinstance(command, click.Group):
            command = command.get_command(click.Context(command), args.pop(0))
        context = command.make_context(f"harness {verb}", args)
        check_values(context.params, words)


def check_values(params, words):
    """What a command would refuse before it looks for a model: names, options of the methods, those of the tasks."""
    from harness import registry
    from harness.cli.run import task_settings
    from harness.options import Options

    asked = params.get("tasks") or params.get("task") or ()
    for task in (asked,) if isinstance(asked, str) else asked:
        assert task.startswith("lm_eval:") or registry.tasks([task], {}), words
    for family, settings in task_settings(params.get("settings") or ()).items() if asked else ():
        cls = registry.task_class(family)[0].cls  # the files that they name need not be there
        assert isinstance(cls.Options.parse(settings, family), Options), words
    named = params.get("methods") or params.get("method") or ()
    given = {
        k.removeprefix("option_"): v for k, v in params.items() if k.startswith("option_") and v is not None
    }
    for name in (named,) if isinstance(named, str) else named:
        cls = registry.method(name).cls
        own = {k: v for k, v in given.items() if k in cls.Options.model_fields}
        assert isinstance(cls.Options.parse(own, name), Options), words


def test_commands_are_found_and_wrong_ones_seen():
    text = "```bash\nharness run -m plain  # x\npip install x && .venv/bin/harness list tasks\n"
    text += 'sbatch --wrap "srun harness doctor"\nfor x in 1 2; do X=$x harness view & done; wait\n```\n'
    assert commands(text) == [["run", "-m", "plain"], ["list", "tasks"], ["doctor"], ["view"]]
    assert sum(len(commands(document(name))) for name in PAGES) > 60


def test_what_the_package_exports_is_documented_and_sorted():
    import harness

    names = [name for name in harness.__all__ if not name.startswith("_")]
    assert names == sorted(names)
    assert not [name for name in names if not inspect.getdoc(getattr(harness, name))]


def errors() -> list[tuple[str, str]]:
    """The command and the message of each error in the troubleshooting page."""
    text = document("docs/troubleshooting.md")
    return re.findall(r"^```console\n\$ harness (.*)\nharness: (.*)\n```$", text, re.M)


def test_there_are_ten_errors_to_know():
    assert len(errors()) == 10


@pytest.mark.parametrize(("command", "message"), errors())
def test_the_errors_of_the_documentation_are_real(
    command, message, tiny_folder, tmp_path, monkeypatch, capsys
):
    """As it is typed there, on a model made here: other numbers, and another name of the model."""
    from harness.cli import invoke

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "predictions.jsonl").write_text('{"task": "longbench/trec" "prediction"}\n', encoding="utf-8")
    words = shlex.split(command)
    if words[0] == "run" and "--model" not in words:
        words += ["--model", str(tiny_folder), "--device", "cpu"]
    if "kvpress:" in command and importlib.util.find_spec("kvpress"):
        pytest.skip("kvpress is installed")
    assert invoke(words) == 2
    shown = capsys.readouterr().err.splitlines()[-1].removeprefix("harness: ")
    alike = [re.sub(r"\d[\d,]*", "N", line.replace(str(tiny_folder), "smollm2")) for line in (shown, message)]
    assert alike[0] == alike[1]


def test_no_file_names_a_machine_or_a_registrys_host():
    own = [f"{Path.home()}/", f"{ROOT}/"]
    found = []
    for path in repository_files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        for number, line in enumerate(text.split("\n"), start=1):
            if MACHINE.search(line) or any(place in line for place in own if len(place) > 2):
                found.append(f"{path.relative_to(ROOT)}:{number} {line.strip()[:100]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "see /" + "home/ada/notes",
        "cd /" + "work/some/clone",
        '"/' + 'root/.cache"',
        "/" + "Users/ada/x",
        "--index-url https://py" + "pi.org/simple",
        "https://files.python" + "hosted.org/packages",
    ],
)
def test_machines_and_hosts_are_seen(line):
    assert MACHINE.search(line)


@pytest.mark.parametrize(
    "line", ["https://arxiv.org/home/x", "~/.cache/x", "a/work/b", "`runs/<method>/`", "/root"]
)
def test_other_paths_are_not(line):
    assert not MACHINE.search(line)


def test_every_file_that_a_page_names_is_there():
    """Paths from the repository's root, in the README, CONTRIBUTING.md and docs."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    path = re.compile(r"`((?:harness|plugins|tasks|reports|baselines|tests|tools)/[\w./-]*)`")
    named = {(page.name, name) for page in pages for name in path.findall(page.read_text("utf-8"))}
    assert len(named) > 40
    assert [(page, name) for page, name in sorted(named) if not (ROOT / name).exists()] == []
