"""Make long, freely licensed texts to train and measure on out of the documentation packages of Debian.

    python tools/debian_text.py --out corpus
    python tools/debian_text.py --out corpus --packages anarchism git-doc

Writes ``train.jsonl`` and ``heldout.jsonl``, one document a line with ``text``, ``source`` (package and
path), ``licence`` and ``kind`` (``narrative`` or ``technical``), and ``sources.json``: version, SHA-256 and
licence of each package. It needs ``apt-get`` and ``dpkg-deb`` of Debian 12 with the component ``main``, in
which everything is free by Debian's guidelines. The same packages give the same files, byte for byte.

Pages are joined, in their order of reading, until a document is long, and cut where it would be too long.
Text is held out by whole chapters (hash of the package and the path of the first page), or by whole package.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from debian_html import links, to_text

from harness._util.files import write_whole

LEAST, ENOUGH, MOST = 9_000, 26_000, 48_000
"""Characters: a document has no fewer, takes no further page once it has so many, and has no more."""


@dataclass(frozen=True)
class Package:
    """What is taken of a package.

    `pages` are patterns below the package's root; `train` and `heldout` are limits in characters (`heldout`
    alone: nothing of the package is trained on).
    """

    licence: str
    kind: str
    pages: tuple[str, ...]
    train: int
    heldout: int


DOC = "usr/share/doc/"
GPL2 = "GPL-2+"
PACKAGES = {
    "anarchism": Package(GPL2, "narrative", (DOC + "anarchism/html/*.html",), 2_100_000, 250_000),
    # The package's code is MIT; the six novels in it are in the public domain.
    "r-cran-janeaustenr": Package(
        "public domain",
        "narrative",
        ("usr/lib/R/site-library/janeaustenr/data/Rdata.rdb",),
        3_600_000,
        450_000,
    ),
    "debian-history": Package(GPL2, "narrative", (DOC + "debian-history/docs/*.en.html",), 0, 100_000),
    "debian-handbook": Package(
        "GPL-2+ or CC-BY-SA-3.0", "technical", (DOC + "debian-handbook/html/en-US/*.html",), 1_100_000, 70_000
    ),
    "debian-policy": Package(
        GPL2, "technical", (DOC + "debian-policy/policy.html/ch-*.html",), 400_000, 40_000
    ),
    "debian-reference-en": Package(
        GPL2, "technical", ("usr/share/debian-reference/*.en.html",), 500_000, 50_000
    ),
    "debian-faq": Package(
        "Debian FAQ: free, under the same notice", "technical", (DOC + "debian/FAQ/*.en.html",), 200_000, 0
    ),
    "developers-reference": Package(
        GPL2, "technical", ("usr/share/developers-reference/*.html",), 0, 150_000
    ),
    "maint-guide": Package(GPL2, "technical", (DOC + "maint-guide/html/*.en.html",), 0, 80_000),
    "harden-doc": Package(GPL2, "technical", (DOC + "harden-doc/html/en-US/*.html",), 400_000, 40_000),
    "installation-guide-amd64": Package(
        "GPL-2", "technical", (DOC + "installation-guide-amd64/en/*.html",), 300_000, 0
    ),
    "git-doc": Package(
        "GPL-2",
        "technical",
        tuple(f"{DOC}git-doc/{name}.html" for name in ("user-manual", "git[a-z]*", "howto/*")),
        600_000,
        70_000,
    ),
    "postgresql-doc-15": Package(
        "PostgreSQL", "technical", (DOC + "postgresql-doc-15/html/*.html",), 900_000, 80_000
    ),
    "python3.11-doc": Package(
        "PSF-2.0",
        "technical",
        tuple(
            f"{DOC}python3.11/html/{part}/*.html"
            for part in ("tutorial", "howto", "faq", "reference", "whatsnew")
        ),
        900_000,
        80_000,
    ),
    "rust-doc": Package(
        "MIT or Apache-2.0",
        "technical",
        (DOC + "rust-doc/html/book/ch*.html", DOC + "rust-doc/html/nomicon/*.html"),
        600_000,
        60_000,
    ),
    "sqlite3-doc": Package("public domain", "technical", (DOC + "sqlite3/*.html",), 600_000, 60_000),
}

_NO_TEXT = re.compile(
    r"(index|genindex|bookindex|search|print|toc|contents|copyright|legalnotice|biblio|changes|keyword_index|docs|"
    r"doclist|apa|apf|sec.con|[a-z]*links|supplementary|translations|book|pdf|contact|new|gpl|gfdl|fdl-.*|"
    r"gnu-free.*|pr01|ix01|changelog|acronyms|chronology|news|mostdeployed|release-\d.*|features-sql-standard|"
    r"sql-keywords.*|errcodes.*|unsupported-.*)(\.en)?\.html"
)
"""Names of pages that are no text: contents, indexes, lists of links, licences, tables."""


@dataclass(frozen=True)
class Document:
    """A text with the package and path it came from; `key` is the same for all parts of a chapter."""

    text: str
    source: str
    key: str


def main() -> None:
    """Fetch the packages, turn them into documents, and write the three files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--packages", nargs="+", choices=sorted(PACKAGES), default=sorted(PACKAGES))
    args = parser.parse_args()
    lines: dict[str, list[str]] = {"train": [], "heldout": []}
    facts, seen = [], Seen()
    for name in sorted(set(args.packages)):
        with tempfile.TemporaryDirectory() as folder:
            root, fact = fetched(name, Path(folder))
            parts = split(name, list(documents(name, root, seen)))
        for part, chosen in parts.items():
            lines[part] += [line(name, document) for document in chosen]
            fact[part] = {"documents": len(chosen), "characters": sum(len(d.text) for d in chosen)}
        facts.append(fact)
        print(f"{name}: train {fact['train']}, heldout {fact['heldout']}", flush=True)
    for part, content in lines.items():
        write_whole(args.out / f"{part}.jsonl", "".join(content))
    write_whole(args.out / "sources.json", json.dumps(facts, indent=2) + "\n")


def fetched(name: str, folder: Path) -> tuple[Path, dict[str, object]]:
    """Download and unpack a package below `folder`; its root, and what identifies it."""
    # Root's apt would fetch as another user, to whom the temporary folder is closed, and warn of that.
    command = ["apt-get", "download", "--quiet", "-o", "APT::Sandbox::User=root", name]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    [deb] = folder.glob("*.deb")
    root = folder / "root"
    subprocess.run(["dpkg-deb", "-x", str(deb), str(root)], check=True)
    show = ["dpkg-deb", "--show", "--showformat", "${Version}", str(deb)]
    version = subprocess.run(show, check=True, capture_output=True, text=True).stdout
    fact: dict[str, object] = {
        "package": name,
        "version": version,
        "sha256": sha256(deb.read_bytes()),
        "licence": PACKAGES[name].licence,
        "copyright_file_sha256": sha256((root / DOC / name / "copyright").read_bytes()),
        "kind": PACKAGES[name].kind,
    }
    return root, fact


class Seen:
    """Remembers what has been taken, so that nothing comes twice, nor on both sides of the split."""

    def __init__(self) -> None:
        self._paragraphs: set[bytes] = set()
        self._shingles: set[int] = set()

    def fresh(self, text: str) -> str:
        """`text` without long paragraphs that came before; empty if most of its wording did."""
        words = re.findall(r"\w+", text.lower())
        grams = (" ".join(words[i : i + 8]) for i in range(len(words) - 7))
        # One in sixteen, chosen by the hash itself, so that the same words are chosen everywhere.
        shingles = {value for gram in grams if (value := zlib.crc32(gram.encode())) % 16 == 0}
        if shingles and len(shingles & self._shingles) > 0.4 * len(shingles):
            return ""
        self._shingles |= shingles
        return "\n\n".join(p for p in text.split("\n\n") if is_wording(p) and self._new(p))

    def _new(self, paragraph: str) -> bool:
        if len(paragraph) < 200:
            return True
        digest = hashlib.sha256(" ".join(paragraph.split()).encode()).digest()[:12]
        known = digest in self._paragraphs
        self._paragraphs.add(digest)
        return not known


def documents(name: str, root: Path, seen: Seen) -> Iterator[Document]:
    """The package's long documents, in the order of reading."""
    pages: list[tuple[str, str]] = []
    for path, text in (novels if name == "r-cran-janeaustenr" else html_pages)(root, PACKAGES[name].pages):
        text = seen.fresh(text)
        if not is_prose(text):
            continue
        if pages and Path(pages[0][0]).parent != Path(path).parent:
            yield from joined(name, pages)  # never across books of one package
            pages = []
        pages.append((path, text))
        if sum(len(page) for _, page in pages) >= ENOUGH:
            yield from joined(name, pages)
            pages = []
    yield from joined(name, pages)


def is_wording(paragraph: str) -> bool:
    """Whether it is words, and not a page's time stamp, a drawing, or one word repeated without end."""
    if paragraph.startswith("This page last modified"):
        return False
    words = paragraph.split()
    # Encoded data and drawings have words of dozens of letters, or hardly any of them different.
    return len(paragraph) < 2_000 or (len(paragraph) < 10 * len(words) and len(set(words)) > 0.1 * len(words))


def is_prose(text: str) -> bool:
    """Whether it is neither a stub, nor for the most part numbers and code, nor a list of names or links."""
    items = sum(len(line) for line in text.splitlines() if line.startswith("- ") and len(line) < 80)
    return len(text) >= 400 and sum(map(str.isalpha, text)) >= 0.6 * len(text) and items < 0.4 * len(text)


def joined(name: str, pages: list[tuple[str, str]]) -> Iterator[Document]:
    """Pages as one document, or as several of about the same length where they are long together."""
    whole = "\n\n".join(text for _, text in pages)
    if len(whole) < LEAST:
        return
    count = -(-len(whole) // MOST)
    paragraphs, part, number = whole.split("\n\n"), "", 1
    key = f"{name}/{pages[0][0]}"
    for paragraph in paragraphs:
        if part and number < count and len(part) + len(paragraph) > len(whole) / count:
            yield Document(part, f"{key}#{number}", key)
            part, number = "", number + 1
        part = f"{part}\n\n{paragraph}" if part else paragraph
    if len(part) >= LEAST:
        yield Document(part, f"{key}#{number}" if count > 1 else key, key)


def html_pages(root: Path, patterns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Path and text of each page that the patterns match; in the order an index links them, then by name."""
    for pattern in patterns:
        found = {path.name: path for path in sorted(root.glob(pattern)) if not path.is_symlink()}
        folder = next(iter(found.values())).parent if found else root
        indexes = sorted(folder.glob("index*.html"))
        index = next((i for i in indexes if i.name in ("index.en.html", "index.html")), None)
        order = links(index) if index else []
        for page in dict.fromkeys([*(o for o in order if o in found), *found]):
            if not _NO_TEXT.fullmatch(page):
                yield str(found[page].relative_to(root)), to_text(found[page])


def novels(root: Path, patterns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The vectors of strings in R's data base: each record a length, then that text's lines deflated.

    The length (4 bytes) is that of the unpacked record; in it each string is a word of flags whose last byte
    is 9, its length (both big-endian), and its bytes (R Internals, section 1.8).
    """
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            rest = path.read_bytes()
            while rest:
                unpacker = zlib.decompressobj()
                record = unpacker.decompress(rest[4:])
                rest = unpacker.unused_data
                lines = [text.decode() for text in strings(record)]
                text = re.sub(r"(?<=\S)\n(?=\S)", " ", "\n".join(lines)).strip()
                title = re.sub(r"\W+", "-", text.split("\n")[0].strip().lower())
                yield f"{path.relative_to(root)}/{title}", re.sub(r"\n{3,}", "\n\n", text)


def strings(record: bytes) -> Iterator[bytes]:
    """The strings of a serialised vector of strings, in its order."""
    place = record.index(b"\x00\x00\x00\x10") + 8
    while place + 8 <= len(record) and record[place + 3] == 9:
        size = int.from_bytes(record[place + 4 : place + 8], "big")
        yield record[place + 8 : place + 8 + size]
        place += 8 + size


def split(name: str, found: list[Document]) -> dict[str, list[Document]]:
    """Training and held-out documents, each within the package's limit; order as found.

    Chapters go by the hash of their key: first to what is held out until one does not fit, then to training.
    What is left of a chapter that was held out in part is not trained on.
    """
    limits = {"heldout": PACKAGES[name].heldout, "train": PACKAGES[name].train}
    size = dict.fromkeys(limits, 0)
    chapters: dict[str, list[Document]] = {}
    for document in found:
        chapters.setdefault(document.key, []).append(document)
    parts: dict[str, list[Document]] = {"train": [], "heldout": []}
    part = "heldout"
    for key in sorted(chapters, key=lambda key: sha256(key.encode())):
        if part == "heldout" and size[part] + len(chapters[key][0].text) > limits[part]:
            part = "train"
        for document in chapters[key]:
            if size[part] + len(document.text) <= limits[part]:
                parts[part].append(document)
                size[part] += len(document.text)
    place = {document.source: number for number, document in enumerate(found)}
    return {part: sorted(chosen, key=lambda d: place[d.source]) for part, chosen in parts.items()}


def line(name: str, document: Document) -> str:
    """A line of the JSONL files."""
    package = PACKAGES[name]
    value = {
        "text": document.text,
        "source": document.source,
        "licence": package.licence,
        "kind": package.kind,
    }
    return json.dumps(value, ensure_ascii=False) + "\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
