"""`port parity`: the same subject on two backends, and one verdict.

DIR/source, DIR/target        captures; the target's has its taps forced by the source's too
DIR/float64, DIR/reference    for a target of lower precision: the truth, and the source at that precision
DIR/floor.json                the noise floor, measured unless one is given
DIR/comparison.json           the comparison
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from porting.backends.found import Resolved, find, resolve
from porting.backends.names import BackendName
from porting.backends.system import this_machine
from porting.errors import UsageError
from porting.model.recipe import Recipe
from porting.model.spec import Compute
from porting.parity.compare import Comparison, compare
from porting.parity.criteria import precision_of
from porting.parity.floor import Floor
from porting.parity.floor_file import read_floor, write_floor
from porting.parity.measure_floor import REPLICAS, measure_floor
from porting.parity.presets import CALIBRATED
from porting.parity.probe import probe_recipe
from porting.parity.reader import Capture, read_capture
from porting.parity.side import CAPTURED, TIMEOUT, Side
from porting.parity.state import Level
from porting.parity.subject import Subject

Tell = Callable[[str], None]


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
) -> Comparison:
    """Capture both sides, measure the noise floor, compare.

    source, target: backends by name (`torch:cpu`, `npu`). compute: of the target's activations; the source computes in
    float32. recipe: of the training step; None is the probe's. floor: one that was measured before.
    Raises: UsageError for a backend that cannot be used, or a folder that is in use; what `compare` raises. A side that
    crashes is no error: the verdict is CRASHED.
    """
    folder, say = _folder(Path(output), overwrite=overwrite), tell or _silent
    theirs = resolve(BackendName.parse(target), require_device=require_device)
    ours = resolve(BackendName.parse(source))
    learns = recipe or probe_recipe(subject.spec)
    one = Side(ours, subject, mode=mode, recipe=learns, levels=levels, timeout=timeout)
    two = replace(one, resolved=theirs, compute=compute)
    say(f"source on {ours.backend}")
    first = read_capture(one.capture(folder / "source"))
    say(f"target on {theirs.backend}{' (EMULATED)' if theirs.emulated else ''}")
    second = read_capture(two.capture(folder / "target", forced_by=_forcing(first, theirs, folder)))
    found = _compared(one, two, first, second, folder, floor, replicas, criteria, say)
    (folder / "comparison.json").write_text(json.dumps(found.to_json(), indent=1) + "\n", encoding="utf-8")
    return found


def _compared(  # noqa: PLR0913, PLR0917 - a step of the function above
    one: Side,
    two: Side,
    first: Capture,
    second: Capture,
    folder: Path,
    floor: str | Path | None,
    replicas: int,
    criteria: str,
    say: Tell,
) -> Comparison:
    crashed = "crashed" in (first.manifest.state, second.manifest.state)
    exact = _exact()
    precision = precision_of(first.manifest, second.manifest)
    if crashed:
        return compare(first, second, criteria=criteria)
    if precision not in ("float32", "float64"):
        say("the truth in float64, and the source at the target's precision")
        truth = None if exact is None else read_capture(one.at("float64", exact).capture(folder / "float64"))
        reference = read_capture(_at_precision(one, two).capture(folder / "reference"))
        return compare(first, second, truth=truth, reference=reference, criteria=criteria)
    known = read_floor(floor) if floor else _measured(one, folder, replicas, exact, say)
    return compare(first, second, floor=known, criteria=criteria)


def _measured(one: Side, run: Path, replicas: int, exact: Resolved | None, say: Tell) -> Floor:
    """The floor, measured and written. exact: where float64 is computed, None where nothing can."""

    def record(folder: Path, *, replica: int | None = None, compute: Compute | None = None) -> Path:
        say(f"noise floor: {f'replica {replica}' if replica is not None else compute}")
        side = one if compute is None or exact is None else one.at(compute, exact)
        made = side.capture(folder, replica=replica)
        manifest = read_capture(made).manifest
        if manifest.state == "crashed":
            raise UsageError(f"noise floor: {manifest.backend} crashed: {manifest.reason}")
        return made

    found = measure_floor(record, folder=run, source=run / "source", replicas=replicas, float64=exact is not None)
    write_floor(run / "floor.json", found)
    return found


def _exact() -> Resolved | None:
    """Where the model is run in float64: PyTorch on the CPU, if it is installed."""
    name = BackendName.parse("torch:cpu")
    found = find(name, this_machine())
    return None if found.device is None else Resolved(name, device=found.device)


def _at_precision(one: Side, two: Side) -> Side:
    """The source at the target's precision: computed so, or emulated as the target is."""
    if two.resolved.emulated and two.resolved.backend.options:
        return replace(one, resolved=two.resolved)
    return one.at(two.compute)


def _forcing(source: Capture, target: Resolved, folder: Path) -> Path | None:
    """What the target's taps are forced by; a crashed source forces nothing, and onnxruntime cannot be forced."""
    able = source.manifest.state == "whole" and target.backend.known != "onnxruntime"
    return folder / "source" if able else None


def _folder(folder: Path, *, overwrite: bool) -> Path:
    """The folder of a run, empty. Raises: UsageError if something is in it, and it may not be replaced or is no run."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: wanted a folder, got something else")
    inside = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if inside and not inside <= _MADE:
        raise UsageError(f"{folder}: is a folder with other things in it ({min(inside - _MADE)})")
    if inside and not overwrite:
        raise UsageError(f"{folder}: exists already; --overwrite replaces it")
    for name in inside:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


_MADE = {"source", "target", "float64", "reference", "floor.json", "comparison.json"}


def _silent(text: str) -> None:
    del text
