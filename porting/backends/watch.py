"""What every framework's `hooks` does with a model that the kit has never seen: no framework needed.

`porting/backends/<framework>/hooks.py` has `open_model(model, batch) -> Watched`. It refuses, with a UsageError that
says what to pass instead, whatever would run without its hooks being called. A watched model runs as it stands: its
own mode, its own device, its own weights.

Names of taps are module paths (`encoder.layer.0.attention`); the second call of a module is `NAME#2`; what is in a
tuple, a list, a mapping or a dataclass is `NAME.0`, `NAME.key`. The model's own output is `output`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol

from porting.backends.protocol import Array
from porting.errors import UsageError
from porting.parity.capture import Section

ROOT = "output"
"""Tap of the model itself, whose path is empty."""

LOSS = "loss"

Keep = Callable[[Section, str, Array], None]
"""Takes (section, name, array) at once: the array may be the model's own memory, and is not held."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a model and of where it runs, as Manifest has them.

    names: of all modules that may be asked for. compute: the dtype that it computes in, by its weights or its policy.
    """

    model: str
    framework: str
    device: str
    names: tuple[str, ...]
    versions: Mapping[str, str]
    switches: Mapping[str, str] = field(default_factory=dict)
    compute: str = "float32"
    training: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What one run is to give.

    modules: names out of `Facts.names`. loss: a function of the output, or a name in it. step: an optimizer.
    """

    modules: frozenset[str]
    loss: Callable[[Any], Any] | str | None = None
    gradients: bool = False
    step: Any = None


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run left to be said. fired: modules whose hooks were called. step: a line of steps.jsonl."""

    fired: frozenset[str]
    step: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


class Watched(Protocol):
    """A model with its batch, ready to run."""

    facts: Facts

    def inputs(self) -> Iterator[tuple[str, Array]]:
        """The batch by name: a mapping's keys, or positions from 0; `` where it is one tensor."""
        ...

    def weights(self) -> Iterator[tuple[str, Array]]:
        """Parameters and buffers by the framework's own names, in its order, tied ones once."""
        ...

    def run(self, asked: Asked, keep: Keep) -> Ran:
        """One pass. Raises: what the model raises, as it is; UsageError for a loss that there is not."""
        ...


@dataclass(slots=True)
class Calls:
    """Counts the calls of modules, and hands every tensor of an output on as it is made."""

    keep: Keep
    is_tensor: Callable[[Any], bool]
    host: Callable[[Any], Array]
    counts: Counter[str] = field(default_factory=Counter)
    silent: set[str] = field(default_factory=set)

    def __call__(self, name: str, output: Any) -> None:
        """What module `name` returned."""
        self.counts[name] += 1
        count = self.counts[name]
        tap = name if count == 1 else f"{name}#{count}"
        given = False
        for path, tensor in leaves(output, self.is_tensor):
            self.keep("forward", tap + path, self.host(tensor))
            given = True
        if not given:
            self.silent.add(name)

    def ran(self, step: Mapping[str, Any] | None = None, notes: Collection[str] = ()) -> Ran:
        """The end of the run."""
        silent = tuple(f"{name}: returned no tensor" for name in sorted(self.silent))
        return Ran(frozenset(self.counts), step, (*silent, *notes))


def leaves(value: Any, is_tensor: Callable[[Any], bool], path: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors in nested tuples, lists, mappings and dataclasses, each with its path: ``, `.0`, `.key.1`.

    >>> list(leaves({"a": (1, None), "b": [2]}, lambda value: isinstance(value, int)))
    [('.a.0', 1), ('.b.0', 2)]
    """
    if is_tensor(value):
        yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from leaves(part, is_tensor, f"{path}.{key}")
    elif is_dataclass(value) and not isinstance(value, type):
        for one in fields(value):
            yield from leaves(getattr(value, one.name), is_tensor, f"{path}.{one.name}")
    elif isinstance(value, (tuple, list)):
        keys = getattr(value, "_fields", range(len(value)))
        for key, part in zip(keys, value, strict=True):
            yield from leaves(part, is_tensor, f"{path}.{key}")


def root_name(names: Collection[str]) -> str:
    """The tap of the model itself: `output`, or `(output)` where a module of that name is in it."""
    return f"({ROOT})" if ROOT in names else ROOT


def loss_of(loss: Callable[[Any], Any] | str, output: Any, is_tensor: Callable[[Any], bool]) -> Any:
    """The scalar to differentiate: a function of the output, or the part of the output that has this name.

    Raises: UsageError if it is not there or not one number.
    """
    if callable(loss):
        found = loss(output)
    else:
        there = {path.removeprefix("."): tensor for path, tensor in leaves(output, is_tensor)}
        if loss not in there:
            known = ", ".join(there) if any(there) else "one tensor without a name"
            raise UsageError(
                f"loss {loss!r}: the model's output has {known or 'no tensor'}; a function of it also works"
            )
        found = there[loss]
    if not is_tensor(found) or any(size != 1 for size in found.shape):
        shape = tuple(found.shape) if is_tensor(found) else type(found).__name__
        raise UsageError(f"loss: wanted one number, got {shape}")
    return found


def arguments(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch as positional and named arguments: a mapping by name, a tuple or list by position, else one."""
    if isinstance(batch, Mapping):
        return (), dict(batch)
    return (tuple(batch), {}) if isinstance(batch, (tuple, list)) else ((batch,), {})
