"""Training runs on the disk: what `port parity MODEL --steps N` leaves, read as Runs.

DIR/runs/plan.json               what is trained; a folder is only gone on with by the same plan
DIR/runs/source/run              a capture of summaries: the run as it is meant to be
DIR/runs/source/replica-1 …      under function-preserving permutations
DIR/runs/source/seed-1 …         with another order of the data
DIR/runs/source/shadow …         in float32, where the run is not; shadow-1 … its replicas
DIR/runs/source/fallbacks.json   what the framework said of operators that ran on the CPU
DIR/runs/target/…                likewise
DIR/runs/planted/MISTAKE-0 …     the source with a known mistake, and replicas of that
DIR/runs/trajectory.json         the verdicts of L5 and L6
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from porting.acceptance.trajectory import Input, Runs, Series, Trajectory
from porting.checkpoint.shard_index import parse_json
from porting.errors import FormatError
from porting.parity.capture import Manifest
from porting.parity.criteria import precision_of
from porting.parity.layout import MANIFEST, STEPS, hashed
from porting.parity.reader import Capture, read_capture

ORDER, PLANTED = "data order ", "planted: "
"""What notes begin with that say so."""

FALLBACKS = "fallbacks.json"
"""In DIR/runs/source and target: operators that ran on the CPU, as the device's framework said."""

_NO_SERIES = ("step", "batch", "examples", "tokens", "compilations")


def read_runs(folder: str | Path) -> Runs:
    """One side's runs: of DIR/runs/source or DIR/runs/target, or of a capture with steps, which is one run.

    Raises: FormatError for a folder that holds neither, or a capture that is not what was written.
    """
    place = Path(folder)
    if (place / MANIFEST).is_file():
        capture = read_capture(place)
        if not capture.steps and capture.manifest.state == "whole":
            raise FormatError(place, "", "is a capture without training steps")
        return Runs(trajectory_of(capture))
    if not (place / "run").is_dir():
        raise FormatError(place, "", "wanted a capture with training steps, or a folder with `run` in it")
    shadow = place / "shadow"
    return Runs(
        run=trajectory_of(read_capture(place / "run")),
        replicas=_numbered(place, "replica"),
        seeds=_numbered(place, "seed"),
        shadow=trajectory_of(read_capture(shadow)) if shadow.is_dir() else None,
        shadows=_numbered(place, "shadow"),
    )


def read_planted(folder: str | Path) -> Mapping[str, tuple[Trajectory, ...]]:
    """The runs of DIR/runs/planted by mistake; none where there are none. Raises: FormatError likewise.

    folder: DIR, DIR/runs or DIR/runs/planted.
    """
    given = Path(folder)
    place = next((one for one in (given / "runs" / "planted", given / "planted") if one.is_dir()), given)
    if place.name != "planted":
        return {}
    names = dict.fromkeys(path.name.rpartition("-")[0] for path in _folders(place))
    return {name: _numbered(place, name) for name in sorted(names) if name}


def trajectory_of(capture: Capture) -> Trajectory:
    """A capture's steps as a trajectory. A capture without steps has no series."""
    manifest = capture.manifest
    crashed = (manifest.reason or "crashed") if manifest.state == "crashed" else ""
    return Trajectory(
        name="/".join(capture.folder.absolute().parts[-2:]),
        kind="capture",
        inputs=tuple(_inputs(capture.folder)),
        series=_series(capture),
        counts=_counts(capture),
        environment=_environment(manifest, capture.steps[0] if capture.steps else {}),
        batches=tuple(str(row.get("batch", manifest.batch)) for row in capture.steps),
        weights=manifest.weights,
        dropout=_dropout(manifest.build.get("dropout")),
        emulated=manifest.emulated,
        limits=() if capture.steps else ("no training step was captured",),
        notes=tuple(manifest.notes),
        replica=manifest.replica,
        seed=next((int(note.removeprefix(ORDER)) for note in manifest.notes if note.startswith(ORDER)), None),
        crashed=crashed,
    )


def _numbered(folder: Path, name: str) -> tuple[Trajectory, ...]:
    """Captures NAME-1, NAME-2 … in the order of their numbers."""
    found = [path for path in _folders(folder) if re.fullmatch(rf"{re.escape(name)}-\d+", path.name)]
    ordered = sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))
    return tuple(trajectory_of(read_capture(path)) for path in ordered)


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if (path / MANIFEST).is_file())


def _inputs(folder: Path) -> Iterator[Input]:
    for name in (MANIFEST, STEPS):
        data = (folder / name).read_bytes()
        yield Input(str(folder / name), len(data), hashed(data))


def _series(capture: Capture) -> dict[str, Series]:
    """Every number of the steps' lines by name; a step that lacks one is not in its series."""
    names = dict.fromkeys(name for row in capture.steps for name in row if name not in _NO_SERIES)
    found = {}
    for name in names:
        rows = [(int(row["step"]), float(row[name])) for row in capture.steps if name in row]
        steps, values = zip(*rows, strict=True)
        found[name] = Series(np.array(steps, np.int64), np.array(values, np.float64))
    return found


def _counts(capture: Capture) -> dict[str, int]:
    """Overflows, compilations after the first step, operators that fell back to the CPU; only what was counted."""
    compiled = [int(row["compilations"]) for row in capture.steps if "compilations" in row]
    found = {"overflows": sum(bool(row.get("overflow")) for row in capture.steps)}
    if compiled:
        found["recompilations"] = compiled[-1] - compiled[0]
    fallbacks = capture.folder.parent / FALLBACKS
    if fallbacks.is_file():
        found["cpu_fallbacks"] = len(_lines(fallbacks))
    return found


def _lines(path: Path) -> list[str]:
    """Raises: FormatError for a file that is no list of lines."""
    found = parse_json(path.read_bytes(), path, "")
    if not isinstance(found, list) or not all(isinstance(line, str) for line in found):
        raise FormatError(path, "", "wanted a list of lines")
    return found


def _environment(manifest: Manifest, row: Mapping[str, Any]) -> dict[str, str]:
    known = {
        "backend": manifest.backend,
        "framework": manifest.framework,
        "device": manifest.device,
        "precision": precision_of(manifest),
        "mode": str(manifest.build.get("mode", "")),
        "batch_size": str(row.get("examples", "")),
        "tokens": str(row.get("tokens", "")),
    }
    versions = {f"version {name}": version for name, version in manifest.versions.items()}
    switches = {f"switch {name}": value for name, value in manifest.switches.items()}
    return {name: value for name, value in {**known, **versions, **switches}.items() if value}


def _dropout(values: Any) -> str:
    """`off`, `own` or `masks SEED`; empty where the build does not say."""
    if not isinstance(values, Mapping):
        return ""
    mode = str(values.get("mode", ""))
    return f"masks {values.get('seed')}" if mode == "shared" else mode
