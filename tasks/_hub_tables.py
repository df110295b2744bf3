"""Sets of the hub that come as tables (Parquet, JSON): read by `datasets`, without any loading script."""

from __future__ import annotations

from typing import Any

from harness._util.network import offline as kept_offline

from ._rows import hub_access


def hub_table(
    family: str,
    repository: str,
    config: str | None,
    split: str,
    revision: str | None,
    offline: bool,
    otherwise: str,
) -> Any:
    """The rows of a split, a `datasets.Dataset` that reads them from the disk; downloaded unless they are here.

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

    what = " ".join(filter(None, (repository, config, split)))
    with hub_access(family, what, offline, otherwise) as alone, kept_offline(alone):
        return datasets.load_dataset(
            repository,
            config,
            split=split,
            revision=revision,
            download_config=datasets.DownloadConfig(local_files_only=alone),
        )
