"""The published tables: well formed, in our names, and no other disagreement in them than they say."""

import dataclasses
import json

import pytest

from harness import UsageError, registry
from harness.baselines import published
from harness.baselines.published import FOLDER, check, table, tables, value
from harness.errors import HarnessError
from harness.tasks.longbench import LongBench
from harness.tasks.longbench.prompts import CATEGORIES, PAPER_SETS

NAMES = tables()
LONGBENCH = [name for name in NAMES if table(name).task == "longbench"]


def test_every_table_that_was_promised_is_there():
    assert NAMES == [
        "experts-1",
        "he-2025",
        "he-7",
        "selflong-1",
        "selflong-3",
        "selflong-4",
        "thesis-4.1",
        "thesis-4.2",
        "thesis-4.3",
        "thesis-4.4",
        "thesis-example",
        "thesis-fig-4.1",
    ]
    shapes = {name: (len(table(name).rows), len(table(name).columns)) for name in NAMES}
    assert shapes["experts-1"] == (6, 20)  # two models, three methods; 14 data sets, 5 categories, the mean
    assert [shapes[f"thesis-4.{n}"] for n in (1, 2, 3, 4)] == [(4, 6), (7, 6), (5, 6), (3, 6)]


def test_what_only_secondary_readings_confirm_says_so():
    for name in NAMES:
        if name.startswith(("he-", "selflong-")):
            notes = " ".join(table(name).notes)
            assert "Confirmed" in notes and "remember" not in notes, name
    assert value("he-2025", "1M model", "1024000") == 62.95
    assert [value("he-2025", row, "MMLU") for row in ("Llama-3.1-8B-Instruct", "1M model")] == [68.21, 65.08]
    assert value("he-2025", "650K model", "InfiniteBench") is None, "never found, so never printed"
    assert value("selflong-1", "SelfLong-8B-1M", "1048576") == 69.6
    assert value("selflong-3", "w/ adjusted RoPE theta only", "1048576") == 48.1


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_whole(name):
    """Read strictly, named like its table; no key twice, no line twice, a reason for every missing value."""
    text = (FOLDER / f"{name}.json").read_text("utf-8")
    json.loads(text, object_pairs_hook=distinct)
    it = table(name)
    assert it.name == name
    columns = [column.key for column in it.columns]
    assert len(set(columns)) == len(columns)
    assert len({row.label for row in it.rows}) == len(it.rows)
    settings = [
        (row.method, dict(row.options), row.data, row.model, tuple(row.values.values())) for row in it.rows
    ]
    assert all(setting not in settings[:i] for i, setting in enumerate(settings))
    for row in it.rows:
        assert list(row.values) == columns
        assert set(row.missing) == {key for key, cell in row.values.items() if cell is None}
        assert all(row.missing.values())
        assert all(cell == round(cell, it.decimals) for cell in row.values.values() if cell is not None)


def distinct(pairs):
    assert len(dict(pairs)) == len(pairs), [key for key, _ in pairs]
    return dict(pairs)


@pytest.mark.parametrize("name", NAMES)
def test_the_disagreements_are_exactly_those_that_recomputing_finds(name):
    assert check(table(name)) == list(table(name).known_disagreements)


@pytest.mark.parametrize("name", LONGBENCH)
def test_every_mean_that_can_be_recomputed_is(name):
    """Each mean is put wrong in turn, and found; so none of them is passed over."""
    it = table(name)
    kinds = {column.kind for column in it.columns}
    means = [c for c in it.columns if c.kind == "average" or (c.kind == "category" and "dataset" in kinds)]
    assert means
    for column in means:
        for row in it.rows:
            off = round(row.values[column.key] + 0.02, 2)
            found = {(d.row, d.column): d for d in check(with_value(it, row.label, column.key, off))}
            assert found[row.label, column.key].published == off
            assert not found[row.label, column.key].explained_by_rounding


def with_value(it, label, column, number):
    rows = tuple(
        dataclasses.replace(row, values={**row.values, column: number}) if row.label == label else row
        for row in it.rows
    )
    return dataclasses.replace(it, rows=rows)


def test_a_last_digit_that_rounding_can_explain_is_told_from_a_wrong_number():
    found = {
        cell: check(with_value(table("thesis-4.4"), "BM25", "Avg", cell)) for cell in (29.6, 29.61, 29.62)
    }
    assert found[29.61] == []  # 29.614
    assert [d.explained_by_rounding for d in found[29.62]] == [True]  # the rows could come from 29.615
    assert [d.explained_by_rounding for d in found[29.6]] == [False]


@pytest.mark.parametrize("name", LONGBENCH)
def test_columns_go_by_our_names(name):
    families = {**{dataset: (dataset,) for dataset in PAPER_SETS}, **CATEGORIES}
    for column in table(name).columns:
        if column.kind == "average":
            assert column.key == "Avg"
            assert set(column.datasets) <= set(PAPER_SETS)
        else:
            assert column.datasets == families[column.key]
            assert column.kind == ("category" if column.key in CATEGORIES else "dataset")


def test_our_averages_are_formed_as_the_experts_paper_forms_them():
    for row in table("experts-1").rows:
        ours = LongBench.averages({dataset: row.values[dataset] for dataset in PAPER_SETS})
        assert set(ours) == {*CATEGORIES, "Avg"}
        assert {key: row.values[key] for key in ours} == pytest.approx(ours, abs=0.005 + 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_options_are_ones_our_methods_take(name):
    it = table(name)
    if it.task is not None:
        assert it.metric in registry.task_class(it.task)[0].cls.metrics
    for row in it.rows:
        assert row.method is not None
        registry.method(row.method).cls.Options.parse(row.options, row.method)
        if row.method == "plain":
            assert row.data == ()


def test_what_is_printed_twice_is_here_twice_alike():
    first, second = table("thesis-4.1"), table("thesis-4.2")
    shared = [row.label for row in first.rows if row.label in {other.label for other in second.rows}]
    assert len(shared) == 3
    for label in shared:
        assert first.row(label) == second.row(label)
    by_title = {}
    for name in NAMES:
        source = table(name).source
        assert by_title.setdefault(source.title, source) == source


def test_one_number():
    assert value("thesis-4.2", "Two Pass (RP+LA+S, α = 3)", "Avg") == 38.49
    assert value("experts-1", "Llama-2-13B-chat: Experts+Synth.", "qasper") == 29.83
    assert value("thesis-fig-4.1", "Activation Beacon", "8000") is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("thesis-4.5", "x", "Avg"), "no published table named 'thesis-4.5'.*thesis-4"),
        (("thesis-4.4", "bm25", "Avg"), "no row of thesis-4.4 named 'bm25'.*BM25"),
        (("thesis-4.4", "BM25", "avg"), "no column of thesis-4.4 named 'avg'.*Avg"),
        (("../smollm2/x", "x", "Avg"), "published table"),
    ],
)
def test_a_wrong_name_gets_one_line(asked, message):
    with pytest.raises(UsageError, match=message) as caught:
        value(*asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"decimals": "2"},
        {"page": 29.5},
        {"rows": [{}]},
        {"columns": [{"key": "Avg", "heading": "Avg", "kind": "mean"}]},
    ],
)
def test_a_damaged_file_is_refused(tmp_path, monkeypatch, change):
    whole = json.loads((FOLDER / "thesis-4.4.json").read_text("utf-8"))
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    (tmp_path / "t.json").write_text(json.dumps(whole), encoding="utf-8")
    assert table("t").title == whole["title"]
    (tmp_path / "t.json").write_text(json.dumps(whole | change), encoding="utf-8")
    with pytest.raises(HarnessError, match=r"t\.json is no published table"):
        table("t")
