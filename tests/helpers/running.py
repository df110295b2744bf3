"""What the tests of runs share: settings for the tiny model, a quiet watcher, stand-ins for plugins."""

import functools
from contextlib import contextmanager, nullcontext
from importlib import metadata

import torch

from harness import Options, Prompt, Sample, Task, registry
from harness.evaluation.plan import plan_run
from harness.evaluation.runner import execute
from harness.evaluation.settings import RunSettings
from harness.plugins.plain import Plain
from harness.registry import Plugin


@contextmanager
def one_thread():
    """Waiting for a second thread takes longer than matrices this small, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Watcher:
    """A watcher that shows nothing and remembers what it was told."""

    def __init__(self):
        self.totals, self.done, self.records = {}, {}, []

    def start(self, totals, done):
        self.totals, self.done = totals, done

    def note(self, text):
        pass

    def announce(self, what):
        return nullcontext(lambda done, total: None)

    def sample(self, task, record):
        self.records.append(record)


def settings(model_folder, out, **changes):
    """`plain` on three passkey samples beyond the window of the tiny model."""
    grid = {"task_settings": {"passkey": {"depths": "0,50,100"}}} if "tasks" not in changes else {}
    return RunSettings(**{"model": str(model_folder), "out": out, "device": "cpu", **grid, **changes})


def run(wanted):
    """Plan and execute; returns the result and the records on disk by sample id, in order."""
    plan = plan_run(wanted)
    result = execute(plan, Watcher())
    return result, by_id(result.folder)


def by_id(folder):
    """What the lines of `samples.jsonl` say, by the sample's id."""
    records = folder.records()
    found = {r.id: r.to_json() for r in records}
    assert len(found) == len(records), "a sample is there twice"
    return found


def answers(records):
    """Of each record what must not depend on how often a run was interrupted."""
    facts = (
        "status",
        "prediction",
        "scores",
        "prompt_hash",
        "truncation",
        "measured",
        "details",
        "stop_reason",
    )
    return {key: {name: record.get(name) for name in facts} for key, record in records.items()}


def as_method(monkeypatch, cls, name="own"):
    """Make `cls` a method of that name for the length of a test; returns the name."""
    monkeypatch.setitem(registry._local_methods, name, Plugin(name, "the tests", cls))
    return name


class ToyOptions(Options):
    n: int = 4


class Toy(Task):
    """Short samples without truncation, scored by whatever a test puts in `scorer`."""

    Options = ToyOptions
    metrics = ("score",)
    scorer = staticmethod(lambda sample, prediction: {"score": 1.0})

    def samples(self, env):
        for i in range(self.options.n):
            prompt = Prompt("Remember it. ", f"The passkey is {11111 * (i + 1)}. " * (i + 1), "What is it?")
            yield Sample(f"s{i}", prompt, (str(11111 * (i + 1)),), new_tokens=4, metadata={"i": i})

    def score(self, sample, prediction):
        return self.scorer(sample, prediction)


def with_entry_points(monkeypatch, *added):
    """Add ``(group, name, value)`` to the entry points, as an installed distribution would."""
    real = metadata.entry_points

    def entry_points(*, group):
        points = [metadata.EntryPoint(name, value, group) for g, name, value in added if g == group]
        return metadata.EntryPoints([*real(group=group), *points])

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    # Classes are kept once loaded: a cache of the test's own.
    monkeypatch.setattr(registry, "_load", functools.cache(registry._load.__wrapped__))


def with_toy(monkeypatch, scorer=None):
    """Make the task ``toy`` available."""
    with_entry_points(monkeypatch, ("harness.tasks", "toy", f"{__name__}:Toy"))
    if scorer is not None:
        monkeypatch.setattr(Toy, "scorer", staticmethod(scorer))


class Counting(Plain):
    """`plain`, with a list of the prompts of each call; a test hangs its failures on `before`."""

    calls: list
    before = staticmethod(lambda prompts: None)

    def compress_and_generate(self, prompts, decoding):
        type(self).calls.append(list(prompts))
        self.before(prompts)
        return super().compress_and_generate(prompts, decoding)


def counting(monkeypatch, before=None, name="own"):
    """A fresh `Counting` method, made available as `name`."""
    members = {"calls": []} | ({} if before is None else {"before": staticmethod(before)})
    cls = type("Own", (Counting,), members)
    as_method(monkeypatch, cls, name)
    return cls
