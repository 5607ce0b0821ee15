"""What two checkpoints differ in, across formats and dialects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porting.convert.columns import jsonable
from porting.convert.identify import Identified, identify
from porting.convert.planned import Dropped
from porting.convert.translate import Pair, pair
from porting.convert.values import Tolerance, ValueDifference, compare_values


@dataclass(frozen=True, slots=True)
class Compared:
    """One checkpoint of the two."""

    path: str
    format: str
    family: str | None
    dialect: str | None


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """Two tensors that stand for one parameter. a's are those of a brought to b's dialect.

    name: in b. sources: in a. operation: how a's become b's. values: None where shapes differ.
    equal: same shape, and same dtype and bits, or, where a tolerance was given, values within it.
    """

    name: str
    sources: tuple[str, ...]
    operation: tuple[str, ...]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtypes: tuple[str, str]
    values: ValueDifference | None
    equal: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs between two checkpoints.

    family, dialect: whose names the comparison uses; None if tensors were paired by their own names.
    missing: in a and not in b. unexpected: in b and not in a. left_out: not compared, and why.
    problems: why a could not be read in b's dialect whole.
    tensors: all that were compared, in b's order.
    """

    a: Compared
    b: Compared
    family: str | None
    dialect: str | None
    tolerance: Tolerance | None
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    left_out: tuple[Dropped, ...]
    problems: tuple[str, ...]
    tensors: tuple[TensorDifference, ...]

    @property
    def different(self) -> tuple[TensorDifference, ...]:
        """The tensors that were compared and are not equal."""
        return tuple(one for one in self.tensors if not one.equal)

    @property
    def equal(self) -> bool:
        """Does b hold what a holds, no more and no less? Something must have been compared."""
        apart = self.missing or self.unexpected or self.problems or self.different
        return bool(self.tensors) and not apart

    def to_json(self) -> dict[str, Any]:
        """As JSON values; equal tensors by number only."""
        return {
            "equal": self.equal,
            "a": _side_json(self.a),
            "b": _side_json(self.b),
            "family": self.family,
            "dialect": self.dialect,
            "tolerance": _tolerance_json(self.tolerance),
            "compared": len(self.tensors),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "left_out": [{"name": line.name, "reason": line.reason} for line in self.left_out],
            "problems": list(self.problems),
            "different": [_tensor_json(one) for one in self.different],
        }


def diff(  # noqa: PLR0913 - one parameter per option
    a: str | Path,
    b: str | Path,
    *,
    family: str | None = None,
    dialect_a: str | None = None,
    dialect_b: str | None = None,
    format_a: str | None = None,
    format_b: str | None = None,
    config: str | Path | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Difference:
    """Compare two checkpoints, reading both in pieces. Neither raises nor prints because they differ.

    If both are of one family, a is read in b's dialect, without being written; tensors are paired by name otherwise.
    a is the reference of relative numbers. config: of a; found beside it if absent, "none" to look for none.
    atol, rtol: equal is within atol + rtol * |a|, and dtypes may differ; without either, bits and dtypes must be equal.
    progress: called with bytes read and bytes to read of b.
    Raises: FormatError; UsageError for names that do not exist and for checkpoints of different families.
    """
    tolerance = None if atol is None and rtol is None else Tolerance(atol or 0.0, rtol or 0.0)
    one = identify(a, family=family, dialect=dialect_a, format=format_a)
    two = identify(b, family=family, dialect=dialect_b, format=format_b)
    paired = pair(one, two, config)
    total, done, tensors = sum(p.b.nbytes for p in paired.pairs), 0, []
    for each in paired.pairs:
        tensors.append(_compare(each, tolerance))
        done += each.b.nbytes
        if progress is not None:
            progress(done, total)
    return Difference(
        a=_side(one),
        b=_side(two),
        family=paired.family,
        dialect=paired.dialect,
        tolerance=tolerance,
        missing=paired.only_a,
        unexpected=paired.only_b,
        left_out=paired.left_out,
        problems=paired.problems,
        tensors=tuple(tensors),
    )


def _compare(each: Pair, tolerance: Tolerance | None) -> TensorDifference:
    a, b = each.a, each.b
    shapes = (each.a_shape, b.shape)
    if a is None or a.shape != b.shape:
        kinds = (a.dtype.name if a else "", b.dtype.name)
        return TensorDifference(each.name, each.sources, each.operation, shapes, kinds, None, equal=False)
    values = compare_values(a, b, tolerance)
    kinds = (a.dtype.name, b.dtype.name)
    equal = not values.beyond and (tolerance is not None or a.dtype == b.dtype)
    return TensorDifference(each.name, each.sources, each.operation, shapes, kinds, values, equal)


def _side(found: Identified) -> Compared:
    match = found.match
    names = (match.family.name, match.dialect.name) if match else (None, None)
    return Compared(str(found.checkpoint.path), found.checkpoint.format, *names)


def _side_json(side: Compared) -> dict[str, str | None]:
    return {"path": side.path, "format": side.format, "family": side.family, "dialect": side.dialect}


def _tolerance_json(tolerance: Tolerance | None) -> dict[str, float] | None:
    return None if tolerance is None else {"atol": tolerance.absolute, "rtol": tolerance.relative}


def _tensor_json(one: TensorDifference) -> dict[str, Any]:
    lines: dict[str, Any] = {
        "name": one.name,
        "sources": list(one.sources),
        "operation": list(one.operation),
        "shapes": jsonable(one.shapes),
        "dtypes": list(one.dtypes),
    }
    if one.values is not None:
        values = one.values
        lines |= {
            "elements": values.count,
            "bits_differ": values.bits,
            "beyond": values.beyond,
            "max_abs": jsonable(values.max_abs),
            "max_relative": jsonable(values.max_relative),
            "l2_relative": jsonable(values.l2_relative),
            "nan": list(values.nan),
            "one_sided": values.one_sided,
        }
        if values.worst is not None:
            worst = values.worst
            lines["worst"] = {"index": list(worst.index), "a": jsonable(worst.a), "b": jsonable(worst.b)}
    return lines
