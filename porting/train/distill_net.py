"""The session of a distillation, with both checkpoints' weights in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from porting.backends.device import prepare
from porting.backends.found import Resolved, usable
from porting.backends.names import DEVICES, BackendName, Kind
from porting.backends.protocol import Build
from porting.errors import UsageError
from porting.model.dropout import Dropout
from porting.model.recipe import Recipe
from porting.model.registry import model_named
from porting.parity.capture_job import FRAMEWORKS, arithmetic, device_name
from porting.parity.naming import naming_of
from porting.parity.prepare import canonical_dialect, content_hash
from porting.train.distill_pair import MODEL, Pair
from porting.train.distill_weights import HEAD, POOLER, Net
from porting.train.initial import initial_weights
from porting.train.parallel import meet
from porting.train.start import Trainee

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Session

_KINDS: Mapping[str, Kind] = {"Ascend": "npu", "GPU": "gpu", "CPU": "cpu"}
_TEACHES = {"task_distill_2": (HEAD, POOLER), "task_distill_2_tokens": (HEAD,)}
"""Tasks whose loss is of the teacher's logits, and what of the teacher they are made by."""


@dataclass(frozen=True, slots=True)
class Open:
    """An open session. begun: a hash of the weights that the student began with. notes: what was drawn."""

    trainee: Trainee
    net: Net
    begun: str
    notes: tuple[str, ...]

    @property
    def session(self) -> Session:
        """The session itself."""
        return self.trainee.session

    def teacher_hash(self) -> str:
        """Of the teacher's weights as they are now: of all that is not trained."""
        trained = frozenset(self.session.trainable)
        return content_hash({name: w for name, w in self.session.weights().items() if name not in trained})


def open_net(options: Mapping[str, Any], task: str, pair: Pair, recipe: Recipe) -> Open:
    """Open it in this process, which imports the framework. Of several ranks it trains with the others'.

    Raises: UsageError for a backend that is not there; MismatchError for checkpoints that do not fit.
    """
    resolved = backend_of(options)
    backend, spec = resolved.backend, model_named(MODEL)
    ranks = meet(backend)
    device = prepare(backend)
    build = Build(
        task,
        labels=pair.labels or 2,
        mode=options["mode"] or ("graph" if backend.known == "mindspore" else "eager"),
        compute=options["dtype"],
        device=device_name(backend),
        dropout=Dropout(options["dropout"], options["seed"]),
    )
    with arithmetic(backend, resolved.emulated):
        run = import_module(f"porting.backends.{backend.known}.run")
        session: Session = run.open_session(spec, pair.config, build, recipe)
        naming = naming_of(spec, pair.config, build, FRAMEWORKS[backend.known], session.parameters)
        net = Net.of(naming, spec.family, canonical_dialect(spec), _TEACHES.get(task, ()))

        def draw(names: Iterable[str]) -> Mapping[str, Array]:
            return initial_weights(pair.config, naming.shapes, seed=options["seed"], only=tuple(names))

        weights, notes = net.assembled(pair.teacher, pair.student, draw)
        session.load(weights)
    if ranks is not None:
        ranks.join(session)
    begun = content_hash(net.student(weights))
    return Open(Trainee(session, build, naming, device, notes, resolved), net, begun, notes)


def backend_of(options: Mapping[str, Any]) -> Resolved:
    """The backend that --backend and --device-target mean together.

    Raises: UsageError for two that contradict each other, or one that is not there.
    """
    text, target = options["backend"], options["device_target"]
    kind = None if target is None else _KINDS[target]
    if text in DEVICES:
        name = BackendName(text, "cpu") if kind in (None, "cpu") else BackendName(None, kind)
        return usable(name, framework=text)
    name = BackendName.parse(text)
    if kind is not None and name.kind != kind:
        raise UsageError(f"device_target {target}: --backend {text} is a {name.kind}")
    return usable(name)
