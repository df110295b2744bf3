"""What a shell completes: verbs, names, and the options of the method that was named."""

import pytest

from harness.cli import cli


def completed(capsys, monkeypatch, *words):
    """Completions of the last word, as bash would be given them."""
    monkeypatch.setenv("COMP_WORDS", " ".join(["harness", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    monkeypatch.setenv("_HARNESS_COMPLETE", "bash_complete")
    with pytest.raises(SystemExit) as left:
        cli.main(args=[], prog_name="harness", standalone_mode=False)
    assert left.value.code == 0
    return {line.partition(",")[2] for line in capsys.readouterr().out.splitlines()}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["ch"], {"check"}),
        (["run", "--method", "two"], {"two_pass"}),
        (["run", "-m", "plain", "--task", "pass"], {"passkey"}),
        (["run", "--method", "two_pass", "--alph"], {"--alpha"}),
        (["check", "pla"], {"plain"}),
        (["check", "--task", "ni"], {"niah"}),
        (["fit", "--method", "beac"], {"beacon"}),
    ],
)
def test_words_are_completed(capsys, monkeypatch, words, wanted):
    assert completed(capsys, monkeypatch, *words) == wanted
