"""What a conversion reads: the parameters of a checkpoint, its optimizer's state apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.registry import read

if TYPE_CHECKING:
    from porting.convert.torch_state import TorchState


class Wanted(Protocol):
    """The part of a request that decides what is opened."""

    @property
    def source(self) -> Path: ...
    @property
    def source_format(self) -> str | None: ...
    @property
    def source_framework(self) -> str | None: ...
    @property
    def optimizer(self) -> Path | None: ...
    @property
    def like(self) -> Path | None: ...


@dataclass(frozen=True)
class Source:
    """An opened source.

    entries: parameters, and slots that are named after them. states: PyTorch optimizers' in the checkpoint, whose
    tensors are not among the entries. optimizer: one from a file of its own, if that was given. constants: entries of
    a graph that are no weights.
    """

    checkpoint: Checkpoint
    entries: Mapping[str, TensorEntry]
    states: tuple[TorchState, ...] = ()
    optimizer: TorchState | None = None
    constants: tuple[str, ...] = ()

    @cached_property
    def tensors(self) -> Mapping[str, TensorEntry]:
        """Everything that a conversion may read."""
        every = (*self.states, self.optimizer) if self.optimizer else self.states
        return {**self.entries, **{name: entry for state in every for name, entry in state.entries.items()}}

    @property
    def state_tensors(self) -> list[str]:
        """Names of the tensors of PyTorch optimizers."""
        return [name for name in self.tensors if name not in self.entries]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read."""
        return (*self.checkpoint.files, self.optimizer.file) if self.optimizer else self.checkpoint.files


def open_source(request: Wanted) -> Source:
    """Open the checkpoint, and name what its file leaves anonymous or names by an object graph.

    Raises: FormatError, UsageError.
    """
    checkpoint = read(request.source, format=request.source_format, framework=request.source_framework)
    checkpoint = named(checkpoint, request.like)
    states, optimizer, plain = _torch_states(checkpoint, request.optimizer)
    constants = tuple(name for name in checkpoint.metadata.get("constants", ()) if name in checkpoint.entries)
    entries = {name: entry for name, entry in plain.items() if name not in set(constants)}
    return Source(checkpoint, entries, states, optimizer, constants)


def _torch_states(
    checkpoint: Checkpoint, file: Path | None
) -> tuple[tuple[TorchState, ...], TorchState | None, Mapping[str, TensorEntry]]:
    """PyTorch optimizers in the checkpoint and in a file of their own, and the entries that are not theirs."""
    if "tree" not in checkpoint.metadata and file is None:
        return (), None, checkpoint.entries
    from porting.convert.torch_state import optimizer_states, separate_state, without_states

    states = optimizer_states(checkpoint)
    return states, separate_state(read(file)) if file else None, without_states(checkpoint, states).entries


def named(checkpoint: Checkpoint, like: Path | None = None) -> Checkpoint:
    """The checkpoint with the names that tables know.

    like: a checkpoint of the same values, after which anonymous ONNX initializers are named.
    """
    full_names = checkpoint.metadata.get("full_names")
    if isinstance(full_names, Mapping) and full_names:
        return replace(checkpoint, entries=_by_full_name(checkpoint.entries, full_names))
    if checkpoint.metadata.get("anonymous") and like is not None:
        from porting.checkpoint.onnx.names import name_by_value

        checkpoint = name_by_value(checkpoint, read(like))
    return checkpoint


def _by_full_name(entries: Mapping[str, TensorEntry], full_names: Mapping[str, str]) -> dict[str, TensorEntry]:
    """TF2 object graphs key variables by attribute paths; tables know the variables' own names."""
    counts: dict[str, int] = {}
    for name in full_names.values():
        counts[name] = counts.get(name, 0) + 1
    out: dict[str, TensorEntry] = {}
    for key, entry in entries.items():
        name = full_names.get(key, key)
        unique = name if counts.get(name, 1) == 1 else key
        out[unique] = entry._replace(name=unique)
    return out
