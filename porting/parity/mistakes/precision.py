"""Mistakes of precision and of chance: products in half precision, results that saturate, dropout left on.

Their results are matched by size, place by place, not by value: rounding depends on the order of sums, and dropout on
a generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from porting.model.dropout import Dropout
from porting.parity.mistakes.mistake import Mistake
from porting.parity.state import Level
from porting.parity.variation import Case, Seen, Tensors, Variation

LARGEST = float(np.finfo(np.float16).max)


def _half(case: Case) -> Iterator[Variation]:
    for of in ("all", "attention", "dense"):
        for arithmetic in ("float16 result", "float16 operands", "float16 sums", "bfloat16 result"):
            yield Variation(f"{arithmetic}, {of} products", patch=partial(_patch, "products", of, arithmetic))
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
    if case.spec.sites(case.config, case.build, shapes):
        yield Variation("in an evaluation", build={"dropout": Dropout("own", 1)}, patch=partial(_patch, "training"))


def _patch(name: str, *args: Any) -> AbstractContextManager[Any]:
    """A context of the reference's framework. Imports it."""
    return getattr(import_module("porting.backends.torch.mistakes"), name)(*args)  # type: ignore[no-any-return]


MISTAKES = (
    Mistake("saturation", "Values saturate at float16's largest number.", Level.FORWARD, _saturation, alike="mask"),
    Mistake(
        "float16_accumulation", "Products are made or summed in half precision.", Level.FORWARD, _half, rounding=True
    ),
    Mistake("dropout_on", "Dropout is left on in an evaluation.", Level.FORWARD, _dropout, rounding=True),
)
