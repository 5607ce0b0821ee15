"""The job `train`: in a worker process, trains a subject and records every step, and no tensor.

The job travels as JSON: backend, emulated, subject, mode, compute, recipe, replica, output, overwrite as in
porting.parity.capture_job; steps; order, the seed of the data's order; planted, a mistake of the catalogue, or null.

A line of steps.jsonl is loss, lr, grad_norm, `grad_norm/GROUP` (of a layer, or of what stands outside of layers),
loss_scale, overflow, seconds, batch (the hash of its features), examples, tokens, compilations (graphs so far) and
memory_mb (the peak so far: of the device's tensors, on a CPU of the process), as far as the framework tells.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import hypot
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porting.acceptance.batches import batches_of
from porting.acceptance.runs import ORDER, PLANTED
from porting.backends.device import peak_memory, prepare
from porting.backends.names import BackendName
from porting.errors import UsageError
from porting.parity.capture_job import arithmetic, device_name, opened, recipe_of
from porting.parity.mistakes.weights import layer_of
from porting.parity.prepare import content_hash
from porting.parity.subject import Subject
from porting.parity.variation import Case, Variation, varied
from porting.parity.writer import CaptureWriter

if TYPE_CHECKING:
    from porting.backends.protocol import Build, StepResult
    from porting.backends.worker import Progress
    from porting.model.recipe import Recipe
    from porting.parity.record import Net


def train(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Train, record, and say where. Raises: PortError for what the job asks wrongly."""
    subject, backend = Subject.from_json(job["subject"]), BackendName.parse(job["backend"])
    device, recipe = prepare(backend), recipe_of(job["recipe"])
    build = replace(subject.build(mode=job["mode"], compute=job["compute"]), device=device_name(backend))
    with arithmetic(backend, job["emulated"]), _planted(subject, build, recipe, job["planted"]) as changed:
        case, variation = changed
        subject = replace(subject, config=case.config.to_dict())
        net, manifest = opened(subject, case.build, backend, device, case.recipe, job)
        batch = batches_of(subject, case.build, job["order"])
        notes = (*manifest.notes, f"{ORDER}{job['order']}")
        notes += (f"{PLANTED}{job['planted']} ({variation.form})",) if variation else ()
        folder = Path(job["output"])
        with CaptureWriter(folder, replace(manifest, notes=notes), whole=False, overwrite=job["overwrite"]) as writer:
            factor = variation.loss if variation else 1.0
            for row in _rows(net, batch, job["steps"], backend):
                writer.step({**row, "loss": row["loss"] * factor})
                progress({"done": f"step {row['step'] + 1} of {job['steps']}"})
            writer.finish()
    return {"output": str(folder)}


def _rows(
    net: Net, batch: Callable[[int], Mapping[str, Any]], steps: int, backend: BackendName
) -> Iterator[dict[str, Any]]:
    """A row for every step."""
    groups = groups_of(net)
    for number in range(steps):
        own = batch(number)
        fed = own if net.replica is None else {name: net.replica.feature(name, one) for name, one in own.items()}
        started = time.perf_counter()
        done = net.session.step(fed)
        seconds = time.perf_counter() - started
        yield {
            "step": number, "loss": done.loss, "lr": done.lr, "grad_norm": done.grad_norm,
            **{f"grad_norm/{group}": value for group, value in _norms(groups, done).items()},
            "loss_scale": done.loss_scale, "overflow": done.overflow, "seconds": seconds, "batch": content_hash(own),
            **_sizes(net, own), **_compiled(net), **_memory(backend),
        }  # fmt: skip


def _compiled(net: Net) -> dict[str, int]:
    """Graphs compiled so far, of a session that can tell."""
    found = getattr(net.session, "compilations", None)
    return {} if found is None else {"compilations": found}


def _memory(backend: BackendName) -> dict[str, float]:
    """The peak of memory so far, of a framework that tells."""
    found = peak_memory(backend)
    return {} if found is None else {"memory_mb": found}


def _sizes(net: Net, batch: Mapping[str, Any]) -> dict[str, int]:
    """Examples and tokens of a batch, by the first feature that has both."""
    for feature in net.spec.features:
        if feature.name in batch and feature.axes.split()[:2] == ["batch", "seq"]:
            examples, length = batch[feature.name].shape[:2]
            return {"examples": examples, "tokens": examples * length}
    return {}


def groups_of(net: Net) -> dict[str, list[int]]:
    """Places among the trainable parameters by layer group, named as the family's first dialect names them.

    A group is a layer (`layer.3`), or what stands outside of layers under one scope (`bert/embeddings`).
    """
    named = {source: name for name in net.naming.shapes for source in net.naming.sources(name)}
    found: dict[str, list[int]] = {}
    for place, native in enumerate(net.session.trainable):
        found.setdefault(group_of(named[native]), []).append(place)
    return found


def group_of(name: str) -> str:
    """The layer group of a canonical name.

    >>> group_of("bert/encoder/layer_3/output/dense/kernel"), group_of("bert/embeddings/LayerNorm/beta")
    ('layer.3', 'bert/embeddings')
    """
    layer = layer_of(name)
    return "/".join(re.split(r"[/.]", name)[:2]) if layer is None else f"layer.{layer}"


def _norms(groups: Mapping[str, list[int]], done: StepResult) -> dict[str, float]:
    """The norm of each group's gradients; none after an overflow."""
    return {group: hypot(*(done.norms[place] for place in places)) for group, places in groups.items() if done.norms}


@contextmanager
def _planted(
    subject: Subject, build: Build, recipe: Recipe | None, mistake: str | None
) -> Iterator[tuple[Case, Variation | None]]:
    """The case, with a mistake if one is named, within the patch that makes it."""
    case = Case(subject.spec, subject.configured(), build, {}, {}, ("loss",), recipe)
    if mistake is None:
        yield case, None
        return
    from porting.parity.bench import entered, slopes_times

    one = plantable(subject, case, mistake)
    with entered((one,)), slopes_times(one.loss * one.slope):
        yield varied(case, (one,)), one


def plantable(subject: Subject, case: Case, mistake: str) -> Variation:
    """The first form of a mistake that a training run can have: of config, recipe, gradients or code, not of weights.

    Mistakes of weights or of the batch show at step 0, before any training.
    Raises: UsageError where there is none.
    """
    from porting.parity.catalogue import CATALOGUE, forms

    for known in CATALOGUE:
        if known.name != mistake:
            continue
        for one in forms(known, replace(case, batch=batches_of(subject, case.build, 0)(0))):
            if one.whole and one.weights is None and one.batch is None:
                return one
    raise UsageError(f"--plant {mistake}: cannot be made in a training run of {subject.model} {subject.task}")
