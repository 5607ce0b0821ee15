"""Facts about a pair of tensors. No threshold and no judgement here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deviation:
    """What one streamed pass over a source tensor and a target tensor of one shape found.

    All are over the elements that are finite on both sides; `elements` counts all.

    max_abs: max |t - s|. max_rel: max_abs / max |s| (the tensor's scale, PARITY's max/scale).
    rel_l2: ||t - s|| / ||s||, inf where s is zero and t is not, 0 where both are. l2: ||t - s||.
    cosine: shown, never the judge; nan where a norm is 0, or 1e6 times the other. norm_ratio: ||t|| / ||s||.
    mean_rel, p95_rel: mean and 95th percentile of |t - s| / max |s|. p95 is of each seventh element where there are
    more than 262,144, as is mean_ulp, and comes from a histogram with 64 bins between powers of two: its bin's upper
    end, at most 1.6 % too high.
    mean_ulp, max_ulp: distance in units of the last place of the stored dtype; None for unequal dtypes.
    nan, inf: (source, target) counts. unlike: elements that are not finite on one side or on both, and not the same
    there. worst: index of max_abs, and both values there.
    kl_mean, kl_p95: KL(softmax(s) || softmax(t)) over rows of the last axis; None but for logits.
    bitwise: whether the bytes are equal. estimated: whether these are estimates from sketches, not from elements;
    measures that a sketch cannot give are None then.
    """

    elements: int
    rel_l2: float
    norm_ratio: float
    l2: float = 0.0
    max_abs: float | None = None
    max_rel: float | None = None
    cosine: float | None = None
    mean_rel: float | None = None
    p95_rel: float | None = None
    mean_ulp: float | None = None
    max_ulp: int | None = None
    nan: tuple[int, int] = (0, 0)
    inf: tuple[int, int] = (0, 0)
    unlike: int = 0
    worst: tuple[tuple[int, ...], float, float] | None = None
    kl_mean: float | None = None
    kl_p95: float | None = None
    bitwise: bool = False
    estimated: bool = False

    @property
    def finite(self) -> bool:
        """Whether neither side has a NaN or an infinity."""
        return not any((*self.nan, *self.inf))
