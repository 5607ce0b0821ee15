"""Mistakes that a port of XLNet can have by its graph alone, as changes of PyTorch's port or its config."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from porting.parity.variation import Tensors, Variation, patched
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
        "pooler_token": (*(_summary(build, name) for name in summaries), *_tokens()) if pooled else (),
        "relative_shift": _shifts(),
        "positions_shifted": (
            *(Variation(f"by {by}", patch=partial(_positions, by)) for by in (1, -1, 2, -2)),
            Variation("counted the other way", patch=partial(_positions, 0, -1)),
            Variation("cosines before sines", patch=partial(_arranged, _swapped)),
            Variation("sines and cosines in turn", patch=partial(_arranged, _in_turn)),
        ),
        "mask_unused": tuple(Variation(form, patch=partial(_masking, order)) for form, order in MASKS.items()),
        "segment_matrix_dropped": (Variation("seg_embed of 0", weights=_without_segments),),
        "token_types_off": (Variation("the same segment for another", weights=_other_segment),),
        "decoder_untied": _ties(config) if pretraining else (),
    }


def _ties(config: XLNetConfig) -> tuple[Variation, ...]:
    lookups = partial(patched, "lookups_detached", config.n_token)
    return (
        Variation("its gradient does not reach the table", patch=_untied),
        Variation("the gradient of lookups does not reach the table", patch=lookups),
    )


def _summary(build: Build, name: str) -> Variation:
    if "summary_type" in build.extra:
        return Variation(f"summary {name}", build={"extra": {**build.extra, "summary_type": name}})
    return Variation(f"summary {name}", config={"summary_type": name})


def _without_segments(weights: Tensors) -> Tensors:
    return {name: np.zeros_like(value) if name.endswith("seg_embed") else value for name, value in weights.items()}


def _other_segment(weights: Tensors) -> Tensors:
    """Which row of seg_embed stands for the same segment, which for another, swapped."""
    return {name: value[::-1] if name.endswith("seg_embed") else value for name, value in weights.items()}


MASKS = {"the query stream sees itself": (0, 0), "the content stream does not see itself": (1, 1), "swapped": (1, 0)}
"""Which of the masks of the content and the query stream stands for either."""


@contextmanager
def _masking(order: tuple[int, int]) -> Iterator[None]:
    from porting_xlnet.torch_transformer import Transformer

    original = Transformer._masks  # noqa: SLF001 - of the port that this package is

    def masks(self: Transformer, inputs: Any) -> Any:
        made = original(self, inputs)
        return made[order[0]], made[order[1]]

    Transformer._masks = masks  # type: ignore[method-assign] # noqa: SLF001 - likewise
    try:
        yield
    finally:
        Transformer._masks = original  # type: ignore[method-assign] # noqa: SLF001 - likewise


def _tokens() -> tuple[Variation, ...]:
    return tuple(Variation(f"moved by {by}", patch=partial(_summing, by)) for by in (1, -1))


@contextmanager
def _summing(by: int) -> Iterator[None]:
    """The summary of tokens moved along the sequence: the last is the last but one, or the first."""
    from porting_xlnet.torch_heads import Summary

    original = Summary.forward

    def forward(self: Summary, sequence: Any, padding: Any, run: Any) -> Any:
        return original(self, sequence.roll(by, 1), padding, run)

    Summary.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        Summary.forward = original  # type: ignore[method-assign]


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
    moved = tuple(Variation(f"by {by}", patch=partial(_shifting, partial(_moved, by))) for by in (1, -1, 2, -2))
    rolled = tuple(Variation(f"rolled by {by}", patch=partial(_shifting, partial(_rolled, by))) for by in (1, -1))
    return (*read, *moved, *rolled, Variation("not shifted", patch=partial(_shifting, _unshifted)))


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


def _rolled(by: int, original: Callable[..., Any], score: Any, klen: int) -> Any:
    """Columns moved after it, the last to the front."""
    return original(score, klen).roll(by, -1)


def _unshifted(_: Callable[..., Any], score: Any, klen: int) -> Any:
    return score[..., :klen]


def _swapped(sine: Any, cosine: Any) -> Any:
    import torch

    return torch.cat((cosine, sine), -1)


def _in_turn(sine: Any, cosine: Any) -> Any:
    import torch

    return torch.stack((sine, cosine), -1).flatten(-2)


@contextmanager
def _arranged(order: Callable[[Any, Any], Any]) -> Iterator[None]:
    """Sines and cosines of the table of positions in another order."""
    from porting_xlnet.torch_transformer import Transformer

    original = Transformer._positions  # noqa: SLF001 - of the port that this package is

    def positions(self: Transformer, inputs: Any, run: Any) -> Any:
        table = original(self, inputs, cast("Any", _Unheard()))
        return run.tap("positions", order(*table.tensor_split(2, -1)))

    Transformer._positions = positions  # type: ignore[method-assign] # noqa: SLF001 - likewise
    try:
        yield
    finally:
        Transformer._positions = original  # type: ignore[method-assign] # noqa: SLF001 - likewise


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
def _positions(by: int, sign: int = 1) -> Iterator[None]:
    """Distances one greater or less: sines and cosines turned by the angle of one step. sign: -1 counts backward."""
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
        sine = sign * sine
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
            vars(self).pop("transformer", None)

    Pretraining.head = head  # type: ignore[method-assign]
    try:
        yield
    finally:
        Pretraining.head = original  # type: ignore[method-assign]
