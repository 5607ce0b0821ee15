"""The verb `capture`: in a worker process, builds a subject's session on its backend and records it.

The job travels as JSON:

    backend, emulated     as porting.backends.found resolved them
    subject               porting.parity.subject.Subject
    mode, compute         of Build
    recipe                porting.model.recipe.Recipe as values, or null
    levels, steps, whole  of porting.parity.record
    replica               a seed, or null
    forced_by             the folder of a capture of whole taps, or null
    output, overwrite     where the capture goes

The verb `captures` does several such jobs of one backend, one after the other: importing a framework takes seconds. A
job among them with the verb `train` is one of porting.acceptance.train_job.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import cache
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porting.backends.device import Device, prepare
from porting.backends.message import encode_error
from porting.backends.names import BackendName
from porting.errors import PortError
from porting.model.recipe import Clip, LossScale, Recipe, Schedule
from porting.model.spec import Framework
from porting.parity.capture import Manifest
from porting.parity.naming import Naming, naming_of
from porting.parity.prepare import batch_of, canonical_dialect, content_hash, weights_of
from porting.parity.reader import Capture, read_capture
from porting.parity.record import Net, record, taps_of
from porting.parity.replica import Replica, replica_of
from porting.parity.state import Level
from porting.parity.subject import Subject
from porting.parity.writer import CaptureWriter

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Build, Session
    from porting.backends.worker import Progress

FRAMEWORKS: Mapping[str, Framework] = {
    "torch": "pytorch",
    "tensorflow": "tensorflow",
    "mindspore": "mindspore",
    "onnxruntime": "pytorch",
}
"""Whose names a backend's sessions give their parameters."""


def capture(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Record, and say where. Raises: PortError for what the job asks wrongly."""
    subject, backend = Subject.from_json(job["subject"]), BackendName.parse(job["backend"])
    device = prepare(backend)
    recipe = recipe_of(job["recipe"])
    build = replace(subject.build(mode=job["mode"], compute=job["compute"]), device=device_name(backend))
    with arithmetic(backend, job["emulated"]):
        net, manifest = opened(subject, build, backend, device, recipe, job)
        forced = read_capture(Path(job["forced_by"])) if job["forced_by"] else None
        taps = taps_of(net)
        given = manifest.forced_by if forced is None else forced.manifest.content
        manifest = replace(manifest, taps=taps, forced_by=given)
        levels = [Level(name) for name in job["levels"]]
        steps = job["steps"]
        if "loss" not in taps and (steps or Level.BACKWARD in levels):
            reason = f"task {build.task} has no loss on this batch: no gradients and no training"
            levels = [level for level in levels if level in (Level.WEIGHTS, Level.FORWARD)]
            manifest, steps = replace(manifest, notes=(*manifest.notes, reason)), 0
        folder = Path(job["output"])
        with CaptureWriter(folder, manifest, whole=job["whole"], overwrite=job["overwrite"]) as writer:
            record(
                net, writer, levels=levels, taps=taps, steps=steps,
                forced_by=_permuted(forced, net), progress=progress,
            )  # fmt: skip
            writer.finish()
    return {"output": str(folder)}


def captures(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Record each of `jobs`. Tells of each that it began, what it does, and that it ended, or by what it was refused.

    What one is asked wrongly is its own. Raises: what else a framework raises, which ends this process: what is left
    of it is nothing that the next should run in.
    """
    for number, one in enumerate(job["jobs"]):
        progress({"began": number})
        ended: dict[str, Any] = {"ended": number}
        make = import_module("porting.acceptance.train_job").train if one["verb"] == "train" else capture
        try:
            make(one, progress)
        except PortError as error:
            ended["error"] = encode_error(error)
        progress(ended)
    return {"captures": len(job["jobs"])}


def _permuted(forced: Capture | None, net: Net) -> Capture | None:
    """What is given is in the source's order; a replica's session would want it in its own."""
    return None if net.replica is not None else forced


def opened(
    subject: Subject,
    build: Build,
    backend: BackendName,
    device: Device,
    recipe: Recipe | None,
    job: Mapping[str, Any],
) -> tuple[Net, Manifest]:
    """The session with its weights and batch, and the manifest of what it will be."""
    spec, config, framework = subject.spec, subject.configured(), FRAMEWORKS[backend.known]
    session: Session = import_module(f"porting.backends.{backend.known}.run").open_session(spec, config, build, recipe)
    naming = naming_of(spec, config, build, framework, session.parameters)
    weights, notes = weights_of(subject, build, naming.shapes)
    batch = batch_of(subject, build)
    manifest = Manifest(
        model=spec.name,
        config=config.to_dict(),
        build=_build_values(build),
        backend=str(backend),
        framework=backend.known,
        device=device.name,
        emulated=job["emulated"],
        versions=device.versions,
        switches=device.switches,
        weights=content_hash(weights),
        batch=content_hash(batch),
        recipe=recipe.to_dict() if recipe else None,
        code=code_hash(spec.package),
        replica=job["replica"],
        notes=notes,
    )
    moved = _replica(subject, build, naming, job["replica"])
    session.load(dict(naming.to_native(_moved(weights, moved))))
    fed = batch if moved is None else {name: moved.feature(name, value) for name, value in batch.items()}
    return Net(spec, config, build, session, naming, fed, moved), manifest


def _replica(subject: Subject, build: Build, naming: Naming, seed: int | None) -> Replica | None:
    if seed is None:
        return None
    spec = subject.spec
    return replica_of(spec, subject.configured(), build, seed, naming.shapes, canonical_dialect(spec))


def _moved(weights: Mapping[str, Array], replica: Replica | None) -> Mapping[str, Array]:
    if replica is None:
        return weights
    return {name: replica.parameter(name, value) for name, value in weights.items()}


def device_name(backend: BackendName) -> str:
    """The device under the name that the framework's session takes; the emulation runs on the CPU."""
    return "cpu" if backend.options else backend.session_device


def arithmetic(backend: BackendName, emulated: str) -> AbstractContextManager[Any]:
    """The emulated device's arithmetic, where PyTorch's port stands in for it."""
    if not emulated or backend.known != "torch":
        return nullcontext()
    found: AbstractContextManager[Any] = (
        import_module("porting.backends.torch.emulate").Emulation.parse(emulated).active()
    )
    return found


def _build_values(build: Build) -> dict[str, Any]:
    """A build as JSON values, without what says where it runs."""
    values = asdict(build)
    del values["device"]
    return values


def recipe_of(values: Mapping[str, Any] | None) -> Recipe | None:
    """A recipe from what `Recipe.to_dict` gave. Raises: UsageError for one that makes no sense."""
    if values is None:
        return None
    lists = {name: tuple(values[name]) for name in ("excludes", "includes") if name in values}
    parts: dict[str, Any] = {"schedule": Schedule(**values["schedule"])}
    parts |= {"clip": Clip(**values["clip"])} if "clip" in values else {}
    parts |= {"loss_scale": LossScale(**values["loss_scale"])} if "loss_scale" in values else {}
    return Recipe(**{**values, **lists, **parts})


@cache
def code_hash(package: str) -> str:
    """sha256 over the source files of a port's package and of the kit's, as they are when it is first asked."""
    state = hashlib.sha256()
    for name in ("porting", package):
        for path in _sources(name):
            state.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"sha256:{state.hexdigest()}"


def _sources(package: str) -> Iterator[Path]:
    found = util.find_spec(package)
    for folder in found.submodule_search_locations or () if found else ():
        yield from sorted(Path(folder).rglob("*.py"))
