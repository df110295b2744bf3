"""Every flag with a value it cannot have: one line, exit 2, and the line names what to change."""

import json

import click
import pytest

from harness import UsageError
from harness.cli import VERBS, cli, invoke
from harness.cli.synth import _say
from harness.plugins.plain import Plain
from harness.results.run_folder import SAMPLES, RunFolder

from ...helpers.fuzzing import refused_or_done
from ...helpers.records_made import make_run

FIT = "fit -m beacon --interval 32 --train-ratios 2,4,8 --data DATA --out OUT --model TINY --device cpu"
RUN = "run -m plain --model TINY --device cpu --offline --limit 1 --out OUT"
SYNTH = "synth --recipe thesis --count 2 --out OUT --model TINY --device cpu"
LONG = "x" * 300

WRONG = {
    "run": "give --method NAME",
    "run -m plian": "no method named 'plian'; did you mean 'plain'?",
    "run -m plain --limit ten": "--limit",
    f"{RUN} -t paskey": "no task named 'paskey'; did you mean 'passkey'?",
    f"{RUN} --truncate half": "--truncate half: choose from",
    f"{RUN} --chat maybe": "--chat named 'maybe'",
    f"{RUN} --dtype int8": "--dtype named 'int8'",
    f"{RUN} --device gpu": "--device gpu",
    f"{RUN} --limit 0": "--limit must be at least 1, not 0",
    f"{RUN} --limit {10**20}": "--limit must be at most",
    f"{RUN} --batch-size -3": "--batch-size must be at least 1, not -3",
    f"{RUN} --max-context 0": "--max-context must be at least 1, not 0",
    f"{RUN} --context-length -1": "--context-length -1",
    f"{RUN} --seed 1.5": "--seed",
    f"{RUN} --seed {2**64}": "--seed 18446744073709551616: must fit in 64 bits",
    f"{RUN} --sample-timeout nan": "--sample-timeout nan",
    f"{RUN} --set passkey": "--set passkey: write TASK.OPTION=VALUE",
    f"{RUN} --set passkey.lengths=x": "task passkey: option lengths=",
    f"{RUN} --set niah.depths=1": "no task to --set options of named 'niah'",
    f"{RUN} --plugin nowhere.py": "--plugin nowhere.py: no such file",
    f"{RUN} --adapter {LONG}": LONG,
    f"{RUN} --model {LONG}": LONG,
    f"{RUN} --model nowhere/at/all": "model nowhere/at/all",
    f"{RUN} --model DATA": "model DATA",
    f"{RUN} -t longbench/qasper --data-dir nowhere": "nowhere",
    f"{RUN} -t longbench/qasper --data-dir DATA": "DATA",
    f"{RUN} --quick": "--quick is for suites",
    f"{RUN} --var a=b": "--var is for suites",
    f"{RUN} --out ''": "--out: the value is empty",
    f"{RUN} --data-dir=": "--data-dir: the value is empty",
    "run ''": "an empty word after 'run'",
    "run nowhere.yaml": "nowhere.yaml: cannot be read",
    f"{FIT} --data nowhere.jsonl": "nowhere.jsonl: no such file",
    f"{FIT} --data DATA:0": "DATA:0",
    f"{FIT} --learning-rate inf": "--learning-rate must be greater than 0 and finite, not inf",
    f"{FIT} --epochs nan": "--epochs must be greater than 0 and finite, not nan",
    f"{FIT} --epochs -1": "--epochs must be greater than 0 and finite, not -1",
    f"{FIT} --seed -1": "--seed must be 0 to 4294967295, not -1",
    f"{FIT} --warmup-steps -1": "--warmup-steps must be at least 0, not -1",
    f"{FIT} --save-every 0": "--save-every must be at least 1, not 0",
    f"{FIT} --min-length 9000": "--min-length 9000 is above --max-length 8192",
    f"{FIT} --trainer bf16": "--trainer bf16: write NAME=VALUE",
    f"{FIT} --train-ratios 3": "option train_ratios='3': '3' is no ratio; choose from",
    "fit -m plain --out OUT": "method plain has nothing to fit",
    "fit -m beacon": "--out",
    f"{SYNTH} --recipe thesys": "no recipe named 'thesys'; did you mean 'thesis'?",
    f"{SYNTH} --count 0": "--count 0: must be at least 1",
    f"{SYNTH} --length-range 9-1": "--length-range 9-1",
    f"{SYNTH} --nouns nowhere.txt": "nowhere.txt",
    f"{SYNTH} --set story_tokens": "--set story_tokens: write OPTION=VALUE",
    f"{SYNTH} --generator-model x": "--generator-model names a model of --generator",
    f"{SYNTH} --generator ftp://x": "--generator ftp://x",
    "compare A": "B...",
    "compare A nowhere": "nowhere",
    "compare A B --level nan": "--level",
    "compare A B --level 2": "--level",
    "compare A B --fail-if-worse nan": "--fail-if-worse",
    "compare A B --fail-if-worse -1": "--fail-if-worse",
    "compare A B --resamples 10": "--resamples",
    "compare A B --resamples 99999999999999999999": "--resamples",
    "compare A B --seed -1": "--seed",
    "compare A B --metric nothing": "nothing",
    "compare A B --task niah": "niah",
    "report nowhere": "nowhere",
    "report DATA": "DATA",
    "report A --kind skores": "no report named 'skores'; did you mean 'scores'?",
    "report A --format pdf": "--out NAME.pdf",
    "report A --published nothing --kind cost": "--published is for the scores",
    "report A --published nothing": "nothing",
    "report A --json --format html": "--json prints JSON",
    "report A --json --out x.html": "--json prints JSON",
    "report A --out DATA --format json": "DATA is there already; choose another --out, or say --force",
    "report A --format csv": "choose one --kind, or give --out FOLDER",
    "reproduce thesis-9": "no suite named 'thesis-9'",
    "reproduce thesis-4.1 --truncate half --model TINY --dry-run": "--truncate half",
    "reproduce thesis-4.1 --limit 0 --model TINY --dry-run": "--limit must be at least 1, not 0",
    "reproduce thesis-4.1 --format pdf": "--format named 'pdf'",
    "reproduce thesis-4.1 --var x": "--var x: write NAME=VALUE",
    "reproduce thesis-4.1 --print --json": "--print shows a file",
    "list things": "things",
    "new method ../up": "../up",
    "new thing x": "thing",
    "check": "name one method, or one task with --task",
    "check plain --task passkey": "name one method, or one task with --task",
    "check plain --only nothing": "no check named 'nothing'",
    "check plain --adapter A": "--adapter belongs to the model",
    "check plain --set passkey.lengths=1": "--set and --data-dir are a task's",
    "check -t passkey --set niah.depths=1": "--set niah",
    "doctor --all": "--all",
    "score nowhere.jsonl": "nowhere.jsonl",
    "score DATA": "DATA, line 1: field",
    "data show passkey --limit 0": "--limit",
    "data show passkey --limit 99999999999999999999": "--limit",
    "data fetch nothing": "no task or model named 'nothing'",
    "rnu": "no command named 'rnu'; did you mean 'run'?",
}


@pytest.fixture(scope="module")
def words(tiny_folder, tmp_path_factory):
    """What the table's capitals stand for: a model, a file of texts, two runs, and a folder that is not there."""
    base = tmp_path_factory.mktemp("flags")
    (base / "data.jsonl").write_text(json.dumps({"text": "Ada signed it. " * 50}) + "\n")
    scores = {"longbench/qasper": [0.0, 1.0, 1.0]}
    runs = [make_run(base / "runs", scores, method=m) for m in ("plain", "beacon")]
    found = {
        "TINY": tiny_folder,
        "DATA": base / "data.jsonl",
        "OUT": base / "out",
        "A": runs[0],
        "B": runs[1],
    }
    return {name: str(path) for name, path in found.items()}


@pytest.mark.parametrize("line", WRONG, ids=lambda line: line.replace(LONG, "LONG"))
def test_the_line_names_what_to_change(words, tmp_path, monkeypatch, line):
    def begin(*_):
        raise UsageError("planned")

    monkeypatch.chdir(tmp_path)
    for place in ("evaluation.runner", "training.run", "synthesis.run"):
        monkeypatch.setattr(f"harness.{place}.execute", begin)

    def spelled(word):
        name, colon, rest = word.partition(":")
        return "" if word == "''" else f"{words.get(name, name)}{colon}{rest}"

    _, said = refused_or_done([spelled(word) for word in once(line.split())], status=(2,))
    expected = " ".join(words[name] if (name := word) in words else word for word in WRONG[line].split(" "))
    for name in ("DATA:", "DATA,"):
        expected = expected.replace(name, f"{words['DATA']}{name[-1]}")
    assert expected in said
    assert not list(tmp_path.iterdir())


def once(words):
    """The words without what stands again further on: the table adds what is wrong to a line that is right."""
    again = ("--device", "--limit", "--model", "--out", "--train-ratios", "--recipe", "--count")
    drop = {i for i, w in enumerate(words) if w in again and w in words[i + 1 :]}
    return [w for i, w in enumerate(words) if i not in drop and i - 1 not in drop]


def commands(group=cli, above=()):
    """Every command and the words that lead to it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        else:
            yield " ".join((*above, name)), command


def test_every_verb_takes_quiet_and_json():
    assert {line.split()[0] for line, _ in commands()} == {*VERBS}
    for line, command in commands():
        flags = {flag for param in command.params for flag in param.opts}
        assert line == "lm-eval" or {"--quiet", "--json"} <= flags, line


# --- records that a person put together

PARTS = [
    *(
        "prompt_hash",
        "references",
        "prompt_tokens",
        "stop_reason",
        "metadata",
        "scores",
        "truncation",
        "measured",
        "cost",
    ),
    *(
        "truncation.answer_survives",
        "measured.kv_tokens",
        "measured.verified",
        "cost.kv_bytes",
        "cost.decode_seconds",
    ),
]


@pytest.mark.parametrize("lost", [*PARTS, "scores.accuracy"])
@pytest.mark.parametrize("verb", ["report", "compare"])
def test_a_record_without_a_checksum_that_lacks_a_field(tmp_path, verb, lost):
    first, other = (
        make_run(tmp_path, {"passkey": [0.0, 1.0]}, method=m, metrics={"passkey": "accuracy"})
        for m in ("plain", "beacon")
    )
    path = other / SAMPLES
    head, *rest = path.read_text().splitlines(keepends=True)
    record = json.loads(head)
    name, _, inner = lost.partition(".")
    if lost == "scores.accuracy":
        record["scores"]["accuracy"] = "much"
    elif inner:
        del record[name][inner]
    else:
        del record[name]
    path.write_text("".join([json.dumps(record) + "\n", *rest]))
    _, said = refused_or_done([verb, first, other], status=(2,))
    why = "its score accuracy is no number" if lost == "scores.accuracy" else f"it has no {lost}"
    assert f"line 1 is damaged ({why}); remove that line" in said


def test_a_record_without_one_of_its_tasks_scores(tmp_path):
    run = make_run(tmp_path, {"passkey": [0.0, 1.0]}, metrics={"passkey": "accuracy"})  # passkey has two
    _, said = refused_or_done(["report", run], status=(2,))
    assert (
        "task passkey: the record of a finished sample has no 'fuzzy', which its table needs; remove" in said
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": {}}, "its method has no 'name'"),
        ({"model": 3}, "its model is no object"),
        ({"identity": {"options": {}}}, "its identity has no 'tasks'"),
        ({"identity": {"options": [], "tasks": []}}, "its identity.options is no object"),
        ({"identity": {"options": {}, "tasks": [3]}}, "its identity.tasks is no list of objects"),
        (
            {"identity": {"options": {}, "tasks": [{"name": "x"}]}},
            "its identity.tasks has one without 'version'",
        ),
        ({"summary": {"tasks": [{}]}}, "its summary.tasks has one without 'task'"),
    ],
)
def test_a_run_that_somebody_edited(tmp_path, change, words):
    folder = RunFolder(make_run(tmp_path, {"passkey": [0.0]}))
    folder.write_run({**folder.read_run(), **change})
    _, said = refused_or_done(["report", folder.path], status=(2,))
    assert words in said


# --- what goes out


def test_listings_do_not_steer_a_terminal(monkeypatch, capsys, tmp_path):
    """What a plugin, a suite or a folder is called may hold escape sequences."""
    evil = "\x1b[31mred\x07"

    monkeypatch.setattr(Plain, "__doc__", f"Does {evil}.")
    assert invoke(["list", "methods"]) == 0
    assert invoke(["new", "method", "mine", "--out", str(tmp_path / evil)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\\x1b[31mred\\x07") >= 3 and not {"\x1b", "\x07"} & {*shown}


def test_what_synth_says_does_not_steer_a_terminal(capsys, tmp_path):
    evil = "\x1b]0;title\x07"
    stage = {"usable": 1, "items": 2, "dropped": {evil: 1}, "origins": {evil: 1}}
    samples = {"made": {evil: 1}, "asked": {evil: 2}, "repeated_passages": 0, "below_length_range": 0}
    card = {"samples": samples, "lengths": {"min": 1, "max": 2, "mean": 1}, "pool": {"stages": {evil: stage}}}
    _say(card, tmp_path / evil)
    shown = capsys.readouterr().out
    assert "\\x1b]0;title\\x07" in shown and not {"\x1b", "\x07"} & {*shown}


def test_the_reserved_flags_are_those_of_run_and_fit():
    from harness.cli.fit import fit
    from harness.cli.run import run
    from harness.options import RESERVED_FLAGS

    flags = {flag for verb in (run, fit) for param in verb.params for flag in param.opts}
    assert {flag for flag in flags if flag.startswith("--")} == RESERVED_FLAGS
