"""A session that is ready to be trained: on a backend, by a recipe, from any checkpoint that `port convert` reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from porting.backends.device import Device, prepare
from porting.backends.found import Resolved
from porting.model.dropout import OFF, Dropout
from porting.model.recipe import Recipe
from porting.model.spec import Compute, Config, ModelSpec
from porting.parity.capture_job import FRAMEWORKS, arithmetic, device_name
from porting.parity.naming import Naming, naming_of
from porting.parity.prepare import weights_of
from porting.parity.subject import Subject
from porting.train.initial import initial_weights
from porting.train.parallel import meet

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Build, Session


@dataclass(frozen=True, slots=True)
class Trainee:
    """A session with its weights. naming: between its parameters' names and the family's first dialect.

    notes: lines that a user should see: what was drawn, because no checkpoint holds it.
    emulated: as in Resolved; a step is made within `arithmetic()`.
    """

    session: Session
    build: Build
    naming: Naming
    device: Device
    notes: tuple[str, ...]
    resolved: Resolved

    def arithmetic(self) -> AbstractContextManager[Any]:
        """The emulated device's arithmetic; nothing of a device that is there."""
        found = self.resolved
        return arithmetic(found.backend, found.emulated) if found.emulated else nullcontext()


def open_trainee(
    subject: Subject,
    resolved: Resolved,
    *,
    recipe: Recipe | None = None,
    dropout: Dropout = OFF,
    compute: Compute = "float32",
    mode: Literal["eager", "graph"] | None = None,
) -> Trainee:
    """Open it in this process, which imports the framework, and load the subject's weights.

    subject: its checkpoint may be None: then all weights are drawn, from its seed, as the originals draw initial ones;
    and so are heads that the checkpoint lacks. recipe: None for a session that only evaluates.
    Where a launcher has started several processes it trains with theirs (porting.train.parallel).
    mode: None for the way the framework is trained in: MindSpore compiles, the others run eagerly.
    Raises: UsageError, FormatError; MismatchError for a checkpoint that is not this model, or a part of it.
    """

    def begin(build: Build, naming: Naming) -> tuple[dict[str, Array], tuple[str, ...]]:
        weights, notes = initial(subject, build, naming)
        return dict(naming.to_native(weights)), notes

    build = subject.build(compute=compute, dropout=dropout)
    return opened(subject.spec, subject.configured(), build, resolved, recipe, begin, mode=mode)


Begin = Callable[["Build", Naming], tuple["Mapping[str, Array]", tuple[str, ...]]]
"""The weights that a session begins with, under its own names, and lines of what was drawn."""


def opened(
    spec: ModelSpec,
    config: Config,
    build: Build,
    resolved: Resolved,
    recipe: Recipe | None,
    begin: Begin,
    *,
    mode: Literal["eager", "graph"] | None,
) -> Trainee:
    """Open a session and load what it begins with. build: without its mode and its device, which are set here.

    Raises: as `open_trainee`.
    """
    backend = resolved.backend
    ranks = None if recipe is None else meet(backend)
    device = prepare(backend)
    chosen = mode or ("graph" if backend.known == "mindspore" else "eager")
    build = replace(build, mode=chosen, device=device_name(backend))
    with arithmetic(backend, resolved.emulated):
        run = import_module(f"porting.backends.{backend.known}.run")
        session: Session = run.open_session(spec, config, build, recipe)
        naming = naming_of(spec, config, build, FRAMEWORKS[backend.known], session.parameters)
        weights, notes = begin(build, naming)
        session.load(weights)
    if ranks:
        ranks.join(session)
    return Trainee(session, build, naming, device, notes, resolved)


def initial(subject: Subject, build: Build, naming: Naming) -> tuple[Mapping[str, Array], tuple[str, ...]]:
    """The weights that training begins from, in the family's first dialect, and lines of what was drawn.

    Raises: as `open_trainee`.
    """
    config = subject.configured()

    def draw(names: Collection[str]) -> Mapping[str, Array]:
        return initial_weights(config, naming.shapes, seed=subject.seed, only=names)

    weights, notes = weights_of(subject, build, naming.shapes, draw)
    if subject.checkpoint is None:
        notes = (f"no checkpoint: all weights drawn from seed {subject.seed}, nothing is pre-trained",)
    return weights, tuple(f"{note} from seed {subject.seed}" if "drawn: " in note else note for note in notes)
