"""Measures a floor: has the source recorded, its replicas and the same model in float64, one after the other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from porting.errors import UsageError
from porting.model.spec import Compute
from porting.parity.floor import Floor, floor_of
from porting.parity.reader import Capture, read_capture

REPLICAS = 3
"""Enough that a fourth stays within the factors that judge, on every tap and gradient of the tiny models."""


class Record(Protocol):
    """Makes a capture of whole tensors in a folder that is not there yet."""

    def __call__(self, folder: Path, *, replica: int | None = None, compute: Compute | None = None) -> Path:
        """replica: the seed of a permutation, undone again. compute: None for that of the source."""
        ...


def measure_floor(
    record: Record, *, folder: Path, source: Path | None = None, replicas: int = REPLICAS, float64: bool = True
) -> Floor:
    """The floor of what `record` records.

    folder: where captures are made while they are needed: the source's and one other at a time. source: a capture of
    whole tensors that is there already. float64: whether the source's framework can (PyTorch).
    Raises: UsageError for no replicas, and what `floor_of` and `record` raise.
    """
    if replicas < 1:
        raise UsageError(f"floor: replicas: wanted 1 or more, got {replicas}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="floor-", dir=folder) as room:
        place = Path(room)
        own = read_capture(record(place / "source") if source is None else source)
        truth = read_capture(record(place / "float64", compute="float64")) if float64 else None
        return floor_of(own, _replicas(record, place, replicas), truth)


def _replicas(record: Record, place: Path, count: int) -> Iterator[Capture]:
    for seed in range(1, count + 1):
        made = record(place / f"replica-{seed}", replica=seed)
        yield read_capture(made)
        shutil.rmtree(made)
