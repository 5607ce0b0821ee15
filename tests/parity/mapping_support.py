"""Captures made of plain arrays, and what two captures are found to be through a mapping."""

from __future__ import annotations

from porting.parity.capture import Manifest
from porting.parity.compare import compare
from porting.parity.floor import floor_of
from porting.parity.mapped import mapped
from porting.parity.measure import deviation
from porting.parity.reader import read_capture
from porting.parity.writer import CaptureWriter

MANIFEST = Manifest(model="net", config={}, build={"task": "own"}, backend="torch:cpu", framework="torch", device="cpu")


def made(folder, taps=None, weights=None, *, whole=True, **sections):
    """A capture with these arrays by name. sections: gradients and others."""
    parts = {"weights": weights or {}, "forward": taps or {}, **sections}
    with CaptureWriter(folder, MANIFEST, whole=whole) as writer:
        for section, arrays in parts.items():
            for name, array in arrays.items():
                writer.add(section, name, array)
        return read_capture(writer.finish(taps=tuple(taps or ())))


def pairs(matched):
    """Source to (target, axes)."""
    return {pair.source: (pair.target, pair.axes) for pair in matched.pairs}


def judged(source, target, mapping, truth):
    """A comparison whose floor is the source's distance from float64."""
    return compare(source, target, floor=floor_of(source, [], truth), mapping=mapping)


def apart(source, target, mapping):
    """Relative distance of every tensor that both have, by (section, name), in the source's order."""
    a, b = mapped(source, target, mapping)
    both = [key for key in a.summaries if key in b.summaries]
    return {key: deviation(a.tensor(*key), b.tensor(*key), measures="core").rel_l2 for key in both}


def first_apart(source, target, mapping, section="forward", limit=1e-5):
    """The first tap that is further apart than float32 arithmetic in another order of sums brings about."""
    found = apart(source, target, mapping)
    return next((name for (part, name), off in found.items() if part == section and off > limit), None)
