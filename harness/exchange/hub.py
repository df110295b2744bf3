"""Results as a data set of the Hub: shown first, private unless said otherwise, sent only when that was confirmed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UsageError

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """What would be sent: the files of `folder`, to the data set `repo`."""

    repo: str
    folder: Path
    private: bool = True

    @property
    def files(self) -> list[tuple[str, int]]:
        """Names in the data set, and their sizes in bytes."""
        found = sorted(p for p in self.folder.rglob("*") if p.is_file())
        return [(p.relative_to(self.folder).as_posix(), p.stat().st_size) for p in found]

    def told(self) -> list[str]:
        """Where it goes, who will see it, and what."""
        seen = "private: you and your organisation" if self.private else "public: everybody"
        total = sum(size for _, size in self.files)
        head = f"data set {self.repo} ({seen}), {len(self.files)} files, {_size(total)}"
        return [head, *(f"  {name}  {_size(size)}" for name, size in self.files)]


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.1f} KiB"


def check_name(repo: str) -> None:
    """Refuse a name that is none of a data set. Raises UsageError."""
    if not _NAME.fullmatch(repo):
        raise UsageError(f"--push {repo}: write USER/NAME, as the Hub names a data set")


def push(plan: Plan) -> str:
    """Send what was planned; returns the data set's address.

    A data set that is there keeps its visibility, and files of other names.

    Raises
    ------
    UsageError
        In one line, which never has the token: there is none, it may not write, the Hub cannot be reached.
    """
    from huggingface_hub import HfApi, get_token

    check_name(plan.repo)
    if get_token() is None:
        raise UsageError("the Hub wants a token that may write: type `hf auth login`, or set HF_TOKEN")
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    url = _asked(
        lambda: api.create_repo(plan.repo, repo_type="dataset", private=plan.private, exist_ok=True),
        plan.repo,
    )
    private = _asked(lambda: api.repo_info(plan.repo, repo_type="dataset").private, plan.repo)
    if plan.private and private is False:
        raise UsageError(f"{plan.repo} is there already and is public: say --public, or choose another name")
    _asked(
        lambda: api.upload_folder(
            repo_id=plan.repo,
            repo_type="dataset",
            folder_path=str(plan.folder),
            commit_message="Results of long-context-harness",
        ),
        plan.repo,
    )
    return str(url)


def _asked(call: Callable[[], T], repo: str) -> T:
    """What the Hub answers; its refusals in the user's words, without what the client would print of the request."""
    try:
        return call()
    except UsageError:
        raise
    except Exception as error:
        for each in _chain(error):  # an upload of large files wraps what went wrong in an error of its own
            if said := _in_words(each, repo):
                raise UsageError(said) from None
        if not _theirs(error):
            raise
        raise UsageError(
            f"the Hub did not take the files ({type(error).__name__}); try again later"
        ) from None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those it was raised from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _in_words(error: BaseException, repo: str) -> str | None:
    """What an error of the client means, or None."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set: unset it to send results to the Hub"
    if isinstance(error, HfHubHTTPError):
        response: Any = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        why = {
            401: "the token is not known there: type `hf auth login`, or set HF_TOKEN",
            403: f"the token may not write to {repo}: make one with write access",
            404: f"there is no {repo}, or the token may not see it",
        }.get(status or 0, f"it answers with status {status}")
        return f"the Hub refuses {repo}: {why}"
    # TransportError is the client's own name for whatever keeps it from being answered
    if isinstance(error, OSError) or any(kind.__name__ == "TransportError" for kind in type(error).__mro__):
        return f"the Hub cannot be reached ({type(error).__name__}); nothing more was sent"
    return None


def _theirs(error: BaseException) -> bool:
    """Whether the error was raised in the client, not in ours."""
    at, module = error.__traceback__, ""
    while at is not None:
        module = str(at.tb_frame.f_globals.get("__name__", ""))
        at = at.tb_next
    return module.partition(".")[0] in ("huggingface_hub", "hf_xet")
