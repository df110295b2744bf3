"""Methods that pretend are caught in a run."""

from functools import partial

import pytest

from harness import MeasurementError
from harness.plugins.plain import Plain
from harness.testing import check_method, tiny_model

from ...helpers.running import as_method, one_thread, run, settings
from .dishonest_methods import DISHONEST, KnowsReferences, LastWord, ReadsReferences, stolen_references


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


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_call_stack_of_a_method_holds_no_references(monkeypatch, tiny_folder, tmp_path, batch_size):
    as_method(monkeypatch, ReadsReferences)
    monkeypatch.setattr(ReadsReferences, "looted", 0)
    run(settings(tiny_folder, tmp_path, method="own", batch_size=batch_size))
    assert ReadsReferences.looted == 0


def test_the_thief_finds_references_where_they_are():
    class Holder:
        class sample:
            references = ("there",)

    batch = [Holder()]
    assert stolen_references() == ("there",) and batch


@pytest.mark.parametrize("blind", [True, False])
def test_what_a_blind_method_prepares_for_holds_no_question(monkeypatch, tiny_folder, tmp_path, blind):
    seen = []

    class Prepares(Plain):
        sees_question = not blind

        def prepare(self, prompts, decoding):
            seen.extend(prompts)

        def run(self, prompts, decoding):
            given = {p.head_ids: p for p in seen}
            for prompt in prompts:
                known = given[prompt.head_ids]
                assert len(known) == len(prompt)
                assert (known.suffix_ids == prompt.suffix_ids) is not blind
                assert bool(known.prompt.suffix) is not blind and bool(known.prompt.question) is not blind
            return super().run(prompts, decoding)

    as_method(monkeypatch, Prepares)
    _, records = run(settings(tiny_folder, tmp_path, method="own"))
    assert seen and {(r["status"], str(r.get("error"))) for r in records.values()} == {("ok", "None")}


@pytest.mark.parametrize("cls", [LastWord, KnowsReferences])
def test_the_checks_of_a_method_catch_it_too(cls):
    found = {r.name: r for r in check_method(cls, only=["declared"], model=partial(tiny_model, 256))}
    assert found["declared"].status == "failed" and "greedily" in found["declared"].reason
