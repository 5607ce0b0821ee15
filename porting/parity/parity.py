"""`port parity`: the same subject on two backends, and one verdict.

DIR/source, DIR/target        captures; the target's has its taps forced by the source's too
DIR/float64                   the source in float64: the truth
DIR/reference                 for a target of lower precision: the source at that precision, unless that is the target
DIR/floor.json                the noise floor, measured unless one is given or the precision is lower

One process on the source's backend and one on the target's make all of it.
DIR/comparison.json           the comparison
DIR/runs                      of `--steps`: porting.acceptance.runs
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

from porting.backends.found import Resolved, usable
from porting.backends.names import BackendName
from porting.checkpoint.output import remove_stale_parts, write_json
from porting.errors import PortError, UsageError
from porting.model.recipe import Recipe
from porting.model.spec import Compute
from porting.parity.compare import Comparison, compare
from porting.parity.criteria import precision_of
from porting.parity.floor import Floor
from porting.parity.floor_file import read_floor
from porting.parity.measure_floor import REPLICAS
from porting.parity.origin import Origin, asked_of, first_error, floor_in, forcing, lower, reference_side
from porting.parity.presets import CALIBRATED
from porting.parity.probe import probe_recipe
from porting.parity.reader import read_capture
from porting.parity.side import CAPTURED, TIMEOUT, Side, Take, capture_all
from porting.parity.state import Level
from porting.parity.subject import Subject
from porting.terminal import unsaid

Tell = Callable[[str], None]

COMPARISON = "comparison.json"
"""In the folder of a run."""


class Captures(Protocol):
    """Where captures are made."""

    def resolve(self, name: str, *, require_device: bool = False) -> Resolved:
        """What a backend's name stands for there. Raises: UsageError for one that cannot be used."""
        ...

    def make(self, takes: Sequence[Take]) -> list[PortError | None]:
        """As porting.parity.side.capture_all."""
        ...


class Here:
    """In processes of this machine."""

    def resolve(self, name: str, *, require_device: bool = False) -> Resolved:
        """What a name stands for; a CPU is not tried first, for the capture itself tries it."""
        return usable(BackendName.parse(name), require_device=require_device)

    def make(self, takes: Sequence[Take]) -> list[PortError | None]:
        """Those of one backend in one process."""
        return capture_all(takes)


def parity(  # noqa: PLR0913 - one keyword per choice
    subject: Subject,
    source: str,
    target: str,
    *,
    output: str | Path,
    compute: Compute = "float32",
    mode: Literal["eager", "graph"] = "eager",
    recipe: Recipe | None = None,
    levels: Sequence[Level] = CAPTURED,
    criteria: str = CALIBRATED,
    floor: str | Path | None = None,
    replicas: int = REPLICAS,
    require_device: bool = False,
    timeout: float = TIMEOUT,
    overwrite: bool = False,
    tell: Tell | None = None,
    captures: Captures | None = None,
) -> Comparison:
    """Capture both sides, measure the noise floor, compare.

    source, target: backends by name (`torch:cpu`, `npu`). compute: of the target's activations; the source computes in
    float32. recipe: of the training step; None is the probe's. floor: one that was measured before. captures: where
    they are made; None for processes of this machine.
    Raises: UsageError for a backend that cannot be used, or a folder that is in use; what `compare` raises. A side that
    crashes is no error: the verdict is CRASHED.
    """
    folder, say = _folder(Path(output), overwrite=overwrite), tell or unsaid
    made = captures or Here()
    theirs = made.resolve(target, require_device=require_device)
    ours = made.resolve(source)
    learns = (recipe or probe_recipe(subject.spec)) if Level.STEP in levels else None
    one = Side(ours, subject, mode=mode, recipe=learns, levels=levels, timeout=timeout)
    two = replace(one, resolved=theirs, compute=compute)
    origin = Origin(one, folder, 0 if floor or lower(two) else replicas)
    say(f"source on {ours.backend}, {_beside(origin)}")
    _make(made, origin.takes())
    say(f"target on {theirs.backend}{' (EMULATED)' if theirs.emulated else ''}")
    _make(made, target_takes(one, two, origin.folder, folder))
    known = read_floor(floor) if floor else None
    origin = replace(origin, replicas=replicas)
    found = judged(origin, two, folder, floor=known, criteria=criteria, tell=say, captures=made)
    write_json(folder / COMPARISON, found.to_json())
    return found


def target_takes(one: Side, two: Side, source: Path, folder: Path) -> list[Take]:
    """What is captured of a target, its taps forced by what is in `source`; the reference of a lower precision too.

    An emulated target that is the source's port under emulation is its own reference.
    """
    found, again = [Take(two, folder / "target", forced_by=forcing(source / "source", two))], reference_side(one, two)
    return [*found, Take(again, folder / "reference")] if lower(two) and again != two else found


def judged(
    origin: Origin,
    two: Side,
    folder: Path,
    *,
    floor: Floor | None = None,
    criteria: str = CALIBRATED,
    tell: Tell | None = None,
    captures: Captures | None = None,
) -> Comparison:
    """Compare what was captured, in folders as `parity` makes them; what is missing to judge by is captured now.

    Raises: what `compare` raises; UsageError for a floor that cannot be measured.
    """
    say, second = tell or unsaid, read_capture(folder / "target")
    first = asked_of(read_capture(origin.source), two)
    if "crashed" in (first.manifest.state, second.manifest.state):
        return compare(first, second, criteria=criteria)
    if precision_of(first.manifest, second.manifest) not in ("float32", "float64"):
        again = reference_side(origin.side, two)
        reference = folder / ("target" if again == two else "reference")
        if not reference.is_dir():  # a device that turned out to compute so
            say("the source at the target's precision")
            _make(captures or Here(), [Take(again, reference)])
        truth = read_capture(origin.float64) if origin.float64.is_dir() else None
        return compare(first, second, truth=truth, reference=read_capture(reference), criteria=criteria)
    known = floor or floor_in(origin.folder)
    if known is None:
        say("noise floor")
        _make(captures or Here(), [take for take in origin.replica_takes() if not take.folder.is_dir()])
        known = origin.measured()
    return compare(first, second, floor=known, criteria=criteria)


def _beside(origin: Origin) -> str:
    return f"in float64, and {origin.replicas} replicas" if origin.replicas else "and in float64"


def _make(captures: Captures, takes: list[Take]) -> None:
    """Capture. Raises: the first PortError of what is asked wrongly."""
    error = first_error(captures.make(takes))
    if error is not None:
        raise error


def _folder(folder: Path, *, overwrite: bool) -> Path:
    """The folder of a run, empty. Raises: UsageError if something is in it, and it may not be replaced or is no run."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: wanted a folder, got something else")
    remove_stale_parts(folder, [COMPARISON])
    inside = {path.name for path in folder.iterdir()} - {"runs"} if folder.is_dir() else set()
    others = {name for name in inside - _MADE if not name.startswith("replica-")}
    if others:
        raise UsageError(f"{folder}: is a folder with other things in it ({min(others)})")
    if inside and not overwrite:
        raise UsageError(f"{folder}: exists already; --overwrite replaces it")
    for name in inside:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


_MADE = {"source", "target", "float64", "reference", "floor.json", COMPARISON}
