"""Tables and the formats they are written in."""

import csv
import io
import json
import shutil
import subprocess

import pytest
from rich.console import Console

from harness.documents.tables import Cell, Column, Mark, Row, Table
from harness.render import delimited, latex, markdown, terminal
from harness.render._text import visible

HOSTILE = "a|b_*<i>&%$#{}~^\\ \x1b[31m\u202e [x](y) 北"


def made(**changes):
    columns = [
        Column("run", "run", kind="name"),
        Column("a", "NarrativeQA", group="Single & Doc"),
        Column("b", "Qasper", group="Single & Doc"),
        Column("kv", "KV", "MiB", format=".0f"),
        Column("note", "note", kind="text"),
    ]
    seen = frozenset({Mark.SEES_QUESTION})
    best = frozenset({Mark.BEST})
    rows = [
        Row(
            {
                "run": Cell("two_pass", marks=seen),
                "a": Cell(38.6125, (35.0, 42.04), marks=best, published=39.8),
                "b": Cell(12.25, n_ok=3, n=4),
                "kv": Cell(107.8),
                "note": Cell(HOSTILE),
            }
        ),
        Row({"run": Cell("[plain]"), "a": Cell(-31.1), "b": Cell(None)}),
    ]
    return Table("scores", "Scores of 100 % & more", columns, rows, ["[Avg] of 14 sets"], **changes)


def on_terminal(table, width):
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=True, color_system="truecolor").print(
        terminal.table(table, width)
    )
    return file.getvalue()


def test_a_cell_knows_its_difference_and_whether_samples_are_missing():
    cell = Cell(38.0, published=39.5, n_ok=3, n=4)
    assert cell.difference == -1.5
    assert cell.all_marks == [Mark.INCOMPLETE]
    assert Cell("x", published=1.0).difference is None
    assert Cell(1.0, n_ok=4, n=4).all_marks == []


def test_the_legend_explains_what_occurs_and_nothing_else():
    legend = "\n".join(made().legend())
    for words in ("95 % interval", "bold:", "† sees the question", "‡ not every sample", "paper:"):
        assert words in legend
    assert "indistinguishable" not in legend and "declared" not in legend
    assert Table("t", "t", [Column("a", "a")], [Row({"a": Cell(1.0)})]).legend() == []


def test_csv_holds_unrounded_values_bounds_published_values_and_marks():
    [first, second] = csv.DictReader(io.StringIO(delimited.table(made())))
    assert (first["a"], first["a_low"], first["a_high"]) == ("38.6125", "35.0", "42.04")
    assert float(first["a_difference"]) == pytest.approx(-1.1875)
    assert (first["run_marks"], first["a_marks"], first["b_marks"]) == ("sees-question", "best", "incomplete")
    assert (first["b_n_ok"], first["b_n"]) == ("3", "4")
    assert (second["a"], second["b"], second["kv"]) == ("-31.1", "", "")
    assert "\x1b" not in first["note"]


def test_csv_gives_a_spreadsheet_no_formula():
    table = Table(
        "t", "t", [Column("a", "a", kind="text")], [Row({"a": Cell("=1+1")}), Row({"a": Cell(-1.5)})]
    )
    assert delimited.table(table).splitlines() == ["a", "'=1+1", "-1.5"]


def test_json_holds_everything_unrounded():
    found = json.loads(json.dumps(made().to_json()))
    cell = found["rows"][0]["cells"]["a"]
    assert cell["value"] == 38.6125 and cell["interval"] == [35.0, 42.04] and cell["marks"] == ["best"]
    assert found["rows"][1]["cells"]["kv"] == {"value": None}


def test_markdown_is_one_table_whose_cells_stay_cells():
    lines = markdown.table(made()).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    unescaped = [line.replace("\\\\", "").replace("\\|", "").count("|") for line in rows]
    assert unescaped == [6, 6, 6, 6]
    assert "**38.6 \\[35.0, 42.0\\] (paper 39.8, −1.2)**" in rows[2]
    assert "<i>" not in "".join(rows) and "\x1b" not in "".join(rows)


def test_latex_escapes_what_it_would_obey():
    text = latex.escape(HOSTILE)
    assert "\x1b" not in text and "北" not in text
    assert text.startswith(r"a$|$b\_*$<$i$>$\&\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}")
    whole = latex.table(made())
    assert whole.count(r"\begin") == whole.count(r"\end") == 3
    assert r"\cmidrule(lr){2-3}" in whole and r"\textbf{38.6}" in whole
    widths = {line.replace(r"\&", "").count("&") for line in whole.splitlines() if line.endswith(r"\\")}
    assert widths == {4, 2}, "the group line spans five columns with three cells"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path):
    (tmp_path / "t.tex").write_text(latex.document(latex.table(made())), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 1000


def test_a_terminal_gets_a_wide_table_in_pieces_and_no_foreign_control():
    wide, narrow = on_terminal(made(), 200), on_terminal(made(), 60)
    assert wide.count("two_pass") == 1 and narrow.count("two_pass") > 1
    for text in (wide, narrow):
        assert "\x1b[31m\u202e" not in text and "\u202e" not in text and "␛[31m" in text
        assert "38.6" in text and "12.2‡" in text
    assert all(len(line) < 200 for line in narrow.splitlines())


def test_controls_are_made_visible():
    assert visible("a\x1b[2Jb\x9bc\x7f") == "a␛[2Jb<U+009B>c␡"
    assert visible("x\u202ey\u200bz") == "x<U+202E>y<U+200B>z"
    assert visible("one\n\ttwo") == "one\n\ttwo"
    assert visible("one\n\ttwo\r", one_line=True) == "one⏎⇥two␍"
    assert visible("Café 北京 ±–") == "Café 北京 ±–"
