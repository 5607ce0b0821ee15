"""A trained model as files that others read: safetensors and ckpt of its weights, ONNX and MindIR of its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from porting.backends.found import installed
from porting.backends.names import BackendName
from porting.checkpoint.output import make_folder, write_json
from porting.convert.registry import family_named
from porting.errors import PortError, UsageError
from porting.model.spec import Config, Framework, ModelSpec
from porting.parity.subject import Subject

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Build

FORMATS = ("safetensors", "ckpt", "onnx", "mindir")
MINUTES = 10.0
"""That the process of a graph's export may take."""

_WEIGHTS: Mapping[str, tuple[Framework, str]] = {
    "safetensors": ("pytorch", "safetensors"),
    "ckpt": ("mindspore", "mindspore-ckpt"),
}
_GRAPHS: Mapping[str, str] = {"onnx": "torch:cpu", "mindir": "mindspore:cpu"}


@dataclass(frozen=True, slots=True)
class _Trained:
    """A trained model. tensors: in the names of `dialect`."""

    tensors: Mapping[str, Array]
    spec: ModelSpec
    config: Config
    build: Build
    dialect: str

    def named(self, dialect: str) -> dict[str, Array]:
        """The weights in another dialect. Raises: MismatchError for what has no place there."""
        from porting.parity.naming import naming_between

        shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        naming = naming_between(self.spec, self.config, self.build.task, self.dialect, dialect, shapes)
        return dict(naming.canonical(self.tensors))


def export(
    weights: Mapping[str, Array],
    spec: ModelSpec,
    config: Config,
    build: Build,
    *,
    source_dialect: str,
    folder: Path,
    stem: str,
    formats: Sequence[str] = FORMATS,
) -> list[tuple[str, Path | str]]:
    """Write a model in every format as FOLDER/STEM.FORMAT, its config beside. Returns for each its path, or why not.

    weights: in the names of `source_dialect`, as a session of that dialect's framework gives them.
    A graph is made by its framework in a process of its own, and takes the task's features without its labels.
    safetensors are in the dialect of PyTorch's port, ckpt in that of MindSpore's. Old files are replaced, each when the
    new one is whole.
    Raises: UsageError for a format that there is not; FormatError for a folder that cannot be made.
    """
    check_formats(formats)
    model = _Trained(weights, spec, config, build, source_dialect)
    make_folder(folder)
    write_json(folder / family_named(spec.family).config_files[0], config.to_dict())
    made: list[tuple[str, Path | str]] = []
    for kind in formats:
        write: Callable[[Path], None] = partial(_write_weights if kind in _WEIGHTS else _write_graph, model, kind)
        path = folder / f"{stem}.{kind}"
        try:
            write(path)
        except PortError as error:
            made.append((kind, str(error)))
        else:
            made.append((kind, path))
    return made


def check_formats(formats: Sequence[str]) -> None:
    """Raises: UsageError for a format that there is not."""
    strangers = [kind for kind in formats if kind not in FORMATS]
    if strangers:
        raise UsageError(f"export {', '.join(strangers)}: wanted some of {', '.join(FORMATS)}")


def _write_weights(model: _Trained, kind: str, path: Path) -> None:
    from porting.checkpoint.write import write

    framework, name = _WEIGHTS[kind]
    write(path, model.named(model.spec.dialects[framework]), format=name, overwrite=True)


def _write_graph(model: _Trained, kind: str, path: Path) -> None:
    """Let the framework of a graph write it. Raises: PortError saying why it could not."""
    from porting.backends.process import call

    backend = BackendName.parse(_GRAPHS[kind])
    if installed(backend) is None:
        raise UsageError(f"{kind}: not made: {backend.known} is not installed")
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as place:
        part = Path(place).absolute()
        _write_weights(model, "safetensors", part / "weights.safetensors")
        subject = Subject(
            model.spec.name, model.config.to_dict(), model.build.task, model.build.labels, dict(model.build.extra),
            str(part / "weights.safetensors"),
        )  # fmt: skip
        (part / "graph").mkdir()
        job = {"verb": "porting.train.export_job:export", "backend": str(backend), "subject": subject.to_json()}
        done = call(backend, {**job, "output": str(part / "graph" / path.name)}, timeout=60 * MINUTES, folder=part)
        if done.state == "crashed":
            raise UsageError(f"{kind}: not made: {done.reason}")
        _moved(part / "graph", path)


def _moved(made: Path, path: Path) -> None:
    """Move what a framework has written to its place, the graph after the tensors that it may keep beside it."""
    for file in sorted(made.iterdir(), key=lambda file: file.name == path.name):
        file.replace(path.with_name(file.name))


def lines(made: Sequence[tuple[str, Path | str]]) -> list[str]:
    """What was made, and what was not and why."""
    return [f"{what}" if isinstance(what, Path) else f"no {kind}: {what}" for kind, what in made]


def as_json(made: Sequence[tuple[str, Path | str]]) -> list[dict[str, Any]]:
    """The same as JSON values."""
    return [
        {"format": kind, "path": str(what)} if isinstance(what, Path) else {"format": kind, "reason": what}
        for kind, what in made
    ]
