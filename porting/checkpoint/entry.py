"""The two types that every format reads into: a lazy tensor and a mapping of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from porting.checkpoint.checksum import Checksum
from porting.checkpoint.dtypes import DType
from porting.checkpoint.storage import Array, Box, Storage


class TensorEntry(NamedTuple):
    """One tensor of a checkpoint; no bytes are touched until `read`.

    shape: elements per axis, outermost first; () for a scalar.
    place: where it lies, for messages (`model.ckpt.data-00000-of-00001 at 4096`).
    tied: the name of the earlier entry whose storage this one shares bit for bit, or None.
    checksum: what the file says of the bytes in row-major order; None where it says nothing, or not of this tensor
        alone. `read` does not compare it (see porting.checkpoint.sound).
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    storage: Storage
    place: str = ""
    tied: str | None = None
    checksum: Checksum | None = None

    def read(self, box: Box = ()) -> Array:
        """The box of elements (all of them by default) as an array of `dtype.numpy()`.

        A view of the mapped file where the format allows it: do not keep it longer than needed.
        """
        return self.storage.read(box)

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in memory; 0 for strings, whose length only reading tells."""
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Checkpoint(Mapping[str, TensorEntry]):
    """All tensors of one checkpoint, in the order in which the file holds them.

    format: name of the format that read it.
    files: every file that bytes come from, the one the user named first.
    metadata: what the file holds beside tensors, JSON-like (safetensors' __metadata__, torch's
        param_groups and step, MindSpore's append_dict scalars, Keras' config).
    notes: what a reader noticed and the user should hear (a crc that is absent, a leaf not read).
    """

    path: Path
    format: str
    entries: Mapping[str, TensorEntry]
    files: tuple[Path, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> TensorEntry:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def parameters(self) -> int:
        """Number of elements in all tensors, shared ones once."""
        return sum(entry.elements for entry in self.entries.values() if entry.tied is None)
