"""The verb that exports a graph: in a worker process, builds a port with its weights and has its framework write it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from porting.backends.found import Resolved
from porting.backends.names import BackendName
from porting.backends.worker import Progress
from porting.model.spec import ModelSpec
from porting.parity.subject import Subject
from porting.train.evaluation import LABELS
from porting.train.start import open_trainee

NAMES = {"torch": "export_onnx", "mindspore": "export_mindir"}
"""What porting.backends.FRAMEWORK.export has for the graph of its framework."""

LENGTH = 128
"""Of a graph whose axes cannot be open, beside a batch of one."""


def export(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Write the graph of a job: backend, subject, output. Raises: PortError."""
    del progress
    subject, backend = Subject.from_json(job["subject"]), BackendName.parse(job["backend"])
    session: Any = open_trainee(subject, Resolved(backend), mode="eager").session
    write = getattr(import_module(f"porting.backends.{backend.known}.export"), NAMES[backend.known])
    wanted = (session.model, subject.spec, subject.task, Path(job["output"]), inputs(subject.spec, subject.task))
    shape = (1, min(LENGTH, subject.spec.bounds(subject.configured()).get("seq", LENGTH)))
    outputs = write(*wanted, shape) if backend.known == "mindspore" else write(*wanted)
    return {"outputs": list(outputs)}


def inputs(spec: ModelSpec, task: str) -> tuple[str, ...]:
    """A task's features without its labels, which a graph that predicts has no use for."""
    return tuple(name for name in spec.task(task).features if name not in LABELS)
