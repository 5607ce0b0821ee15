"""What a format is: how it is recognised, read, and laid out for writing.

A format's package has a front, its `__init__`: the `Format` with functions that are imported when they
are first called, behind a look at the path that costs next to nothing. So finding one format does
not import the ten others.

Writing is split in two. A format's `plan` is a pure function from names, shapes and dtypes to a
`Layout`: which files there will be and at which offset each tensor lies. The engine then streams
bytes into those places, and asks the layout for what could only be known at
the end (checksums, an index). So a format never holds a tensor, and never opens an output.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from porting.checkpoint.checksum import Kind
from porting.checkpoint.dtypes import DType
from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.errors import FormatError

Framework = Literal["tensorflow", "pytorch", "mindspore", "onnx", "numpy"]
Packing = Literal["plain", "nibbles"]


class TensorSpec(NamedTuple):
    """A tensor to be written.

    tied: name of an earlier spec whose bytes it shares; a format that cannot share writes them again.
    strings: the values of a string tensor, row-major; None for all others.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    tied: str | None = None
    strings: tuple[bytes, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        count = 1
        for size in self.shape:
            count *= size
        return count * self.dtype.itemsize


class Extent(NamedTuple):
    """A run of a tensor's bytes in an output file. Most tensors have one, MindSpore's large ones several."""

    file: int
    offset: int
    nbytes: int


class Patch(NamedTuple):
    """Bytes of the format's own at an offset of an output file (header, index, footer)."""

    file: int
    offset: int
    data: bytes


Checksums = Mapping[str, tuple[int, ...]]
"""By tensor, the checksum of each of its runs."""

Finish = Callable[[Checksums], Sequence[Patch]]


class Layout(NamedTuple):
    """Where everything goes.

    files: final file names, in the order in which they are put in place; relative to the folder of
        the output path. The last one is what makes the checkpoint exist (an index, if there is one).
    extents: for every spec that is written as bytes, its runs in order. A tied spec that the format
        shares is absent.
    fixed: bytes known before any tensor is read.
    checksum: what the engine computes over each run's bytes while they pass.
    finish: from the checksums of each tensor's runs to the bytes that depend on them.
    packing: tensors whose two elements share a byte (ONNX int4), by name; `plain` where absent.
    """

    files: tuple[str, ...]
    extents: Mapping[str, tuple[Extent, ...]]
    fixed: tuple[Patch, ...] = ()
    checksum: Kind | None = None
    finish: Finish | None = None
    packing: Mapping[str, Packing] = {}

    def packed(self, name: str) -> bool:
        """Whether two elements of the tensor share a byte."""
        return self.packing.get(name) == "nibbles"

    def size(self, name: str) -> int:
        """Bytes of one tensor, as the files hold it."""
        return sum(run.nbytes for run in self.extents[name])

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(map(self.size, self.extents))

    def in_order(self) -> list[str]:
        """All tensors by their place in the files: in this order a disk writes in one direction.

        >>> layout = Layout(("a", "b"), {"x": (Extent(1, 0, 2),), "y": (Extent(0, 4, 4),), "z": (Extent(0, 0, 4),)})
        >>> layout.in_order()
        ['z', 'y', 'x']
        """
        return sorted(self.extents, key=lambda name: [(run.file, run.offset) for run in self.extents[name][:1]])


class WriteOptions(NamedTuple):
    """What a caller may choose about an output file.

    target: the path as the user gave it (a file, or a prefix for a TensorFlow bundle).
    shard_size: bytes per shard at most, for formats that shard; None for one file.
    metadata: string pairs for formats that have a place for them.
    graph: an ONNX model whose initializers are replaced; its path.
    extra: options of one format only, by its own names (`crc` for MindSpore).
    """

    target: Path
    shard_size: int | None = None
    metadata: Mapping[str, str] = {}
    graph: Path | None = None
    extra: Mapping[str, Any] = {}


class Format(NamedTuple):
    """One checkpoint format: a file of this package exports one, an entry point `porting.formats` names it.

    name: as `--format` takes it.
    extension: of the output when the user gives none (`.ckpt`).
    locate: from a path that the user typed to the path that `read` takes, or None if this is not
        the format. Looks at content only (a magic, a structure), never at a suffix, and opens no
        more than it needs. The path may be a file, a folder, or a prefix with no file of its own.
    read: the checkpoint, lazily.
    plan: the layout of an output; None where the format is only read.
    writes: dtypes that can be written.
    adapt: what the format needs done to the tensors before `plan` sees them, lazily: ONNX renames and
        transposes into the initializers of a given graph. None for all others.
    verify: reads a whole checkpoint of this format and compares every checksum that the files store with the bytes
        they hold, but those that entries tell themselves (see porting.checkpoint.sound); one line per tensor (or
        file) that is wrong, nothing when all is well. None where the format stores no such checksums.
    """

    name: str
    framework: Framework
    extension: str
    locate: Callable[[Path], Path | None]
    read: Callable[[Path], Checkpoint]
    plan: Callable[[Sequence[TensorSpec], WriteOptions], Layout] | None = None
    writes: frozenset[str] = frozenset()
    adapt: Callable[[Mapping[str, TensorEntry], WriteOptions], Mapping[str, TensorEntry]] | None = None
    verify: Callable[[Checkpoint], Iterable[str]] | None = None


def deferred(target: str) -> Callable[..., Any]:
    """A function that imports the one it stands for (`package.module:name`) when it is first called."""
    module, _, name = target.partition(":")

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), name)(*args, **kwargs)

    return call


def head(path: Path, length: int = 16) -> bytes:
    """The first bytes of a regular file; none of anything else, nor of what cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(length)
    except OSError:
        return b""


def whole(path: Path, limit: int) -> bytes:
    """The bytes of a small regular file: a config, an index, a ledger.

    Raises: FormatError if it cannot be read, is no regular file (a pipe would never end), or is longer than `limit`.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FormatError(path, "", "is not a regular file")
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise FormatError(path, "", f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > limit:
        raise FormatError(path, "", f"wanted at most {limit} bytes, got more")
    return data


def gated(target: str, opens: Callable[[Path], bool]) -> Callable[[Path], Path | None]:
    """A `locate` that asks `target` only where `opens` says that it may be the format."""
    ask = deferred(target)

    def locate(path: Path) -> Path | None:
        return ask(path) if opens(path) else None

    return locate
