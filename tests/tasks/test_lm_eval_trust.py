"""A folder of lm-eval's tasks runs code only if the person who runs it has said so."""

import time

import pytest

from harness import UsageError
from harness.cli import invoke
from harness.interop import lm_eval_names
from harness.tasks.lm_eval_bridge.library import members

from ..helpers.lm_eval_yaml import write_tasks
from ..helpers.running import run, settings

pytestmark = pytest.mark.usefixtures("no_default_tasks")

CODE = "from pathlib import Path\nPath({mark!r}).write_text('ran')\ndef f(*args, **kwargs):\n    return 'q'\n"
ESCAPE = "doc_to_text: \"{{ ''.__class__.__mro__[1].__subclasses__() }}\"\n"


@pytest.fixture
def include(tmp_path):
    return write_tasks(tmp_path / "tasks")


def ask(tiny_folder, tmp_path, include, **changes):
    options = {"include_path": str(include), "num_fewshot": 0}
    wanted = settings(
        tiny_folder,
        tmp_path / "runs",
        tasks=("lm_eval:tiny_choice",),
        task_settings={"lm_eval": options},
        **changes,
    )
    return run(wanted)


def edit(include, line, drop=""):
    """The task with a line of its file replaced, or one more."""
    file = include / "tiny_choice.yaml"
    kept, dropping = [], False
    for each in file.read_text("utf-8").splitlines():
        dropping = each.startswith(drop) if not each.startswith(" ") else dropping
        kept += [] if drop and dropping else [each]
    file.write_text("\n".join([*kept, line]) + "\n", encoding="utf-8")


def function(include, tmp_path):
    (include / "bad.py").write_text(CODE.format(mark=str(tmp_path / "ran")), encoding="utf-8")
    edit(include, "doc_to_text: !function bad.f", "doc_to_text")


def included(include, tmp_path):
    (include / "bad.py").write_text(CODE.format(mark=str(tmp_path / "ran")), encoding="utf-8")
    (include / "part_yaml").write_text("doc_to_text: !function bad.f\n", encoding="utf-8")
    edit(include, "include: part_yaml", "doc_to_text")


@pytest.mark.parametrize("way", [function, included])
def test_functions_run_only_under_the_flag(tiny_folder, tmp_path, include, way):
    way(include, tmp_path)
    with pytest.raises(UsageError, match=r"holds !function bad\.f.*--trust-task-code"):
        ask(tiny_folder, tmp_path, include)
    assert not (tmp_path / "ran").exists()
    result, _ = ask(tiny_folder, tmp_path, include, trust_task_code=True)
    assert (tmp_path / "ran").exists() and result.summary["total"]["n_ok"] == 4


@pytest.mark.parametrize(
    ("line", "drop", "words"),
    [
        ("class: os.system", "", "names a Python class"),
        ("custom_dataset: os.listdir", "", "names a function"),
        ("use_prompt: promptsource:*", "", "another package"),
        ("dataset_path: pandas", "dataset_path", "reads its data by 'pandas'"),
        ("dataset_path: ./tasks", "dataset_path", "reads its data by './tasks'"),
        ("dataset_kwargs: {trust_remote_code: true}", "", "trusts code"),
        ("metric_list: [{metric: /tmp/evil}]", "metric_list", "fetched as code"),
        ("metric_list: [{metric: acc, hf_evaluate: true}]", "metric_list", "fetched as code"),
        (ESCAPE, "doc_to_text", "template"),
    ],
)
def test_every_other_way_is_refused(tiny_folder, tmp_path, include, line, drop, words):
    edit(include, line, drop)
    with pytest.raises(UsageError, match=f"{words}.*--trust-task-code"):
        ask(tiny_folder, tmp_path, include)


def test_a_harmless_folder_needs_no_flag(tiny_folder, tmp_path, include):
    result, _ = ask(tiny_folder, tmp_path, include)
    assert result.summary["total"]["n_ok"] == 4


@pytest.mark.parametrize(
    "words",
    [
        ["run", "-m", "plain", "-t", "lm_eval:hellaswagg", "--offline"],
        ["lm-eval", "run", "--model", "harness", "--tasks", "hellaswagg"],
        ["lm-eval", "run", "--model", "harness", "--tasks=hellaswag,hellaswagg"],
    ],
)
def test_a_name_that_is_nowhere_is_refused_by_a_look_at_the_files(words, capsys):
    before = time.process_time()
    assert invoke(words) == 2
    assert time.process_time() - before < 5
    assert "did you mean 'hellaswag'" in capsys.readouterr().err


def test_a_tasks_own_folder_is_enough(capsys, monkeypatch):
    assert lm_eval_names.folder_of("hellaswag").name == "hellaswag"
    assert lm_eval_names.folder_of("mmlu").name == "default", "of a group too"
    assert lm_eval_names.folder_of("mmlu_stem_tasks") is None, "a name of many files, or of none"
    monkeypatch.setattr(
        "harness.tasks.lm_eval_bridge.library._whole", lambda path: pytest.fail("all was read")
    )
    found = members("mmlu", None)
    assert len(found) == 57 and "mmlu_virology" in found, "members of groups within the group"
    lm_eval_names.check_name("mmlu_stem")
