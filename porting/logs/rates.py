"""Times per step, from times between lines."""

from __future__ import annotations

import numpy as np

from porting.acceptance.trajectory import Numbers
from porting.logs.dialect import NEAR


def between(steps: Numbers) -> Numbers:
    """How many steps lie between each line and the last one before it with a smaller step: float64, NaN for none.

    Lines of several ranks stand between the lines of one, hence not simply the line before.

    >>> between(np.array([0.0, 100.0, 100.0, 200.0]))
    array([ nan, 100., 100., 100.])
    """
    span = np.full(steps.size, np.nan)
    for lag in range(1, min(NEAR, steps.size - 1) + 1):
        gap = steps[lag:] - steps[:-lag]
        open_ = np.isnan(span[lag:]) & (gap > 0)
        span[lag:][open_] = gap[open_]
        if not np.isnan(span[1:]).any():
            break
    return span
