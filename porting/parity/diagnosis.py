"""What a diagnosis found. The search is in `porting.parity.diagnose`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

from porting.parity.state import Level

Mode = Literal["", "free", "forced"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the target first differs while all that goes in agrees.

    what: a tap, a parameter, a setting, or a number of a step. floors: how far, in noise floors; infinite for what is
    missing, of another shape, or not finite on one side only. limit: what an honest port may show. reason: in words
    where there is no number.
    """

    level: Level
    what: str
    mode: Mode = ""
    floors: float | None = None
    limit: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A known mistake that takes a deviation away.

    mistake: its name; form: how it was made. before, after: floors at the place without it and with it in the
    reference. explains: how many places it brings within the limit. alike: other mistakes that explain as much: on
    this batch they cannot be told apart. similar: whether only the size of the deviation was matched, place by place,
    as of rounding and random numbers nothing else can be.
    """

    mistake: str
    what: str
    form: str
    place: Place
    before: float
    after: float
    explains: int
    alike: tuple[str, ...] = ()
    similar: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, from the weights up.

    explanations: in the order in which they were found. unexplained: the first place that nothing in the catalogue
    explains. tried: how many changes of the reference were tried. undetectable: mistakes that cannot show on this
    batch. not_judged: levels that could not be, with the reason. wavers: the first tap in which
    two equal runs of the target differ.
    """

    model: str
    task: str
    explanations: tuple[Explanation, ...] = ()
    unexplained: Place | None = None
    tried: int = 0
    undetectable: tuple[str, ...] = ()
    not_judged: tuple[tuple[Level, str], ...] = ()
    wavers: str = ""

    @property
    def agrees(self) -> bool:
        """Whether nothing differs in any level that was judged, and all were."""
        return not (self.explanations or self.unexplained or self.not_judged or self.wavers)

    @property
    def first(self) -> Place | None:
        """The first place that differs."""
        return self.explanations[0].place if self.explanations else self.unexplained

    @property
    def names(self) -> tuple[str, ...]:
        """The mistakes that are named."""
        return tuple(one.mistake for one in self.explanations)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; infinite numbers as text."""
        found: dict[str, Any] = _plain(asdict(self))
        return found | {"agrees": self.agrees}


def diagnosis_of(values: Mapping[str, Any]) -> Diagnosis:
    """From what `to_json` gave."""
    known = {name: value for name, value in values.items() if name != "agrees"}
    known["explanations"] = tuple(_explanation(one) for one in values["explanations"])
    known["unexplained"] = _place(values["unexplained"])
    known["undetectable"] = tuple(values["undetectable"])
    known["not_judged"] = tuple((Level(level), reason) for level, reason in values["not_judged"])
    return Diagnosis(**known)


def _explanation(values: Mapping[str, Any]) -> Explanation:
    numbers = {name: float(values[name]) for name in ("before", "after")}
    place = _place(values["place"])
    return Explanation(**{**values, **numbers, "place": place, "alike": tuple(values["alike"])})


def _place(values: Mapping[str, Any] | None) -> Place | None:
    if values is None:
        return None
    floors = None if values["floors"] is None else float(values["floors"])
    return Place(**{**values, "level": Level(values["level"]), "floors": floors})


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case float() if not isfinite(value):
            return str(value)
        case _:
            return value
