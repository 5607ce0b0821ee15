"""What three-way judging compares: a target's error and the source's, both against the same model in float64.

At a lower precision no target agrees with a float32 source, and how far an honest one is from it depends on the model.
The question is then whether the target errs more than the source would: err(target, truth) / err(source, truth), the
denominator being at least the error of the source re-run, or emulated, at the target's precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median

from porting.errors import UsageError
from porting.parity.deviation import Deviation
from porting.parity.floor import Recorded
from porting.parity.measure import deviation


@dataclass(frozen=True, slots=True)
class ThreeWay:
    """Errors of one tensor against float64.

    source_error, target_error: deviations from the truth. reference_error: that of the source at the target's
    precision, None without such a run. ratio_l2, ratio_max: the target's relative L2 and largest difference over the
    larger of the other two's; 0 where the target has no error, infinite where only the target has one, or where it is
    not finite where the truth is.
    """

    section: str
    name: str
    source_error: Deviation
    target_error: Deviation
    reference_error: Deviation | None
    ratio_l2: float
    ratio_max: float


@dataclass(frozen=True, slots=True)
class Medians:
    """Over all tensors of a three-way comparison."""

    ratio_l2: float
    ratio_max: float


def three_way(
    truth: Recorded,
    source: Recorded,
    target: Recorded,
    reference: Recorded | None = None,
    *,
    sections: Sequence[str] = ("forward", "gradients"),
) -> tuple[ThreeWay, ...]:
    """The errors of every tensor that all captures have whole, in the order of the truth.

    truth: computed in float64. reference: the source re-run or emulated at the target's precision. A tensor that one of
    them lacks is left out: that it is unmatched is found where source and target are compared.
    Raises: UsageError for a truth not of float64, captures of another batch or other weights, or of summaries only.
    """
    captures = [truth, source, target, *([] if reference is None else [reference])]
    _check(truth, captures)
    shared = [
        key
        for key, summary in truth.summaries.items()
        if key[0] in sections and all(_same_shape(other, key, summary.shape) for other in captures)
    ]
    return tuple(_of_tensor(section, name, captures) for section, name in shared)


def medians(found: Iterable[ThreeWay]) -> Medians:
    """The medians of both ratios. Raises: UsageError for nothing."""
    known = tuple(found)
    if not known:
        raise UsageError("three-way: no tensor is in truth, source and target")
    return Medians(median(one.ratio_l2 for one in known), median(one.ratio_max for one in known))


def _of_tensor(section: str, name: str, captures: Sequence[Recorded]) -> ThreeWay:
    arrays = []
    for capture in captures:
        array = capture.tensor(section, name)
        if array is None:
            raise UsageError(f"three-way: {section}/{name}: wanted whole tensors, got a capture of summaries")
        arrays.append(array)
    source, target, *rest = (deviation(arrays[0], other, measures="core") for other in arrays[1:])
    others = [source, *rest]
    return ThreeWay(
        section,
        name,
        source,
        target,
        rest[0] if rest else None,
        inf if target.unlike else _ratio(target.rel_l2, max(one.rel_l2 for one in others)),
        inf if target.unlike else _ratio(target.max_rel or 0.0, max(one.max_rel or 0.0 for one in others)),
    )


def _ratio(part: float, whole: float) -> float:
    if not part:
        return 0.0
    return part / whole if whole else inf


def _same_shape(capture: Recorded, key: tuple[str, str], shape: tuple[int, ...]) -> bool:
    return key in capture.summaries and capture.summaries[key].shape == shape


def _check(truth: Recorded, captures: Sequence[Recorded]) -> None:
    compute = truth.manifest.build.get("compute")
    if compute != "float64":
        raise UsageError(f"three-way: truth: wanted a capture computed in float64, got {compute}")
    for name in ("weights", "batch"):
        seen = {str(getattr(capture.manifest, name)) for capture in captures}
        if len(seen) > 1:
            raise UsageError(f"three-way: {name}: wanted the same in every capture, got {', '.join(sorted(seen))}")
