"""A diagnosis for people."""

from __future__ import annotations

from math import isfinite

from porting.parity.diagnosis import Diagnosis, Explanation, Place
from porting.parity.state import Level

_WHERE = {
    Level.WEIGHTS: "weights",
    Level.SETTINGS: "settings",
    Level.FORWARD: "forward",
    Level.BACKWARD: "gradients",
    Level.STEP: "training step",
}


def diagnosis_lines(found: Diagnosis) -> list[str]:
    """What a terminal shows: the first place, what explains it, what is left open."""
    lines = [f"{found.model}, {found.task}"]
    for number, one in enumerate(found.explanations, 1):
        lines += _explained(number, one)
    if found.unexplained is not None:
        lines += ["", f"{_at(found.unexplained)}", f"  not explained by any of {found.tried} changes that were tried"]
    elif found.agrees:
        lines.append("nothing differs: settings, weights, every module, gradients and steps agree")
    if found.wavers:
        lines += ["", f"two equal runs of the target differ, from {found.wavers} on"]
    lines += [f"{level} not judged: {reason}" for level, reason in found.not_judged]
    if found.undetectable:
        lines += ["", f"not detectable on this batch: {', '.join(found.undetectable)}"]
    return lines


def _explained(number: int, one: Explanation) -> list[str]:
    lines = ["", f"{number}. {one.mistake}: {one.what}", f"   {one.form}", f"   {_at(one.place)}"]
    if one.similar:
        lines.append(f"   its deviations have the size of the target's, in {one.explains} places")
    elif isfinite(one.before) or one.after:
        lines.append(
            f"   {_floors(one.before)} apart without it, {_floors(one.after)} with it;"
            f" it explains {one.explains} {'place' if one.explains == 1 else 'places'}"
        )
    if one.alike:
        lines.append(f"   cannot be told from: {', '.join(one.alike)}")
    return lines


def _at(place: Place) -> str:
    forced = ", fed with the source's values" if place.mode == "forced" else ""
    far = "" if place.floors is None or place.limit is None else f": {_floors(place.floors)}, limit {place.limit:g}"
    reason = f" ({place.reason})" if place.reason else ""
    return f"first differs in {_WHERE[place.level]} at {place.what}{forced}{far}{reason}"


def _floors(floors: float) -> str:
    return f"{floors:,.3g} floors" if isfinite(floors) else "beyond measure"
