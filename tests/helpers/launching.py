"""The command line as two processes that a launcher starts."""

import os
import subprocess
import sys

LAUNCH = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "-m",
    "harness",
]


def launch(line, began=LAUNCH):
    """What came of the harness with these words, which has to end well."""
    done = subprocess.run(
        [*began, *map(str, line)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        timeout=240,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done
