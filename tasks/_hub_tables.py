"""Sets of the hub that come as tables (Parquet, JSON): read by `datasets`, without any loading script."""

from __future__ import annotations

from typing import Any

from harness.errors import Unavailable


def hub_table(
    family: str,
    repository: str,
    config: str | None,
    split: str,
    revision: str | None,
    offline: bool,
    otherwise: str,
) -> list[dict[str, Any]]:
    """The rows of a split, downloaded unless they are here.

    Parameters
    ----------
    family
        The task family, for messages.
    repository, config, split, revision
        What `datasets.load_dataset` calls them; no revision: the newest.
    offline
        If true, only what was downloaded before is looked at.
    otherwise
        What else the user can do: completes "run 'harness data fetch ...' where there is a network, or".

    Raises
    ------
    Unavailable
        If they are not here and cannot be had.
    """
    import datasets

    mode = datasets.DownloadConfig(local_files_only=offline)
    try:
        table = datasets.load_dataset(
            repository, config, split=split, revision=revision, download_config=mode
        )
    except Exception as error:  # the hub's client and the network below it raise all kinds
        reason = "not fetched before, and --offline" if offline else f"{type(error).__name__}: {error}"
        raise Unavailable(
            f"{family}: cannot get {' '.join(filter(None, (repository, config, split)))} ({' '.join(reason.split())}); "
            f"run 'harness data fetch {family}' where there is a network, or {otherwise}"
        ) from error
    return [dict(row) for row in table]
