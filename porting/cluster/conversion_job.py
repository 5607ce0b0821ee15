"""The verb of a worker of a conversion: makes the driver's plan once more, and fills its share of the places."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porting.checkpoint.parts import Parts
from porting.cluster.conversion import fingerprint, stamps
from porting.convert.asked import Asked, laid_out
from porting.convert.fill import Way, fill_some
from porting.errors import FormatError

if TYPE_CHECKING:
    from porting.backends.worker import Progress

PERIOD = 0.2
"""Seconds between what is told of the progress."""


def fill_part(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Of the share's tensors what they came to; of the source's their hashes; of casts what overflowed.

    Raises: FormatError for files that are not those that the driver saw.
    """
    planned = laid_out(Asked.from_json(job["asked"]))
    if stamps(planned) != job["stamps"] or fingerprint(planned.ready) != job["fingerprint"]:
        raise FormatError(planned.prepared.source.checkpoint.path, "", "is not here what it is for the driver")
    way = Way(job["algorithm"], verify=job["verify"])
    with Parts({int(file): Path(path) for file, path in job["parts"].items()}) as parts:
        filled = fill_some(parts, planned, job["names"], way, _Telling(progress))
    return filled.to_json()


class _Telling:
    """Adds up bytes, and tells now and then how many there are."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = 0
        self._next = 0.0

    def __call__(self, count: int) -> None:
        self._done += count
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PERIOD
            self._progress({"bytes": self._done})
