"""The figure of differences: what each line says, and what becomes of very many runs."""

import re
from types import SimpleNamespace

import pytest

from harness.comparison.forest import MOST, forest
from harness.comparison.rows import TOO_FEW, Comparison, Row
from harness.documents.figures import Axis, Point, Scatter
from harness.render import _plots


def row(name, difference, *, verdict="indistinguishable", interval=(-1.0, 1.0), members=()):
    return Row(
        name=name,
        family=name.partition("/")[0].partition(" ")[0],
        members=members,
        weights=(1.0,) * (len(members) or 1),
        metric="accuracy",
        n=12,
        contexts=12,
        planned_a=12,
        planned_b=12,
        finished_a=12,
        finished_b=12,
        other_question=0,
        other_prompt=0,
        mean_a=0.5,
        mean_b=0.5 + difference,
        difference=difference,
        wins=1,
        losses=1,
        interval=interval,
        p_permutation=0.5,
        flips=1,
        exact=True,
        p_mcnemar=None,
        verdict=verdict,
    )


def compared(differences, *more):
    """A comparison of each run `m0`, `m1`, ... with a baseline; `more` makes further rows of a difference."""
    baseline = SimpleNamespace(label="plain")
    return [
        Comparison(
            baseline,
            SimpleNamespace(label=f"m{i}"),
            (row("passkey", d), *(f(d) for f in more)),
            (),
            0.95,
            1,
            0,
        )
        for i, d in enumerate(differences)
    ]


def scattered(n):
    """Differences of `n` runs, in no order of size; none equal to another."""
    return [((i * 37) % n) / (2 * n) - 0.25 for i in range(n)]


def test_up_to_sixty_runs_are_drawn_one_by_one():
    [(name, group)] = forest(compared(scattered(MOST))).groups
    assert name == "passkey" and [d.label for d in group] == [f"m{i}" for i in range(MOST)]


@pytest.mark.parametrize("n", [MOST + 1, 201])
def test_of_more_the_twenty_at_each_end_are_drawn_and_the_rest_counted(n):
    values = scattered(n)
    [(name, group)] = forest(compared(values)).groups
    assert name == f"passkey (20 highest and 20 lowest of {n} runs)"
    ordered = sorted(100 * v for v in values)
    assert sorted(d.value for d in group) == ordered[:20] + ordered[-20:]
    numbers = [int(d.label[1:]) for d in group]
    assert numbers == sorted(numbers), "in the order they came"


def test_where_lines_are_many_a_family_is_its_average():
    parts = [lambda d, name=name: row(f"longbench/{name}", d) for name in ("trec", "lcc")]
    parts.append(lambda d: row("longbench mean", d, members=("longbench/trec", "longbench/lcc")))
    few, many = compared(scattered(15), *parts), compared(scattered(16), *parts)
    assert [name for name, _ in forest(few).groups] == [
        "passkey",
        "longbench/trec",
        "longbench/lcc",
        "longbench mean",
    ]
    assert [name for name, _ in forest(many).groups] == ["passkey", "longbench mean"]


def test_a_line_says_what_the_table_says():
    """A dot without an interval is no verdict; the table says that there are too few samples."""
    rows = (
        row("a", 0.3, verdict="better", interval=(0.1, 0.5)),
        row("b", -0.3, verdict="worse", interval=(-0.5, -0.1)),
        row("c", 0.0),
        row("d", 0.4, verdict=TOO_FEW, interval=None),
    )
    made = Comparison(SimpleNamespace(label="plain"), SimpleNamespace(label="m"), rows, (), 0.95, 1, 0)
    figure = forest([made])
    assert [(d.told, d.interval is None) for _, [d] in figure.groups] == [
        ("better", False),
        ("worse", False),
        ("cannot be told", False),
        ("too few samples", True),
    ]
    assert figure.groups[0][1][0].interval == pytest.approx((10, 50))


def cloud(n):
    """A scatter in which `m0` is the baseline, and `m3` and `m5` are all that no cheaper run outscores."""
    axis = [Axis(key, key) for key in ("kv", "score")]
    points = [Point(f"m{i}", 10.0 + i, 50.0 - i / 2, (9.0 + i, 11.0 + i), (40.0, 60.0)) for i in range(n)]
    points[3] = Point("m3", 1.0, 70.0, None, None)
    points[5] = Point("m5", 2.0, 90.0, None, None)
    return Scatter("cloud", "cloud", "what is drawn", *axis, points)


def legend(svg):
    """Texts of the drawing that are names of points."""
    return re.findall(r"<text[^>]*>(m\d+)</text>", svg)


@pytest.mark.parametrize("width", [340, 640])
def test_a_legend_names_up_to_forty_points(width):
    svg = _plots.scatter(cloud(_plots.CROWD), width)
    assert legend(svg) == [f"m{i}" for i in range(_plots.CROWD)] and "more: a mark" not in svg


@pytest.mark.parametrize("width", [340, 640])
def test_of_a_crowd_it_names_the_baseline_and_the_frontier(width):
    n = _plots.CROWD + 1
    svg = _plots.scatter(cloud(n), width)
    assert legend(svg) == ["m0", "m3", "m5"]
    assert f"and {n - 3} more: a mark tells its name when pointed at" in svg
    assert all(f"m{i}:" in svg for i in range(n)), "each mark has its name as a title"
