"""Mistakes that a port of XLNet can have by its graph alone, as changes of PyTorch's port or its config."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from porting.parity.variation import Tensors, Variation
from porting_xlnet.config import SUMMARIES

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_xlnet.config import XLNetConfig


def mistakes(config: XLNetConfig, build: Build) -> dict[str, tuple[Variation, ...]]:
    """By name of the catalogue."""
    own = build.extra.get("summary_type", config.summary_type)
    summaries = [name for name in SUMMARIES if name not in (own, "attn")] if own != "attn" else []
    pooled = build.task in ("classification", "regression")
    pretraining = build.task == "pretraining"
    return {
        "pooler_token": tuple(_summary(build, name) for name in summaries) if pooled else (),
        "relative_shift": _shifts(),
        "positions_shifted": tuple(Variation(f"by {by}", patch=partial(_positions, by)) for by in (1, -1)),
        "segment_matrix_dropped": (Variation("seg_embed of 0", weights=_without_segments),),
        "token_types_off": (Variation("the same segment for another", weights=_other_segment),),
        "decoder_untied": (Variation("its gradient does not reach the table", patch=_untied),) if pretraining else (),
    }


def _summary(build: Build, name: str) -> Variation:
    if "summary_type" in build.extra:
        return Variation(f"summary {name}", build={"extra": {**build.extra, "summary_type": name}})
    return Variation(f"summary {name}", config={"summary_type": name})


def _without_segments(weights: Tensors) -> Tensors:
    return {name: np.zeros_like(value) if name.endswith("seg_embed") else value for name, value in weights.items()}


def _other_segment(weights: Tensors) -> Tensors:
    """Which row of seg_embed stands for the same segment, which for another, swapped."""
    return {name: value[::-1] if name.endswith("seg_embed") else value for name, value in weights.items()}


SHIFTS = {
    "one column too far": lambda qlen: qlen + 1,
    "one column too few": lambda qlen: qlen - 1,
    "the last row dropped, not the first": lambda qlen: 0,  # noqa: ARG005 - a function of it as the others
}
"""From which element on the scores, row after row, are read."""


def _shifts() -> tuple[Variation, ...]:
    read = tuple(
        Variation(form, patch=partial(_shifting, partial(_read_from, start))) for form, start in SHIFTS.items()
    )
    moved = tuple(Variation(f"by {by}", patch=partial(_shifting, partial(_moved, by))) for by in (1, -1))
    return (*read, *moved, Variation("not shifted", patch=partial(_shifting, _unshifted)))


@contextmanager
def _shifting(change: Callable[[Callable[..., Any], Any, int], Any]) -> Iterator[None]:
    """change: takes the right function and its arguments."""
    from porting_xlnet import torch_layers

    original = torch_layers.relative_shift
    torch_layers.relative_shift = partial(change, original)
    try:
        yield
    finally:
        torch_layers.relative_shift = original


def _read_from(start: Callable[[int], int], _: Callable[..., Any], score: Any, klen: int) -> Any:
    """Row i from column qlen - i on, all columns too far or too few by as much; zeros beyond the end."""
    from torch.nn import functional

    batch, heads, qlen, positions = score.shape
    flat = functional.pad(score.flatten(2), (0, qlen))
    read = flat[:, :, start(qlen) :][:, :, : qlen * (positions - 1)]
    return read.reshape(batch, heads, qlen, positions - 1)[..., :klen]


def _moved(by: int, original: Callable[..., Any], score: Any, klen: int) -> Any:
    """Columns moved before the right shift; zeros beyond the first and the last."""
    from torch.nn import functional

    padded = functional.pad(score, (max(-by, 0), max(by, 0)))
    return original(padded[..., by:] if by > 0 else padded[..., :by], klen)


def _unshifted(_: Callable[..., Any], score: Any, klen: int) -> Any:
    return score[..., :klen]


class _Unheard:
    """A run that keeps no tap and drops nothing."""

    @staticmethod
    def drops(site: str, rate: float) -> bool:
        del site, rate
        return False

    @staticmethod
    def tap(name: str, value: Any) -> Any:
        del name
        return value


@contextmanager
def _positions(by: int) -> Iterator[None]:
    """Distances one greater or less: sines and cosines turned by the angle of one step."""
    import torch

    from porting_xlnet.torch_transformer import Transformer

    original = Transformer._positions  # noqa: SLF001 - of the port that this package is

    def positions(self: Transformer, inputs: Any, run: Any) -> Any:
        table = original(self, inputs, cast("Any", _Unheard()))
        sine, cosine = table.tensor_split(2, -1)
        step = by * self.frequencies
        if self.config.bi_data:  # the second half of the batch counts the other way
            half = table.shape[0] // 2
            step = torch.stack([step] * half + [-step] * half)[:, None]
        turned = sine * step.cos() + cosine * step.sin(), cosine * step.cos() - sine * step.sin()
        return run.tap("positions", torch.cat(turned, -1))

    Transformer._positions = positions  # type: ignore[method-assign] # noqa: SLF001 - likewise
    try:
        yield
    finally:
        Transformer._positions = original  # type: ignore[method-assign] # noqa: SLF001 - likewise


@contextmanager
def _untied() -> Iterator[None]:
    """The softmax's weight is a copy of the table, which the loss does not train."""
    from porting_xlnet.torch_heads import Pretraining

    original = Pretraining.head

    def head(self: Pretraining, sequence: Any, batch: Any, run: Any) -> Any:
        table = SimpleNamespace(weight=self.transformer.word_embedding.weight.detach())
        vars(self)["transformer"] = SimpleNamespace(word_embedding=table)  # before the module of that name
        try:
            return original(self, sequence, batch, run)
        finally:
            del vars(self)["transformer"]

    Pretraining.head = head  # type: ignore[method-assign]
    try:
        yield
    finally:
        Pretraining.head = original  # type: ignore[method-assign]
