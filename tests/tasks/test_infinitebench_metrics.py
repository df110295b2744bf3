"""InfiniteBench's scores: every vector here is worked out by hand from the official rules."""

import pytest

from harness.tasks.infinitebench.metrics import any_name, score
from harness.tasks.infinitebench.prompts import TASKS


@pytest.mark.parametrize("task", ["passkey", "number_string"])
@pytest.mark.parametrize(
    ("prediction", "label", "expected"),
    [
        (" 04217. Remember", "04217", 1),
        (" 4217.", "04217", 0),  # text, not a number
        ("key1: 04217", "04217", 0),  # the first run is 1
        ("042 17", "04217", 0),
        ("x04217x", "04217", 1),
        ("٠٤٢١٧", "04217", 0),  # ASCII digits only
        ("", "04217", 0),
    ],
)
def test_the_first_run_of_digits(task, prediction, label, expected):
    assert score(task, prediction, [label]) == expected


UUID = "0e1f-ab"


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ('"0e1f-ab",', 1),
        ("{k:0e1f-ab}", 1),  # a colon and braces become blanks
        ("it is 0e1f-ab or 1234", 1),  # anywhere
        ("0e1f-ab;", 0),  # a semicolon stays at the word
        ("0E1F-AB", 0),
        ("x0e1f-ab", 0),
        ("", 0),
    ],
)
def test_kv_retrieval(prediction, expected):
    assert score("kv_retrieval", prediction, [UUID]) == expected


@pytest.mark.parametrize(
    ("prediction", "labels", "expected"),
    [
        (" Ace: hello", ["ACE", "ROTHSTEIN"], 1),
        ("rothstein", ["ACE", "ROTHSTEIN"], 0),  # only the first name is asked about
        ("ACE ROTHSTEIN", ["ACE ROTHSTEIN"], 0),  # a label of two words is no word
        ("ace", ["Ace"], 0),  # the answer is put into capitals, the label is not
        ("PLACE", ["ACE"], 0),
    ],
)
def test_longdialogue(prediction, labels, expected):
    assert score("longdialogue_qa_eng", prediction, labels) == expected


@pytest.mark.parametrize(
    ("prediction", "labels", "expected"),
    [
        ("STAMP PAID", ["STAMP PAID"], 1),
        ("it was Bill  Ecker.", ["COMMANDER BILL", "BILL ECKER"], 1),
        ("PLACE", ["ACE"], 0),
        ("", ["ACE", ""], 0),
    ],
)
def test_any_name(prediction, labels, expected):
    assert any_name(prediction, labels) == expected


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (" B", 1),
        ("B. Light housework", 1),
        ("Because of A", 1),  # the first letter decides
        ("Danger: the answer is B", 0),
        ("Totty", 0),
        ("light housework", 1),  # the option's text
        ("light housework!", 0),  # not with anything else
        ("", 0),
        ("  \n", 0),
        ("the answer is: B", 1),
        ("the answer is:B", 0),  # one character is skipped, whatever it is
        ("the answer is: light housework of course", 1),
        ("so the answer is:", 0),
        ("the answer is A, though the answer: B", 1),  # "answer:" comes before "answer is" in the list
        ("the answer is a big one: B", 0),  # nothing after the announcement is looked at
        ("the option is 'B'", 1),  # the quote became a second blank, of which one stays and is skipped
        ("it must be B or C", 1),  # the first word that is a piece of ABCD
        ("it must be BC", 0),  # "BC" is such a piece, and not the letter
        ("none of them", 0),
    ],
)
def test_longbook_choice(prediction, expected):
    assert score("longbook_choice_eng", prediction, ["light housework"], "B") == expected


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (" B. tests.run", 1),
        ("B: it", 1),
        ("B", 0),  # a bare letter is no answer
        ("B) tests.run", 0),
        ("A. No, the answer is: B", 1),  # a wrong start leaves the announcement
        ("The correct option is: B", 1),  # by "is:"
        ("The correct Option is: **tests.run**", 1),  # asterisks became blanks, and those one
        ("The answer is B", 0),  # not announced by a colon
        ("Answer: B", 0),  # capitals count
        ("answer:B", 0),  # one character is skipped
        ("answer: C. But the answer is: B", 1),  # "answer is:" is looked for first
        ("the error is: Because", 1),  # begins with the letter
        ("it is:", 0),
        ("", 0),
    ],
)
def test_code_debug(prediction, expected):
    assert score("code_debug", prediction, ["tests.run"], "B") == expected


@pytest.mark.parametrize(
    ("prediction", "label", "expected"),
    [
        (" -7.", "-7", 1),
        ("func_1(3) is `-7`", "-7", 1),
        ("-7\n\nSo", "-7", 0),  # the last word
        ("7.0", "7", 0),  # "7 0" reads as 0
        ("0.7", "7", 1),
        ("1_0", "10", 1),  # as Python reads it
        ("seven", "7", 0),
        (" . ", "7", 0),
        ("1" * 5000, "7", 0),  # more digits than Python converts
    ],
)
def test_code_run(prediction, label, expected):
    assert score("code_run", prediction, [label]) == expected


@pytest.mark.parametrize(
    ("prediction", "label", "expected"),
    [
        (" 49, 50", "49", 1),
        ("-49", "49", 1),  # signs are not read
        ("049", "49", 1),
        ("49.0", "49", 0),  # whole labels and a decimal point: officially the scorer stops
        ("49.", "49", 1),
        ("49", "49.0", 1),
        ("49.5 or 50", "49.5", 1),
        ("x", "49", 0),
        ("1" * 5000, "49", 0),
    ],
)
def test_math_find(prediction, label, expected):
    assert score("math_find", prediction, [label]) == expected


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("[1, 4, -2, 8]", 2 / 4),  # the minus is not read: 2 is not -2, and 8 is not looked at
        ("1 4", 2 / 4),
        ("[01, 4", 2 / 4),
        ("4, 1", 0),
        ("", 0),
        ("1" * 5000, 0),
    ],
)
def test_math_calc(prediction, expected):
    assert score("math_calc", prediction, ["[1, 4, -2, 8]"]) == expected


def test_gpt4s_first_number_is_passed_over():
    assert score("math_calc", "3, 1, 4", ["[1, 4]"], skip_first=True) == 1
    assert score("math_calc", "1, 4", ["[1, 4]"], skip_first=True) == 0


@pytest.mark.parametrize(
    ("prediction", "labels", "expected"),
    [
        # Bags "cat sat" and "cat sat down": p 1, r 2/3.
        ("The cat sat.", ["a cat sat down"], 0.8),
        ("cat", ["dog", "a cat!"], 1),  # the best label
        ("", ["cat"], 0),
    ],
)
def test_longbook_qa_eng(prediction, labels, expected):
    assert score("longbook_qa_eng", prediction, labels) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "labels", "expected"),
    [
        # Characters: 我爱北京 and 北京, p 2/4, r 1.
        ("我爱 北京。", ["北京》"], 2 / 3),
        ("北京", ["《北京》"], 4 / 5),  # of the two only the closing bracket is punctuation: p 1, r 2/3
        ("京北", ["北京"], 1),  # order does not count
        ("ABC", ["abc"], 1),
        ("。", ["北京"], 0),
        ("上海", ["北京", "上海"], 1),
    ],
)
def test_longbook_qa_chn(prediction, labels, expected):
    assert score("longbook_qa_chn", prediction, labels) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "labels", "expected"),
    [
        ("One two, three!", ["one two three"], 1),
        ("", ["one"], 0),
        ("runs", ["running"], 0),  # not stemmed
        # One sentence each: the longest common subsequence of "c d a b" and "a b c d" has 2 of 4 words.
        ("c d a b", ["a b c d"], 0.5),
        # Two sentences by the newline: the union over them has all 4.
        ("c d\na b", ["a b c d"], 1),
        # A full stop does not end a sentence.
        ("c d. a b", ["a b c d"], 0.5),
        ("two", ["one", "two"], 1),  # the best label
    ],
)
def test_longbook_sum(prediction, labels, expected):
    assert score("longbook_sum_eng", prediction, labels) == pytest.approx(expected)


def test_every_task_has_a_score():
    labels = {"math_find": "1", "math_calc": "[1]", "code_run": "1"}
    assert all(score(task, "nothing", [labels.get(task, "x")], "B") == 0 for task in TASKS)
