"""Runs a conversion: streams the planned tensors into the target, hashes both sides, keeps the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.format import Format, WriteOptions
from porting.checkpoint.output import Output
from porting.checkpoint.pieces import PIECE, storage_pieces
from porting.checkpoint.registry import format_named, formats
from porting.checkpoint.storage import Array
from porting.checkpoint.stream import Pieces, Written, digest, fill, read_back
from porting.checkpoint.write import LaidOut, lay_out
from porting.convert.cast import Cast
from porting.convert.config import inferred
from porting.convert.ledger import SUFFIX, Ledger, Record, Side, SourceTensor, content_hash
from porting.convert.prepare import Prepared, Request, prepare
from porting.errors import FormatError, UsageError
from porting.version import VERSION

Progress = Callable[[int], None]


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
    output: a file, a prefix for TensorFlow, or a folder; beside the source if absent.
    layers: source layers to keep, in target order; they are renumbered from 0.
    require: groups that must be there. variables: values for free fields of names (`{"task": "mnli"}`).
    verify: read the output back and compare hashes before it gets its name.
    hash: xxh3_128, or sha256, which then also covers the input files.
    progress: called with bytes done and bytes to do.
    Raises: MismatchError, UsageError, FormatError; nothing is left behind and nothing was overwritten then.
    """
    request = Request(
        source=Path(source),
        to=to,
        source_framework=source_framework,
        source_format=source_format,
        family=family,
        source_dialect=source_dialect,
        config=config if config is None or config == "none" else Path(config),
        prefix=prefix,
        like=Path(like) if like else None,
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
    if dry_run:
        return _ledger(prepared, kind, target, ready, {}, {}, ())
    return _run(prepared, kind, target, ready, hash, verify=verify, overwrite=overwrite, threads=threads, report=progress)


def output_format(prepared: Prepared, name: str | None, output: str | Path | None) -> Format:
    """The format by its name, by the output's extension among those of the target's framework, or the dialect's own."""
    if name is not None:
        return format_named(name)
    suffix = Path(output).suffix if output else ""
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
    if output is not None and target.is_dir():
        target = target / name
    if not target.parent.is_dir():
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
    inputs = {file.resolve() for file in (checkpoint.path, *checkpoint.files, *([optimizer] if optimizer else []))}
    for output in outputs:
        if output.resolve() in inputs:
            raise UsageError(f"{output}: is the source itself")


def _extra(prepared: Prepared, kind: Format, extra: Mapping[str, Any]) -> dict[str, Any]:
    if prepared.tree is None:
        return dict(extra)
    if kind.name != "torch":
        raise UsageError(f"--with-optimizer: format {kind.name} has no place for PyTorch's optimizer state; --format torch has")
    return {**extra, "tree": prepared.tree}


class _SourceHashes:
    """Hashes source tensors as they are first touched, from several threads; each once."""

    def __init__(self, entries: Mapping[str, TensorEntry], algorithm: str) -> None:
        self._entries = entries
        self._algorithm = algorithm
        self._taken: set[str] = set()
        self._lock = Lock()
        self.hashes: dict[str, str] = {}

    def take(self, name: str) -> None:
        """Hash the tensor unless another thread has, leaving its pages resident for the conversion that follows."""
        with self._lock:
            if name in self._taken:
                return
            self._taken.add(name)
        entry = self._entries[name]
        state = digest(self._algorithm)
        for piece in storage_pieces(entry.storage, entry.shape, entry.dtype.itemsize, keep=True):
            state.update(piece)
        self.hashes[name] = f"{self._algorithm}:{state.hexdigest()}"


def _sources(prepared: Prepared, ready: LaidOut, hashes: _SourceHashes) -> dict[str, Pieces]:
    """The pieces of every target, the hashing of its sources before them where they are not its own bytes."""
    records = {record.target: record for record in prepared.records}

    def pieces(name: str) -> Iterator[Array]:
        record, entry = records.get(name), ready.entries[name]
        if record is not None and record.operation != ("copy",):
            for source in record.sources:
                if source in prepared.source.tensors:
                    hashes.take(source)
        yield from storage_pieces(entry.storage, entry.shape, entry.dtype.itemsize, PIECE)

    return {name: (lambda name=name: pieces(name)) for name in ready.layout.extents}  # type: ignore[misc]


def _run(
    prepared: Prepared,
    kind: Format,
    target: Path,
    ready: LaidOut,
    algorithm: str,
    *,
    verify: bool,
    overwrite: bool,
    threads: int,
    report: Callable[[int, int], None] | None,
) -> Ledger:
    hashes = _SourceHashes(prepared.source.tensors, algorithm)
    step = _stepper(ready, report, passes=2 if verify else 1)
    ledger_name = target.name + SUFFIX
    with Output(target.parent, ready.layout.files, companions=(ledger_name,), overwrite=overwrite) as output:
        sources = _sources(prepared, ready, hashes)
        written = fill(output, ready.layout, sources, algorithm=algorithm, threads=threads, progress=step)
        bad = read_back(output, ready.layout, written, threads=threads, progress=step) if verify else []
        if bad:
            raise FormatError(target, bad[0], "what was read back differs from what was written; the disk or memory is faulty")
        _copies(prepared.records, ready, written, hashes.hashes)
        files = _input_files(prepared, algorithm)
        ledger = _ledger(prepared, kind, target, ready, written, hashes.hashes, files)
        ledger = replace(ledger, verified=verify)
        output.write(len(ready.layout.files), 0, ledger.to_json().encode())
        output.commit()
    return ledger


def _copies(
    records: Sequence[Record], ready: LaidOut, written: Mapping[str, Written], hashes: dict[str, str]
) -> None:
    """A tensor that was only copied has the hash that it was written with."""
    for record in records:
        value = _hash_of(record.target, ready, written) if record.operation == ("copy",) else None
        if value is not None:
            hashes.setdefault(record.sources[0], value)


def _stepper(ready: LaidOut, report: Callable[[int, int], None] | None, passes: int) -> Progress | None:
    if report is None:
        return None
    total = passes * sum(run.nbytes for runs in ready.layout.extents.values() for run in runs)
    done = 0
    lock = Lock()

    def step(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            report(done, total)

    return step


def _input_files(prepared: Prepared, algorithm: str) -> tuple[dict[str, Any], ...]:
    """Name and size of every input file; sha256 of the whole file where sha256 was asked for."""
    lines: list[dict[str, Any]] = []
    for file in prepared.source.files:
        line: dict[str, Any] = {"name": file.name, "bytes": file.stat().st_size}
        if algorithm == "sha256":
            import hashlib

            with file.open("rb") as stream:
                line["hash"] = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
        lines.append(line)
    return tuple(lines)


def _ledger(
    prepared: Prepared,
    kind: Format,
    target: Path,
    ready: LaidOut,
    written: Mapping[str, Written],
    hashes: Mapping[str, str],
    files: tuple[dict[str, Any], ...],
) -> Ledger:
    checkpoint = prepared.source.checkpoint
    used = dict.fromkeys(name for record in prepared.records for name in record.sources)
    entries = prepared.source.tensors
    read = tuple(
        SourceTensor(name, entries[name].shape, entries[name].dtype.name, hashes.get(name))
        for name in used
        if name in entries
    )
    records = tuple(replace(r, hash=_hash_of(r.target, ready, written)) for r in prepared.records)
    return Ledger(
        kit=VERSION,
        family=prepared.match.family.name,
        table=prepared.match.family.version,
        source=Side(
            str(checkpoint.path),
            checkpoint.format,
            prepared.match.dialect.name,
            files or tuple({"name": file.name} for file in prepared.source.files),
            content_hash([(t.name, t.shape, t.dtype, t.hash) for t in read]),
        ),
        target=Side(
            str(target),
            kind.name,
            prepared.dialect.name,
            tuple({"name": name} for name in ready.layout.files),
            content_hash([(r.target, r.shape, r.dtype, r.hash) for r in records]),
        ),
        config=json.loads(json.dumps(dict(prepared.config.values), default=str)),
        inferred=inferred(prepared.bounds[0]),
        options=_options(prepared),
        read=read,
        tensors=records,
        dropped=tuple({"name": line.name, "reason": line.reason} for line in prepared.dropped),
        missing=prepared.missing,
        unexpected=prepared.unexpected,
        absent_groups=prepared.absent,
        notes=(*prepared.notes, *_overflows(ready)),
    )


def _hash_of(name: str, ready: LaidOut, written: Mapping[str, Written]) -> str | None:
    """The hash of a written tensor, or of the one whose bytes it shares."""
    entry = ready.entries.get(name)
    if name not in written and entry is not None and entry.tied is not None:
        name = entry.tied
    return written[name].hash if name in written else None


def _overflows(ready: LaidOut) -> list[str]:
    return [
        f"{entry.name}: {sum(entry.storage.overflowed)} finite values became infinite in {entry.dtype}"
        for entry in ready.entries.values()
        if isinstance(entry.storage, Cast) and entry.storage.overflowed
    ]


def _options(prepared: Prepared) -> dict[str, Any]:
    """The choices that a repetition needs, those that were made apart from the defaults."""
    request = prepared.request
    chosen: dict[str, Any] = {
        "prefix": request.prefix,
        "like": str(request.like) if request.like else None,
        "layers": list(request.layers) if request.layers is not None else None,
        "dtype": request.dtype,
        "with_optimizer": request.with_optimizer or None,
        "optimizer": str(request.optimizer) if request.optimizer else None,
        "allow_missing": list(request.allow_missing) or None,
        "allow_unexpected": list(request.allow_unexpected) or None,
        "variables": dict(request.variables) or None,
        "scopes": [bound.model.prefix("base") for bound in prepared.bounds],
        "config_file": str(prepared.config.path) if prepared.config.path else None,
    }
    return {key: value for key, value in chosen.items() if value is not None}
