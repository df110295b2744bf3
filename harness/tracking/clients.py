"""The trackers, by their own clients. Accounts, addresses and offline modes are the clients' own variables."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..contracts.tracker import Tracker, client

PROJECT = "long-context-harness"
"""What a tracker files runs under, unless a variable of its own says otherwise."""


class Wandb:
    """Weights & Biases: ``WANDB_PROJECT``, ``WANDB_MODE=offline``."""

    _run: Any = None

    def start(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        """Goes on with the run of that name, if there is one: the name has the run's hash."""
        wandb = client("wandb")
        os.environ.setdefault("WANDB_SILENT", "true")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            id=re.sub(r"[^A-Za-z0-9_-]", "-", name)[-64:],
            resume="allow",
            config=dict(config),
            settings=wandb.Settings(console="off", init_timeout=30),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, summary: Mapping[str, float], ok: bool) -> None:
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=0 if ok else 1)


class Mlflow:
    """MLflow: ``MLFLOW_TRACKING_URI`` (``file:mlruns`` for files alone), ``MLFLOW_EXPERIMENT_NAME``."""

    _client: Any = None
    _id = ""

    def start(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        """A new run of that name in the experiment, which is made if need be."""
        mlflow = client("mlflow")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # its own five wait for minutes
        self._client = mlflow.MlflowClient()
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(title)
        experiment = found.experiment_id if found else self._client.create_experiment(title)
        self._id = self._client.create_run(experiment, run_name=name).info.run_id
        for key, value in config.items():
            self._client.log_param(self._id, _key(key), str(value)[:500])

    def log(self, values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            self._client.log_metric(self._id, _key(key), value, step=step)

    def finish(self, summary: Mapping[str, float], ok: bool) -> None:
        for key, value in summary.items():
            self._client.log_metric(self._id, _key(key), value)
        self._client.set_terminated(self._id, "FINISHED" if ok else "FAILED")


class Trackio:
    """Trackio: a local dashboard (``trackio show``); ``TRACKIO_DIR``, ``TRACKIO_SPACE_ID``."""

    _run: Any = None

    def start(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            self._run = client("trackio").init(
                project=PROJECT, name=name, config=dict(config), resume="allow", embed=False
            )

    def log(self, values: Mapping[str, float], step: int) -> None:
        client("trackio").log(dict(values), step=step)

    def finish(self, summary: Mapping[str, float], ok: bool) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            client("trackio").log(dict(summary))
            client("trackio").finish()


class Tensorboard:
    """TensorBoard: event files in ``TENSORBOARD_LOGGING_DIR``, or ``tensorboard/`` beside the run's folder."""

    _writer: Any = None

    def start(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        given = os.environ.get("TENSORBOARD_LOGGING_DIR")
        self._writer = SummaryWriter(log_dir=str(Path(given or folder.parent / "tensorboard") / name))
        self._writer.add_text("settings", f"```json\n{json.dumps(dict(config), indent=1, default=str)}\n```")

    def log(self, values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def finish(self, summary: Mapping[str, float], ok: bool) -> None:
        for key, value in summary.items():
            self._writer.add_scalar(key, value, 0)
        self._writer.close()


def _key(name: str) -> str:
    """A name with the letters that MLflow takes."""
    return re.sub(r"[^\w./ -]", "-", name)


TRACKERS: dict[str, Callable[[], Tracker]] = {
    "wandb": Wandb,
    "mlflow": Mlflow,
    "trackio": Trackio,
    "tensorboard": Tensorboard,
}
"""What makes a tracker, by name."""
