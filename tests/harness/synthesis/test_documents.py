"""Documents as a source: read one at a time, told apart by their content, refused in one line."""

import json
import tracemalloc

import pytest

from harness.errors import UsageError
from harness.synthesis import documents
from harness.synthesis.documents import Documents, cut


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_lines_and_files_are_documents_in_order(tmp_path):
    found = Documents(
        lines(tmp_path / "a.jsonl", {"text": " One. "}, {"title": "T\nwo", "text": "Two.", "id": 3})
    )
    assert [(d.title, d.text) for d in found] == [("", "One."), ("T wo", "Two.")]
    assert len(found) == 2 and found[1].text == "Two."
    folder = tmp_path / "folder" / "deeper"
    folder.mkdir(parents=True)
    (folder / "b.txt").write_bytes(b"\xef\xbb\xbfBee.\r\n")
    (folder.parent / "a.md").write_text("Aye.")
    (folder.parent / "c.pdf").write_bytes(b"\x00")
    texts = Documents(folder.parent)
    assert [(d.title, d.text) for d in texts] == [("a", "Aye."), ("b", "Bee.")]
    assert texts[1].title == "b" and len(texts) == 2


def test_the_hash_is_of_the_content(tmp_path):
    one, other = (lines(tmp_path / f"{n}.jsonl", {"text": "x"}) for n in "ab")
    assert Documents(one).sha256 == Documents(other).sha256
    lines(other, {"text": "y"})
    assert Documents(one).sha256 != Documents(other).sha256
    hashes = []
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "d.txt").write_text("x")
        hashes.append(Documents(tmp_path / name).sha256)
    assert hashes[0] == hashes[1]
    (tmp_path / "b" / "d.txt").rename(tmp_path / "b" / "e.txt")
    assert Documents(tmp_path / "b").sha256 != hashes[0], "another order, another title"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty, there is no document"),
        (b"\n\n", "empty, there is no document"),
        (b'{"text": " "}\n', "line 1: the document is empty"),
        (b'{"text": "a"}\n{"text": "caf\xe9"}\n', "line 2: not UTF-8"),
        (b"\x00\x01\x02\n", "line 1: binary"),
        (b"Once upon a time.\n", "line 1: not a line of JSON"),
        (b'{"title": "a"}\n', 'line 1: no "text"'),
        (b"[1]\n", 'line 1: no "text"'),
        (b'{"text": "\\ud800"}\n', "half of a surrogate"),
    ],
)
def test_bad_lines_are_one_line(tmp_path, content, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    for attempt in (lambda: list(Documents(path)), lambda: len(Documents(path))):
        with pytest.raises(UsageError, match=message) as caught:
            attempt()
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_bad_folders_are_one_line(tmp_path):
    folder = tmp_path / "texts"
    with pytest.raises(UsageError, match="no such file or folder"):
        Documents(folder)
    folder.mkdir()
    with pytest.raises(UsageError, match=r"no \.txt or \.md file"):
        Documents(folder)
    for content, message in ((b"", "is empty"), (b"caf\xe9", "not UTF-8"), (b"a\x00", "binary")):
        (folder / "a.txt").write_bytes(content)
        with pytest.raises(UsageError, match=message) as caught:
            list(Documents(folder))
        assert "\n" not in str(caught.value)


def test_a_line_of_100_mb_is_refused_without_being_read(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(100):
            file.write(b"a" * 1_000_000)
        file.write(b'"}\n')
    tracemalloc.start()
    with pytest.raises(UsageError, match="line 1: a line of more than 64,000,000 bytes"):
        len(Documents(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * documents.MOST_BYTES
    path.rename(tmp_path / "a.txt")
    with pytest.raises(UsageError, match="a document of more than 64,000,000 bytes"):
        list(Documents(tmp_path))


def test_many_documents_take_no_memory(tmp_path):
    path = lines(tmp_path / "a.jsonl", *({"text": f"{n} " + "word " * 2000} for n in range(300)))
    tracemalloc.start()
    assert sum(len(d.text) for d in Documents(path)) > 2_900_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


@pytest.mark.parametrize("characters", [16, 40, 100, 10_000])
@pytest.mark.parametrize(
    "text", ["One sentence. " * 50, "word " * 200, "x" * 500, "a\n" * 100, "Ein Satz! «Noch einer.» " * 9]
)
def test_pieces_joined_are_the_text(text, characters):
    pieces = cut(text.strip(), characters)
    assert "".join(pieces) == text.strip()
    assert all(0 < len(piece) <= characters for piece in pieces)
    if text.startswith("One") and characters >= 100:
        assert all(piece.endswith(".") for piece in pieces), "cut where sentences end"
