"""What the tests of several modules start once: a process that has everything in memory and forks for each command."""

import importlib
import os
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="session")
def tool():
    """Import a module of `tools/`, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        yield importlib.import_module


@pytest.fixture(scope="session")
def forks(tool, session_cache):
    """The process; its strings hash otherwise than those of this one."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    server = tool("fault_bench").Server({"HARNESS_CACHE": str(session_cache), "PYTHONHASHSEED": seed})
    yield server
    server.close()
