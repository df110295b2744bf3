"""The reports, from runs made without a model: what is shown, marked, compared and left out."""

import dataclasses
import io
import itertools
import json
import random
import re

import numpy as np
import pytest
from rich.console import Console

from harness import Options, UsageError, registry
from harness.documents.tables import Mark
from harness.render.formats import as_terminal
from harness.render.matplotlib import draw, panels
from harness.render.page import svg
from harness.results.labels import in_order
from harness.results.loading import load_runs
from harness.results.merging import merged

from ..helpers import making
from ..helpers.records_made import make_run


def build(name, *paths, **options):
    cls = registry.report(name).cls
    return cls(cls.Options(**options)).build(merged(load_runs(paths)))


def rows(document, table=0, key="run"):
    """Cells of a table's rows by the value of one of their columns."""
    return {row.cells[key].value: row.cells for row in document.tables[table].rows}


def passkeys(right, wrong, method="plain", **changes):
    return [
        making.record("passkey", f"s{i}", {"accuracy": float(i < right), "fuzzy": 0.5}, **changes)
        for i in range(right + wrong)
    ]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """LongBench under a poor, a good and an equally good method."""
    out = tmp_path_factory.mktemp("three")
    return (
        making.write_run(out, "plain", making.longbench(0.3, ratio=1)),
        making.write_run(out, "beacon", making.longbench(0.5)),
        making.write_run(out, "two_pass", making.longbench(0.502, ratio=12, seconds=5.0)),
    )


def test_scores_have_the_papers_categories_in_order_and_their_means(three):
    [table] = build("scores", *three).tables
    keys = [c.key for c in table.columns]
    assert keys[1:5] == [
        "longbench/narrativeqa",
        "longbench/qasper",
        "longbench/multifieldqa_en",
        "longbench:SingleDoc",
    ]
    assert keys[-1] == "longbench:Avg" and len(keys) == 1 + 14 + 5 + 1
    cells = table.rows[0].cells
    sets = [cells[k].value for k in keys[1:] if ":" not in k]
    assert cells["longbench:Avg"].value == pytest.approx(sum(sets) / 14)
    low, high = cells["longbench:Avg"].interval
    assert low < cells["longbench:Avg"].value < high
    footers = "\n".join(table.footers)
    assert "longbench Avg: mean over 14 data sets" in footers and "truncation: middle" in footers
    assert all(run.hash in footers for run in load_runs(three))


def test_of_a_part_of_a_benchmark_the_plain_mean_speaks(tmp_path):
    parts = ["trec", "lcc", "qasper"]
    paths = [
        making.write_run(tmp_path, method, making.longbench(skill, sets=parts))
        for method, skill in (("plain", 0.3), ("beacon", 0.5))
    ]
    [scores] = build("scores", *paths).tables
    cells, key = scores.rows[0].cells, "longbench:mean of tasks"
    assert cells[key].value == pytest.approx(np.mean([cells[f"longbench/{p}"].value for p in parts]))
    assert cells[key].interval[0] < cells[key].value < cells[key].interval[1]
    [compared] = build("comparison", *paths).tables
    assert compared.rows[-1].cells["task"].value == "longbench mean of tasks"


def test_first_place_is_shared_by_those_that_nobody_beats(three):
    [table] = build("scores", *three).tables
    best = {
        row.cells["run"].value: [k for k, c in row.cells.items() if Mark.BEST in c.marks]
        for row in table.rows
    }
    assert best["plain"] == []
    assert "longbench:Avg" in best["beacon"] and "longbench:Avg" in best["two_pass"]


def test_nobody_is_first_where_nothing_is_significant(tmp_path):
    paths = [
        making.write_run(tmp_path, "plain", passkeys(3, 3)),
        making.write_run(tmp_path, "beacon", passkeys(4, 2)),
    ]
    [table] = build("scores", *paths).tables
    assert not any(Mark.BEST in c.marks for row in table.rows for c in row.cells.values())


def test_published_values_stand_beside_the_runs_that_they_are_of(three):
    document = build("scores", *three, published="thesis-4.1")
    [table] = document.tables
    cells = rows(document)
    assert "Llama-2" in table.title and "tiny" in table.title
    shown = [c for c in cells["beacon"].values() if c.published is not None]
    assert shown and all(c.difference == pytest.approx(c.value - c.published) for c in shown)
    assert any(row.group.startswith("published") for row in table.rows)
    with pytest.raises(UsageError, match=r"did you mean 'thesis-4\.1'"):
        build("scores", *three, published="thesis-41")


def test_missing_samples_are_marked_and_counted(tmp_path):
    records = [*passkeys(2, 1), making.failed("passkey", "bad", "no <room>", status="oom")]
    path = making.write_run(tmp_path, "plain", records, missing=[("passkey", "never")])
    [cells] = rows(build("scores", path)).values()
    assert (cells["passkey"].n_ok, cells["passkey"].n) == (3, 5)
    assert Mark.INCOMPLETE in cells["passkey"].all_marks
    [failures] = rows(build("failures", path)).values()
    assert (failures["n_ok"].value, failures["oom"].value, failures["missing"].value) == ("3/5", 1, 1)
    assert "no <room>" in failures["errors"].value


def test_the_comparison_is_over_common_samples_and_says_how_many(tmp_path):
    first = making.write_run(tmp_path, "plain", passkeys(10, 30))
    more = [
        making.record("passkey", f"s{i}", {"accuracy": float(i < 30), "fuzzy": 0.5}) for i in range(10, 50)
    ]
    second = making.write_run(tmp_path, "two_pass", more)
    document = build("comparison", first, second)
    [cells] = rows(document).values()
    assert cells["n"].value == 30 and Mark.INCOMPLETE in cells["n"].all_marks
    assert cells["baseline"].value == 0 and cells["ours"].value == pytest.approx(100 * 20 / 30)
    assert cells["verdict"].value == "better" and Mark.BETTER in cells["verdict"].marks
    assert Mark.SEES_QUESTION in cells["run"].marks
    [scores] = build("scores", first, second).tables
    assert any("30 of them in all runs" in line for line in scores.footers)


def test_indistinguishable_is_said_as_such(tmp_path):
    first = making.write_run(tmp_path, "plain", passkeys(10, 10))
    records = [
        making.record("passkey", f"s{i}", {"accuracy": float(random.Random(i).random() < 0.5), "fuzzy": 0.5})
        for i in range(20)
    ]
    second = making.write_run(tmp_path, "beacon", records)
    [cells] = rows(build("comparison", first, second)).values()
    assert cells["verdict"].value == "indistinguishable" and Mark.SAME in cells["verdict"].marks


def test_a_run_without_common_samples_is_named_and_hides_nothing(tmp_path):
    first = making.write_run(tmp_path, "plain", passkeys(8, 8))
    second = making.write_run(tmp_path, "beacon", passkeys(9, 7))
    other = making.write_run(tmp_path, "two_pass", making.longbench(0.4, n=3, sets=["trec"]))
    document = build("comparison", first, second, other)
    assert list(rows(document)) == ["beacon"]
    assert any("not compared with the first run" in line for line in document.notes)
    alone = build("comparison", first, other)
    assert not alone.tables and "two_pass" in alone.notes[0]


def test_one_method_on_two_tasks_in_two_runs_is_one_row(tmp_path):
    paths = [
        making.write_run(tmp_path, "plain", passkeys(3, 3)),
        making.write_run(tmp_path, "plain", making.longbench(0.4, n=3, sets=["trec"])),
    ]
    [cells] = rows(build("scores", *paths)).values()
    assert cells["passkey"].value == 50 and "longbench/trec" in cells


def test_a_run_that_was_killed_is_summarised_from_its_records(tmp_path):
    path = making.write_run(tmp_path, "plain", passkeys(3, 1), status="running", missing=[("passkey", "x")])
    [cells] = rows(build("scores", path)).values()
    assert cells["passkey"].value == 75 and (cells["passkey"].n_ok, cells["passkey"].n) == (4, 5)
    assert Mark.WARNED in cells["run"].marks


def test_costs_are_means_with_intervals_and_the_ratio_is_of_sums(tmp_path):
    records = [
        making.record(
            "passkey", f"s{i}", {"accuracy": 1.0, "fuzzy": 1.0}, tokens=1001 + 1000 * i, seconds=1.0 + i
        )
        for i in range(5)
    ]
    document = build("cost", making.write_run(tmp_path, "beacon", records))
    [cells] = rows(document).values()
    read, kept = (sum(v) for v in zip(*((1000 + 1000 * i, (1000 + 1000 * i) // 4) for i in range(5))))
    assert cells["compression"].value == pytest.approx(read / kept)
    assert cells["seconds"].value == pytest.approx(3.0)
    low, high = cells["seconds"].interval
    assert 1 < low < 3 < high < 5
    assert {f.name for f in document.figures} == {"pareto-passkey-kv", "pareto-passkey-time"}


def test_many_tasks_cost_by_family_first_and_the_frontier_is_that_of_the_average(three):
    document = build("cost", *three)
    assert [t.name for t in document.tables] == ["cost", "cost-tasks"]
    assert [t.folded for t in document.tables] == [False, True]
    kv = next(f for f in document.figures if f.name == "pareto-longbench-kv")
    assert len(kv.points) == 3
    frontier = [p.label for p in kv.frontier()]
    assert frontier[0] == "two_pass" and "plain" not in frontier


def test_runs_that_differ_in_their_budget_alone_are_one_curve_by_rising_budget(tmp_path):
    def at(budget, method="rag", **identity):
        records = passkeys(3, 7, ratio=4096 // budget)
        return making.write_run(tmp_path, method, records, budget=budget, **identity)

    paths = [at(1024), at(256), at(512), at(256, seed=7), at(512, "streaming"), at(256, "streaming")]
    document = build("cost", *paths, making.write_run(tmp_path, "plain", passkeys(9, 1)))
    kv = next(f for f in document.figures if f.name == "pareto-passkey-kv")
    found = {curve.label: [p.label for p in curve.points] for curve in kv.curves()}
    assert found["streaming"] == ["streaming budget=512", "streaming budget=256"], "in the order of the runs"
    assert len(found["rag seed=42"]) == 3 and found["plain"] == ["plain"]
    assert any("seed=7" in name and len(points) == 1 for name, points in found.items())
    assert "joined" in kv.description
    ordered = [r.identity.get("budget") for r in in_order(load_runs(paths)) if r.method == "streaming"]
    assert ordered == [256, 512]

    drawn = svg(kv)
    lines = re.findall(r'<path d="M([^"]*)" class="line s(\d)', drawn)
    assert sorted(path.count("L") for path, _ in lines) == [1, 2], "a line through each curve"
    assert drawn.count("streaming") > 2 and len(re.findall(r'class="label"', drawn)) == len(found)
    shown = panels([kv, kv], 2, "two").legends[0].get_texts()
    assert sorted(t.get_text() for t in shown) == sorted(found), "a name once for both panels"
    assert {t.get_text() for t in draw(kv).axes[0].get_legend().get_texts()} == set(found)


def test_scores_by_length_and_the_grid(tmp_path):
    path = making.write_run(tmp_path, "two_pass", making.grid(0.8))
    lengths = build("lengths", path)
    [cells] = rows(lengths).values()
    assert set(cells) == {"run", "4096", "8192", "16384"}
    [figure] = lengths.figures
    assert [x for x, _, _ in figure.series[0].points] == [4096, 8192, 16384]
    [heat] = build("grid", path).figures
    assert heat.columns == ["4,096", "8,192", "16,384"] and heat.rows == ["0", "25", "50", "75", "100"]
    assert all(n == 3 for row in heat.counts for n in row)
    flat = [100 * r["scores"]["accuracy"] for r in making.grid(0.8)]
    assert sum(map(sum, heat.values)) / 15 == pytest.approx(sum(flat) / len(flat))


def test_a_sample_shows_where_two_pass_looked_and_what_it_kept(tmp_path):
    path = making.write_run(tmp_path, "two_pass", making.grid(0.6, lengths=(8192,)))
    views = build("samples", path).samples
    assert [v.title.split(": ")[1].split(",")[0] for v in views] == ["full score", "low score"]
    strip = views[0].strip
    record = next(r for r in making.grid(0.6, lengths=(8192,)) if r["id"] in views[0].title)
    assert [s.ratio for s in strip.stretches if s.ratio is not None] == record["details"]["ratios"]
    assert strip.stretches[-1].ratio is None and strip.stretches[-1].end == record["prompt_tokens"]
    assert strip.stretches[0].start == 0 and not strip.estimated
    held = strip.stretches[strip.holder()]
    assert held.start <= record["answer_token"] < held.end


def test_the_first_box_holds_the_sinks(tmp_path):
    records = making.grid(0.6, lengths=(8192,))
    made = {"start": "last", "sinks": 5}
    plain = build("samples", making.write_run(tmp_path / "a", "two_pass", records)).samples[0].strip
    path = making.write_run(tmp_path / "b", "two_pass", records, options=made)
    strip = build("samples", path).samples[0].strip
    edges = [(s.start, s.end) for s in strip.stretches]
    assert edges[0] == (0, 1029) and edges[1] == (1029, 2053) and edges[-1][1] == records[0]["prompt_tokens"]
    assert all(one[1] == other[0] for one, other in itertools.pairwise(edges))
    assert strip.stretches[0].kept == plain.stretches[0].kept + 5
    assert strip.stretches[1].kept == plain.stretches[1].kept


def test_old_records_estimate_the_answers_place_from_its_depth_or_say_that_it_is_unknown(tmp_path):
    records = making.grid(0.6, lengths=(8192,))
    for record in records:
        del record["answer_token"]
    strip = build("samples", making.write_run(tmp_path / "a", "two_pass", records)).samples[0].strip
    assert strip.estimated and strip.answer is not None
    for record in records:
        record["truncation"]["truncated"] = True
    strip = build("samples", making.write_run(tmp_path / "b", "two_pass", records)).samples[0].strip
    assert strip.answer is None and strip.holder() is None


def test_the_summary_has_a_row_for_each_run_and_task(three):
    [table] = build("summary", *three).tables
    assert len(table.rows) == 3 * 14
    json.dumps(table.to_json())


def test_what_a_method_says_of_its_answers_stands_below_every_table(tmp_path):
    path = make_run(tmp_path, {"longbench/trec": [1.0, 0.0]})
    lines = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
    noted = [{**line, "details": {"notes": ["ratios say nothing"]}} for line in lines]
    (path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in noted))
    for name in ("scores", "summary"):
        (line,) = [f for f in build(name, path).tables[0].footers if "say nothing" in f]
        assert line.startswith("! ") and line.endswith("2 of 2 samples): ratios say nothing")


def test_a_length_whose_samples_all_failed_shows_as_failed(tmp_path):
    """Also where only one length is left: a table that vanishes would look like one that was not asked for."""
    records = making.grid(0.6, lengths=(4096,))
    gone = [
        making.failed("passkey", f"gone-{i}") | {"metadata": {"length": 8192, "depth": depth}}
        for i, depth in enumerate((0, 50))
    ]
    path = making.write_run(tmp_path, "plain", [*records, *gone], status="finished with failures")
    document = build("lengths", path)
    [cells] = rows(document).values()
    assert (cells["8192"].value, cells["8192"].n_ok, cells["8192"].n) == ("failed", 0, 2)
    assert cells["4096"].n_ok == cells["4096"].n == len(records)


@pytest.mark.parametrize(("name", "said"), [("lengths", "by length"), ("effective", "Effective length")])
def test_a_report_asked_for_by_name_is_shown_where_others_are_compact(tmp_path, name, said):
    path = making.write_run(tmp_path, "plain", making.grid(0.6, lengths=(512, 4096)))
    console = Console(width=120, file=io.StringIO())
    console.print(as_terminal([build(name, path)], 120, compact=True))
    shown = console.file.getvalue()
    assert said in shown and "plain" in shown


def test_a_cell_whose_samples_all_failed_shows_as_failed(tmp_path):
    path = make_run(tmp_path, {"longbench/trec": {f"s{i}": 1.0 for i in range(4)}})
    run = load_runs(path)[0]
    records = {}
    for number, (key, record) in enumerate(run.records.items()):
        facts = {"length": 100 * (1 + number // 2), "depth": 50.0 * (number % 2)}
        status = "oom" if number == 3 else "ok"
        records[key] = dataclasses.replace(record, metadata=facts, status=status)
    lost = dataclasses.replace(run, records=records)
    [table] = registry.report("grid").cls(Options()).build([lost]).tables
    cells = [[row.cells.get(f"{length}") for length in (100, 200)] for row in table.rows]
    assert [[cell.value for cell in row] for row in cells] == [[100, 100], [100, "failed"]]
    assert (cells[1][1].n_ok, cells[1][1].n) == (0, 1)
