"""The notebook of the documentation: it runs, shows what it should, and prints no warning."""

import json

import pytest

from tools.notebook import CELLS, CODE, TARGET, executed

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")


def outputs(cells):
    """Of each code cell the kinds of what it shows, and what it wrote to standard error."""
    found, said = [], []
    for cell in cells:
        if cell["cell_type"] == "code":
            shown = [o for o in cell["outputs"] if "data" in o]
            found.append(sorted({kind for o in shown for kind in o["data"] if kind != "text/plain"}))
            said += [o["text"] for o in cell["outputs"] if o.get("name") == "stderr"]
    return found, said


def test_it_runs_and_shows_tables_pictures_and_bars_without_a_warning():
    made = executed()
    found, said = outputs(made.cells)
    assert said == []
    html, png = ["text/html"], ["image/png"]
    assert found == [[], [], html, html, png, html, [], html, []]
    shown = [o for cell in made.cells if cell["cell_type"] == "code" for o in cell["outputs"]]
    bars = [o["data"]["text/html"] for o in shown if "<progress" in str(o.get("data", {}).get("text/html"))]
    assert len(bars) == 3 and all('max="6" value="6"' in bar for bar in bars)
    assert [o["text"] for o in shown if o.get("name") == "stdout"] == [
        "no method named 'plian'; did you mean 'plain'?\n"
    ]
    assert "(0, True)" in str(shown), "a loaded model is the run of its files"


def test_the_one_in_the_documentation_is_this_one_with_its_outputs():
    kept = json.loads(TARGET.read_text("utf-8"))
    assert ["".join(cell["source"]) for cell in kept["cells"]] == [text for _, text in CELLS]
    found, said = outputs(kept["cells"])
    assert said == [] and ["image/png"] in found and len(found) == sum(kind == CODE for kind, _ in CELLS)
