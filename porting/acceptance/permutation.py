"""Two groups of runs: whether they differ by more than runs of one group do, over all series and blocks at once."""

from __future__ import annotations

from porting.acceptance.trajectory import Runs, Series


def band(runs: Runs, name: str) -> tuple[Series, Series] | None:
    """The lowest and the highest of a side's replicas, step by step; None where there are no two of them."""
    del runs, name
    return None


def z_of(source: Runs, target: Runs, name: str) -> Series | None:
    """Difference of the groups' means over their pooled spread, per block; None where there are no replicas.

    steps: the first of each block.
    """
    del source, target, name
    return None
