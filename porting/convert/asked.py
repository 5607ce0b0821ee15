"""What a conversion is asked for, as values that travel as JSON, and where it puts every byte."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from porting.checkpoint.format import Format, WriteOptions
from porting.checkpoint.registry import format_named, formats
from porting.checkpoint.write import lay_out
from porting.convert.account import Job
from porting.convert.prepare import prepare
from porting.convert.request import Prepared, Request
from porting.errors import UsageError


class Asked(NamedTuple):
    """The options of `porting.convert` that say what is converted into what; its paths are text."""

    source: str
    output: str | None
    to: str
    source_framework: str | None = None
    source_format: str | None = None
    family: str | None = None
    source_dialect: str | None = None
    config: str | None = None
    format: str | None = None
    prefix: str | None = None
    like: str | None = None
    layers: tuple[int, ...] | None = None
    dtype: str | None = None
    with_optimizer: bool = False
    optimizer: str | None = None
    allow_missing: tuple[str, ...] = ()
    allow_unexpected: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}
    shard_size: int | None = None
    graph: str | None = None
    extra: Mapping[str, Any] = {}

    def absolute(self) -> Asked:
        """The same for a process in another folder. `none` of a config is no path."""
        paths = {name: getattr(self, name) for name in ("source", "output", "like", "optimizer", "graph")}
        paths |= {"config": self.config} if self.config != "none" else {}
        whole: dict[str, Any] = {name: str(Path(path).absolute()) for name, path in paths.items() if path is not None}
        return self._replace(**whole)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, if those of `extra` are."""
        return self._asdict()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Asked:
        """From what `to_json` gave."""
        lists = ("layers", "allow_missing", "allow_unexpected", "require")
        return cls(**{**values, **{name: tuple(values[name]) for name in lists if values[name] is not None}})

    def request(self) -> Request:
        """What is read, and as what."""
        follows, config = self.like or self.graph, self.config
        return Request(
            source=Path(self.source),
            to=self.to,
            source_framework=self.source_framework,
            source_format=self.source_format,
            family=self.family,
            source_dialect=self.source_dialect,
            config=config if config is None or config == "none" else Path(config),
            prefix=self.prefix,
            like=Path(follows) if follows else None,
            layers=self.layers,
            dtype=self.dtype,
            with_optimizer=self.with_optimizer,
            optimizer=Path(self.optimizer) if self.optimizer else None,
            allow_missing=self.allow_missing,
            allow_unexpected=self.allow_unexpected,
            require=self.require,
            variables=self.variables,
        )


def laid_out(asked: Asked) -> Job:
    """A conversion ready to run: the same every time, wherever the same files are seen.

    Raises: MismatchError, UsageError, FormatError.
    """
    prepared = prepare(asked.request())
    kind = output_format(prepared, asked.format, asked.output)
    target = output_path(prepared, kind, asked.output)
    graph = Path(asked.graph) if asked.graph else None
    options = WriteOptions(target, asked.shard_size, {}, graph, _extra(prepared, kind, asked.extra))
    ready = lay_out(kind, prepared.entries, options)
    refuse_inputs(prepared, [target, *(target.parent / name for name in ready.layout.files)])
    return Job(prepared, kind, target, ready)


def output_format(prepared: Prepared, name: str | None, output: str | None) -> Format:
    """The format by its name, by the output's extension among those of the target's framework, or the dialect's own."""
    if name is not None:
        return format_named(name)
    suffix = Path(output).suffix if output else ""
    suffix = ".bin" if suffix in {".pt", ".pth"} else suffix
    for kind in formats().values():
        if kind.plan and suffix == kind.extension and kind.framework in (prepared.dialect.framework, "numpy", "onnx"):
            return kind
    # PyTorch's optimizer state is a nested structure: a training checkpoint of torch.save.
    return format_named(prepared.dialect.format if prepared.tree is None else "torch")


def output_path(prepared: Prepared, kind: Format, output: str | None) -> Path:
    """Where the output goes: as given, into a folder that is given, or beside the source as STEM.DIALECT.EXT.

    Raises: UsageError for a folder that is not there.
    """
    source = prepared.source.checkpoint.path
    name = f"{stem(source.name, prepared.match.dialect.name)}.{prepared.dialect.name}{kind.extension}"
    target = source.parent / name if output is None else Path(output)
    if output is not None and os.path.isdir(target):  # noqa: PTH112 - False, not an error, for an impossible name
        target = target / name
    if not os.path.isdir(target.parent):  # noqa: PTH112 - likewise
        raise UsageError(f"{target}: there is no folder {target.parent}")
    return target


_EXTENSIONS = frozenset({".bin", ".pt", ".pth", ".h5", ".weights", ".index", ".json"})


def stem(name: str, dialect: str) -> str:
    """A file's name without the extensions of formats, and without the dialect that an earlier conversion put there.

    >>> stem("bert.v2.modelzoo.ckpt", "modelzoo"), stem("model.ckpt-1000", "google")
    ('bert.v2', 'model.ckpt-1000')
    """
    known = _EXTENSIONS | {kind.extension for kind in formats().values()}
    rest = name
    while (suffix := Path(rest).suffix) in known:
        rest = rest.removesuffix(suffix)
    return rest.removesuffix(f".{dialect}") or name


def refuse_inputs(prepared: Prepared, outputs: Sequence[Path]) -> None:
    """Raises: UsageError if one of the outputs is one of the files that are read."""
    checkpoint, optimizer = prepared.source.checkpoint, prepared.request.optimizer
    inputs = {
        os.path.realpath(file) for file in (checkpoint.path, *checkpoint.files, *([optimizer] if optimizer else []))
    }
    for output in outputs:
        if os.path.realpath(output) in inputs:
            raise UsageError(f"{output}: is the source itself")


def _extra(prepared: Prepared, kind: Format, extra: Mapping[str, Any]) -> dict[str, Any]:
    if prepared.tree is None:
        return dict(extra)
    if kind.name != "torch":
        raise UsageError(
            f"--with-optimizer: format {kind.name} has no place for PyTorch's optimizer state; --format torch has"
        )
    return {**extra, "tree": prepared.tree}
