"""Every verb as a function: what it returns is short to print, a table in a notebook, a figure and a data frame."""

import pytest

import harness
from harness import UsageError

from ..helpers import making
from ..helpers.records_made import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("verbs") / "runs"
    making.write_run(out, "plain", making.grid(0.3, ratio=1))
    making.write_run(out, "two_pass", making.grid(0.9))
    return out


def test_runs_print_short_and_show_as_a_table(runs):
    loaded = harness.load_runs(runs)
    assert len(repr(loaded)) < 400 and "45 of 45 samples" in repr(loaded)
    assert loaded._repr_html_().count("<tr>") == 3 and "two_pass" in loaded._repr_html_()
    assert loaded.plot().axes[0].get_legend() is not None


def test_comparing_says_what_the_command_says(runs, capsys):
    from harness.cli import invoke

    loaded = harness.load_runs(runs)
    found = harness.compare(loaded[0], runs)
    assert "two_pass is better than plain by" in repr(found)
    assert invoke(["compare", str(next(runs.glob("plain*"))), str(runs), "--json"]) == 0
    import json

    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.to_json()))
    frame = found.to_pandas()
    assert list(frame["verdict"]) == ["better"] and "<script" not in found._repr_html_()
    assert "two_pass: better" in [t.get_text() for t in found.plot().axes[0].get_yticklabels()]
    with pytest.raises(UsageError, match="did you mean 'forest'"):
        found.plot("forrest")


def test_a_report_is_a_page_a_text_and_tables(runs, tmp_path):
    found = harness.report(runs, baseline="two_pass")
    assert len(repr(found).splitlines()) < 60 and "plain is worse than two_pass" in repr(found)
    assert "<!doctype html>" in found.save(tmp_path / "a.html").read_text("utf-8")
    assert found.to_markdown().startswith("# ") and set(found.to_pandas()["table"]) >= {"scores", "cost"}
    with pytest.raises(UsageError, match="is there already"):
        found.save(tmp_path / "a.html")
    with pytest.raises(UsageError, match="no format of that ending"):
        found.save(tmp_path / "a.docx")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: harness.compare("nowhere", "x"), "there is no run's folder nowhere"),
        (lambda: harness.compare("nowhere"), "name at least one run"),
        (lambda: harness.report("nowhere"), "cannot read nowhere"),
        (lambda: harness.fit("plain", out="x", dat=1), "did you mean 'data'"),
        (lambda: harness.synth("thesis", out="x", coun=1), "did you mean 'count'"),
        (lambda: harness.check(), "name one method"),
        (lambda: harness.reproduce("thesis-9"), "thesis-9"),
        (lambda: harness.score("nowhere"), "nowhere"),
    ],
)
def test_what_is_wrong_is_a_line(call, message):
    with pytest.raises(UsageError, match=message) as found:
        call()
    assert "\n" not in str(found.value)


def test_a_class_and_an_instance_run_and_another_source_is_another_run(tiny_folder, tmp_path):
    from harness.models.loading import load
    from harness.plugins.beacon.method import Beacon
    from harness.plugins.plain import Plain

    class Shorter(Plain):
        """Plain, defined here."""

    more = {"model": tiny_folder.as_posix(), "out": tmp_path, "device": "cpu", "limit": 1}
    first = harness.run(Shorter, **more)
    assert (first.ran, harness.run(Shorter, **more).ran) == (1, 0), "the same source goes on"
    assert first.load().identity["method_file"]

    class Shorter(Plain):
        """Plain, defined otherwise."""

    assert harness.run(Shorter, **more).folder != first.folder
    instance = Beacon(load(tiny_folder.as_posix(), device="cpu"), Beacon.Options(interval=32, ratio="8"))
    both = harness.run([instance, "plain"], **more)
    assert [run.load().method for run in both] == ["beacon", "plain"]
    assert both[0].load().options["interval"] == 32 and "<Run " in repr(both[0])


def test_an_odd_label_stays_text(tmp_path):
    paths = [make_run(tmp_path, {"passkey": [1.0] * 6}, method=m) for m in ("<b>x</b>", "$y_1")]
    found = harness.load_runs(paths)
    assert "<b>x" not in found._repr_html_()
    found.plot().canvas.draw()
