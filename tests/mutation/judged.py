"""What parity and diagnosis make of a plant: the comparison's verdict, and the name that is given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from planted import planted
from sides import Source


@dataclass(frozen=True)
class Judged:
    """state, level: of the comparison and of its first difference. diagnosis: what was found, whether it was named."""

    state: str
    level: str
    diagnosis: object
    named: bool


@lru_cache(maxsize=4)
def source_of(subject, folder):
    """What plants of a subject are judged by, made once."""
    return Source(subject, folder)


def judged(plant, folder):
    """Both verdicts on a plant."""
    source = source_of(plant.subject, folder)
    with planted(plant, folder) as net:
        state, level = _compared(source, net(), plant.framework)
        diagnosis = source.diagnosed(net())
    return Judged(state, level, diagnosis, named(plant, diagnosis))


def _compared(source, net, framework):
    """State and level of the comparison; a port that does not run is CRASHED, as in a process of its own."""
    try:
        found = source.compared(net, framework)
    except RuntimeError:
        return "CRASHED", "L2"
    return str(found.overall.state), "" if found.first is None else str(found.first.level)


def named(plant, diagnosis):
    """Whether the first mistake that is named is the plant's, or one that does the same."""
    if not diagnosis.explanations:
        return False
    first = diagnosis.explanations[0]
    return first.mistake in plant.accepted or bool({*plant.accepted} & {*first.alike})
