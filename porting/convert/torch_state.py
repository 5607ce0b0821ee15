"""PyTorch's optimizer state in a checkpoint: found by its structure, kept apart from the parameters.

`Optimizer.state_dict()` is `{"state": {0: {"step": …, "exp_avg": …}}, "param_groups": [{"lr": …, "params": [0]}]}`. It
stands in training checkpoints under names of all kinds (`optimizer`, fairseq's `last_optimizer_state`, a list in
Lightning's `optimizer_states`), or alone in a file (`optimizer.pt`). torch.distributed and FSDP key it by the names of
parameters instead of integers.

Reference: torch/optim/optimizer.py, `state_dict`; torch/distributed/checkpoint/state_dict.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.torch.tree import TensorRef, decode
from porting.errors import FormatError

Key = int | str


@dataclass(frozen=True)
class TorchState:
    """One optimizer's state.

    file, place: where it stands; the place is "" in a file of its own.
    state: per key of a parameter what is kept for it, tensors as `TensorRef`.
    groups: parameter groups, each with `params`, the keys in order.
    entries: its tensors by the names that a conversion knows them by.
    """

    file: Path
    place: str
    state: Mapping[Key, Mapping[str, Any]]
    groups: tuple[Mapping[str, Any], ...]
    entries: Mapping[str, TensorEntry]

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.file.name}: {self.place}" if self.place else self.file.name

    def number(self, value: Any) -> float | None:
        """A value that is a number, or a tensor of one element."""
        if isinstance(value, TensorRef):
            entry = self.entries[value.name]
            numeric = entry.elements == 1 and entry.dtype.kind in {"int", "uint", "float"}
            return float(entry.read().reshape(-1)[0]) if numeric else None
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def optimizer_states(checkpoint: Checkpoint) -> tuple[TorchState, ...]:
    """Every optimizer's state in a checkpoint, in the order of the file.

    Raises: FormatError for one that is damaged.
    """
    tree = checkpoint.metadata.get("tree")
    return () if tree is None else tuple(_found(decode(tree), "", checkpoint))


def separate_state(checkpoint: Checkpoint) -> TorchState:
    """The state in a file that was given as the optimizer's; its tensors are called FILE:NAME.

    Raises: FormatError if the file does not hold exactly one.
    """
    states = optimizer_states(checkpoint)
    if len(states) != 1:
        found = ", ".join(state.place for state in states) or "none"
        raise FormatError(checkpoint.path, "", f"wanted one optimizer with state and param_groups, got {found}")
    (state,) = states
    names = {name: f"{checkpoint.path.name}:{name}" for name in state.entries}
    kept = {key: _renamed(value, names) for key, value in state.state.items()}
    groups = tuple(_renamed(group, names) for group in state.groups)
    entries = {names[name]: entry._replace(name=names[name]) for name, entry in state.entries.items()}
    return replace(state, state=kept, groups=groups, entries=entries)


def without_states(checkpoint: Checkpoint, states: tuple[TorchState, ...]) -> Checkpoint:
    """The checkpoint without its optimizers' tensors."""
    inside = {name for state in states for name in state.entries}
    return replace(checkpoint, entries={name: e for name, e in checkpoint.entries.items() if name not in inside})


def state_dict_of(checkpoint: Checkpoint) -> Checkpoint:
    """The parameters of a checkpoint; if all lie under one key of a training checkpoint, by their names there."""
    plain = without_states(checkpoint, optimizer_states(checkpoint))
    tree = checkpoint.metadata.get("tree")
    if not isinstance(tree, Mapping):
        return plain
    keys = [key for key in tree if all(name.startswith(f"{key}.") for name in plain.entries)]
    if len(keys) != 1 or not plain.entries:
        return plain
    names = {name: name.removeprefix(f"{keys[0]}.") for name in plain.entries}
    return replace(
        plain, entries={names[n]: e._replace(name=names[n], tied=names.get(e.tied or "")) for n, e in plain.items()}
    )


def other_keys(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Top-level keys of a training checkpoint under which no tensor stands: epochs, arguments, schedules."""
    tree = checkpoint.metadata.get("tree")
    if not isinstance(tree, Mapping):
        return ()
    return tuple(key for key, value in tree.items() if not any(_tensors(decode(value))))


def _found(value: Any, place: str, checkpoint: Checkpoint) -> Iterator[TorchState]:
    if isinstance(value, Mapping):
        state, groups = value.get("state"), value.get("param_groups")
        if isinstance(state, Mapping) and isinstance(groups, list):
            yield _parsed(checkpoint, place, state, groups)
            return
        parts: Any = value.items()
    else:
        parts = enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in parts:
        yield from _found(part, f"{place}.{key}" if place else str(key), checkpoint)


def _parsed(checkpoint: Checkpoint, place: str, state: Mapping[Any, Any], groups: list[Any]) -> TorchState:
    path = checkpoint.path
    for number, group in enumerate(groups):
        where = f"{place}.param_groups.{number}".lstrip(".")
        params = group.get("params") if isinstance(group, Mapping) else None
        if not isinstance(params, list) or any(type(key) not in (int, str) for key in params):
            raise FormatError(path, where, "wanted a group with params, a list of integers or names")
    keys = [key for group in groups for key in group["params"]]
    if len(set(keys)) != len(keys):
        raise FormatError(path, f"{place}.param_groups".lstrip("."), "a parameter is in two groups")
    unknown = [key for key in state if key not in set(keys)]
    if unknown or any(not isinstance(value, Mapping) for value in state.values()):
        raise FormatError(path, f"{place}.state".lstrip("."), "wanted a mapping for parameters of the groups only")
    names = dict.fromkeys([*_tensors(state), *_tensors(groups)])
    return TorchState(path, place, state, tuple(groups), {name: checkpoint.entries[name] for name in names})


def _tensors(value: Any) -> Iterator[str]:
    if isinstance(value, TensorRef):
        yield value.name
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, TensorRef):
        return TensorRef(names[value.name])
    if isinstance(value, Mapping):
        return {key: _renamed(part, names) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_renamed(part, names) for part in value)
    return value
