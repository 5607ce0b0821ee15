"""The first two levels of a diagnosis: settings and weights, which are compared as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from porting.parity.catalogue import forms
from porting.parity.diagnosis import Explanation, Place
from porting.parity.mistakes.mistake import Mistake
from porting.parity.mistakes.weights import layer_of
from porting.parity.state import Level
from porting.parity.variation import Case, Tensors, Variation, same_bits, with_values

if TYPE_CHECKING:
    from porting.parity.observe import Observed

Explained = tuple[Explanation, Variation]


def explain_config(
    case: Case, source: Observed, target: Observed, catalogue: Sequence[Mistake]
) -> tuple[Place | None, Explained | None]:
    """The first setting that differs, and the mistake that makes all that differ of it."""
    different = dict(_different(source.config, target.config))
    if not different:
        return None, None
    lines = ", ".join(f"{name}: {ours} here, {theirs} there" for name, (ours, theirs) in different.items())
    place = Place(Level.SETTINGS, next(iter(different)), reason=lines)
    for mistake in catalogue:
        for variation in forms(mistake, case):
            if variation.config and with_values(case.config, variation.config).to_dict() == target.config:
                return place, _explained(mistake, variation, place, len(different))
    return place, None


def explain_recipe(
    case: Case, source: Observed, target: Observed, catalogue: Sequence[Mistake]
) -> tuple[Place | None, Explained | None]:
    """The same of the recipe."""
    if source.recipe is None or target.recipe is None or case.recipe is None:
        return None, None
    different = dict(_different(source.recipe, target.recipe, "recipe."))
    if not different:
        return None, None
    lines = ", ".join(f"{name}: {ours} here, {theirs} there" for name, (ours, theirs) in different.items())
    place = Place(Level.SETTINGS, next(iter(different)), reason=lines)
    for mistake in catalogue:
        for variation in forms(mistake, case):
            if variation.recipe and variation.recipe(case.recipe).to_dict() == target.recipe:
                return place, _explained(mistake, variation, place, len(different))
    return place, None


def explain_weights(
    case: Case, source: Observed, target: Observed, catalogue: Sequence[Mistake]
) -> tuple[Place | None, Explained | None]:
    """The first weight that is not the source's to the bit, or that does not fit; and the mistake."""
    if target.refused:
        return _explain_refusal(target.refused, catalogue)
    different = [name for name in source.weights if not _same(source.weights, target.weights, name)]
    different += [name for name in target.weights if name not in source.weights]
    if not different:
        return None, None
    place = Place(Level.WEIGHTS, different[0], floors=inf, reason=f"not the same bits, in {len(different)} tensors")
    for mistake in catalogue:
        for variation in forms(mistake, case):
            if variation.weights is not None and same_bits(variation.weights(case.weights), target.weights):
                return place, _explained(mistake, variation, place, len(different))
    return place, None


def _explain_refusal(problems: tuple[str, ...], catalogue: Sequence[Mistake]) -> tuple[Place, Explained | None]:
    """Weights that a port did not take: those of whole layers are of layers that it has not, or has too many of."""
    place = Place(Level.WEIGHTS, problems[0].split()[0], reason="; ".join(problems))
    mistake = next((one for one in catalogue if one.name == "layer_missing"), None)
    if mistake is None or any(layer_of(problem.replace("{", "").replace("}", "")) is None for problem in problems):
        return place, None
    return place, _explained(mistake, Variation("; ".join(problems)), place, len(problems))


def _same(ours: Tensors, theirs: Tensors, name: str) -> bool:
    return name in theirs and same_bits({name: ours[name]}, {name: theirs[name]})


def _different(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name in dict.fromkeys((*ours, *theirs)):
        a, b = ours.get(name), theirs.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from _different(a, b, f"{prefix}{name}.")
        elif a != b:
            yield prefix + name, (a, b)


def _explained(mistake: Mistake, variation: Variation, place: Place, count: int) -> Explained:
    found = Explanation(mistake.name, mistake.what, variation.form, place, before=inf, after=0.0, explains=count)
    return found, variation
