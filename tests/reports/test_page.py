"""The page: whole in itself, harmless, and in a browser sortable and without complaint."""

import re
from html.parser import HTMLParser

import pytest

from harness.cli import invoke

from ..helpers import making
from ..helpers.browser import Browser, find

WRONG = "12 \x1b[31mred\x1b[0m <script>alert(1)</script>"


class Reader(HTMLParser):
    """Every element with its attributes, and the text of each kind of element."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts, self._open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of three runs over LongBench and a grid, one of them with failures and hostile answers."""
    out = tmp_path_factory.mktemp("page")
    runs = out / "runs"
    making.write_run(runs, "plain", making.longbench(0.3, n=6, ratio=1) + making.grid(0.4, ratio=1))
    beacon = making.longbench(0.35, n=6) + making.grid(0.6)
    beacon[1] = making.failed(beacon[1]["task"], beacon[1]["id"], "no <b>room</b>", status="oom")
    making.write_run(runs, "beacon", beacon)
    making.write_run(runs, "two_pass", making.longbench(0.42, n=6, ratio=12) + making.grid(0.8, ratio=12))
    assert invoke(["report", str(runs), "--out", str(out / "page.html"), "--title", "A <title> & more"]) == 0
    return out / "page.html"


@pytest.fixture(scope="module")
def read(page):
    return Reader(page.read_text("utf-8"))


def test_nothing_is_asked_of_any_network(read):
    for tag, attributes in read.found:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value == "data:," or value.startswith("#"), (tag, name, value)
    policy = next(a["content"] for a in read.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy
    assert not re.search(r"url\(|@import", "".join(read.texts["style"]))


def test_no_style_or_script_but_the_pages_own(read):
    kinds = [a.get("type") for a in read.all("script")]
    assert kinds == ["application/json", None] and len(read.all("style")) == 1, "data, and our script"
    for tag, attributes in read.found:
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)


def test_what_a_model_said_is_escaped_and_its_controls_are_visible(page, read):
    text = page.read_text("utf-8")
    assert "\x1b" not in text and "<script>alert" not in text and "no <b>room" not in text
    answers = "".join(read.texts["pre"])
    assert "12 ␛[31mred␛[0m <script>alert(1)</script>" in answers
    assert "A <title> & more" in "".join(read.texts["h1"])


def test_every_figure_is_there_and_says_what_it_shows(read):
    figures = read.all("svg")
    labels = {name for a in figures for name in a["aria-labelledby"].split()}
    ids = [a["id"] for _, a in read.found if "id" in a]
    assert labels <= set(ids) and len(ids) == len(set(ids))
    names = " ".join(ids)
    for name in ("pareto-longbench-kv", "pareto-passkey-time", "lengths-passkey", "grid-passkey", "strip-"):
        assert name in names
    assert all(a.get("viewbox") or a.get("viewBox") for a in figures)


def test_tables_can_be_sorted_and_figures_scrolled_by_keyboard(read):
    assert all("sortable" in a["class"] for a in read.all("table"))
    cells = [
        a for a in read.all("td") + read.all("th") if a.get("scope") not in ("col", "colgroup", "rowgroup")
    ]
    assert all("data-value" in a for a in cells if "colspan" not in a)
    scrolled = [a for a in read.all("div") if a.get("class") == "scroll"]
    assert scrolled and all(a.get("tabindex") == "0" and a.get("role") for a in scrolled)
    assert {a.get("lang") for a in read.all("html")} == {"en"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    path = find()
    if path is None:
        pytest.skip("no Chromium on PATH (Debian: apt-get install chromium)")
    made = Browser(path, tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_a_browser_shows_it_without_complaint(browser, page, width, dark):
    browser.open(page.as_uri(), width, dark=dark)
    assert browser.console == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width, "the page itself scrolls sideways"
    sizes = browser.value(
        f"[...document.querySelectorAll('figure .{'slim' if width < 600 else 'wide'} svg')]"
        ".filter(s => !s.closest('details:not([open])'))"
        ".map(s => s.getBoundingClientRect()).map(b => [b.width, b.height])"
    )
    assert len(sizes) >= 8 and all(w > 200 and h > 60 for w, h in sizes)
    # Of every comparison the verdict is on the screen without scrolling sideways.
    right = browser.value(
        "Math.max(...[...document.querySelectorAll('#comparison table')].filter(t => !t.closest('details'))"
        ".map(t => t.querySelector('tbody tr:not(.group)').cells[1].getBoundingClientRect().right))"
    )
    assert right <= width
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", paper)[:3])) > 384
    assert light is not dark


ORDER = "[...document.querySelector('#scores table').querySelectorAll('tbody tr')].map(r => +r.cells[1].dataset.value)"
HEAD = "document.querySelector('#scores thead tr:last-child').cells[1]"


def test_tables_sort_by_click_and_by_key(browser, page):
    browser.open(page.as_uri(), 1280)
    browser.value(f"{HEAD}.querySelector('button').click()")
    assert browser.value(f"{HEAD}.getAttribute('aria-sort')") == "descending"
    down = browser.value(ORDER)
    assert down == sorted(down, reverse=True) and len(set(down)) == 3
    browser.value(f"{HEAD}.querySelector('button').focus()")
    browser.key("Enter", 13, "\r")
    assert browser.value(f"{HEAD}.getAttribute('aria-sort')") == "ascending"
    assert browser.value(ORDER) == down[::-1]
    assert browser.console == []


def test_without_scripts_only_sorting_is_missing(browser, page):
    browser.open(page.as_uri(), 390, scripts=False)
    assert browser.console == []
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.value("document.querySelectorAll('thead button').length") == 0
    assert browser.value("document.querySelectorAll('figure svg').length") >= 8
    assert browser.value("document.querySelectorAll('details.sample').length") > 0


def test_the_answer_comes_first_then_figures_then_tables(page, read):
    ids = [a["id"] for tag, a in read.found if tag == "section"]
    assert ids[:5] == ["answer", "figures", "comparison", "cost", "scores"] and ids[-1] == "samples"
    text = page.read_text("utf-8")
    assert "two_pass is better than plain by" in text and "weighted as" not in text
    assert text.index('id="forest-t"') < text.index("pareto-longbench-kv-t") < text.index("<table")


LIST = "[...document.querySelectorAll('.list button')]"
COUNT = "document.querySelector('.browser .cue').textContent"


def pick(browser, number, value):
    browser.value(
        f"(() => {{ const s = document.querySelectorAll('.browser select')[{number}]; s.value = '{value}'; "
        "s.dispatchEvent(new Event('change')); })()"
    )


def test_samples_are_found_and_stand_beside_each_other(browser, page):
    browser.open(page.as_uri(), 1280)
    assert browser.value(COUNT) == "129 of 129 samples" and 0 < browser.value(f"{LIST}.length") < 30
    pick(browser, 0, "14")  # passkey
    pick(browser, 2, "differ")
    found = int(browser.value(COUNT).split()[0])
    assert 0 < found < 45
    beside = browser.value("[...document.querySelectorAll('.beside > div > b')].map(b => b.textContent)")
    assert beside == ["plain", "beacon", "two_pass"]
    before = browser.value("document.querySelector('.chosen h3').textContent")
    browser.value(f"{LIST}.find(b => b.ariaPressed === 'true').focus()")
    browser.key("ArrowDown", 40)
    assert browser.value("document.querySelector('.chosen h3').textContent") != before
    pick(browser, 0, "")
    pick(browser, 2, "3")  # failed
    assert browser.value(COUNT).startswith("1 of")
    assert "no <b>room</b>" in browser.value("document.querySelector('.beside').textContent")
    assert browser.console == []


def test_fifty_thousand_samples_stay_quick(browser, tmp_path):
    from harness.documents import BrowsedAnswer, BrowsedSample, Document
    from harness.documents import Browser as Samples
    from harness.render import as_html

    answers = [BrowsedAnswer(100.0 * (i % 2), f"answer {i}", "right" if i % 2 else "wrong") for i in range(4)]
    samples = [
        BrowsedSample(f"task{i % 5}", f"s{i}", [f"key {i}"], answers, question="Which? " * 10)
        for i in range(50_000)
    ]
    text = as_html([Document("samples", "Samples", browser=Samples(list("abcd"), samples))], "many")
    assert len(text) < 20_000_000
    (tmp_path / "many.html").write_text(text, encoding="utf-8")
    browser.open((tmp_path / "many.html").as_uri(), 1280)
    assert browser.value(f"{LIST}.length") < 30
    taken = browser.value(
        "(() => { const t = performance.now(), s = document.querySelectorAll('.browser select')[0]; s.value = '3'; "
        "s.dispatchEvent(new Event('change')); return performance.now() - t; })()"
    )
    assert browser.value(COUNT) == "10,000 of 50,000 samples" and taken < 1000


def test_paper_shows_every_column(browser, page):
    browser.open(page.as_uri(), 1280)
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.call(
        "Emulation.setDeviceMetricsOverride", width=718, height=1000, deviceScaleFactor=1, mobile=False
    )
    browser.value("dispatchEvent(new Event('beforeprint'))")
    assert browser.value("document.querySelectorAll('details:not([open])').length") == 0
    over = browser.value(
        "[...document.querySelectorAll('table')].filter(t => t.getBoundingClientRect().right > innerWidth + 1).length"
    )
    browser.call("Emulation.setEmulatedMedia", media="")
    assert over == 0


def test_one_sheet_holds_the_answer_and_its_figures(page, tmp_path):
    from harness.render.pdf import pages

    if find() is None:
        pytest.skip("no Chromium on PATH (Debian: apt-get install chromium)")
    runs, sheet = str(page.parent / "runs"), tmp_path / "one.pdf"
    assert invoke(["report", runs, "--brief", "--out", str(sheet)]) == 0
    content = sheet.read_bytes()
    assert pages(content) == 1
    [size] = re.findall(rb"/MediaBox *\[0 0 ([\d.]+) ([\d.]+)\]", content)
    assert [round(float(side) / 72 * 25.4) for side in size] == [210, 297], "A4, wherever it is printed"
    assert invoke(["report", runs, "--brief", "--out", str(tmp_path / "one.html")]) == 0
    text = (tmp_path / "one.html").read_text("utf-8")
    assert (
        "two_pass is better than plain by" in text
        and 'id="forest-t"' in text
        and "application/json" not in text
    )


def test_a_sheet_drops_figures_before_words(page):
    import harness
    from harness.comparison.brief import briefs

    forms = list(briefs(harness.report(page.parent / "runs").documents))
    sizes = [sum(len(d.figures) + len(d.tables) for d in form) for form in forms]
    assert sizes[0] == 4 and sizes[-1] == 0
    assert not [name for name, _ in forms[0][1].figures[0].groups if "/" in name], "of a family its average"
    assert all(form[0].answers == forms[0][0].answers for form in forms)
    assert invoke(["report", str(page.parent / "runs"), "--brief"]) == 2
