"""Options: declared once, checked in one line, described for people and machines."""

from typing import Literal

import pytest
from pydantic import Field, ValidationError, field_validator

from harness import Options, UsageError
from harness.options import describe, is_list, type_name


class Mine(Options):
    alpha: float = Field(3.0, gt=0, le=100, description="how much")
    top_k: int | None = Field(None, ge=1)
    kind: Literal["a", "b"] = "a"
    lengths: list[int] | None = None
    depths: tuple[float, ...] = (0.0, 50.0)
    loud: bool = False
    word: str = "x"

    @field_validator("word")
    @classmethod
    def _word(cls, value: str) -> str:
        if value == "bad":
            raise ValueError("Choose another word")
        return value


def refused(**values):
    with pytest.raises(UsageError) as caught:
        Mine.parse(values, "method mine")
    message = str(caught.value)
    assert "\n" not in message and caught.value.exit_code == 2
    return message


def test_strings_of_the_command_line_become_values():
    found = Mine.parse(
        {"alpha": "2.5", "top_k": "7", "kind": "b", "lengths": "1, 2,3", "depths": "0,33.3", "loud": "true"},
        "method mine",
    )
    assert (found.alpha, found.top_k, found.kind, found.loud) == (2.5, 7, "b", True)
    assert found.lengths == [1, 2, 3] and found.depths == (0.0, 33.3)
    assert Mine.parse({"lengths": "8"}, "m").lengths == [8] and Mine.parse({"lengths": [8]}, "m").lengths == [
        8
    ]
    assert Mine.parse({"lengths": ""}, "m").lengths == []
    assert Mine.parse({}, "m") == Mine() and Mine().lengths is None


def test_an_unknown_option_gets_the_nearest_name():
    assert refused(alhpa="3") == "no option of method mine named 'alhpa'; did you mean 'alpha'?"
    assert "known: alpha, depths, kind" in refused(zzz="3")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha": "0"}, "option alpha='0': input should be greater than 0"),
        ({"alpha": "-1"}, "greater than 0"),
        ({"alpha": "101"}, "less than or equal to 100"),
        ({"alpha": "nan"}, "option alpha='nan'"),
        ({"alpha": "inf"}, "option alpha='inf'"),
        ({"alpha": "three"}, "valid number"),
        ({"top_k": "0"}, "greater than or equal to 1"),
        ({"top_k": "1.5"}, "option top_k='1.5'"),
        ({"kind": "c"}, "'a' or 'b'"),
        ({"lengths": "1,two"}, "option lengths='1,two'"),
        ({"loud": "perhaps"}, "option loud='perhaps'"),
        ({"word": "bad"}, "option word='bad': choose another word"),
    ],
)
def test_a_value_out_of_range_is_refused_in_one_line(values, message):
    found = refused(**values)
    assert message in found and found.startswith("method mine: ")


def test_options_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError):
        Mine().alpha = 5


def test_each_option_is_described():
    rows = {row["name"]: row for row in describe(Mine)}
    assert list(rows) == list(Mine.model_fields)
    assert rows["alpha"] == {
        "name": "alpha",
        "type": "float",
        "range": "> 0 and <= 100",
        "choices": None,
        "default": 3.0,
        "description": "how much",
    }
    assert (rows["top_k"]["type"], rows["top_k"]["range"], rows["top_k"]["default"]) == ("int", ">= 1", None)
    assert (rows["kind"]["type"], rows["kind"]["choices"]) == ("a | b", ["a", "b"])
    assert (rows["lengths"]["type"], rows["depths"]["type"]) == ("list of int", "list of float")
    assert (rows["loud"]["type"], rows["word"]["description"]) == ("bool", "")


def test_a_default_that_is_made_is_shown_too():
    class Made(Options):
        items: list[int] = Field(default_factory=lambda: [1, 2])

    assert describe(Made)[0]["default"] == [1, 2]


def test_a_range_on_an_optional_choice_is_found():
    class Optional(Options):
        mode: Literal["x", "y"] | None = None

    (row,) = describe(Optional)
    assert (row["type"], row["choices"]) == ("x | y", ["x", "y"])


def test_lists_and_types():
    assert is_list(list[int]) and is_list(tuple[int, ...] | None) and is_list(list)
    assert not is_list(str) and not is_list(int | None) and not is_list(dict[str, int])
    assert type_name(int | str) == "int | str" and type_name(float) == "float"


def test_a_number_that_is_written_like_a_choice_is_that_choice():
    """From Python and YAML `bits=4` is a number."""

    class Chosen(Options):
        bits: Literal["8", "4"] = "8"
        maybe: Literal["1", "2"] | None = None
        number: Literal[1, 2] = 1

    made = Chosen.parse({"bits": 4, "maybe": 2, "number": 2}, "method m")
    assert (made.bits, made.maybe, made.number) == ("4", "2", 2)
    with pytest.raises(UsageError, match="bits=3"):
        Chosen.parse({"bits": 3}, "method m")
    with pytest.raises(UsageError, match="bits=True"):
        Chosen.parse({"bits": True}, "method m")
