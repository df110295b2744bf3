"""The cache folder: where it is, and what is said when it cannot be written."""

import errno
from pathlib import Path

import pytest

from harness import UsageError
from harness._util.files import cache_dir, cache_writes


def test_the_cache_is_where_the_variables_say(monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_CACHE", "~/own")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("HARNESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "long-context-harness"
    for ignored in ("relative/path", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_dir() == tmp_path / ".cache" / "long-context-harness"


def test_a_relative_cache_is_made_absolute(monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", "here")
    assert cache_dir() == Path.cwd() / "here"


def test_an_unwritable_cache_is_one_line_and_other_errors_stay_what_they_are():
    for code in (errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EACCES):
        with pytest.raises(UsageError, match="set HARNESS_CACHE"), cache_writes():
            raise OSError(code, "words of the system")
    with pytest.raises(FileNotFoundError), cache_writes():
        Path("/nowhere/at/all").read_text()
