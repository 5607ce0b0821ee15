"""Mistakes of settings: an epsilon, an activation, an input that is fed wrongly. Derived from config and features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from porting.errors import UsageError
from porting.parity.mistakes.mistake import Mistake
from porting.parity.state import Level
from porting.parity.variation import Case, Tensors, Variation, leaves, patched, with_values

if TYPE_CHECKING:
    from porting.backends.protocol import Array

EPSILONS = (1e-12, 1e-7, 1e-5, 1e-6, 1e-3, 1e-8, 1e-4, 1e-9, 1e-10)
"""Of LayerNorm: BERT's, MindSpore's default, PyTorch's, TensorFlow's tf.nn.batch_normalization, Keras's; and others."""

_GELU = ("gelu_tanh", "gelu_erf")
_OTHERS = ("relu", "silu", "tanh", "linear")


def _epsilon(case: Case) -> Iterator[Variation]:
    yield from _values(case, lambda name: "layer_norm_eps" in name, EPSILONS)
    for value in sorted(EPSILONS):
        yield Variation(f"{value:g} added to the deviation", patch=partial(patched, "beside_root", value))


def _variance(case: Case) -> Iterator[Variation]:
    del case
    yield Variation("over one less", patch=partial(patched, "unbiased"))


def _gelu(case: Case) -> Iterator[Variation]:
    yield from _values(case, lambda name: "act" in name, _GELU, of=_GELU)


def _activation(case: Case) -> Iterator[Variation]:
    yield from _values(case, lambda name: "act" in name, _OTHERS, of=(*_GELU, *_OTHERS))
    yield Variation("gelu by a sigmoid", patch=partial(patched, "gelu_by_sigmoid"))
    yield Variation("without tanh", patch=partial(patched, "without_tanh"))


def _values(
    case: Case, named: Callable[[str], bool], values: tuple[Any, ...], of: tuple[Any, ...] = ()
) -> Iterator[Variation]:
    """Other values of the config's fields; those in a config within, and both together.

    of: a field counts only if its value is one of these, if there are any.
    """
    known = {name: value for name, value in leaves(case.config).items() if named(name.rpartition(".")[2])}
    known = {name: value for name, value in known.items() if not of or value in of}
    groups = [[name] for name in known] + ([list(known)] if len(known) > 1 else [])
    for names in groups:
        for value in values:
            changed = {name: value for name in names if known[name] != value}
            if len(changed) == len(names) and _can_be(case.config, changed):
                yield Variation(f"{', '.join(names)}: {value}", config=changed)


def _can_be(config: Any, values: dict[str, Any]) -> bool:
    try:
        with_values(config, values)
    except UsageError:
        return False
    return True


def _token_types(case: Case) -> Iterator[Variation]:
    for name in _named(case, "segment_ids", "seg_id", "token_type_ids"):
        yield Variation(f"{name}: all 0", batch=_of(name, np.zeros_like))
        yield Variation(f"{name}: all 1", batch=_of(name, np.ones_like))
        yield Variation(f"{name}: at most 1", batch=_of(name, partial(np.minimum, 1)))
        for step in (1, -1):
            yield Variation(f"{name}: moved by {step}", batch=_of(name, partial(np.roll, shift=step, axis=-1)))
        yield Variation(f"{name}: 0 for 1 and 1 for 0", batch=_of(name, _inverted))
        for mask in _named(case, "input_mask", "attention_mask"):
            if case.batch[mask].dtype == case.batch[name].dtype:
                yield Variation(f"{name}: {mask} in its place", batch=partial(_in_place, mask, name))
                yield Variation(f"{name} and {mask} swapped", batch=partial(_exchanged, mask, name))


def _mask(case: Case) -> Iterator[Variation]:
    for name in _masks(case):
        yield Variation(f"{name}: not used", batch=partial(_without, (name,)))
        yield Variation(f"{name}: inverted", batch=_of(name, _inverted))
    if len(_masks(case)) > 1:
        yield unmasked(case)


def _masks(case: Case) -> tuple[str, ...]:
    return _named(case, "input_mask", "attention_mask", "perm_mask")


def unmasked(case: Case) -> Variation:
    """The batch without any mask."""
    return Variation("no mask", batch=partial(_without, _masks(case)))


def _labels(case: Case) -> Iterator[Variation]:
    """Labels of tokens moved along the sequence, of examples along the batch; classes counted from another number."""
    features = {feature.name: feature for feature in case.spec.features}
    for name in _named(case, *(name for name in case.batch if _is_label(name))):
        for step in (1, -1):
            yield Variation(f"{name}: moved by {step}", batch=_of(name, partial(np.roll, shift=step, axis=-1)))
        bound = {"labels": case.build.labels, **case.spec.bounds(case.config)}.get(features[name].below)
        if bound:
            for step in (1, -1):
                form = f"{name}: counted from {step}"
                yield Variation(form, batch=_of(name, partial(_counted_from, step, bound)))


def _is_label(name: str) -> bool:
    return "label" in name or name in ("target", "masked_lm_ids", "start_positions", "end_positions")


def _counted_from(step: int, bound: int, labels: Array) -> Array:
    """Those that are counted, not those that a loss ignores."""
    moved: Array = labels.copy()
    moved[labels >= 0] = (labels[labels >= 0] + step) % bound
    return moved


def _named(case: Case, *names: str) -> tuple[str, ...]:
    return tuple(name for name in names if name in case.batch)


def _of(name: str, change: Callable[[Array], Array]) -> Callable[[Tensors], Tensors]:
    return partial(_with, name, change)


def _with(name: str, change: Callable[[Array], Array], batch: Tensors) -> Tensors:
    return {**batch, name: change(batch[name])}


def _without(names: tuple[str, ...], batch: Tensors) -> Tensors:
    return {name: value for name, value in batch.items() if name not in names}


def _in_place(source: str, name: str, batch: Tensors) -> Tensors:
    return {**batch, name: batch[source]}


def _exchanged(one: str, two: str, batch: Tensors) -> Tensors:
    return {**batch, one: batch[two], two: batch[one]}


def _inverted(values: Array) -> Array:
    """0 for all but 0, and 1 for 0."""
    found: Array = (values == 0).astype(values.dtype)
    return found


MISTAKES = (
    Mistake("epsilon", "LayerNorm's epsilon is another.", Level.FORWARD, _epsilon),
    Mistake("variance_unbiased", "LayerNorm's variance is over one less than there are.", Level.FORWARD, _variance),
    Mistake("gelu_form", "The tanh form of gelu stands for the erf form, or the other way.", Level.FORWARD, _gelu),
    Mistake("activation", "The activation is another.", Level.FORWARD, _activation),
    Mistake("token_types_off", "Token types are not used, or not as they are meant.", Level.FORWARD, _token_types),
    Mistake("mask_unused", "A mask is not used, or not as it is meant.", Level.FORWARD, _mask, alike="mask"),
    Mistake("labels_shifted", "Labels are shifted against what they label.", Level.FORWARD, _labels),
)
