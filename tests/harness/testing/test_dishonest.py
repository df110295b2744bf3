"""Methods that pretend are caught in a run."""

import pytest

from harness import MeasurementError

from ...helpers.running import as_method, one_thread, run, settings
from .dishonest_methods import DISHONEST


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.mark.parametrize(("cls", "said"), DISHONEST.items(), ids=lambda x: getattr(x, "__name__", ""))
@pytest.mark.parametrize("batch_size", [1, 3])
def test_who_pretends_fails_the_run(monkeypatch, tiny_folder, tmp_path, cls, said, batch_size):
    as_method(monkeypatch, cls)
    with pytest.raises(MeasurementError, match=said):
        run(settings(tiny_folder, tmp_path, method="own", batch_size=batch_size))
