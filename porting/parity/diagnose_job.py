"""The verbs of `port diagnose`: `observe` runs one side on its backend, `search` looks for what is wrong.

Both read and write `Observed` as a folder of two files: arrays under the names and axes of the family's first dialect,
which all backends share, and the rest as JSON. A job has

    backend, emulated, subject, mode, compute, recipe    as that of a capture
    given                                                the folder of the source, None for the source itself
    output                                               where `observe` writes
    source, target                                       the folders that `search` reads
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from porting.backends.device import prepare
from porting.backends.names import BackendName
from porting.errors import UsageError
from porting.parity.capture_job import FRAMEWORKS, arithmetic, device_name, recipe_of
from porting.parity.diagnose import diagnose
from porting.parity.naming import Naming, naming_of
from porting.parity.observe import Observed, observe, taps_of, with_parameters
from porting.parity.prepare import batch_of, weights_of
from porting.parity.subject import Subject
from porting.parity.variation import Case

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Session
    from porting.backends.worker import Progress

_ARRAYS, _REST = "arrays.npz", "observed.json"
_SECTIONS = ("weights", "free", "again", "forced", "gradients", "steps")


def run_side(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Observe one side and write it down. Raises: PortError for what the job asks wrongly."""
    backend = BackendName.parse(job["backend"])
    prepare(backend)
    given = read_observed(Path(job["given"])).free if job["given"] else None
    with arithmetic(backend, job["emulated"]):
        case, session, naming = _opened(job, backend)
        progress({"done": "built"})
        seen = observe(session, case, case.weights, given, lambda found: dict(naming.canonical(found)))
    write_observed(seen, Path(job["output"]))
    return {"output": job["output"]}


def search(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Diagnose, and return what was found as JSON values. Raises: PortError."""
    reference = BackendName.parse("torch:cpu")
    prepare(reference)
    with arithmetic(reference, job["emulated"]):
        case, _, naming = _opened(job, reference)
        sides = [read_observed(Path(job[side])) for side in ("source", "target")]
        progress({"done": "read"})
        source, target = (with_parameters(side, lambda found: dict(naming.to_native(found))) for side in sides)
        found = diagnose(case, source, target, detectable=job["detectable"])
    return found.to_json()


def _opened(job: Mapping[str, Any], backend: BackendName) -> tuple[Case, Session, Naming]:
    """The case by this backend's names, and a session for it."""
    subject, framework = Subject.from_json(job["subject"]), FRAMEWORKS[backend.known]
    recipe = recipe_of(job["recipe"])
    build = replace(subject.build(mode=job["mode"], compute=job["compute"]), device=device_name(backend))
    spec, config = subject.spec, subject.configured()
    session: Session = import_module(f"porting.backends.{backend.known}.run").open_session(spec, config, build, recipe)
    naming = naming_of(spec, config, build, framework, session.parameters)
    weights, _ = weights_of(subject, build, naming.shapes)
    batch, native = batch_of(subject, build), dict(naming.to_native(weights))
    session.load(native)
    return Case(spec, config, build, native, batch, taps_of(session, spec, config, batch), recipe), session, naming


def write_observed(seen: Observed, folder: Path) -> None:
    """Write into a folder that is made."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"{section}|{name}": value for section in _SECTIONS for name, value in getattr(seen, section).items()}
    np.savez(folder / _ARRAYS, **arrays)
    rest = {field.name: getattr(seen, field.name) for field in fields(seen) if field.name not in _SECTIONS}
    (folder / _REST).write_text(json.dumps(rest), encoding="utf-8")


def read_observed(folder: Path) -> Observed:
    """Read what `write_observed` wrote. Raises: UsageError if it is not there."""
    if not (folder / _REST).is_file():
        raise UsageError(f"{folder}: holds no observation")
    sections: dict[str, dict[str, Array]] = {section: {} for section in _SECTIONS}
    with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
        for key in arrays.files:
            section, _, name = key.partition("|")
            sections[section][name] = arrays[key]
    rest: dict[str, Any] = json.loads((folder / _REST).read_text(encoding="utf-8"))
    rest["refused"] = tuple(rest["refused"])
    return Observed(**{**rest, **sections})
