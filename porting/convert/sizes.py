"""Sizes of a model's labels, from shapes and names, held against its config; every contradiction by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from math import prod
from typing import Any, NamedTuple

from porting.checkpoint.entry import TensorEntry
from porting.convert.match import Found, Model, Values
from porting.convert.names import allowed, collapse
from porting.convert.notation import Axis, Cell, show_axis, size_label
from porting.convert.table import Family, Variant


class Bound(NamedTuple):
    """A model with its sizes.

    sizes: elements per label, as far as shapes, names and config tell. problems: what contradicts.
    missing: names that rows want and the checkpoint lacks; they are among the problems too.
    allowed: names that are lacking and were allowed to be.
    """

    model: Model
    sizes: Mapping[str, int]
    forms: Mapping[str, Variant]
    problems: tuple[str, ...]
    missing: tuple[str, ...]
    allowed: tuple[str, ...]


@cache
def word_counts(family: Family) -> dict[str, int]:
    """Labels whose values are listed words somewhere in the table, with their number."""
    return {
        part.name: len(part.words)
        for _, row in family.rows()
        for forms in row.cells.values()
        for form in forms
        for part in form.cell.fields
        if part.kind == "words"
    }


def bind(
    model: Model,
    entries: Mapping[str, TensorEntry],
    config: Mapping[str, Any] | None = None,
    *,
    config_name: str = "config",
    allow_missing: Sequence[str] = (),
) -> Bound:
    """Bind every label of the model once, and check every tensor against it.

    config: as loaded from JSON; its sizes are what the checkpoint is checked against.
    """
    forms = {key: _form(found, entries, config or {}) for key, found in model.found.items()}
    fixed = word_counts(model.family)
    votes = _votes(model, forms, entries)
    told = config_sizes(model.family, config or {})
    seen = dict(fixed)
    seen |= {label: max(counts, key=lambda n: (counts[n], n)) for label, counts in votes.items() if label not in fixed}
    problems = [
        f"{label}: {config_name} says {want}, the checkpoint has {seen[label]}{_example(model, forms, entries, label)}"
        for label, want in told.items()
        if label in seen and seen[label] != want
    ]
    problems += _variant_problems(model, forms, config or {}, config_name)
    seen = told | seen
    _unfold(model, forms, entries, seen)
    problems += _shape_problems(model, forms, entries, seen)
    sizes = seen | told
    endless = _endless(model.family, sizes)
    problems += endless
    lacking = [] if endless else list(_missing(model, forms, sizes))
    fine = tuple(name for name in lacking if allowed(name, allow_missing))
    missing = [name for name in lacking if name not in set(fine)]
    problems += [f"{name}  missing" for name in collapse(missing)]
    problems += _extra_layers(model, forms, told)
    return Bound(model, sizes, forms, tuple(problems), tuple(missing), fine)


def _form(found: Found, entries: Mapping[str, TensorEntry], config: Mapping[str, Any]) -> Variant:
    """The variant that the config or else the rank of the first tensor chooses."""
    ranks = Counter(len(entries[name].shape) for name in found.names.values())
    fits = [form for form in found.forms if form.cell.rank == ranks.most_common(1)[0][0]]
    for form in found.forms:
        if form.when and config.get(form.when[0]) is form.when[1] and len(found.forms) > 1:
            return fits[0] if fits else form
    return fits[0] if fits else found.forms[0]


def _votes(model: Model, forms: Mapping[str, Variant], entries: Mapping[str, TensorEntry]) -> dict[str, Counter[int]]:
    """For every label that has an axis or a digit field of its own, how often which size was seen."""
    votes: dict[str, Counter[int]] = {}
    top: dict[str, int] = {}
    for key, found in model.found.items():
        cell = forms[key].cell
        for values, name in found.names.items():
            shape = entries[name].shape
            if len(shape) == cell.rank:
                for axis, size in zip(cell.axes, shape, strict=True):
                    if len(axis) == 1:
                        votes.setdefault(size_label(axis[0]), Counter())[size] += 1
            for part, value in zip(cell.valued, values, strict=True):
                if part.kind == "digits":
                    top[part.name] = max(top.get(part.name, 0), value + 1)
    for label, count in top.items():
        votes.setdefault(label, Counter())[count] += sum(len(found.names) for found in model.found.values())
    return votes


def _variant_problems(
    model: Model, forms: Mapping[str, Variant], config: Mapping[str, Any], config_name: str
) -> list[str]:
    """Booleans of the config that the ranks of the tensors contradict."""
    wrong: dict[tuple[str, bool], list[str]] = {}
    for key, found in model.found.items():
        when = forms[key].when
        if when is not None and config.get(when[0]) is (not when[1]):
            wrong.setdefault(when, []).extend(found.names.values())
    word = {True: "true", False: "false"}
    return [
        f"{key}: {config_name} says {word[not value]}, but {', '.join(collapse(names))} shows {word[value]}"
        for (key, value), names in wrong.items()
    ]


MOST_NUMBERS = 100_000
"""Values that the numbered fields of a name may have together. A damaged name may well say `layer.4000000000`."""


@cache
def _numbered_labels(family: Family) -> frozenset[str]:
    cells = (form.cell for _, row in family.rows() for forms in row.cells.values() for form in forms)
    return frozenset(part.name for cell in cells for part in cell.fields if part.kind == "digits")


def _endless(family: Family, sizes: Mapping[str, int]) -> list[str]:
    """Why names cannot be listed: numbers that no model has."""
    counts = {label: sizes[label] for label in sorted(_numbered_labels(family)) if label in sizes}
    if prod(counts.values()) <= MOST_NUMBERS:
        return []
    told = ", ".join(f"{label} {count}" for label, count in counts.items())
    return [f"{told}: wanted at most {MOST_NUMBERS} in all"]


def config_sizes(family: Family, config: Mapping[str, Any]) -> dict[str, int]:
    """The sizes of a family's labels that a config tells."""
    told: dict[str, int] = {}
    for label, keys in family.labels.items():
        value = next((config[key] for key in keys if key in config), None)
        if isinstance(value, int) and not isinstance(value, bool):
            told[label] = value
    return told


def _unfold(
    model: Model, forms: Mapping[str, Variant], entries: Mapping[str, TensorEntry], sizes: dict[str, int]
) -> None:
    """Sizes that follow from a fold of which all labels but one are known."""
    changed = True
    while changed:
        changed = False
        for key, found in model.found.items():
            cell = forms[key].cell
            shape = entries[next(iter(found.names.values()))].shape
            if len(shape) != cell.rank:
                continue
            for axis, size in zip(cell.axes, shape, strict=True):
                open_labels = {size_label(label) for label in axis} - set(sizes)
                known = prod(sizes[size_label(label)] for label in axis if size_label(label) in sizes)
                if len(open_labels) == 1 and len(axis) > 1 and known and size % known == 0:
                    sizes[open_labels.pop()] = size // known
                    changed = True


def axis_size(axis: Axis, sizes: Mapping[str, int]) -> int | None:
    """Elements along an axis, None if a label is unknown."""
    if any(size_label(label) not in sizes for label in axis):
        return None
    return prod(sizes[size_label(label)] for label in axis)


def _shape_problems(
    model: Model, forms: Mapping[str, Variant], entries: Mapping[str, TensorEntry], sizes: Mapping[str, int]
) -> list[str]:
    wrong: dict[tuple[str, str], list[str]] = {}
    for key, found in model.found.items():
        cell = forms[key].cell
        want = [axis_size(axis, sizes) for axis in cell.axes]
        for name in found.names.values():
            got = entries[name].shape
            if entries[name].dtype.kind == "string":
                wrong.setdefault((_wanted(cell, want), "text"), []).append(name)
                continue
            if len(got) == len(want) and all(w is None or w == g for w, g in zip(want, got, strict=True)):
                continue
            wrong.setdefault((_wanted(cell, want), _got(want, got)), []).append(name)
    return [
        f"{name}: {model.dialect.name} wants {want}, got {got}"
        for (want, got), names in wrong.items()
        for name in collapse(names)
    ]


def _wanted(cell: Cell, want: Sequence[int | None]) -> str:
    axes = [
        f"{show_axis(axis)} {'?' if n is None else n}" if axis else "1" for axis, n in zip(cell.axes, want, strict=True)
    ]
    return f"({', '.join(axes)})"


def _got(want: Sequence[int | None], got: tuple[int, ...]) -> str:
    hint = ", which is the transpose" if len(got) > 1 and tuple(want) == got[::-1] and None not in want else ""
    return f"{got}{hint}"


def _example(model: Model, forms: Mapping[str, Variant], entries: Mapping[str, TensorEntry], label: str) -> str:
    for key, found in model.found.items():
        cell = forms[key].cell
        for axis in cell.axes:
            if axis == (label,):
                name = next(iter(found.names.values()))
                return f" ({name} {entries[name].shape})"
    return ""


def field_ranges(cell: Cell, sizes: Mapping[str, int]) -> list[range] | None:
    """The values that each field runs over, None if a size is unknown."""
    if any(part.kind == "digits" and size_label(part.name) not in sizes for part in cell.valued):
        return None
    return [range(len(part.words) if part.kind == "words" else sizes[part.name]) for part in cell.valued]


def fill(cell: Cell, values: Values, variables: Mapping[str, str]) -> str:
    """The name of a cell for these field values. Raises: KeyError for a free field without a value."""
    return next(spellings(cell, values, variables))


def spellings(cell: Cell, values: Values, variables: Mapping[str, str]) -> Iterator[str]:
    """The name in every spelling that is read, the one that is written first."""
    at = dict(zip(cell.numbered, values, strict=True))
    for template in cell.templates:
        raw = {part.name: variables[part.name] for part in template.fields if part.kind == "free"}
        raw |= {p.name: p.words[at[p.name]] if p.kind == "words" else str(at[p.name]) for p in template.valued}
        yield template.fill(raw)


def _missing(model: Model, forms: Mapping[str, Variant], sizes: Mapping[str, int]) -> Iterator[str]:
    """Names that a group which is there, or must be, lacks."""
    groups = set(model.groups)
    for group, row in model.family.rows():
        if model.dialect.name not in row.cells or not (group.required or group.name in groups):
            continue
        found = model.found.get(row.key)
        if found is None and (row.optional or row.tie is not None):
            continue
        cell = forms[row.key].cell if found else row.cells[model.dialect.name][0].cell
        yield from _absent(model, group.at, cell, found, sizes)


def _absent(model: Model, level: str, cell: Cell, found: Found | None, sizes: Mapping[str, int]) -> Iterator[str]:
    spans = field_ranges(cell, sizes)
    prefix = model.prefix(level)
    if spans is None:
        if found is None:
            yield prefix + str(cell.template)
        return
    have = found.names if found else {}
    variables = {part.name: model.variables.get(part.name, "*") for part in cell.fields if part.kind == "free"}
    for values in product(*spans):
        if values not in have:
            yield prefix + fill(cell, values, variables)


def _extra_layers(model: Model, forms: Mapping[str, Variant], told: Mapping[str, int]) -> list[str]:
    """Field values beyond what the config allows."""
    extra: list[str] = []
    for key, found in model.found.items() if told else ():
        for values, name in found.names.items():
            for part, value in zip(forms[key].cell.valued, values, strict=True):
                if part.kind == "digits" and value >= told.get(part.name, value + 1):
                    extra.append(name)
    return [f"{name}  extra: the config has fewer" for name in collapse(extra)]
