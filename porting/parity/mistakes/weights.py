"""Mistakes of weights: what a converter or a port's way of reading a tensor gets wrong.

Which tensors can be confused is derived from their names and shapes. A pattern is a name with `*` for its layer;
a change acts on all layers of a pattern, and the search finds out in which of them the target has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from porting.parity.mistakes.mistake import Mistake
from porting.parity.state import Level
from porting.parity.variation import Case, Tensors, Variation

if TYPE_CHECKING:
    from porting.backends.protocol import Array

LAYER = re.compile(r"(?<=[._/])\d+(?=[._/]|$)")
"""The number of a layer in a name of any dialect that has it between separators."""


def pattern_of(name: str) -> str:
    """A name with `*` for its layer.

    >>> pattern_of("encoder.layer.11.output.dense.weight")
    'encoder.layer.*.output.dense.weight'
    """
    return LAYER.sub("*", name)


def layer_of(name: str) -> int | None:
    """The layer that a name belongs to, if to one."""
    found = LAYER.search(name)
    return int(found[0]) if found else None


def patterns(weights: Tensors) -> dict[str, list[str]]:
    """Names by pattern, in the order of the first of each."""
    found: dict[str, list[str]] = {}
    for name in weights:
        found.setdefault(pattern_of(name), []).append(name)
    return found


def changing(names: list[str], change: Callable[[Array], Array]) -> Callable[[Tensors], Tensors]:
    """A function of all weights that changes those of these names."""
    return partial(_changed, frozenset(names), change)


def _changed(names: frozenset[str], change: Callable[[Array], Array], weights: Tensors) -> Tensors:
    return {name: np.ascontiguousarray(change(value)) if name in names else value for name, value in weights.items()}


def transposed(weight: Array) -> Array:
    """The bytes of the transposed matrix, read with the shape of the matrix: for a square one its transpose.

    weight: two axes, or three of which the last two are folded (hidden, head, unit).
    """
    return np.ascontiguousarray(weight.reshape(weight.shape[0], -1).T).reshape(weight.shape)


def _heads_first(weight: Array) -> Array:
    """Units and heads folded in the other order: (hidden, head, unit) read as (hidden, unit, head); others stay."""
    if weight.ndim != 3:
        return weight
    first, second, third = weight.shape
    return weight.reshape(first, third, second).swapaxes(1, 2)


def groups(found: Mapping[str, list[str]], weights: Tensors) -> dict[str, list[str]]:
    """Each pattern for itself; those of one shape that differ in one part of their names (query, key, value) together,
    and all but one of them; and all.
    """
    made = {pattern: list(names) for pattern, names in found.items()}
    families: dict[tuple[str, str, tuple[int, ...]], list[str]] = {}
    for pattern, names in found.items():
        parts = pattern.split(".")
        for at in range(len(parts)):
            rest = ".".join(parts[:at]), ".".join(parts[at + 1 :]), weights[names[0]].shape
            families.setdefault(rest, []).append(pattern)
    for members in families.values():
        if 1 < len(members) < len(found):
            made[", ".join(members)] = [name for one in members for name in found[one]]
        for left_out in members if len(members) > 2 else ():
            rest_of = [one for one in members if one != left_out]
            made[", ".join(rest_of)] = [name for one in rest_of for name in found[one]]
    if len(found) > 1:
        made["all of them"] = [name for names in found.values() for name in names]
    return made


def _untransposed(case: Case) -> Iterator[Variation]:
    found = {
        pattern: names
        for pattern, names in patterns(case.weights).items()
        if "embedding" not in pattern and _is_matrix(case.weights[names[0]])
    }
    for form, names in groups(found, case.weights).items():
        yield Variation(form, weights=changing(names, transposed))
        if case.weights[names[0]].ndim == 3:
            yield Variation(f"{form}, heads and units", weights=changing(names, _heads_first))


def _is_matrix(weight: Array) -> bool:
    return weight.ndim in (2, 3) and min(weight.shape) > 1


def _missing_bias(case: Case) -> Iterator[Variation]:
    found = {pattern: names for pattern, names in patterns(case.weights).items() if pattern.endswith("bias")}
    for form, names in groups(found, case.weights).items():
        yield Variation(form, weights=changing(names, np.zeros_like))
    dense = [name for names in found.values() for name in names if "norm" not in name.lower()]
    yield Variation("all but LayerNorm's", weights=changing(dense, np.zeros_like))


def _swapped(wanted: Callable[[str, str], bool], case: Case) -> Iterator[Variation]:
    """Parts of names whose tensors stand in each other's place: the modules `query` and `key`, or one tensor of them.

    wanted: of two parts of names, whether this mistake is meant.
    """
    found = patterns(case.weights)
    modules: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for one, two in combinations(found, 2):
        parts = _one_part_apart(one, two)
        alike = case.weights[found[one][0]].shape == case.weights[found[two][0]].shape
        if parts and alike and len(found[one]) == len(found[two]) and wanted(parts[1], parts[2]):
            modules.setdefault(parts, []).append((one, two))
    everywhere: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for (_, a, b), pairs in modules.items():
        everywhere.setdefault((a, b), []).extend(pairs)
    for (before, a, b), pairs in modules.items():
        if len(everywhere[a, b]) > len(pairs):
            yield _swap(f"{a} and {b}, everywhere", everywhere.pop((a, b)), found)
            everywhere[a, b] = []
        if len(pairs) > 1:
            yield _swap(f"{before}{a}, {b}", pairs, found)
        for pair in pairs:
            yield _swap(", ".join(pair), [pair], found)


def _one_part_apart(one: str, two: str) -> tuple[str, str, str] | None:
    """What stands before the only part that differs, and that part of each."""
    a, b = one.split("."), two.split(".")
    places = [i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y]
    if len(a) != len(b) or len(places) != 1:
        return None
    at = places[0]
    return "".join(f"{part}." for part in a[:at]), a[at], b[at]


def _swap(form: str, pairs: list[tuple[str, str]], found: Mapping[str, list[str]]) -> Variation:
    other: dict[str, str] = {}
    for one, two in pairs:
        other |= dict(zip(found[one], found[two], strict=True)) | dict(zip(found[two], found[one], strict=True))
    return Variation(form, weights=partial(_renamed, other))


def _renamed(other: Mapping[str, str], weights: Tensors) -> Tensors:
    return {name: weights[other.get(name, name)] for name in weights}


def _query_key(a: str, b: str) -> bool:
    return {a, b} in ({"query", "key"}, {"q", "k"})


def _gamma_beta(a: str, b: str) -> bool:
    return {a, b} in ({"weight", "bias"}, {"gamma", "beta"})


def _neither(a: str, b: str) -> bool:
    return not (_query_key(a, b) or _gamma_beta(a, b) or {a, b} <= {"embeddings", "encoder"})


def _reordered(case: Case) -> Iterator[Variation]:
    """Layers that hold each other's weights."""
    for scope, count in _stacks(case.weights).items():
        order = list(range(count))
        orders = {"reversed": order[::-1], "one later": [*order[1:], 0], "one earlier": [order[-1], *order[:-1]]}
        orders |= {f"{i} and {i + 1} swapped": [*order[:i], i + 1, i, *order[i + 2 :]] for i in order[:-1]}
        seen: list[list[int]] = [order]
        for form, wrong in orders.items():
            if wrong not in seen:
                seen.append(wrong)
                yield Variation(f"{scope}: {form}", weights=partial(_of_layers, scope, wrong))


def _repeated(case: Case) -> Iterator[Variation]:
    for scope, count in _stacks(case.weights).items():
        for layer in sorted({0, count - 1}) if count > 1 else ():
            form = f"{scope}: all are {layer}"
            yield Variation(form, weights=partial(_of_layers, scope, [layer] * count))


def _stacks(weights: Tensors) -> dict[str, int]:
    """What stands before the numbers of layers, and how many layers there are."""
    found: dict[str, int] = {}
    for name in weights:
        number = LAYER.search(name)
        if number:
            scope = name[: number.start()]
            found[scope] = max(found.get(scope, 0), int(number[0]) + 1)
    return found


def _of_layers(scope: str, order: list[int], weights: Tensors) -> Tensors:
    other = {}
    for name in weights:
        number = LAYER.search(name)
        if number and name.startswith(scope) and number.start() == len(scope):
            other[name] = f"{scope}{order[int(number[0])]}{name[number.end() :]}"
    return _renamed(other, weights)


MISTAKES = (
    Mistake("square_untransposed", "A square weight is left untransposed.", Level.FORWARD, _untransposed),
    Mistake("query_key_swapped", "Query and key are swapped.", Level.FORWARD, partial(_swapped, _query_key)),
    Mistake("gamma_beta_swapped", "Gamma and beta are swapped.", Level.FORWARD, partial(_swapped, _gamma_beta)),
    Mistake("missing_bias", "A bias is not added.", Level.FORWARD, _missing_bias),
    Mistake("layers_out_of_order", "Layers stand out of order.", Level.FORWARD, _reordered, alike="layers"),
    Mistake("layer_repeated", "All layers have the weights of one.", Level.FORWARD, _repeated, alike="layers"),
    Mistake("tensors_swapped", "Two tensors of one shape are swapped.", Level.FORWARD, partial(_swapped, _neither)),
)
