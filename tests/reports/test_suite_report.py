"""Rows and claims of a suite's table, from records made here."""

import itertools

import pytest

from harness.contracts.record import SampleRecord
from harness.contracts.run import LoadedRun
from harness.reports._claims import findings_table, put_to_test, verdict
from harness.reports._suite_rows import SuiteRow, measure, strata_of
from harness.reports.suite import document, heading
from harness.stats import wilson
from harness.stats.power import detectable_difference


def loaded(scores, seed=1, name="m", planned=None, status="ok"):
    """A run with these scores by task; None is a sample that failed."""
    records = {}
    for task, values in scores.items():
        for i, value in enumerate(values):
            record = SampleRecord(
                f"s{i}",
                task,
                "error" if value is None else status,
                metadata={"length": 10 * (i % 2)},
                scores={"score": value, "other": 1.0},
            )
            records[record.key] = record
    tasks = [{"name": t, "version": "1", "preset": "p", "options": {}} for t in scores]
    content = {
        "hash": f"{name}{seed}",
        "identity": {"seed": seed, "tasks": tasks, "truncate": "middle", "max_context": None},
        "summary": {"tasks": [{"task": t, "metric": "score"} for t in scores]},
        "prompts": {t: {"samples": (planned or {}).get(t, len(v))} for t, v in scores.items()},
        "method": {"name": name, "sees_question": False},
        "status": "finished",
        "settings": {},
        "model": {"name": "m"},
    }
    return LoadedRun(content, records, "here", name)


def row(name, *runs, **changes):
    recorded = {
        "id": name,
        "label": name,
        "model": "m",
        "status": "ok",
        "why": "",
        "note": None,
        "published": None,
    }
    return SuiteRow({**recorded, **changes}, runs)


def column(*tasks, **changes):
    return {"key": "c", "heading": None, "tasks": list(tasks), "metric": None, "where": {}, **changes}


def finding(**rows):
    return {"claim": "x", "column": "c", "better": None, "worse": None, "increasing": [], **rows}


def test_an_average_weighs_data_sets_alike_and_pools_seeds():
    one = row(
        "a", loaded({"t": [1.0, 0.5], "u": [0.0] * 6}), loaded({"t": [0.0, 0.5], "u": [0.3] * 6}, seed=2)
    )
    found = measure(one, column("t", "u", "v"))
    assert found.value == pytest.approx(100 * (0.5 + 0.15) / 2)
    assert (found.n_ok, found.n) == (16, 16)
    low, high = found.interval
    assert low < found.value < high
    assert measure(one, column("v")) is None
    low, high = measure(row("b", loaded({"t": [0.0] * 3, "u": [0.0] * 3})), column("t", "u")).interval
    assert low == 0 and high == pytest.approx(100 * wilson(0, 6)[1]), "six zeros do not prove that all are"
    assert measure(one, column("t", metric="other")).value == 100
    assert measure(one, column("t", where={"length": 10})).value == 50
    assert set(strata_of(one, column("t"))["t"]) == {(s, "t", f"s{i}") for s in (1, 2) for i in (0, 1)}


def test_a_data_set_without_a_finished_sample_leaves_no_average():
    found = measure(row("a", loaded({"t": [1.0, 1.0], "u": [None, None]})), column("t", "u"))
    assert (found.value, found.interval, found.n_ok, found.n) == (None, None, 2, 4)


def test_a_claim_is_tested_on_the_samples_all_have_finished():
    worse = row("worse", loaded({"t": [0.1, 0.2, 0.0, 0.1, 0.3, 0.1, None], "u": [0.5]}))
    better = row("better", loaded({"t": [0.4, 0.3, 0.2, 0.2, 0.5, 0.2, 0.9], "u": [0.6]}, name="n"))
    rows = [worse, better]
    found = put_to_test(finding(better="better", worse="worse"), column("t", "u"), rows, "")
    gains = [0.3, 0.1, 0.2, 0.1, 0.2, 0.1]
    assert found.n == 7
    assert found.difference == pytest.approx(100 * (sum(gains) / 6 + 0.1) / 2)
    parts = [100 * g / 12 for g in gains] + [100 * 0.1 / 2]
    flips = [abs(sum(s * p for s, p in zip(signs, parts))) for signs in itertools.product((1, -1), repeat=7)]
    assert found.p == pytest.approx(sum(f >= sum(parts) - 1e-9 for f in flips) / 2**7)
    assert verdict(found, found.p) == "holds"
    turned = put_to_test(finding(better="worse", worse="better"), column("t", "u"), rows, "")
    assert verdict(turned, turned.p) == "does not hold: it is the other way round"
    assert verdict(found, 0.2) == "cannot be told: the difference may be chance"


def test_a_claim_says_what_difference_its_samples_could_have_shown():
    a, b = [1.0] * 5 + [0.0] * 11, [1.0] * 16
    rows = [row("a", loaded({"t": a})), row("b", loaded({"t": b}, name="n"))]
    claims = [finding(better="b", worse="a"), finding(better="a", worse="b")]
    [first, second] = findings_table(outcome(models=["m"], findings=claims), rows).rows
    [plain] = findings_table(outcome(models=["m"], findings=claims[:1]), rows).rows
    seen = detectable_difference([[y - x for x, y in zip(a, b)]], binary=True, alpha=0.025)
    assert first.cells["detectable"].value == second.cells["detectable"].value == pytest.approx(100 * seen)
    assert 30 < plain.cells["detectable"].value < first.cells["detectable"].value < 100
    alike = [row("a", loaded({"t": [0.5] * 9})), row("b", loaded({"t": [0.5] * 9}, name="n"))]
    [none] = findings_table(outcome(models=["m"], findings=claims[:1]), alike).rows
    assert none.cells["detectable"].value is None, "without any spread nothing is known"
    few = [row("a", loaded({"t": [0.0] * 6})), row("b", loaded({"t": [1.0] * 6}, name="n"))]
    [small] = findings_table(outcome(models=["m"], findings=claims[:1]), few).rows
    assert small.cells["p"].value < 0.05 and small.cells["detectable"].value > 80


def test_an_increasing_claim_is_a_slope_in_points_for_each_step():
    rows = [
        row(name, loaded({"t": [0.1 * i + 0.01 * k for k in range(6)]}, name=name))
        for i, name in enumerate("abc")
    ]
    found = put_to_test(finding(increasing=["a", "b", "c"]), column("t"), rows, "")
    assert found.difference == pytest.approx(10) and found.p == pytest.approx(2 / 2**6)
    assert found.rows == "a < b < c"
    back = put_to_test(finding(increasing=["c", "b", "a"]), column("t"), rows, "")
    assert back.difference == pytest.approx(-10)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [row("a", loaded({"t": [0.0] * 5})), row("b", loaded({"t": [1.0] * 5}, name="n"))],
            "5 samples are too few",
        ),
        ([row("a", loaded({"t": [0.0] * 9})), row("b")], "not run: b"),
        (
            [row("a", loaded({"t": [None]})), row("b", loaded({"t": [1.0]}))],
            "no sample was finished in all of them",
        ),
        ([row("a", loaded({"t": [0.0] * 9})), row("b", loaded({"t": [0.0] * 9}))], "they are the same run"),
    ],
)
def test_what_keeps_a_claim_from_being_tested_is_said(rows, words):
    found = put_to_test(finding(better="b", worse="a"), column("t"), rows, "")
    assert found.p is None and verdict(found, None) == f"cannot be told: {words}"


def test_claims_are_corrected_for_their_number():
    good = [row("a", loaded({"t": [0.0] * 6})), row("b", loaded({"t": [1.0] * 6}, name="n"))]
    claims = [finding(better="b", worse="a"), finding(better="b", worse="a")]
    outcome = {"name": "s", "models": ["m"], "columns": [column("t")], "findings": claims}
    table = findings_table(outcome, good)
    assert [r.cells["p"].value for r in table.rows] == [pytest.approx(4 / 64)] * 2
    assert table.rows[0].cells["verdict"].value == "cannot be told: the difference may be chance"
    assert "for the 2 of 2 claims" in table.footers[1]


def outcome(**changes):
    made = {
        "name": "s",
        "title": "T",
        "paper": {"source": "p", "models": ["org/Big-7b"]},
        "published": None,
        "quick": False,
        "models": ["small"],
        "columns": [column("t")],
        "transposed": False,
        "figure": None,
        "findings": [],
        "notes": ["said once"],
        "rows": [
            {"id": "a", "label": "A", "model": "small", "status": "unavailable", "why": "no data", "note": "n",
             "published": None, "runs": []}
        ],
    }  # fmt: skip
    return {**made, **changes}


def test_the_heading_says_so_on_another_model():
    assert heading(outcome()).startswith("s: T; on small, not on Big-7b: numbers are not comparable")
    assert heading(outcome(models=["dir/big-7B"], quick=True)) == "s (quick): T; on big-7B"


@pytest.mark.parametrize("transposed", [False, True])
def test_a_row_that_is_unavailable_keeps_its_place_and_says_why(transposed):
    [table] = document(outcome(transposed=transposed)).tables
    assert {"said once", "A: unavailable: no data", "A: n"} <= set(table.footers)
    if transposed:
        assert [c.heading for c in table.columns] == ["Dataset", "A"]
        assert [r.cells["row"].value for r in table.rows] == ["c", "n ok"]
    else:
        [line] = table.rows
        assert line.cells["row"].value == "A" and line.cells["c"].value is None


def paper_row(column_key, label="full"):
    """The outcome of a suite held against SelfLong's Table 3, in one column."""
    row = {"id": "a", "label": "A", "model": "small", "status": "unavailable", "why": "no data", "note": None,
           "published": label, "runs": []}  # fmt: skip
    return outcome(published="selflong-3", columns=[{**column("t"), "key": column_key}], rows=[row])


def test_a_paper_of_which_no_value_stands_beside_ours_is_printed_below():
    ours, papers = document(paper_row("2048")).tables
    assert any(f.startswith("paper: Bootstrap Your Own") and f.endswith("see below") for f in ours.footers)
    assert [c.heading for c in papers.columns] == ["Row", "Model", "32k", "128k", "256k", "1M"]
    values = {r.cells["row"].value: r.cells["1048576"].value for r in papers.rows}
    assert (values["full"], values["w/ adjusted RoPE theta only"]) == (69.6, 48.1)
    assert any("secondary reading" in f for f in papers.footers)
    [missing] = [f for f in document(outcome(published="he-2025")).tables[1].footers if "Not found in" in f]
    assert missing.startswith("no value: ")


def test_a_paper_that_stands_beside_ours_is_not_printed_twice():
    [ours] = document(paper_row("1048576")).tables
    assert any("beside it ours less the paper's" in f for f in ours.footers)
    assert ours.rows[0].cells["1048576"].published == 69.6
