"""`porting.convert`: from a path to a path, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from porting.checkpoint.format import Format, WriteOptions
from porting.checkpoint.registry import format_named, formats
from porting.checkpoint.stream import ALGORITHMS
from porting.checkpoint.write import lay_out
from porting.convert.account import Done, Job, account
from porting.convert.ledger import Ledger
from porting.convert.prepare import prepare
from porting.convert.request import Prepared, Request
from porting.convert.run import run
from porting.errors import UsageError


def convert(
    source: str | Path,
    output: str | Path | None = None,
    *,
    to: str,
    source_framework: str | None = None,
    source_format: str | None = None,
    family: str | None = None,
    source_dialect: str | None = None,
    config: str | Path | None = None,
    format: str | None = None,  # noqa: A002 - the word that users know
    prefix: str | None = None,
    like: str | Path | None = None,
    layers: Sequence[int] | None = None,
    dtype: str | None = None,
    with_optimizer: bool = False,
    optimizer: str | Path | None = None,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
    require: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    shard_size: int | None = None,
    graph: str | Path | None = None,
    extra: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    verify: bool = True,
    hash: str = "xxh3_128",  # noqa: A002 - likewise
    overwrite: bool = False,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Ledger:
    """Convert a checkpoint to another dialect, and return the ledger (which is written as OUTPUT.port.json too).

    to: a dialect (`modelzoo`) or a framework (`mindspore`), whose default dialect is meant.
    like: a checkpoint whose names are followed; graph, an ONNX model to be written into, is one too.
    output: a file, a prefix for TensorFlow, or a folder; beside the source if absent.
    layers: source layers to keep, in target order; they are renumbered from 0.
    require: groups that must be there. variables: values for free fields of names (`{"task": "mnli"}`).
    verify: read the output back and compare hashes before it gets its name.
    hash: xxh3_128; sha256, which then also covers the input files; or none, which wants verify=False and leaves a
    ledger that nothing can be verified by.
    progress: called with bytes done and bytes to do.
    Raises: MismatchError, UsageError, FormatError; nothing is left behind and nothing was overwritten then.
    """
    if hash not in ALGORITHMS:
        raise UsageError(f"--hash {hash}: wanted one of {', '.join(ALGORITHMS)}")
    if hash == "none" and verify:
        raise UsageError("--hash none leaves nothing to verify by: it wants --no-verify")
    request = Request(
        source=Path(source),
        to=to,
        source_framework=source_framework,
        source_format=source_format,
        family=family,
        source_dialect=source_dialect,
        config=config if config is None or config == "none" else Path(config),
        prefix=prefix,
        like=Path(follows) if (follows := like or graph) else None,
        layers=tuple(layers) if layers is not None else None,
        dtype=dtype,
        with_optimizer=with_optimizer,
        optimizer=Path(optimizer) if optimizer else None,
        allow_missing=tuple(allow_missing),
        allow_unexpected=tuple(allow_unexpected),
        require=tuple(require),
        variables=dict(variables or {}),
    )
    prepared = prepare(request)
    kind = output_format(prepared, format, output)
    target = output_path(prepared, kind, output)
    options = WriteOptions(target, shard_size, {}, Path(graph) if graph else None, _extra(prepared, kind, extra or {}))
    ready = lay_out(kind, prepared.entries, options)
    refuse_inputs(prepared, [target, *(target.parent / name for name in ready.layout.files)])
    job = Job(prepared, kind, target, ready)
    if dry_run:
        return account(job, Done())
    return run(job, hash, verify=verify, overwrite=overwrite, threads=threads, report=progress)


def output_format(prepared: Prepared, name: str | None, output: str | Path | None) -> Format:
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


def output_path(prepared: Prepared, kind: Format, output: str | Path | None) -> Path:
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
