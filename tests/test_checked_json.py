"""Lists from outside: a wrong element is named by its place, and right ones cost little."""

from __future__ import annotations

import pytest

from hec.compiler.checked_json import DAMAGED_HELP, Json, Node
from hec.compiler.errors import CompileError

PLACE = "a.hec: x"


def test_lists_of_plain_values_are_read_whole() -> None:
    assert Node([1, -(2**63), 2**64 - 1], PLACE).integers() == (1, -(2**63), 2**64 - 1)
    assert Node(["", "a"], PLACE).texts() == ("", "a")
    assert Node([], PLACE).integers() == Node([], PLACE).numbers() == Node([], PLACE).texts() == ()


def test_whole_numbers_among_numbers_become_floats() -> None:
    found = Node([1.5, 2, -3], PLACE).numbers()
    assert found == (1.5, 2.0, -3.0)
    assert [type(x) for x in found] == [float, float, float]


def test_right_values_make_no_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Node, "_item")
    assert Node([1] * 9, PLACE).integers() == (1,) * 9
    assert Node([0.5, 1], PLACE).numbers() == (0.5, 1.0)
    assert Node(["a"] * 9, PLACE).texts() == ("a",) * 9


@pytest.mark.parametrize(
    ("read", "value", "place", "problem"),
    [
        ("integers", [0, 0.0], "[1]", "expected a whole number, found 0.0"),
        ("integers", [True], "[0]", "expected a whole number, found true"),
        ("integers", [0, 1, 2**64], "[2]", "expected a whole number, found 18446744073709551616"),
        ("integers", {"a": 1}, "", 'expected a list, found {"a": 1}'),
        ("numbers", [0.5, 1, "NaN"], "[2]", 'expected a finite number, found "NaN"'),
        ("numbers", [0.5, False], "[1]", "expected a finite number, found false"),
        ("numbers", [float("inf")], "[0]", "expected a finite number, found Infinity"),
        ("numbers", [-(2**63) - 1], "[0]", "expected a whole number, found -9223372036854775809"),
        ("numbers", None, "", "expected a list, found null"),
        ("texts", ["a", None], "[1]", "expected a text, found null"),
        ("texts", "a", "", 'expected a list, found "a"'),
        ("items", 1, "", "expected a list, found 1"),
    ],
)
def test_a_wrong_value_in_a_list_is_named_by_its_place(
    read: str, value: Json, place: str, problem: str
) -> None:
    with pytest.raises(CompileError) as caught:
        getattr(Node(value, PLACE), read)()
    assert str(caught.value) == (
        f"The file is damaged: {problem}\n  --> {PLACE}{place}\n  help: {DAMAGED_HELP}"
    )


def test_elements_are_nodes_with_places_of_their_own() -> None:
    assert list(Node([1, "a"], PLACE).items()) == [
        Node(1, f"{PLACE}[0]"),
        Node("a", f"{PLACE}[1]"),
    ]
