"""Mistakes of precision and of chance: products in half precision, results that saturate, dropout left on.

Rounding is matched by size, place by place, not by value, as it depends on the order of sums; chance by its place, for
two runs of the target differ there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from porting.model.dropout import Dropout
from porting.parity.mistakes.mistake import Mistake
from porting.parity.state import Level
from porting.parity.variation import Case, Seen, Tensors, Variation, head_size, leaves, patched

LARGEST = float(np.finfo(np.float16).max)


def _half(case: Case) -> Iterator[Variation]:
    size = head_size(case.config)
    seq = next((value.shape[1] for value in case.batch.values() if value.ndim > 1), 0)
    for of in ("all", "attention", "dense", *(("score", "position", "context") if size else ())):
        for arithmetic in ("float16 result", "float16 operands", "float16 sums", "bfloat16 result"):
            patch = partial(patched, "products", of, arithmetic, size, seq)
            yield Variation(f"{arithmetic}, {of} products", patch=patch)
    for name in ("softmax", "layer_norm"):
        for dtype in ("float16", "bfloat16"):
            yield Variation(f"{name} in {dtype}", patch=partial(patched, "function_in_half", name, dtype))
    for compute in ("float16", "bfloat16"):
        if case.build.compute != compute:
            yield Variation(f"compute {compute}", build={"compute": compute})


def _saturation(case: Case) -> Iterator[Variation]:
    del case
    yield Variation(f"values beyond {LARGEST:g} are {LARGEST:g}", outputs=_saturated)


def _saturated(seen: Seen) -> Tensors:
    return {
        name: np.clip(value, -LARGEST, LARGEST) if value.dtype.kind == "f" else value
        for name, value in seen.taps.items()
    }


def _dropout(case: Case) -> Iterator[Variation]:
    shapes = {name: value.shape for name, value in case.batch.items()}
    if not case.spec.sites(case.config, case.build, shapes):
        return
    rates = {name for name, value in leaves(case.config).items() if "drop" in name and isinstance(value, float)}
    attention = {name for name in rates if "att" in name}
    kinds = {"everywhere": set(), "but for attention": attention, "of attention": rates - attention}
    for form, off in kinds.items():
        if off != rates and (off or form == "everywhere"):
            changed = dict.fromkeys(off, 0.0)
            on = partial(patched, "training")
            yield Variation(form, config=changed, build={"dropout": Dropout("own", 1)}, patch=on)


MISTAKES = (
    Mistake("saturation", "Values saturate at float16's largest number.", Level.FORWARD, _saturation, alike="mask"),
    Mistake(
        "float16_accumulation", "Products are made or summed in half precision.", Level.FORWARD, _half, rounding=True
    ),
    Mistake("dropout_on", "Dropout is left on in an evaluation.", Level.FORWARD, _dropout, rounding=True, chance=True),
)
