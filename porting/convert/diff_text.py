"""A difference as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from porting.convert.columns import aligned, shown
from porting.convert.diff import Compared, Difference, TensorDifference
from porting.convert.names import collapse, grouped, listed
from porting.convert.values import Place, ValueDifference


def difference_lines(found: Difference, most: int = 40) -> list[str]:
    """What differs, kind by kind with layers collapsed, then one line of summary.

    most: lines per kind; the rest is counted.
    """
    lines = aligned([_side("a", found.a), _side("b", found.b)])
    if found.dialect is not None:
        lines.append(f"a is read as {found.family} {found.dialect}")
    for title, names in (("missing in b", found.missing), ("unexpected in b", found.unexpected)):
        lines += _section(title, [(name,) for name in collapse(names)], most)
    reasons: dict[str, list[str]] = {}
    for line in found.left_out:
        reasons.setdefault(line.reason, []).append(line.name)
    aside = [(str(len(names)), reason, listed(names, 3)) for reason, names in reasons.items()]
    lines += _section("not compared", aside, most)
    lines += _section("problem", [(problem,) for problem in found.problems], most)
    lines += _section("shape", list(_shapes(found.different)), most)
    dtypes = [one for one in found.tensors if one.values is not None and one.dtypes[0] != one.dtypes[1]]
    lines += _section("dtype", list(_dtypes(dtypes)), most)
    lines += _values(found.different, most)
    return [*lines, summary_line(found)]


def summary_line(found: Difference) -> str:
    """The whole in a line."""
    count, apart = len(found.tensors), len(found.different)
    how = (
        "bit for bit"
        if found.tolerance is None
        else f"within {shown(found.tolerance.absolute)} + " + (f"{shown(found.tolerance.relative)} * |a|")
    )
    aside = f", {len(found.left_out)} not compared" if found.left_out else ""
    if found.equal:
        return f"equal: {count} tensors {how}{aside}"
    parts = [f"{apart} of {count} tensors differ" if apart else f"{count} tensors equal {how}"]
    parts += [f"{len(found.missing)} missing"] if found.missing else []
    parts += [f"{len(found.unexpected)} unexpected"] if found.unexpected else []
    parts += [f"{len(found.problems)} problems"] if found.problems else []
    return f"different: {', '.join(parts)}{aside}"


def _side(letter: str, side: Compared) -> tuple[str, ...]:
    what = f"{side.family} {side.dialect}" if side.family else "no family"
    return letter, side.path, side.format, what


def _section(title: str, rows: Sequence[tuple[str, ...]], most: int) -> list[str]:
    if not rows:
        return []
    more = [f"  and {len(rows) - most} more"] if len(rows) > most else []
    return [f"{title}:", *aligned(rows[:most], indent="  "), *more]


def _shapes(tensors: Sequence[TensorDifference]) -> Iterator[tuple[str, ...]]:
    by_shape: dict[tuple[str, str], list[str]] = {}
    for one in tensors:
        if one.values is None:
            a, b = (str(list(shape)) for shape in one.shapes)
            by_shape.setdefault((a, b), []).append(one.name)
    for (a, b), names in by_shape.items():
        for name in collapse(names):
            yield name, f"a {a}", f"b {b}"


def _dtypes(tensors: Sequence[TensorDifference]) -> Iterator[tuple[str, ...]]:
    by_dtype: dict[tuple[str, str], list[str]] = {}
    for one in tensors:
        by_dtype.setdefault(one.dtypes, []).append(one.name)
    for (a, b), names in by_dtype.items():
        for name in collapse(names):
            yield name, f"a {a}", f"b {b}"


def _values(tensors: Sequence[TensorDifference], most: int) -> list[str]:
    """One line per collapsed name: the largest numbers of its layers, and the worst place of all."""
    by_name = {one.name: one.values for one in tensors if one.values is not None}
    rows = [
        (name, *_cells({member: by_name[member] for member in members})) for name, members in grouped(by_name).items()
    ]
    if not rows:
        return []
    head = ("", "elements", "max abs", "/ max |a|", "rel. L2", "NaN a, b", "worst")
    more = [f"  and {len(rows) - most} more"] if len(rows) > most else []
    return ["values:", *aligned([head, *rows[:most]], right=(1, 2, 3, 4, 5), indent="  "), *more]


def _cells(layers: Mapping[str, ValueDifference]) -> tuple[str, ...]:
    values = list(layers.values())
    elements = f"{sum(v.bits for v in values)} of {sum(v.count for v in values)}"
    facts = ([v.max_abs for v in values], [v.max_relative for v in values], [v.l2_relative for v in values])
    numbers = [shown(max((n for n in known if n is not None), default=None)) for known in facts]
    nan = f"{sum(v.nan[0] for v in values)}, {sum(v.nan[1] for v in values)}"
    worst = max(layers, key=lambda name: _badness(layers[name]))
    return (elements, *numbers, nan, _worst(worst, layers[worst].worst))


def _badness(values: ValueDifference) -> tuple[int, float, int]:
    return values.one_sided, values.max_abs or 0.0, values.bits


def _worst(name: str, place: Place | None) -> str:
    if place is None:
        return ""
    at = f"[{', '.join(map(str, place.index))}]" if place.index else ""
    return f"{name}{at}: a {_exact(place.a)}, b {_exact(place.b)}"


def _exact(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.9g}"
