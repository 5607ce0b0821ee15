"""The weights of a distillation's net: a teacher's and a student's checkpoint, in any format and dialect.

Both are read under PyTorch's names (dialect hf), which the families of BERT and TinyBERT share. The net has the student
under these names, the teacher behind `teacher.`, and fit_dense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from porting.checkpoint.registry import read
from porting.convert.find import find
from porting.convert.match import Model
from porting.convert.names import collapse
from porting.convert.naming import Wishes, target_of
from porting.convert.plan import plan_model
from porting.convert.registry import families, target_dialect
from porting.convert.sizes import bind
from porting.errors import MismatchError, UsageError
from porting.model.names import names_in

if TYPE_CHECKING:
    from porting.backends.protocol import Array
    from porting.parity.naming import Naming

Role = Literal["teacher", "student"]
TEACHER = "teacher."
FIT = "fit_dense."
HEAD = "classifier."
POOLER = ".pooler."
STUDENT = "student.safetensors"
"""What a run leaves of its student, under PyTorch's names, fit_dense included: what the next one begins with."""
_FAMILIES = ("tinybert", "bert")
_LAYER = "bert.encoder.layer."


def student_file(path: Path) -> Path:
    """A checkpoint, or that of a run's folder."""
    return path / STUDENT if (path / STUDENT).is_file() else path


def part(path: Path, role: Role) -> dict[str, Array]:
    """A checkpoint's teacher or student under PyTorch's names, mapped lazily. Where there is one model it is that.

    Raises: FormatError; UsageError for a model that is no BERT; MismatchError for one that is not whole.
    """
    checkpoint = read(path)
    match = find(tuple(checkpoint), families())
    if match.family.name not in _FAMILIES:
        raise UsageError(f"{path}: is a {match.family.name}; {role}s of TinyBERT are BERTs")
    models = [model for model in match.models if (model.scope.name == "teacher") == (role == "teacher")]
    own: Model = (models or list(match.models))[0]
    hf = target_dialect(match.family, "hf")
    bound = bind(own, checkpoint)
    plan = plan_model(bound, target_of(bound, hf, Wishes(variables=hf.scopes[0].variables)), checkpoint)
    problems = [*bound.problems, *plan.problems]
    if problems:
        raise MismatchError(f"{path}: {match.dialect.name} to {hf.name}", collapse(problems))
    return {one.name.removeprefix(TEACHER): one.entry(checkpoint.__getitem__).read() for one in plan.tensors}


def labels_of(tensors: Mapping[str, Array]) -> int | None:
    """Classes of a classifier; None without one."""
    head = tensors.get(f"{HEAD}weight")
    return None if head is None else int(head.shape[0])


@dataclass(frozen=True, slots=True)
class Net:
    """What a net's weights are made of, and where they go.

    names: PyTorch's of the net's parameters, by those of the family's first dialect. needed: parts of names that the
    teacher has to have beside its encoder (`classifier.`), because the loss reads them.
    """

    naming: Naming
    names: Mapping[str, str]
    needed: tuple[str, ...]

    @classmethod
    def of(cls, naming: Naming, family: str, dialect: str, needed: tuple[str, ...]) -> Net:
        """Of a session's naming."""
        found = names_in(family, dialect, "hf", tuple(naming.shapes))
        return cls(naming, {name: named.name for name, named in found.items()}, needed)

    def assembled(
        self,
        teacher: Mapping[str, Array],
        student: Mapping[str, Array] | None,
        draw: Callable[[Iterable[str]], Mapping[str, Array]],
    ) -> tuple[dict[str, Array], tuple[str, ...]]:
        """Weights under the session's names, and lines of what was drawn.

        student: None for one that is drawn whole. draw: values by names of the first dialect.
        Raises: MismatchError listing all that is missing or of another shape.
        """
        theirs = {TEACHER + name: tensor for name, tensor in teacher.items()}
        stored = theirs | dict(student or {})
        shapes = {self.names[name]: shape for name, shape in self.naming.shapes.items()}
        self._check(shapes, stored, whole=student is not None)
        absent = [name for name in self.naming.shapes if self.names[name] not in stored]
        drawn = draw(absent)
        weights = {
            name: drawn[name] if name in drawn else np.array(stored[own], np.float32)
            for name, own in self.names.items()
        }
        lacking = [self.names[name] for name in absent]
        if student is None:
            lacking = [name for name in lacking if name.startswith(TEACHER)]
        notes = tuple(f"not in the checkpoint, drawn: {name}" for name in collapse(lacking))
        if student is None:
            notes = ("no checkpoint of the student: it is drawn, and fit_dense", *notes)
        return dict(self.naming.to_native(weights)), notes

    def _check(self, shapes: Mapping[str, tuple[int, ...]], stored: Mapping[str, Array], *, whole: bool) -> None:
        """whole: the student has to have its encoder."""
        wrong = [
            f"{name}: the model wants {shape}, the checkpoint has {stored[name].shape}"
            for name, shape in shapes.items()
            if name in stored and stored[name].shape != shape
        ]
        missing = [name for name in shapes if name not in stored and self._wanted(name, whole=whole)]
        if wrong or missing:
            lines = [f"{name}  missing" for name in collapse(missing)]
            raise MismatchError("checkpoints of student and teacher: are not those of this distillation", lines + wrong)

    def _wanted(self, name: str, *, whole: bool) -> bool:
        if name.startswith(TEACHER):
            return any(part in name for part in self.needed) or not (POOLER in name or HEAD in name)
        return whole and not (name.startswith((FIT, HEAD)) or POOLER in name)

    def student(self, native: Mapping[str, Array]) -> dict[str, Array]:
        """The student and fit_dense of a session's weights, under PyTorch's names."""
        kept = ((self.names[name], tensor) for name, tensor in self.naming.canonical(native))
        return {name: tensor for name, tensor in kept if not name.startswith(TEACHER)}

    def teacher(self, native: Mapping[str, Array]) -> dict[str, Array]:
        """The teacher of a session's weights, under PyTorch's names."""
        kept = ((self.names[name], tensor) for name, tensor in self.naming.canonical(native))
        return {name.removeprefix(TEACHER): tensor for name, tensor in kept if name.startswith(TEACHER)}


def from_layers(teacher: Mapping[str, Array], chosen: tuple[int, ...], config: Any) -> dict[str, Array]:
    """A student whose layers are copies of the teacher's, with its embeddings and pooler. config: the student's.

    Position embeddings beyond the student's are left out. Raises: UsageError for another number of layers, or widths
    that differ.
    """
    larger = config.taught()
    if len(chosen) != config.num_hidden_layers or not all(0 <= i < larger.num_hidden_layers for i in chosen):
        wanted = f"{config.num_hidden_layers} layers, 0 to {larger.num_hidden_layers - 1}"
        raise UsageError(f"init_layers: wanted {wanted}, got {', '.join(map(str, chosen))}")
    for name in ("hidden_size", "intermediate_size", "type_vocab_size"):
        if getattr(config, name) != getattr(larger, name):
            raise UsageError(
                f"init_layers: {name}: wanted the teacher's {getattr(larger, name)}, got {getattr(config, name)}"
            )
    found: dict[str, Array] = {}
    for name, tensor in teacher.items():
        if name.startswith(_LAYER):
            number, _, rest = name.removeprefix(_LAYER).partition(".")
            found |= {f"{_LAYER}{i}.{rest}": tensor for i, layer in enumerate(chosen) if layer == int(number)}
        elif name.startswith("bert."):
            found[name] = tensor
    positions = "bert.embeddings.position_embeddings.weight"
    return found | {positions: found[positions][: config.max_position_embeddings]}


def with_teacher(student: Mapping[str, Any], teacher: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Values of a student's config with its teacher's; more: of the distillation, where they are not None."""
    return {**student, "teacher": dict(teacher), **{name: value for name, value in more.items() if value is not None}}


def plain(config: Any) -> Any:
    """A student's config without what is of its distillation."""
    return replace(config, teacher=None, layer_map=None, temperature=1.0)
