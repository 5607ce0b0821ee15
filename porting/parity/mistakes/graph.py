"""Mistakes of the graph: layers left out or in another order, the form of the mask, the scale of the scores.

They are made on forced runs, where each module takes the source's values: by what a module is fed, or by what is made
of its own result. Taps are known by their names, which all models share.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, permutations
from typing import TYPE_CHECKING

import numpy as np

from porting.parity.mistakes.mistake import Mistake
from porting.parity.state import Level
from porting.parity.variation import Case, Seen, Tensors, Variation, head_size, patched

if TYPE_CHECKING:
    from porting.backends.protocol import Array

_OUTPUT = re.compile(r"(?P<scope>.*\.)?layer\.(?P<layer>\d+)\.(?P<stream>\w+\.)?output")
_NOT_STREAMS = ("attention.", "ffn.")

HIDING = 100.0
"""A mask takes more than this from a score."""

MASKS = (-1e4, -1e9, -1e30, -65504.0, float(np.finfo(np.float32).min), float("-inf"))
"""What ports add to or put in the place of hidden scores."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers one after the other: what stands before their taps' names, and the name of the stream."""

    scope: str
    stream: str
    count: int
    first: str

    def output(self, layer: int) -> str:
        """The tap of what a layer gives."""
        return f"{self.scope}layer.{layer}.{self.stream}output"

    def input(self, layer: int) -> str:
        """The tap of what it takes."""
        return self.output(layer - 1) if layer else self.first


def stacks(taps: tuple[str, ...]) -> tuple[Stack, ...]:
    """The stacks of layers that the taps show; a stack whose first input has no tap is none."""
    counts: dict[tuple[str, str], int] = {}
    for tap in taps:
        found = _OUTPUT.fullmatch(tap)
        if found and found["stream"] not in _NOT_STREAMS:
            key = found["scope"] or "", found["stream"] or ""
            counts[key] = max(counts.get(key, 0), int(found["layer"]) + 1)
    made = []
    for (scope, stream), count in counts.items():
        firsts = (f"{scope}{stream}{name}" for name in ("encoder.input", "embeddings"))
        first = next((name for name in firsts if name in taps), "")
        if first and count > 1:
            made.append(Stack(scope, stream, count, first))
    return tuple(made)


def _missing(case: Case) -> Iterator[Variation]:
    known = stacks(case.taps)
    for scope in dict.fromkeys(stack.scope for stack in known):
        own = tuple(stack for stack in known if stack.scope == scope)
        for layer in range(own[0].count):
            yield Variation(
                f"{scope}layer.{layer}",
                given=partial(_passed_by, own, layer),
                outputs=partial(_without_layer, f"{scope}layer.{layer}."),
            )


def _repeated(case: Case) -> Iterator[Variation]:
    """One layer's weights in the place of another's; its taps are those of its second run."""
    known = stacks(case.taps)
    for scope in dict.fromkeys(stack.scope for stack in known):
        own = tuple(stack for stack in known if stack.scope == scope)
        for one, other in permutations(range(own[0].count), 2):
            yield Variation(
                f"{scope}layer.{one} again in the place of {other}",
                given=partial(_again, own, one, other),
                outputs=partial(_without_layer, f"{scope}layer.{other}."),
            )


def _again(own: tuple[Stack, ...], one: int, other: int, given: Tensors) -> Tensors:
    """The second of both runs gives the taps, whichever it is."""
    place = max(one, other)
    fed = {stack.input(one): given[stack.output(one) if place == one + 1 else stack.input(place)] for stack in own}
    fed |= {stack.output(other): given[stack.output(one)] for stack in own}
    return {**given, **fed}


def _passed_by(own: tuple[Stack, ...], layer: int, given: Tensors) -> Tensors:
    return {**given, **{stack.output(layer): given[stack.input(layer)] for stack in own}}


def _without_layer(prefix: str, seen: Seen) -> Tensors:
    return {name: value for name, value in seen.taps.items() if not name.startswith(prefix)}


def _order(case: Case) -> Iterator[Variation]:
    known = stacks(case.taps)
    for scope in dict.fromkeys(stack.scope for stack in known):
        own = tuple(stack for stack in known if stack.scope == scope)
        natural = list(range(own[0].count))
        orders = [("reversed", natural[::-1])]
        orders += [(f"{i} after {i + 1}", [*natural[:i], i + 1, i, *natural[i + 2 :]]) for i in natural[:-1]]
        orders += [("the last first", [*natural[-1:], *natural[:-1]]), ("the first last", [*natural[1:], 0])]
        seen: list[list[int]] = []
        for form, order in orders:
            if order not in seen:
                seen.append(order)
                yield Variation(f"{scope}layers {form}", given=partial(_run_as, own, order))


def _run_as(own: tuple[Stack, ...], order: list[int], given: Tensors) -> Tensors:
    """What each layer takes is what comes before it in this order; what follows takes the last one's."""
    fed: dict[str, Array] = {}
    for stack in own:
        fed |= {stack.input(order[0]): given[stack.first]}
        fed |= {stack.input(layer): given[stack.output(before)] for before, layer in pairwise(order)}
        fed |= {stack.output(stack.count - 1): given[stack.output(order[-1])]}
    return {**given, **fed}


@dataclass(frozen=True, slots=True)
class Scores:
    """Attention scores of one tap: plain ones, whether a mask hides them, what the reference gives."""

    plain: Array
    hidden: Array
    masked: Array
    target: Array


def scores(seen: Seen) -> dict[str, Scores]:
    """Those of every layer."""
    plain = seen.unmasked()
    found = {}
    for name, masked in seen.taps.items():
        other = seen.target.get(name)
        if name.endswith("attention.scores") and other is not None and other.shape == masked.shape:
            with np.errstate(invalid="ignore"):
                hidden = plain[name] - masked > HIDING
            found[name] = Scores(plain[name], hidden, masked, other)
    return found


def _mask_value(case: Case) -> Iterator[Variation]:
    yield from _each(case, [(f"{value:g} added", partial(_added, value)) for value in MASKS])
    yield from _each(case, [("a constant added", _constant_added)])


def _mask_form(case: Case) -> Iterator[Variation]:
    yield from _each(case, [("scores multiplied by the mask", _multiplied)])
    yield from _each(case, [(f"{value:g} in the place of scores", partial(_filled, value)) for value in MASKS])
    yield from _each(case, [("a constant in the place of scores", _constant_filled)])


def _mask_replaces(case: Case) -> Iterator[Variation]:
    """The same numbers forward, where a mask drowns scores; backward they get no gradient."""
    if any(tap.endswith("attention.scores") for tap in case.taps):
        yield Variation("the mask in the place of scores", patch=partial(patched, "masks_filled", HIDING))


def _scale(case: Case) -> Iterator[Variation]:
    head = head_size(case.config)
    if head:
        factors = {"not scaled": head**0.5, "scaled twice": head**-0.5}
        yield from _each(case, [(form, partial(_times, factor)) for form, factor in factors.items()])
    yield from _each(case, [("scaled by another factor", _scaled)])


def _each(case: Case, forms: list[tuple[str, Callable[[Scores], Array]]]) -> Iterator[Variation]:
    if any(tap.endswith("attention.scores") for tap in case.taps):
        for form, change in forms:
            yield Variation(form, outputs=partial(_with_scores, change))


def _with_scores(change: Callable[[Scores], Array], seen: Seen) -> Tensors:
    with np.errstate(invalid="ignore", over="ignore"):
        return {**seen.taps, **{name: change(one) for name, one in scores(seen).items()}}


def _added(value: float, one: Scores) -> Array:
    return np.where(one.hidden, one.plain + np.float32(value), one.plain).astype(np.float32)


def _filled(value: float, one: Scores) -> Array:
    return np.where(one.hidden, np.float32(value), one.plain).astype(np.float32)


def _multiplied(one: Scores) -> Array:
    return np.where(one.hidden, np.float32(0), one.plain)


def _mask_elsewhere(case: Case) -> Iterator[Variation]:
    yield from _each(case, [("of queries, not of keys", _of_queries)])


def _of_queries(one: Scores) -> Array:
    if one.hidden.shape[-1] != one.hidden.shape[-2]:
        return one.masked
    adder = np.float32(_middle(one.masked - one.plain, one.hidden))
    return np.where(one.hidden.swapaxes(-1, -2), one.plain + adder, one.plain)


def _constant_added(one: Scores) -> Array:
    """The constant that the target shows; one that hides nothing is none."""
    value = _middle(one.target - one.plain, one.hidden)
    return _added(value, one) if value < -HIDING else one.masked


def _constant_filled(one: Scores) -> Array:
    return _filled(_middle(one.target, one.hidden), one)


def _middle(values: Array, where: Array) -> float:
    return float(np.median(values[where])) if where.any() else 0.0


def _scaled(one: Scores) -> Array:
    """The factor by least squares, where nothing is hidden."""
    shown, theirs = one.plain[~one.hidden].astype(np.float64), one.target[~one.hidden].astype(np.float64)
    return _times(float(shown @ theirs / (shown @ shown)) if shown.any() else 1.0, one)


def _times(factor: float, one: Scores) -> Array:
    """A mask is added after it."""
    adder = _middle(one.masked - one.plain, one.hidden)
    scaled = one.plain * np.float32(factor)
    return np.where(one.hidden, scaled + np.float32(adder), scaled)


MISTAKES = (
    Mistake("layer_missing", "A layer is left out.", Level.FORWARD, _missing, alike="layers"),
    Mistake("layers_out_of_order", "Layers run out of order.", Level.FORWARD, _order, alike="layers"),
    Mistake("layer_repeated", "A layer runs again in another's place.", Level.FORWARD, _repeated, alike="layers"),
    Mistake("mask_unused", "A mask is not used, or not as it is meant.", Level.FORWARD, _mask_elsewhere, alike="mask"),
    Mistake("mask_value", "What the mask adds to scores is another number.", Level.FORWARD, _mask_value, alike="mask"),
    Mistake(
        "mask_form",
        "Scores are multiplied by the mask, or replaced, not added to.",
        Level.FORWARD,
        _mask_form,
        alike="mask",
    ),
    Mistake(
        "mask_form",
        "Scores are multiplied by the mask, or replaced, not added to.",
        Level.BACKWARD,
        _mask_replaces,
        alike="mask",
    ),
    Mistake("softmax_scale", "Scores are scaled by another factor before the softmax.", Level.FORWARD, _scale),
)
