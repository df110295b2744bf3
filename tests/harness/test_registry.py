"""Names: the nearest match for a wrong one, and whoever brings something broken is named, alone."""

import functools
import hashlib
from importlib import metadata

import pytest

from harness import Method, Task, UsageError, registry
from harness._util import entry_points
from harness._util.sources import source_hash
from harness.plugins.plain import Plain
from harness.registry import register_file, snake_case

from ..helpers.running import as_method, with_entry_points

PLUGIN = "from harness import Method\n\n\nclass {name}(Method):\n    '''A method.'''\n"


@pytest.fixture(autouse=True)
def _no_files_left(monkeypatch):
    monkeypatch.setattr(registry, "_local_methods", {})


def refused(call, *args):
    with pytest.raises(UsageError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message and caught.value.exit_code == 2
    return message


# --- names


def test_ours_come_through_the_door_of_everybody():
    assert {"plain", "beacon", "two_pass"} <= set(registry.method_names())
    plugin = registry.method("plain")
    assert plugin.name == "plain" and plugin.origin.startswith("long-context-harness ")
    assert plugin.file_hash is None and plugin.cls.__name__ == "Plain"
    assert registry.method("plain").cls is plugin.cls


def test_a_wrong_name_gets_the_nearest():
    assert refused(registry.method, "to_pass") == "no method named 'to_pass'; did you mean 'two_pass'?"
    assert (
        "known: beacon, endpoint, gist, kvpress, lora_experts, plain, position_scaling, quantized, rag, "
        "rope_scaling, streaming, summary, two_pass" in refused(registry.method, "zzzzzzzz")
    )
    assert refused(registry.task_class, "pasky") == "no task named 'pasky'; did you mean 'passkey'?"
    assert refused(registry.task_class, "longbench/trek").endswith("did you mean 'longbench/trec'?")
    assert refused(registry.task_class, "passkey/x") == "no task named 'passkey/x'; did you mean 'passkey'?"
    assert "no report named 'sumary'; did you mean 'summary'?" in refused(registry.report, "sumary")
    assert "no method named ''" in refused(registry.method, "")


def test_a_local_method_is_among_the_near_ones(monkeypatch):
    as_method(monkeypatch, Task, "gisting")
    assert "did you mean 'gisting'?" in refused(registry.method, "gistin")
    assert "gisting" in registry.method_names()


def test_every_task_and_variant_has_a_name():
    assert {"passkey", "longbench", "longbench/trec", "longbench/trec_e"} <= set(registry.task_names())


@pytest.mark.parametrize(
    ("name", "expected"), [("TwoPass", "two_pass"), ("Plain", "plain"), ("my", "my"), ("AbC1", "ab_c1")]
)
def test_snake_case(name, expected):
    assert snake_case(name) == expected


# --- tasks asked for


def test_a_family_stands_for_its_group_in_order_and_once():
    found = [t.name for t in registry.tasks(["longbench/lcc", "longbench", "passkey", "passkey"], {})]
    assert found[0] == "longbench/lcc" and found[-1] == "passkey"
    assert len(found) == len(set(found)) == 15
    assert {t.partition("/")[2] for t in found[:-1]} == set(registry.task_class("longbench")[0].cls.group)


def test_settings_reach_their_family_only():
    (found,) = registry.tasks(["passkey"], {"passkey": {"lengths": "300,400"}})
    assert found.options.lengths == [300, 400]
    message = refused(registry.tasks, ["passkey"], {"pasky": {"lengths": "1"}})
    assert message == "no task to --set options of named 'pasky'; did you mean 'passkey'?"
    message = refused(registry.tasks, ["passkey"], {"passkey": {"length": "1"}})
    assert message == "no option of task passkey named 'length'; did you mean 'lengths'?"


def test_a_task_that_is_not_there_is_said_before_its_settings():
    message = refused(registry.tasks, ["pasky"], {"passkey": {"lengths": "1"}})
    assert message == "no task named 'pasky'; did you mean 'passkey'?"


# --- what others install


class Stranger(Task):
    """A task from elsewhere."""

    def samples(self, env):
        return []

    def score(self, sample, prediction):
        return {"score": 0.0}


def test_a_plugin_that_cannot_be_imported_harms_only_who_asks_for_it(monkeypatch):
    with_entry_points(
        monkeypatch,
        ("harness.methods", "broken", "no_such_module_anywhere:Thing"),
        ("harness.methods", "gone", "harness.plugins.plain:NoSuchClass"),
        ("harness.methods", "task", f"{__name__}:Stranger"),
        ("harness.methods", "function", "harness.registry:snake_case"),
        ("harness.tasks", "stranger", f"{__name__}:Stranger"),
    )
    assert registry.method("plain").cls.__name__ == "Plain"
    assert registry.tasks(["stranger"], {})[0].name == "stranger"
    assert "'broken' from an unknown distribution cannot be imported: ModuleNotFoundError" in refused(
        registry.method, "broken"
    )
    assert "cannot be imported: AttributeError" in refused(registry.method, "gone")
    assert refused(registry.method, "task").endswith(f"is no Method: {__name__}:Stranger")
    assert refused(registry.method, "function").endswith("is no Method: harness.registry:snake_case")
    assert {"broken", "plain"} <= set(registry.method_names())


class Painted(Plain):
    """One of many."""


class Painter(Method):
    """Any colour."""

    family = "COLOUR"

    @classmethod
    def variant(cls, name):
        if name not in cls.variants():
            raise UsageError(f"no colour {name!r}")
        return Painted

    @classmethod
    def variants(cls):
        return ["blue", "red"]


def test_a_family_makes_methods_of_names_the_registry_does_not_know(monkeypatch, capsys):
    from harness.cli import invoke
    from harness.cli import list as listing

    with_entry_points(monkeypatch, ("harness.methods", "paint", f"{__name__}:Painter"))
    plugin = registry.method("paint:red")
    assert (plugin.name, plugin.cls) == ("paint:red", Painted)
    assert refused(registry.method, "paint:x") == "no colour 'x'"
    for alone in ("paint", "paint:"):
        assert refused(registry.method, alone).startswith("method 'paint' is a family: write paint:COLOUR; ")
    assert refused(registry.method, "paynt:red") == "no method named 'paynt:red'; did you mean 'paint'?"
    assert refused(registry.method, "plain:red") == "no method named 'plain:red'; did you mean 'plain'?"
    [row] = [row for row in listing.methods() if row["name"] == "paint"]
    assert (row["family"], row["variants"]) == ("COLOUR", ["paint:blue", "paint:red"])
    assert invoke(["list", "methods"]) == 0
    assert "write paint:COLOUR: blue, red" in capsys.readouterr().out


class Distribution:
    def __init__(self, name):
        self.name, self.version = name, "1.0"


@pytest.mark.parametrize(
    ("group", "find", "value", "good"),
    [
        ("methods", registry.method, "harness.plugins.beacon.base:Beacon", "harness.plugins.plain:Plain"),
        ("tasks", registry.task_class, "harness.tasks.niah.task:NeedleGrid", "harness.tasks.passkey:Passkey"),
    ],
)
def test_a_name_claimed_twice_is_nobodys_and_blocks_no_other(monkeypatch, group, find, value, good):
    def claimed(second):
        def entry_points(*, group):
            points = []
            for dist, name, target in (
                ("first", "same", good),
                ("second", "same", second),
                ("first", "other", good),
            ):
                point = metadata.EntryPoint(name, target, group)
                vars(point)["dist"] = Distribution(dist)
                points.append(point)
            return points

        monkeypatch.setattr(metadata, "entry_points", entry_points)
        monkeypatch.setattr(registry, "_load", functools.cache(registry._load.__wrapped__))

    claimed(value)
    message = refused(find, "same")
    kind = group[:-1]
    assert message == f"{kind} 'same' is claimed by first 1.0 and second 1.0; uninstall all but one"
    assert list(entry_points.entry_points(group)) == ["other"]
    assert find("other") and set(entry_points.claims(group)) == {"same", "other"}
    # The same class twice is one installation that left its traces in two places.
    claimed(good)
    assert set(entry_points.entry_points(group)) == {"same", "other"} and find("same")


def test_a_broken_family_hides_no_other_tasks(monkeypatch):
    with_entry_points(monkeypatch, ("harness.tasks", "gone", "no_such_module_anywhere:Thing"))
    assert {"gone", "longbench/trec"} <= set(registry.task_names())


# --- a file of one's own


def test_a_file_brings_its_methods_under_their_names(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        PLUGIN.format(name="KeepLast")
        + "\n\nclass Other(Method):\n    name = 'called-otherwise'\n"
        + "\n\nfrom harness.plugins.plain import Plain\n"
    )
    assert register_file(file) == ["keep_last", "called-otherwise"]
    plugin = registry.method("keep_last")
    assert plugin.cls.__name__ == "KeepLast" and plugin.origin == f"file {file}"
    assert len(plugin.file_hash) == 64
    assert registry.method("plain").origin.startswith("long-context-harness"), (
        "imported classes stay whose they are"
    )
    file.write_text(file.read_text() + "\n# changed\n")
    register_file(file)
    assert registry.method("keep_last").file_hash != plugin.file_hash
    assert register_file(file) == ["keep_last", "called-otherwise"], "the same again is no conflict"


def test_what_a_file_imports_from_its_own_folder_is_part_of_it(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import json\nimport aside\nfrom inner import part\ndef late():\n    from further import x\n"
    )
    alone = source_hash(file)
    assert alone == hashlib.sha256(file.read_bytes()).hexdigest(), "nothing of that is here"
    (tmp_path / "inner").mkdir()
    texts = {"aside.py": "import deeper", "deeper.py": "", "further.py": "", "inner/__init__.py": ""}
    texts |= {"inner/part.py": "from . import beside", "inner/beside.py": "", "json.txt": "", "unread.py": ""}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    before = source_hash(file)
    changed = set()
    for name, text in texts.items():
        (tmp_path / name).write_text(f"{text}\n# changed")
        changed |= {name} if source_hash(file) != before else set()
        (tmp_path / name).write_text(text)
    assert changed == texts.keys() - {"json.txt", "unread.py"} and before != alone


def test_two_files_do_not_share_a_name(tmp_path):
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(PLUGIN.format(name="KeepLast") + f"    # {name}\n")
    register_file(tmp_path / "one.py")
    message = refused(register_file, tmp_path / "two.py")
    assert f"its method 'keep_last' is also defined by file {tmp_path / 'one.py'}" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "import no_such_module_anywhere\n",
            "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
        ),
        ("def broken(:\n", "SyntaxError"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("x = 1\n", "defines no subclass of harness.Method"),
        ("from harness import Method\n", "defines no subclass of harness.Method"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, content, message):
    file = tmp_path / "mine.py"
    file.write_text(content)
    found = refused(register_file, file)
    assert found.startswith(f"--plugin {file}: ") and message in found


def test_a_file_that_is_none(tmp_path):
    assert refused(register_file, tmp_path / "no.py") == f"--plugin {tmp_path / 'no.py'}: no such file"
    assert "no such file" in refused(register_file, tmp_path)
    (tmp_path / "mine.txt").write_text("")
    assert "not a Python file" in refused(register_file, tmp_path / "mine.txt")


def test_a_file_does_not_stand_in_for_an_installed_method(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN.format(name="Plain"))
    assert "its method 'plain' has the name of an installed one" in refused(register_file, file)
    assert registry.method("plain").origin.startswith("long-context-harness")


def test_a_plugin_that_exits_is_one_line(tmp_path):
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(UsageError, match="SystemExit: 3"):
        registry.register_file(tmp_path / "leaves.py")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    Options = 3\n", "Options is 3; make it a subclass"),
        ("    @abc.abstractmethod\n    def go(self): ...\n", "does not implement go"),
    ],
)
def test_a_class_that_cannot_be_used_is_one_line(tmp_path, body, said):
    path = tmp_path / "odd.py"
    path.write_text("import abc\n" + PLUGIN.format(name="Odd") + body)
    with pytest.raises(UsageError, match=said):
        register_file(path)
