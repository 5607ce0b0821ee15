"""Judges deviations. Every threshold says where it comes from.

float32 against float32: a factor times the floor of the very tensor. PARITY's rule for an honest port is that it errs
against float64 at most 3 times as much as the source in relative L2, and 5 times in the largest element. The floor
is at least the source's own error, so source and target are at most 1 + 3 = 4, and 1 + 5 = 6 floors apart. (Honest
float32 ports showed 1.48 against float64; one was 8.8e-7 from its source where the floor was 7e-7.)

Lower precision: the target's error against float64 over that of the source, run at the target's precision: at most
3 and 5 for each tensor, 1.5 in the median of a section.

Without a floor: CONDITIONAL at best, by a multiple of the precision's epsilon.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, prod
from statistics import median

from porting.parity.capture import Manifest, Summary
from porting.parity.deviation import Deviation
from porting.parity.deviations import Compared
from porting.parity.floor import Floor
from porting.parity.measure import ratio
from porting.parity.state import Finding, Level, State
from porting.parity.truth import ThreeWay

ERRS_L2, ERRS_MAX, ERRS_MEDIAN = 3.0, 5.0, 1.5
"""How much more than the source a target may err against float64 (see above)."""

APART_L2, APART_MAX = 1 + ERRS_L2, 1 + ERRS_MAX
"""Floors that source and target may be apart."""

HONEST = 8.8e-7 / 2**-23
"""Relative L2 of an honest float32 port from its source, in epsilons (see above): 7.4."""

EPSILONS = {"float64": 2**-52, "float32": 2**-23, "hf32": 2**-11, "float16": 2**-10, "bfloat16": 2**-7}

NEAR_ZERO = 1e-3
"""Without a floor, a gradient or a moment whose root mean square is this much below the median of its section is
judged against the section: the gradient of a key's bias is zero but for rounding, and relative to itself only noise."""

FEW = 16
"""A tensor of fewer elements may have, by luck, replicas that hardly differ: its floor is at least the median of its
section. The norm of 16 independent errors varies by 18 % (1 / sqrt(2 x 16)), which is far from the factor."""

ADDED_UP = ("gradients", "step.m", "step.v")
"""Sections whose vectors (of biases and gains) are plain sums over all tokens. Every replica adds as its framework
does, and frameworks differ: of 60 numbers PyTorch, in pairs, was 6e-8 off float64, MindSpore, in a row, 3.2e-7. So
their floor, too, is at least the median of their section."""

L2, MAX = "relative L2", "max/scale"


@dataclass(frozen=True, slots=True)
class Limit:
    """A measure held against its threshold. value: None where it could not be measured."""

    measure: str
    value: float | None
    limit: float
    source: str

    @property
    def excess(self) -> float:
        """Value over limit; infinite for what is no number."""
        if self.value is None:
            return 0.0
        share = self.value / self.limit if self.limit else (inf if self.value else 0.0)
        return inf if share != share else share  # noqa: PLR0124 - only NaN is unlike itself


@dataclass(frozen=True, slots=True)
class Criterion:
    """What deviations are held against.

    floor: None without one that fits; missing: why there is none then. precision: the coarsest of both sides.
    three_way: errors against float64 by section and name, where a run in float64 was given. typical: median root mean
    square and largest element of the source's tensors, by section.
    """

    floor: Floor | None = None
    missing: str = "no floor was measured"
    precision: str = "float32"
    three_way: Mapping[tuple[str, str], ThreeWay] = field(default_factory=dict)
    typical: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def judge(self, compared: Compared) -> Finding:
        """The state of one pair."""
        pair, found = compared.pair, compared.deviation
        if found is None:
            one_sided = pair.source is None or pair.target is None or pair.source.shape != pair.target.shape
            return self._finding(compared, State.UNMATCHED if one_sided else State.NOT_RUN, compared.reason)
        if pair.level is Level.WEIGHTS:
            return self._bits(compared, found)
        problem = _not_finite(found)
        if problem:
            return self._finding(compared, *problem)
        if found.bitwise:
            return self._finding(compared, State.PASS)
        if not _floating(pair.source):
            return self._bits(compared, found)
        return self._limits(compared, found)

    def medians(self, findings: Iterable[Compared]) -> Iterator[Finding]:
        """In lower precision, the median over each level's tensors."""
        ratios: dict[Level, list[float]] = {}
        for compared in findings:
            ways = self._ways(compared)
            if ways is not None and compared.deviation is not None:
                ratios.setdefault(compared.pair.level, []).append(ways.ratio_l2)
        for level, found in ratios.items():
            value = median(found)
            state = State.PASS if value <= ERRS_MEDIAN else State.FAIL
            reason = "" if state is State.PASS else "it errs more than the source at its precision, all over"
            what, source = f"median of {len(found)}", "three-way: at most 1.5 in the median"
            yield Finding(level, what, state, reason, "free", "error / source's", value, ERRS_MEDIAN, source)

    def _bits(self, compared: Compared, found: Deviation) -> Finding:
        """For weights and whole numbers, which must be the same to the bit."""
        a, b = compared.pair.source, compared.pair.target
        assert a is not None  # noqa: S101 - judged pairs have both sides
        assert b is not None  # noqa: S101 - likewise
        if found.bitwise:
            return self._finding(compared, State.PASS)
        limit = Limit(L2, found.rel_l2, 0.0, "the same bits")
        if a.dtype != b.dtype and found.l2 == 0 and not found.unlike and not found.estimated:
            return self._finding(compared, State.CONDITIONAL, f"equal values, as {a.dtype} and {b.dtype}", limit)
        return self._finding(compared, State.FAIL, "not the same bits", limit)

    def _limits(self, compared: Compared, found: Deviation) -> Finding:
        limits, reason = self._three_way(compared, found) or self._by_floor(compared, found), ""
        if limits is None:
            limits = self._by_epsilon(compared, found)
            reason = self.missing or "its floor was not measured"
        worst = max(limits, key=lambda limit: limit.excess)
        if not worst.excess <= 1:
            return self._finding(compared, State.FAIL, _beyond(worst), worst)
        if found.estimated:
            only = "only summarised: its largest element was not judged"
            reason = f"{reason}; {only}" if reason else only
        return self._finding(compared, State.CONDITIONAL if reason else State.PASS, reason, worst)

    def _ways(self, compared: Compared) -> ThreeWay | None:
        """Errors against float64, where those of the source at this precision are known."""
        section = "forward" if compared.pair.section == "forced" else compared.pair.section
        found = self.three_way.get((section, compared.pair.name))
        return found if found is not None and found.reference_error is not None else None

    def _three_way(self, compared: Compared, found: Deviation) -> list[Limit] | None:
        ways = self._ways(compared)
        if ways is None:
            return None
        if compared.pair.section == "forced":
            reference = ways.reference_error
            assert reference is not None  # noqa: S101 - seen to in _ways
            origin = "error of the source at this precision"
            return [
                _times(L2, found.rel_l2, reference.rel_l2, APART_L2, origin),
                _times(MAX, found.max_rel, reference.max_rel or 0.0, APART_MAX, origin),
            ]
        return [
            Limit("error / source's, L2", ways.ratio_l2, ERRS_L2, "three-way: at most 3 in L2"),
            Limit("error / source's, max", ways.ratio_max, ERRS_MAX, "three-way: at most 5 in max"),
        ]

    def _by_floor(self, compared: Compared, found: Deviation) -> list[Limit] | None:
        if self.floor is None:
            return None
        section = "forward" if compared.pair.section == "forced" else compared.pair.section
        entry = self.floor.entries.get((section, compared.pair.name))
        if entry is None:
            return None
        floors = entry.rel_l2, entry.max_rel
        origin = entry.origin if entry.against == "tensor" else f"{entry.origin}, of its section"
        why = _too_little(compared, found)
        if why:
            middle = section_floor(self.floor, section)
            if middle[0] > floors[0]:
                floors, origin = middle, f"median of its section: {why}"
        # Absolute, so that it holds for the change of a weight too: its floor is that of the weight after the step.
        largest = None if found.max_abs is None else found.max_abs / entry.scale
        return [
            _times(L2, found.l2 / entry.norm, floors[0], APART_L2, origin),
            _times(MAX, largest, floors[1], APART_MAX, origin),
        ]

    def _by_epsilon(self, compared: Compared, found: Deviation) -> list[Limit]:
        epsilon, source = EPSILONS[self.precision], compared.pair.source
        assert source is not None  # noqa: S101 - judged pairs have both sides
        values, of = (found.rel_l2, found.max_rel), ""
        rms, largest = self.typical.get(compared.pair.section, (0.0, 0.0))
        size = prod(source.shape) ** 0.5
        if compared.pair.section == "step.weights":  # of which the change was measured
            change = None if found.max_abs is None else ratio(found.max_abs, source.largest)
            values = ratio(found.l2, source.l2), change
            of = ", of the weight"
        elif compared.pair.level in (Level.BACKWARD, Level.STEP) and source.l2 < NEAR_ZERO * rms * size:
            values = found.l2 / (rms * size), None if found.max_abs is None else found.max_abs / largest
            of = ", of its section"
        floor, origin = HONEST * epsilon, f"{HONEST:.1f} epsilons of {self.precision}{of}"
        return [_times(L2, values[0], floor, APART_L2, origin), _times(MAX, values[1], floor, APART_MAX, origin)]

    @staticmethod
    def _finding(compared: Compared, state: State, reason: str = "", limit: Limit | None = None) -> Finding:
        pair = compared.pair
        if limit is None:
            return Finding(pair.level, _what(compared), state, reason, pair.mode)
        return Finding(
            pair.level,
            _what(compared),
            state,
            reason,
            pair.mode,
            limit.measure,
            limit.value,
            limit.limit,
            limit.source,
        )


def section_floor(floor: Floor, section: str) -> tuple[float, float]:
    """The median floor of a section in relative L2 and max/scale; 0 for one that has none."""
    known = [entry for (part, _), entry in floor.entries.items() if part == section]
    if not known:
        return 0.0, 0.0
    return median(entry.rel_l2 for entry in known), median(entry.max_rel for entry in known)


def _too_little(compared: Compared, found: Deviation) -> str:
    """Why a tensor's own floor may be too small; empty if it is not."""
    if found.elements < FEW:
        return "it has few elements"
    source = compared.pair.source
    if source is not None and len(source.shape) == 1 and compared.pair.section in ADDED_UP:
        return "it is a sum over tokens"
    return ""


def _what(compared: Compared) -> str:
    """The name, with its section where a level has several."""
    section, name = compared.pair.section, compared.pair.name
    return f"{section}/{name}" if compared.pair.level is Level.STEP else name


def _times(measure: str, value: float | None, floor: float, factor: float, origin: str) -> Limit:
    return Limit(measure, value, factor * floor, f"{factor:g} x {floor:.2g} ({origin})")


def _beyond(limit: Limit) -> str:
    return f"{limit.measure} {limit.value:.3g}, limit {limit.limit:.3g} = {limit.source}"


def _not_finite(found: Deviation) -> tuple[State, str] | None:
    """What is wrong with values that are no numbers."""
    facts = [
        f"{counts[1]} {name} (target), {counts[0]} {name} (source)"
        for name, counts in (("NaN", found.nan), ("inf", found.inf))
        if any(counts)
    ]
    if found.unlike or found.nan[0] != found.nan[1] or found.inf[0] != found.inf[1]:
        return State.FAIL, ", ".join(facts) or "not finite in different places"
    if any(found.nan):
        return State.CONDITIONAL, ", ".join(facts) + ": in the same places, and nothing can be said of them"
    if any(found.inf) and found.estimated:
        return State.CONDITIONAL, ", ".join(facts) + ": whether in the same places was not recorded"
    return None


def _floating(summary: Summary | None) -> bool:
    return summary is not None and "float" in summary.dtype


def precision_of(*manifests: Manifest) -> str:
    """The coarsest precision that any of the runs computed in, or emulated."""
    words = [word for one in manifests for word in (str(one.build.get("compute", "")), *one.emulated.split())]
    return max(
        (word.lower() for word in words if word.lower() in EPSILONS), key=EPSILONS.__getitem__, default="float32"
    )


def typical(summaries: Iterable[Summary]) -> dict[str, tuple[float, float]]:
    """Median root mean square and largest element of the tensors of each section, those of zeros left out."""
    sizes: dict[str, list[tuple[float, float]]] = {}
    for one in summaries:
        if one.l2:
            sizes.setdefault(one.section, []).append((one.l2 / prod(one.shape) ** 0.5, one.largest))
    return {section: (median(a for a, _ in found), median(b for _, b in found)) for section, found in sizes.items()}
