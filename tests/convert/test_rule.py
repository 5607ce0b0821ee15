"""Operations derived from two cells."""

from __future__ import annotations

import pytest

from porting.convert.notation import Cell
from porting.convert.rule import derive
from porting.errors import TableError


def steps(source: str, target: str) -> tuple[str, ...]:
    return derive(Cell.parse(source), Cell.parse(target)).steps


@pytest.mark.parametrize(
    ("source", "target", "there", "back"),
    [
        ("a : x y", "b : x y", ("copy",), ("copy",)),
        ("a", "b", ("copy",), ("copy",)),
        ("a : x y", "b : y x", ("transpose",), ("transpose",)),
        ("a : x x'", "b : x' x", ("transpose",), ("transpose",)),
        ("a : x y z", "b : z x y", ("permute x y z -> z x y",), ("permute z x y -> x y z",)),
        ("a : layer x", "b.{layer} : x", ("split layer",), ("stack layer",)),
        (
            "a : (p o) x",
            "{p[q k v]} : o x",
            ("unfold (p o)", "split p"),
            ("stack p", "fold (p o)"),
        ),
        ("a : x n d", "b : x (n d)", ("fold (n d)",), ("unfold (n d)",)),
        ("a : (n d) x", "b : (n d) x", ("copy",), ("copy",)),
        ("a : (n d) x", "b : x (n d)", ("permute n d x -> x n d",), ("permute x n d -> n d x",)),
        (
            "a : (n d)",
            "b : (d n)",
            ("unfold (n d)", "permute n d -> d n", "fold (d n)"),
            ("unfold (d n)", "permute d n -> n d", "fold (n d)"),
        ),
        ("a : x", "b.{layer} : x", ("replicate over layer",), ("equal over layer",)),
        ("a : 1 x", "b : x", ("reshape by axes of 1",), ("reshape by axes of 1",)),
        ("a : 1 x", "b : x 1", ("reshape by axes of 1",), ("reshape by axes of 1",)),
        ("a.{t*} : x", "b : x", ("copy",), ("copy",)),
    ],
)  # fmt: skip
def test_derived_with_its_inverse(source: str, target: str, there: tuple[str, ...], back: tuple[str, ...]) -> None:
    assert steps(source, target) == there
    assert steps(target, source) == back


@pytest.mark.parametrize(
    ("source", "target", "why"),
    [
        ("a : x y", "b : x", "y is an axis of the source only"),
        ("a : x", "b : x y", "y is an axis of the target only"),
        ("a : x y", "b : x z", "y is an axis of the source only; z is an axis of the target only"),
        ("a : x x'", "b : x", "x' is an axis of the source only"),
        ("a : task", "b.{task*}", "task is an axis of the source only"),
    ],
)
def test_elements_are_never_lost_or_made(source: str, target: str, why: str) -> None:
    with pytest.raises(TableError, match=why):
        derive(Cell.parse(source), Cell.parse(target))
