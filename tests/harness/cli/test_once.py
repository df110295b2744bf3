"""An option that takes one value and is given twice is refused: the last one counted, and nothing said so."""

import pytest

from harness.cli import invoke

RUN = ["run", "-m", "streaming", "--model", "nowhere"]


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ([*RUN, "--seed", "1", "--seed", "2"], "--seed"),
        ([*RUN, "--limit=1", "--limit=1"], "--limit"),
        ([*RUN, "--recent", "5", "--recent", "6"], "--recent"),
        ([*RUN, "--batch-size", "1", "--batch_size", "2"], "--batch-size"),
        ([*RUN, "--share", "--no-share"], "--share"),
        (["data", "show", "passkey", "--limit", "1", "--limit", "2"], "--limit"),
        (["report", "a", "--format", "csv", "--format", "json"], "--format"),
        ([*RUN, "--set", "passkey.lengths=200", "--set", "passkey.lengths=300"], "--set passkey's lengths"),
        (
            [
                *("fit", "-m", "beacon", "--model", "nowhere", "--data", "x", "--out", "x"),
                "--trainer",
                "weight_decay=1",
                "--trainer",
                "weight_decay=2",
            ],
            "weight_decay",
        ),
        (
            [
                "synth",
                "--recipe",
                "thesis",
                "--model",
                "nowhere",
                "--out",
                "x",
                "--set",
                "a-b=1",
                "--set",
                "a_b=2",
            ],
            "--set a_b",
        ),
        (["reproduce", "thesis-fig-4.1", "--var", "a=1", "--var", "a=2"], "--var a"),
    ],
)
def test_an_option_given_twice_is_refused(words, flag, capsys):
    assert invoke(words) == 2
    said = capsys.readouterr().err
    assert f"{flag} is given twice; give it once" in said and len(said.splitlines()) == 1


def test_what_may_be_given_again_may(capsys):
    """Several tasks, and a switch that says the same: the refusal is about the model."""
    words = [
        *RUN,
        "--task",
        "passkey",
        "--task",
        "niah",
        "--quiet",
        "--quiet",
        "--set",
        "passkey.lengths=200",
    ]
    assert invoke([*words, "--set", "niah.lengths=600"]) == 2
    assert "no model" in capsys.readouterr().err
