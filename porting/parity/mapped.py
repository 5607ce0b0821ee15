"""Two captures through a mapping: the target in the source's names and axes, so that they compare like any others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from porting.checkpoint.storage import Mapped
from porting.parity.capture import Section, Summary
from porting.parity.mapping import Correspondence, Matched, Pairing, Side
from porting.parity.reader import Capture, Key
from porting.parity.summarise import summarise

_TAPS: tuple[Section, ...] = ("forward", "forced")
"""Sections whose names are those of taps; the names of all others are those of weights."""


def mapped(source: Capture, target: Capture, mapping: Correspondence) -> tuple[Capture, Capture]:
    """Both captures as the mapping pairs them.

    A pair has the source's name in both, and its target lies like its source; a tensor whose axes are permuted is read
    once for that, whole, for its new hash. What is left out with a reason is in neither. What has no partner keeps its
    name in the source and is called `NAME (target)` in the target, so that nothing is compared because two
    frameworks happen to use one word. The target takes the source's model name: that they are one model is what a
    mapping says.
    """
    parts = {"taps": _Names.of(mapping.taps), "weights": _Names.of(mapping.weights)}
    ours = {key: one for key, one in source.summaries.items() if key[1] not in parts[_part(key)].left_out["source"]}
    summaries: dict[Key, Summary] = {}
    stored: dict[Key, Mapped] = {}
    for key, summary in target.summaries.items():
        names = parts[_part(key)]
        if key[1] not in names.left_out["target"]:
            found, place = _renamed(target, key, summary, names)
            summaries[found.section, found.name] = found
            if place is not None:
                stored[found.section, found.name] = place
    theirs = replace(target.manifest, model=source.manifest.model, taps=_taps(summaries))
    return (
        replace(source, summaries=ours, manifest=replace(source.manifest, taps=_taps(ours))),
        replace(target, summaries=summaries, stored=stored, manifest=theirs),
    )


@dataclass(frozen=True, slots=True)
class _Names:
    """One part of a mapping, to be asked by name. pairs: by the target's name."""

    pairs: dict[str, Pairing]
    left_out: dict[Side, set[str]]

    @classmethod
    def of(cls, matched: Matched) -> _Names:
        sides: tuple[Side, Side] = ("source", "target")
        left_out = {side: {one.name for one in matched.left_out if one.side == side} for side in sides}
        return cls({pair.target: pair for pair in matched.pairs}, left_out)


def _part(key: Key) -> str:
    return "taps" if key[0] in _TAPS else "weights"


def _taps(summaries: dict[Key, Summary]) -> tuple[str, ...]:
    return tuple(name for section, name in summaries if section == "forward")


def _renamed(target: Capture, key: Key, summary: Summary, names: _Names) -> tuple[Summary, Mapped | None]:
    """The target's tensor under its name in the comparison, and where its bytes are."""
    pair, place = names.pairs.get(key[1]), target.stored.get(key)
    if pair is None:
        return replace(summary, name=f"{key[1]} (target)"), place
    if not pair.axes:
        return replace(summary, name=pair.source), place
    if place is None:
        return replace(summary, name=f"{key[1]} (target, only summarised: its axes cannot be permuted)"), None
    return _permuted(target, key, replace(summary, name=pair.source), pair.axes)


def _permuted(target: Capture, key: Key, summary: Summary, axes: tuple[int, ...]) -> tuple[Summary, Mapped]:
    """A stored tensor with its axes permuted: another view of the same bytes, with the hash of the permuted ones."""
    array = target.tensor(*key)
    assert array is not None  # noqa: S101 - it is stored
    view = array.transpose(axes)
    found = summarise(
        summary.section, summary.name, np.ascontiguousarray(view), sketch=False, stored=True, out=lambda _: None
    )
    place = target.stored[key]
    return found, Mapped(place.file, place.offset, tuple(view.shape), place.dtype, tuple(view.strides))
