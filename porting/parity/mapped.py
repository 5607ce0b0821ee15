"""Two captures through a mapping: the target in the source's names and axes, so that they compare like any others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from porting.checkpoint.storage import Mapped
from porting.errors import MismatchError
from porting.parity.capture import Section, Summary
from porting.parity.mapping import PARTS, SIDES, Correspondence, Matched, Pairing, Side
from porting.parity.reader import Capture, Key
from porting.parity.summarise import summarise

_TAPS: tuple[Section, ...] = ("forward", "forced")
"""Sections whose names are those of taps; the names of all others are those of weights."""


def mapped(source: Capture, target: Capture, mapping: Correspondence) -> tuple[Capture, Capture]:
    """Both captures as the mapping pairs them.

    A pair has the source's name in both, and its target lies like its source; a tensor whose axes are permuted is read
    once for that, whole, for its new hash. What is left out with a reason is in neither. What has no partner keeps its
    name in the source and is called `NAME (target)` in the target, so that nothing is compared because two frameworks
    happen to use one word. Either side's notes say what was left out or is open, and why. The target takes the source's
    model name: that they are one model is what a mapping says.
    """
    parts = {"taps": _Names.of(mapping.taps), "weights": _Names.of(mapping.weights)}
    _check(source, target, parts)
    ours, theirs = _Side({}, {}), _Side({}, {})
    for key, summary in source.summaries.items():
        names = parts[_part(key)]
        if key[1] not in names.left_out["source"]:
            ours.take(*_split(source, key, summary, names))
    for key, summary in target.summaries.items():
        names = parts[_part(key)]
        if key[1] not in names.left_out["target"]:
            theirs.take(*_renamed(target, key, summary, names))
    model = source.manifest.model
    return ours.of(source, model, _notes(mapping, "source")), theirs.of(target, model, _notes(mapping, "target"))


@dataclass(frozen=True, slots=True)
class _Side:
    """The tensors of one side of the comparison."""

    summaries: dict[Key, Summary]
    stored: dict[Key, Mapped]

    def take(self, summary: Summary, place: Mapped | None) -> None:
        """Add a tensor, and where its bytes are."""
        self.summaries[summary.section, summary.name] = summary
        if place is not None:
            self.stored[summary.section, summary.name] = place

    def of(self, capture: Capture, model: str, notes: tuple[str, ...]) -> Capture:
        """The capture that has these tensors."""
        taps = tuple(name for section, name in self.summaries if section == "forward")
        manifest = replace(capture.manifest, taps=taps, model=model, notes=(*capture.manifest.notes, *notes))
        return replace(capture, summaries=self.summaries, stored=self.stored, manifest=manifest)


@dataclass(frozen=True, slots=True)
class _Names:
    """One part of a mapping, to be asked by name. pairs: by the target's name; splits: by the source's."""

    pairs: dict[str, Pairing]
    splits: dict[str, Pairing]
    left_out: dict[Side, set[str]]

    @classmethod
    def of(cls, matched: Matched) -> _Names:
        left_out = {side: {one.name for one in matched.left_out if one.side == side} for side in SIDES}
        splits = {pair.source: pair for pair in matched.pairs if pair.split}
        return cls({pair.target: pair for pair in matched.pairs}, splits, left_out)


def _notes(mapping: Correspondence, side: Side) -> tuple[str, ...]:
    """A line per tensor of a side that the mapping keeps out of the comparison; ambiguous ones with the source."""
    found = [one for part in PARTS for one in mapping.part(part).left_out if one.side == side]
    open_ = [one for part in PARTS for one in mapping.part(part).ambiguous if side == "source"]
    return (
        *(f"left out: {one.name}: {one.reason}" for one in found),
        *(f"open in the mapping: {one.source} = {' or '.join(one.targets)}: {one.reason}" for one in open_),
    )


def _part(key: Key) -> str:
    return "taps" if key[0] in _TAPS else "weights"


def _check(source: Capture, target: Capture, parts: Mapping[str, _Names]) -> None:
    """Raises: MismatchError listing the pairs whose target cannot lie like its source by these axes."""
    problems = []
    for key, summary in target.summaries.items():
        pair = parts[_part(key)].pairs.get(key[1])
        mine = pair and source.summaries.get((key[0], pair.source))
        if not pair or not mine or not pair.axes:
            continue
        laid = _laid(pair, summary.shape)
        if laid != mine.shape and not (pair.split and laid and prod(laid) == prod(mine.shape)):
            by = f"split {list(pair.split)}, axes {list(pair.axes)}" if pair.split else f"axes {list(pair.axes)}"
            problems.append(
                f"{key[0]}: {pair.target} {summary.shape} does not become {pair.source} {mine.shape} by {by}"
            )
    if problems:
        raise MismatchError("the mapping's axes do not fit the captures", problems)


def _laid(pair: Pairing, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of a pair's target in the comparison; None if split or axes do not fit it."""
    split = pair.split or shape
    if prod(split) != prod(shape) or len(pair.axes) != len(split):
        return None
    return tuple(split[axis] for axis in pair.axes)


def _split(source: Capture, key: Key, summary: Summary, names: _Names) -> tuple[Summary, Mapped | None]:
    """The source's tensor: the same bytes, with its axes split where its partner's are."""
    pair, place = names.splits.get(key[1]), source.stored.get(key)
    if pair is None or place is None:
        return summary, place
    shape = tuple(pair.split[axis] for axis in pair.axes)
    return replace(summary, shape=shape), place._replace(shape=shape)


def _renamed(target: Capture, key: Key, summary: Summary, names: _Names) -> tuple[Summary, Mapped | None]:
    """The target's tensor under its name in the comparison, and where its bytes are."""
    pair, place = names.pairs.get(key[1]), target.stored.get(key)
    if pair is None:
        return replace(summary, name=f"{key[1]} (target)"), place
    if not pair.axes:
        return replace(summary, name=pair.source), place
    if place is None:
        return replace(summary, name=f"{key[1]} (target, only summarised: its axes cannot be permuted)"), None
    return _permuted(target, key, replace(summary, name=pair.source), pair)


def _permuted(target: Capture, key: Key, summary: Summary, pair: Pairing) -> tuple[Summary, Mapped]:
    """A stored tensor with its axes permuted: another view of the same bytes, with the hash of the permuted ones."""
    array = target.tensor(*key)
    assert array is not None  # noqa: S101 - it is stored
    view = (array.reshape(pair.split) if pair.split else array).transpose(pair.axes)
    found = summarise(
        summary.section, summary.name, np.ascontiguousarray(view), sketch=False, stored=True, out=lambda _: None
    )
    place = target.stored[key]
    return found, Mapped(place.file, place.offset, tuple(view.shape), place.dtype, tuple(view.strides))
