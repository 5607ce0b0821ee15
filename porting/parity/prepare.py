"""From a subject to what a session needs: its weights in the family's first dialect, and the batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from porting.convert.names import collapse
from porting.convert.registry import family_named
from porting.errors import MismatchError, UsageError
from porting.model.spec import ModelSpec

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Build
    from porting.parity.subject import Subject

Shapes = Mapping[str, tuple[int, ...]]


def canonical_dialect(spec: ModelSpec) -> str:
    """The dialect of all captures of a model: its family's first."""
    return family_named(spec.family).dialects[0].name


Draw = Callable[[Collection[str]], Mapping[str, "Array"]]
"""Values for parameters by their names in the shared dialect."""


def weights_of(
    subject: Subject, build: Build, shapes: Shapes, draw: Draw | None = None
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The subject's weights in the shared dialect, float32, and what a report should say of them.

    shapes: of all parameters there. Of a checkpoint that lacks a head, that head is drawn, by `draw` or as the probe
    draws it.
    Raises: MismatchError listing what a checkpoint lacks of the backbone or has in another shape.
    """
    from porting.parity.probe import probe_weights

    spec, config = subject.spec, subject.configured()

    def probed(names: Collection[str]) -> Mapping[str, Array]:
        return probe_weights(spec, config, build, shapes, canonical_dialect(spec), seed=subject.seed, only=names)

    made = draw or probed
    if subject.checkpoint is None:
        return dict(made(shapes.keys())), ()
    stored = _stored(subject)
    wrong = [
        f"{name}: the model wants {shape}, the checkpoint has {stored[name].shape}"
        for name, shape in shapes.items()
        if name in stored and stored[name].shape != shape
    ]
    missing = {name: shape for name, shape in shapes.items() if name not in stored}
    backbone = [name for name in missing if name in _backbone(spec, shapes)]
    wrong += [f"{name}  missing" for name in collapse(backbone)]
    if wrong:
        raise MismatchError(f"{subject.checkpoint}: is not this {spec.name}", wrong)
    drawn = made(missing.keys())
    notes = tuple(f"not in the checkpoint, drawn: {name}" for name in collapse(missing))
    found = {name: drawn[name] if name in drawn else np.array(stored[name], np.float32) for name in shapes}
    return found, notes


def _stored(subject: Subject) -> dict[str, Array]:
    """What the checkpoint holds, in the first dialect, mapped lazily."""
    from porting.parity.stored import stored

    return stored(Path(str(subject.checkpoint)), subject.spec, subject.configured(), subject.task)


def _backbone(spec: ModelSpec, shapes: Shapes) -> set[str]:
    """Names of the parameters that no model of the family can do without."""
    from porting.convert.match import match_as
    from porting.convert.registry import target_dialect

    family = family_named(spec.family)
    match = match_as(tuple(shapes), family, target_dialect(family, canonical_dialect(spec)))
    found = (one for model in match.models for one in model.found.values() if one.group.required)
    return {name for one in found for name in one.names.values()}


def batch_of(subject: Subject, build: Build) -> dict[str, Array]:
    """The subject's batch, checked against the spec. Raises: UsageError, FormatError."""
    from porting.model.batch import check_batch
    from porting.parity.probe import EXAMPLES, LENGTH, probe_batch

    spec, config = subject.spec, subject.configured()
    if subject.batch is None:
        sizes = {"batch": subject.examples or EXAMPLES, "seq": subject.length or LENGTH}
        return probe_batch(spec, config, build, seed=subject.seed, **sizes)
    from porting.checkpoint.registry import read

    features = read(subject.batch)
    if not features:
        raise UsageError(f"{subject.batch}: holds no feature")
    batch = {name: np.array(entry.read()) for name, entry in features.items()}
    check_batch(spec, config, build, batch)
    return batch


def content_hash(tensors: Mapping[str, Array]) -> str:
    """sha256 over names, dtypes, shapes and bytes, in the order of the names."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        state.update(f"{name}\0{tensor.dtype.str}\0{tensor.shape}\0".encode())
        state.update(tensor.tobytes())
    return f"sha256:{state.hexdigest()}"
