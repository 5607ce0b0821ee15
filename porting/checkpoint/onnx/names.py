"""Initializers under the names and in the orientation of the torch parameters that they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.equal import equal_bits
from porting.checkpoint.onnx.graph import Graph
from porting.checkpoint.onnx.scopes import Naming, Slot, name_initializers
from porting.checkpoint.onnx.tensor import Initializer
from porting.checkpoint.pieces import entry_pieces
from porting.checkpoint.storage import Mapped, Permuted, Storage


@dataclass(frozen=True, slots=True)
class Presented:
    """A graph as a checkpoint shows it.

    slots: by entry, the one that is read first; the others hold the same tensor again.
    anonymous, constants: as in `Naming`, with what values have refuted added.
    """

    entries: dict[str, TensorEntry]
    slots: dict[str, list[Slot]]
    anonymous: dict[str, str]
    constants: tuple[str, ...]


def present(graph: Graph) -> Presented:
    """Names and orients every initializer.

    Two initializers that the evidence gives one name must be equal bit for bit; otherwise those
    that were named by evidence alone stay anonymous. Only then are values read.
    """
    naming = name_initializers(graph)
    slots, refuted = _agreeing(graph, naming)
    anonymous = naming.anonymous | refuted
    entries: dict[str, TensorEntry] = {}
    owners: dict[tuple[str, bool], str] = {}
    for name, places in slots.items():
        root, transposed = places[0].initializer, places[0].transposed
        owner = owners.setdefault((root, transposed), name)
        entries[name] = _entry(name, graph.initializers[root], transposed, None if owner == name else owner)
    for label in (*anonymous, *naming.constants):
        entries.setdefault(label, _entry(label, graph.initializers[naming.roots[label]]))
        slots.setdefault(label, [Slot(label, label, naming.roots[label])])
    return Presented(entries, slots, anonymous, naming.constants)


def _agreeing(graph: Graph, naming: Naming) -> tuple[dict[str, list[Slot]], dict[str, str]]:
    """Slots by name, those of the initializer's own name first, and the labels whose values refute the evidence."""
    named = _without_call_numbers(graph, naming.slots)
    slots: dict[str, list[Slot]] = {slot.name: [] for slot in named}
    for slot in sorted(named, key=lambda slot: slot.name != slot.label):
        slots[slot.name].append(slot)
    refuted: dict[str, str] = {}
    for name, places in slots.items():
        base, *others = (_slot_entry(graph, slot) for slot in places)
        if not all(same_values(base, other) for other in others):
            refuted |= {slot.label: f"its node says {name}, and so do others of other values" for slot in places}
            refuted.pop(name, None)
            slots[name] = [slot for slot in places if slot.label == name]
    return {name: places for name, places in slots.items() if places}, refuted


def _without_call_numbers(graph: Graph, slots: Iterable[Slot]) -> list[Slot]:
    """TorchScript numbers the scope of a module called again (`dense_1`): that slot is `dense` if the values agree."""
    by_name = {slot.name: slot for slot in slots}
    result = []
    for slot in slots:
        first = None
        if slot.name != slot.label and not graph.kinds:
            first = next((by_name[name] for name in _unnumbered(slot.name) if name in by_name), None)
        if first is not None and same_values(_slot_entry(graph, first), _slot_entry(graph, slot)):
            slot = replace(slot, name=first.name)  # noqa: PLW2901  the same slot, corrected
        result.append(slot)
    return result


def _unnumbered(name: str) -> Iterator[str]:
    """The name without the numbers of one, two … of its parts, outermost first.

    >>> list(_unnumbered("a_1.b_2.weight"))
    ['a.b_2.weight', 'a_1.b.weight', 'a.b.weight']
    """
    parts = name.split(".")
    numbered = [index for index, part in enumerate(parts) if re.fullmatch(r".+_\d+", part)][:4]
    for count in range(1, len(numbered) + 1):
        for chosen in combinations(numbered, count):
            yield ".".join(part.rpartition("_")[0] if i in chosen else part for i, part in enumerate(parts))


def _slot_entry(graph: Graph, slot: Slot) -> TensorEntry:
    return _entry(slot.name, graph.initializers[slot.initializer], slot.transposed)


def _entry(name: str, tensor: Initializer, transposed: bool = False, tied: str | None = None) -> TensorEntry:  # noqa: FBT001, FBT002  a fact of the tensor, not a switch
    if not transposed:
        return TensorEntry(name, tensor.shape, tensor.dtype, tensor.storage, tensor.place, tied)
    return TensorEntry(
        name, tensor.shape[::-1], tensor.dtype, swapped(tensor.storage, tensor.shape), tensor.place, tied
    )


def swapped(storage: Storage, shape: tuple[int, ...]) -> Storage:
    """A matrix with its axes swapped, lazily."""
    if isinstance(storage, Mapped):
        return storage.permuted((1, 0))
    if isinstance(storage, Permuted):
        return storage.inner
    return Permuted(storage, shape, (1, 0))


def metadata(graph: Graph, presented: Presented) -> dict[str, Any]:
    """What `Checkpoint.metadata` says of a model.

    renamed: from presented name to {"initializer": its own name, "transposed": bool}.
    anonymous: from the name of each weight that cannot be named to the reason.
    constants: names of initializers that are no weights. copies: initializers that hold a tensor again.
    """
    renamed = {
        name: {"initializer": places[0].initializer, "transposed": places[0].transposed}
        for name, places in presented.slots.items()
        if places[0].initializer != name
    }
    copies = {slot.initializer: name for name, places in presented.slots.items() for slot in places[1:]}
    return {
        **graph.metadata,
        "renamed": renamed,
        "anonymous": dict(presented.anonymous),
        "constants": list(presented.constants),
        "copies": copies,
    }


def same_values(a: TensorEntry, b: TensorEntry) -> bool:
    """Whether two tensors are equal in shape, dtype and bits, whose pages are given back."""
    equal = equal_bits(a, b)
    a.storage.release()
    b.storage.release()
    return equal


def name_by_value(checkpoint: Checkpoint, like: Mapping[str, TensorEntry]) -> Checkpoint:
    """Gives anonymous initializers the names that their values have in another checkpoint of the same model.

    A match is bit for bit, as it is or (for matrices) transposed. What the reference does not hold, but
    the model itself under a name, is a tied tensor that the exporter wrote again: it goes to
    `metadata["copies"]`. Whatever matches nothing, several tensors, or a matrix equal to its own transpose
    stays anonymous, with that as its reason in `metadata["anonymous"]`.
    """
    reasons: dict[str, str] = dict(checkpoint.metadata.get("anonymous", {}))
    free = [entry for name, entry in like.items() if name not in checkpoint and entry.dtype.kind != "string"]
    sought = {entry.elements * entry.dtype.itemsize for name in reasons if (entry := checkpoint.get(name))}
    prints: dict[tuple[str, bytes], list[TensorEntry]] = {}
    for entry in free:
        if entry.nbytes in sought:
            prints.setdefault(_fingerprint(entry), []).append(entry)
    matches: dict[str, tuple[str, bool]] = {}
    for raw in list(reasons):
        if raw in checkpoint:
            found = _matches(checkpoint[raw], prints.get(_fingerprint(checkpoint[raw]), ()))
            if len(found) == 1:
                matches[raw] = found[0]
            else:
                reasons[raw] = (
                    f"equals {', '.join(_described(found[:4]))}" if found else "equals no tensor of the reference"
                )
    for raw in _contested(matches):
        reasons[raw] = f"equals {matches.pop(raw)[0]}, and so does another"
    named = [entry for name, entry in checkpoint.items() if name not in reasons and name in like]
    copies = {raw: name for raw in reasons if raw not in matches and (name := _written_again(checkpoint, raw, named))}
    anonymous = {raw: why for raw, why in reasons.items() if raw not in matches and raw not in copies}
    return _renamed(checkpoint, matches, copies, anonymous)


def _written_again(checkpoint: Checkpoint, raw: str, named: Iterable[TensorEntry]) -> str | None:
    """The one tensor of the model that an anonymous initializer equals, itself or transposed."""
    entry = checkpoint.get(raw)
    if entry is None or entry.elements < 2:
        return None
    found = {name for name, _ in _matches(entry, (other for other in named if other.nbytes == entry.nbytes))}
    return found.pop() if len(found) == 1 else None


def _fingerprint(entry: TensorEntry) -> tuple[str, bytes]:
    """Equal for a tensor and its transpose: dtype and how often each byte value occurs."""
    counts = np.zeros(256, np.int64)
    for piece in entry_pieces(entry):
        counts += np.bincount(np.frombuffer(piece, np.uint8), minlength=256)
    entry.storage.release()
    return entry.dtype.name, counts.tobytes()


def _matches(entry: TensorEntry, candidates: Iterable[TensorEntry]) -> list[tuple[str, bool]]:
    """(name, whether transposed) of every candidate with the entry's bits."""
    found = []
    turned = None
    if len(entry.shape) == 2:
        turned = entry._replace(shape=entry.shape[::-1], storage=swapped(entry.storage, entry.shape))
    for other in candidates:
        if same_values(entry, other):
            found.append((other.name, False))
        if turned is not None and same_values(turned, other):
            found.append((other.name, True))
    return found


def _described(found: Iterable[tuple[str, bool]]) -> list[str]:
    return [f"{name} transposed" if transposed else name for name, transposed in found]


def _contested(matches: Mapping[str, tuple[str, bool]]) -> list[str]:
    names = [name for name, _ in matches.values()]
    return [raw for raw, (name, _) in matches.items() if names.count(name) > 1]


def _renamed(
    checkpoint: Checkpoint,
    matches: Mapping[str, tuple[str, bool]],
    copies: Mapping[str, str],
    anonymous: Mapping[str, str],
) -> Checkpoint:
    entries: dict[str, TensorEntry] = {}
    renamed = dict(checkpoint.metadata.get("renamed", {}))
    for raw, entry in checkpoint.entries.items():
        if raw in copies:
            continue
        name, transposed = matches.get(raw, (raw, False))
        if raw in matches:
            renamed[name] = {"initializer": raw, "transposed": transposed}
        shape = entry.shape[::-1] if transposed else entry.shape
        storage = swapped(entry.storage, entry.shape) if transposed else entry.storage
        entries[name] = entry._replace(name=name, shape=shape, storage=storage)
    known = {**checkpoint.metadata.get("copies", {}), **copies}
    told = {**checkpoint.metadata, "renamed": renamed, "anonymous": dict(anonymous), "copies": known}
    return replace(checkpoint, entries=entries, metadata=told)
