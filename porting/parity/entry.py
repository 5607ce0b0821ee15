"""Captures a model through an entry of the user's own, in an interpreter that has no kit.

`tensorflow:npu@/opt/tf/bin/python` names one. The entry is a function in a file, FILE.py:FUNCTION, that
porting.backends.recorder calls there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from porting.backends.names import BackendName
from porting.backends.process import Outcome, call
from porting.backends.protocol import Array
from porting.checkpoint.registry import read
from porting.errors import UsageError
from porting.parity.capture import Manifest, Section
from porting.parity.matching.elements import elements_hash, set_hash
from porting.parity.own import INPUT
from porting.parity.writer import CaptureWriter

SECTIONS: tuple[Section, ...] = ("weights", "gradients")
"""Sections that a name may begin with (`weights/dense.kernel`); all other names are taps of the forward pass."""


def is_entry(model: str) -> bool:
    """Whether a model is given as `FILE.py:FUNCTION`, and not by the name of one that the kit knows."""
    return model.rpartition(":")[0].endswith(".py")


def capture_own(
    backend: str, entry: str, batch: Path | None, *, output: Path, timeout: float, whole: bool, overwrite: bool
) -> Path:
    """`capture_entry` with the arrays of a file, of any format that the kit reads.

    Raises: UsageError without a batch, or for one that holds nothing; FormatError; what `capture_entry` raises.
    """
    if batch is None:
        raise UsageError(f"{entry}: wants a batch (--batch FILE): nothing is known of what the function takes")
    arrays = {name: np.array(one.read()) for name, one in read(batch).items()}
    if not arrays:
        raise UsageError(f"{batch}: holds no array")
    return capture_entry(
        BackendName.parse(backend), entry, arrays, output=output, timeout=timeout, whole=whole, overwrite=overwrite
    )


def capture_entry(
    backend: BackendName,
    entry: str,
    batch: Mapping[str, Array],
    *,
    output: str | Path,
    timeout: float,
    whole: bool = True,
    overwrite: bool = False,
) -> Path:
    """Run `FILE.py:FUNCTION` in the backend's interpreter and write what it returns into the folder `output`.

    batch: arrays by name, which the function is called with; they are the first taps, `input.NAME`, as in
    porting.capture. timeout: seconds. Returns the folder. A crash or a hang makes a capture whose state is `crashed`,
    with the reason and the last line of output: nothing takes that for a pass.
    Raises: UsageError for an interpreter, an entry or an output folder that does not fit.
    """
    if not backend.interpreter:
        raise UsageError(f"backend {backend}: an entry wants the interpreter to run it in named: {backend}@PYTHON")
    output = Path(output).absolute()
    with CaptureWriter(output, _manifest(backend, entry, batch), whole=whole, overwrite=overwrite) as writer:
        for name, array in batch.items():
            writer.add("forward", f"{INPUT}.{name}", np.asarray(array))
        taps, weights = [f"{INPUT}.{name}" for name in batch], []
        with TemporaryDirectory(prefix=f".{output.name}.", suffix=".taps", dir=output.parent) as scratch:
            outcome = _recorded(backend, entry, batch, timeout, Path(scratch))
            if outcome.state == "crashed":
                last = f": {outcome.tail[-1]}" if outcome.tail else ""
                return writer.finish(taps=tuple(taps), state="crashed", reason=outcome.reason + last)
            for section, name, array in _arrays(outcome.result, Path(scratch) / "taps"):
                writer.add(section, name, array)
                taps += [name] if section == "forward" else []
                weights += [elements_hash(array)] if section == "weights" else []
        found = {"weights": set_hash(weights)} if weights else {}
        return writer.finish(taps=tuple(taps), versions=_versions(outcome.result), notes=outcome.notes, **found)


def _manifest(backend: BackendName, entry: str, batch: Mapping[str, Array]) -> Manifest:
    return Manifest(
        model=entry.rpartition("/")[2],
        config={},
        build={"task": "own"},
        backend=str(backend),
        framework=backend.known,
        device=backend.device,
        batch=set_hash([elements_hash(np.asarray(array)) for array in batch.values()]),
    )


def _recorded(backend: BackendName, entry: str, batch: Mapping[str, Array], timeout: float, scratch: Path) -> Outcome:
    np.savez(scratch / "batch.npz", **{name: np.asarray(array) for name, array in batch.items()})
    file, _, function = entry.rpartition(":")
    job = {
        "verb": "record",
        "entry": f"{Path(file).absolute()}:{function}",
        "batch": str(scratch / "batch.npz"),
        "folder": str(scratch / "taps"),
    }
    return call(backend, job, timeout=timeout, folder=scratch / "work")


def _arrays(index: Mapping[str, Any], folder: Path) -> Iterator[tuple[Section, str, Array]]:
    """Section, name and values of each, mapped from the disk one after the other."""
    for tap in index["taps"]:
        section = next((each for each in SECTIONS if tap["name"].startswith(f"{each}/")), None)
        name = tap["name"].removeprefix(f"{section}/")
        yield section or "forward", name, np.load(folder / tap["file"], mmap_mode="r" if tap["shape"] else None)


def _versions(index: Mapping[str, Any]) -> dict[str, str]:
    found = {"python": index["python"], "numpy": index["numpy"]}
    return {**found, index["framework"]: index["version"]} if index["framework"] else found
