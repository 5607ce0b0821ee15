"""The session of a distillation, with both checkpoints' weights in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from porting.backends.found import Resolved, usable
from porting.backends.names import DEVICES, BackendName, Kind
from porting.backends.protocol import Build
from porting.errors import UsageError
from porting.model.dropout import Dropout
from porting.model.recipe import Recipe
from porting.model.registry import model_named
from porting.parity.prepare import canonical_dialect, content_hash
from porting.train.distill_pair import MODEL, Pair
from porting.train.distill_weights import HEAD, POOLER, Net
from porting.train.initial import initial_weights
from porting.train.start import Trainee, opened

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Session
    from porting.parity.naming import Naming

_KINDS: Mapping[str, Kind] = {"Ascend": "npu", "GPU": "gpu", "CPU": "cpu"}
_TEACHES = {"task_distill_2": (HEAD, POOLER), "task_distill_2_tokens": (HEAD,)}
"""Tasks whose loss is of the teacher's logits, and what of the teacher they are made by."""


@dataclass(frozen=True, slots=True)
class Open:
    """An open session. begun: a hash of the weights that the student began with."""

    trainee: Trainee
    net: Net
    begun: str

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
    spec = model_named(MODEL)

    def net_of(naming: Naming) -> Net:
        return Net.of(naming, spec.family, canonical_dialect(spec), _TEACHES.get(task, ()))

    def begin(_: Build, naming: Naming) -> tuple[dict[str, Array], tuple[str, ...]]:
        def draw(names: Iterable[str]) -> Mapping[str, Array]:
            return initial_weights(pair.config, naming.shapes, seed=options["seed"], only=tuple(names))

        return net_of(naming).assembled(pair.teacher, pair.student, draw)

    dropout = Dropout(options["dropout"], options["seed"])
    build = Build(task, labels=pair.labels or 2, compute=options["dtype"], dropout=dropout)
    trainee = opened(spec, pair.config, build, backend_of(options), recipe, begin, mode=options["mode"])
    net = net_of(trainee.naming)
    return Open(trainee, net, content_hash(net.student(trainee.session.weights())))


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
