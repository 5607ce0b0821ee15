"""Verbs of parity on a node: what a backend's name stands for there, and captures, in processes of that node's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from porting.backends.found import resolve
from porting.backends.message import encode_error
from porting.backends.names import BackendName
from porting.parity.side import Take, capture_all

if TYPE_CHECKING:
    from porting.backends.worker import Progress

RESOLVE = f"{__name__}:resolve_here"
CAPTURE = f"{__name__}:capture_here"


def resolve_here(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """What `backend` stands for here. Raises: UsageError where it cannot be used."""
    del progress
    found = resolve(BackendName.parse(job["backend"]), require_device=job["require_device"])
    return found.to_json()


def capture_here(job: Mapping[str, Any], progress: Progress) -> list[dict[str, Any] | None]:
    """Make each of `takes`; of each the error that it was refused by, or null. A crash is in its capture."""
    takes = [Take.from_job(one, timeout=job["timeout"], progress=progress) for one in job["takes"]]
    return [encode_error(error) if error else None for error in capture_all(takes)]
