"""Mistakes of training: the loss's factor, the optimizer, clipping, the schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from porting.backends import training
from porting.model import update
from porting.model.schedule import learning_rate
from porting.parity.mistakes.mistake import Mistake
from porting.parity.state import Level
from porting.parity.variation import Case, Seen, Tensors, Variation

if TYPE_CHECKING:
    from porting.model.recipe import Recipe, Schedule


def _loss_sum(case: Case) -> Iterator[Variation]:
    """By every number that a mean may have divided by: of examples, tokens, labels, classes, and their products."""
    if "loss" not in case.taps:
        return
    parts = [tap for tap in case.taps if tap.endswith("loss") and tap not in ("loss", "per_example_loss")]
    for count in counts(case):
        for form, factor in ((f"x {count}", float(count)), (f"/ {count}", 1 / count)):
            yield Variation(f"loss {form}", loss=factor)
            for tap in parts:
                yield Variation(f"{tap} {form}", outputs=partial(_times, tap, factor))
    for tap in (*parts, "loss"):
        yield Variation(f"{tap} by other counts", outputs=partial(_recounted, tap))


def _times(tap: str, factor: float, seen: Seen) -> Tensors:
    if tap not in seen.taps:
        return seen.taps
    return {**seen.taps, tap: seen.taps[tap] * np.float32(factor)}


def _recounted(tap: str, seen: Seen) -> Tensors:
    """By the factor that the target shows, if it is a ratio of two numbers of things in this model."""
    ours, theirs = (float(np.asarray(taps.get(tap, 0.0)).sum()) for taps in (seen.taps, seen.target))
    if not ours or not theirs:
        return seen.taps
    shapes = {tensor.shape for tensor in seen.taps.values()}
    known = {1, *counts(seen.case), *(prod(shape[a:b]) for shape in shapes for a in range(3) for b in range(a + 1, 6))}
    numbers = np.array(sorted(known), np.float64)
    ratios = (numbers[:, None] / numbers).ravel()
    factor = float(ratios[np.abs(ratios * ours / theirs - 1).argmin()])
    return {**seen.taps, tap: seen.taps[tap] * np.float32(factor)}


def counts(case: Case) -> list[int]:
    """Numbers above 1 that a loss may be a mean over."""
    found: set[int] = {2, case.build.labels}
    for name, value in case.batch.items():
        found |= {prod(value.shape[:end]) for end in range(1, value.ndim + 1)}
        if "label" in name or name.endswith(("_ids", "target")):
            found.add(int((value >= 0).sum()))
        if name.endswith(("_weights", "target_mask")):
            found.add(int(value.sum()))
    found |= {count * case.build.labels for count in found}
    return sorted(count for count in found if count > 1)


def _slopes(case: Case) -> Iterator[Variation]:
    scale = case.recipe.loss_scale.scale if case.recipe else 1.0
    for form, factor in (("/ loss scale", 1 / scale), ("x loss scale", scale)):
        if scale != 1:
            yield Variation(f"gradients {form}", slope=factor)
    if scale != 1:
        yield Variation("1 / loss scale, squared", patch=_unscaled_twice)


@contextmanager
def _unscaled_twice() -> Iterator[None]:
    original = training.Training.step

    def step(self: Any, differentiate: Any, finite: Any, change: Callable[..., Any]) -> Any:
        return original(self, differentiate, finite, lambda grads, now, unscale: change(grads, now, unscale * unscale))

    training.Training.step = step  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        training.Training.step = original  # type: ignore[method-assign]


def _sum_of_gradients(case: Case) -> Iterator[Variation]:
    for count in counts(case):
        for form, factor in ((f"x {count}", float(count)), (f"/ {count}", 1 / count)):
            yield Variation(f"gradients {form}", slope=factor)


def _bias_correction(case: Case) -> Iterator[Variation]:
    yield from _recipes(case, "bias_correction", lambda r: {"bias_correction": not r.bias_correction})
    if case.recipe is not None:
        for form in ("first", "second"):
            yield Variation(f"of the {form} moment only", recipe=_correcting, patch=partial(_half_corrected, form))
        for by in (1, -1):
            form = f"as of the {'next' if by > 0 else 'last'} update"
            yield Variation(form, recipe=_correcting, patch=partial(_corrected_as_of, by))


def _correcting(recipe: Recipe) -> Recipe:
    return replace(recipe, bias_correction=True)


def _corrected_as_of(by: int) -> AbstractContextManager[None]:
    def rates(recipe: Recipe, step: int) -> update.Rates:
        return replace(update.rates(recipe, max(step + by, 0)), lr=learning_rate(recipe.schedule, step))

    return _with_rates(rates)


def _half_corrected(form: str) -> AbstractContextManager[None]:
    def rates(recipe: Recipe, step: int) -> update.Rates:
        made, root = update.rates(recipe, step), (1 - recipe.beta2 ** (step + 1)) ** 0.5
        if form == "second":
            return replace(made, factor=root)
        return replace(made, factor=made.factor / root, epsilon=recipe.epsilon)

    return _with_rates(rates)


@contextmanager
def _with_rates(rates: Callable[[Recipe, int], update.Rates]) -> Iterator[None]:
    vars(training)["rates"] = rates
    try:
        yield
    finally:
        vars(training)["rates"] = update.rates


def _decay(case: Case) -> Iterator[Variation]:
    yield from _recipes(case, "all parameters decayed", lambda _: {"excludes": (), "includes": ()})
    if case.recipe and case.recipe.weight_decay:
        for kept in dict.fromkeys(case.recipe.excludes):
            rest = tuple(part for part in case.recipe.excludes if part != kept)
            yield from _recipes(case, f"{kept} decayed", partial(_excluding, rest))


def _excluding(parts: tuple[str, ...], _: Recipe) -> dict[str, Any]:
    return {"excludes": parts}


def _no_decay(case: Case) -> Iterator[Variation]:
    yield from _recipes(case, "weight decay 0", lambda _: {"weight_decay": 0.0})


def _clip(case: Case) -> Iterator[Variation]:
    for kind in ("per_tensor", "global_norm"):
        yield from _recipes(case, f"clip {kind}", partial(_clipped, kind))


def _no_clip(case: Case) -> Iterator[Variation]:
    yield from _recipes(case, "no clipping", partial(_clipped, "none"))


def _clipped(kind: Any, recipe: Recipe) -> dict[str, Any]:
    return {"clip": replace(recipe.clip, kind=kind)}


def _betas(case: Case) -> Iterator[Variation]:
    for value in (0.95, 0.98, 0.99, 0.999):
        yield from _recipes(case, f"beta2 {value}", partial(_with, beta2=value))
    for value in (1e-8, 1e-7, 1e-6):
        yield from _recipes(case, f"Adam's epsilon {value:g}", partial(_with, epsilon=value))


def _with(_: Recipe, **values: Any) -> dict[str, Any]:
    return values


def _recipes(case: Case, form: str, values: Callable[[Recipe], dict[str, Any]]) -> Iterator[Variation]:
    recipe = case.recipe
    if recipe is not None and replace(recipe, **values(recipe)) != recipe:
        yield Variation(form, recipe=lambda one: replace(one, **values(one)))


def _warmup(case: Case) -> Iterator[Variation]:
    schedule = case.recipe.schedule if case.recipe else None
    if schedule and schedule.kind != "constant":
        for form, by in (("one step ahead", 1), ("one step behind", -1), ("two ahead", 2), ("two behind", -2)):
            yield Variation(form, patch=partial(_rates_moved, by))
        for steps in {schedule.warmup + 1, schedule.warmup - 1, 0} - {schedule.warmup, -1}:
            form = f"a warm-up of {steps:g} steps for {schedule.warmup:g}"
            yield Variation(form, recipe=partial(_warming, steps))


def _warming(steps: float, recipe: Recipe) -> Recipe:
    return replace(recipe, schedule=replace(recipe.schedule, warmup=steps))


@contextmanager
def _rates_moved(steps: int) -> Iterator[None]:
    def moved(schedule: Schedule, step: int) -> float:
        return learning_rate(schedule, max(step + steps, 0))

    vars(update)["learning_rate"] = moved
    try:
        yield
    finally:
        vars(update)["learning_rate"] = learning_rate


MISTAKES = (
    Mistake("loss_sum", "The loss is a sum, not a mean, or a mean over other things.", Level.FORWARD, _loss_sum),
    Mistake("loss_scale_twice", "Gradients are divided by the loss scale twice, or not.", Level.BACKWARD, _slopes),
    Mistake("gradients_scaled", "Gradients are those of a sum, not of a mean.", Level.BACKWARD, _sum_of_gradients),
    Mistake("bias_correction", "Adam's moments are corrected, or not.", Level.STEP, _bias_correction),
    Mistake("decay_on_all", "LayerNorm and biases are decayed too.", Level.STEP, _decay),
    Mistake("no_decay", "Weights are not decayed.", Level.STEP, _no_decay),
    Mistake("clip_per_tensor", "Each gradient is clipped for itself, not by the norm of all.", Level.STEP, _clip),
    Mistake("no_clip", "Gradients are not clipped.", Level.STEP, _no_clip),
    Mistake("adam_constants", "Adam's beta or epsilon is another.", Level.STEP, _betas),
    Mistake("warmup_shifted", "The learning rate is that of the next or the last step.", Level.STEP, _warmup),
)
