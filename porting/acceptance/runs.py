"""Training runs on the disk: what `port parity MODEL --steps N` leaves, read as Runs.

DIR/runs/plan.json               what is trained; a folder is only gone on with by the same plan
DIR/runs/source/run              a capture of summaries: the run as it is meant to be
DIR/runs/source/replica-1 …      under function-preserving permutations
DIR/runs/source/seed-1 …         with another order of the data
DIR/runs/source/shadow …         in float32, where the run is not; shadow-1 … its replicas
DIR/runs/target/…                likewise
DIR/runs/planted/MISTAKE-0 …     the source with a known mistake
DIR/runs/trajectory.json         the verdicts of L5 and L6
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from porting.acceptance.trajectory import Runs, Trajectory
from porting.errors import FormatError
from porting.parity.reader import Capture


def read_runs(folder: str | Path) -> Runs:
    """One side's runs: of DIR/runs/source or DIR/runs/target, or of a capture with steps, which is one run.

    Raises: FormatError for a folder that holds neither, or a capture that is not what was written.
    """
    raise FormatError(Path(folder), "", "holds no training run")


def read_planted(folder: str | Path) -> Mapping[str, tuple[Trajectory, ...]]:
    """The runs of DIR/runs/planted by mistake; none where there are none. Raises: FormatError likewise."""
    del folder
    return {}


def trajectory_of(capture: Capture) -> Trajectory:
    """A capture's steps as a trajectory. A capture without steps has no series."""
    raise FormatError(capture.folder, "", "holds no training run")
