"""Where the harness keeps what it may throw away: converted models, fetched data, hashes of large files."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath

from ..errors import UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ODD = (
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EISDIR,
    errno.EINVAL,
    errno.EIO,
    errno.ESTALE,
    errno.ENXIO,
    errno.ENODEV,
)
_UNWRITABLE = frozenset((*_FULL, *_ODD, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST))


def cache_dir() -> Path:
    """The user's cache folder: ``HARNESS_CACHE``, else the XDG cache's or ``~/.cache``'s own sub-folder.

    The folder is not created here. Everything in it can be made again, so it may be deleted at any time.
    """
    if own := os.environ.get("HARNESS_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification says that a relative path is to be ignored.
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return root / "long-context-harness"


def inside(name: str) -> bool:
    """Whether a name from a file that somebody else wrote stays in the folder it is a name in."""
    path = PurePosixPath(name)
    return (
        bool(path.parts)
        and not path.is_absolute()
        and ".." not in path.parts
        and not {"\0", "\\"} & set(name)
    )


def write_whole(target: Path, text: str | bytes) -> None:
    """Write a file, text in UTF-8, so that it is there whole, on the disk, or not at all; its folder is made.

    Raises OSError; nothing half-written is left behind under any name.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.partial-")
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)  # a temporary file is its owner's alone; what it becomes is for everybody
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def writes(folder: Path | str, advice: str = "make room or choose another folder") -> Iterator[None]:
    """Turn "this folder cannot be written" (disk full, read-only, no permission) into one line for the user.

    Raises
    ------
    UsageError
        Naming the folder, the system's reason, and `advice`.
    """
    try:
        yield
    except Exception as error:
        if (reason := unwritable(error)) is None:
            raise
        raise UsageError(f"{folder} cannot be written ({reason}); {advice}") from error


def cache_writes() -> AbstractContextManager[None]:
    """The same for the cache, with the variable that moves it."""
    return writes(f"the cache folder {cache_dir()}", "make room there or set HARNESS_CACHE to another folder")


def unwritable(error: BaseException) -> str | None:
    """The system's words if `error` says that a folder cannot be written (full, read-only), else None.

    safetensors and torch write with code of their own, whose errors are no OSError.
    """
    number = error.errno if isinstance(error, OSError) else None
    if type(error).__name__ == "SafetensorError" and (told := re.search(r"\(os error (\d+)\)", str(error))):
        number = int(told[1])
    if number in _UNWRITABLE:
        return os.strerror(number)
    if isinstance(error, RuntimeError) and "enforce fail at inline_container.cc" in str(error):
        return "is the disk full?"  # all that torch's writer says is that not everything was written
    return None
