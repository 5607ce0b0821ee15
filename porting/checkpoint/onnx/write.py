"""Writes tensors into a given ONNX model: its graph and everything else stay, its initializers' data change.

Initializers that two parameters share in the graph, because they were equal when it was exported, get
an initializer each when the incoming tensors differ: the Identity node that stood for the second one
goes, or its consumers' input is renamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.format import Extent, Layout, Patch, TensorSpec, WriteOptions
from porting.checkpoint.onnx.graph import (
    GRAPH,
    INITIALIZER,
    MODEL_PROPS,
    NODE,
    NODE_INPUT,
    Graph,
    is_model,
    read_graph,
    records,
)
from porting.checkpoint.onnx.names import Presented, present, same_values, swapped
from porting.checkpoint.onnx.scopes import Slot, name_initializers
from porting.checkpoint.onnx.storage import packed_size
from porting.checkpoint.onnx.tensor import DATA_LOCATION, EXTERNAL_DATA, NAME, PAYLOAD, RAW_DATA, STRING_DATA, read_pair
from porting.checkpoint.wire import Field, head, integer, message
from porting.errors import MismatchError, UsageError

PROTOBUF_LIMIT = (1 << 31) - 1
"""Bytes that a protobuf message may have (protobuf.dev, "Proto Limits")."""

ALIGNMENT = 4096
"""Of external data, so that a runtime can map it (onnx.proto, TensorProto.external_data: offset)."""

SMALL = 1024
"""Tensors below this stay inline (the threshold of onnx.save_model)."""

_OPTIONAL = frozenset({"bool", "int64", "string"})


def graph_of(options: WriteOptions) -> Graph:
    """The model to write into.

    Raises: UsageError if none was given or it is none; FormatError.
    """
    if options.graph is None:
        raise UsageError("format onnx: weights are written into a model; name it with --graph MODEL.onnx")
    if unknown := sorted(set(options.extra) - {"external"}):
        raise UsageError(f"format onnx: unknown option {', '.join(unknown)}; there is external")
    if not options.graph.is_file() or not is_model(options.graph):
        raise UsageError(f"--graph {options.graph}: is no ONNX model")
    return read_graph(options.graph)


def adapt(incoming: Mapping[str, TensorEntry], options: WriteOptions) -> Mapping[str, TensorEntry]:
    """Tensors by presented name to tensors by initializer, transposed where the graph holds them so.

    Shapes, indices and other constants of the graph that `incoming` lacks are kept from it.
    Raises: MismatchError with all names and shapes that do not fit; UsageError; FormatError.
    """
    graph = graph_of(options)
    shown = present(graph)
    if problems := list(_mismatches(incoming, shown)):
        raise MismatchError(f"{options.graph}: {len(problems)} tensors do not fit the graph", problems)
    result: dict[str, TensorEntry] = {}
    given: dict[str, TensorEntry] = {}
    for name, slots in shown.slots.items():
        entry = incoming.get(name)
        for slot in slots:
            if entry is None:
                continue
            target = slot.initializer
            if target in given and not same_values(given[target], entry):
                target = _own_name(slot)
                problems.extend(_unsplittable(graph, slot, given[slot.initializer].name))
            given.setdefault(target, entry)
            result.setdefault(target, _oriented(target, entry, slot))
    if problems:
        raise MismatchError(f"{options.graph}: {len(problems)} tensors do not fit the graph", problems)
    for raw, tensor in graph.initializers.items():
        if raw not in result:
            result[raw] = TensorEntry(raw, tensor.shape, tensor.dtype, tensor.storage, tensor.place)
    return result


def _mismatches(incoming: Mapping[str, TensorEntry], shown: Presented) -> Iterator[str]:
    shared = {slot.initializer for name in incoming for slot in shown.slots.get(name, ())}
    for name, wanted in shown.entries.items():
        entry = incoming.get(name)
        if entry is None:
            optional = wanted.dtype.name in _OPTIONAL or name in shown.constants
            if not optional and not all(slot.initializer in shared for slot in shown.slots[name]):
                yield f"{name}: missing{', an anonymous weight of the graph' if name in shown.anonymous else ''}"
        elif (entry.shape, entry.dtype) != (wanted.shape, wanted.dtype):
            yield f"{name}: the graph wants {wanted.dtype} {wanted.shape}, got {entry.dtype} {entry.shape}"
    yield from (f"{name}: the graph has no such initializer" for name in incoming if name not in shown.entries)


def _own_name(slot: Slot) -> str:
    return slot.name if slot.identity is None else slot.label


def _unsplittable(graph: Graph, slot: Slot, other: str) -> Iterator[str]:
    """Why a slot cannot get an initializer of its own: its consumers are unknown, or its name is taken."""
    values = {name for node in graph.nodes for name in node.outputs}
    subgraphs = any(node.op in ("If", "Loop", "Scan") for node in graph.nodes)
    by_use = bool(slot.uses) and not subgraphs and slot.name not in values | graph.initializers.keys()
    if not (slot.name == slot.label if slot.identity is not None else by_use):
        yield f"{slot.name}: one initializer with {other} in the graph, but the tensors given differ"


def _oriented(name: str, entry: TensorEntry, slot: Slot) -> TensorEntry:
    if not slot.transposed:
        return entry._replace(name=name, tied=None)
    turned = swapped(entry.storage, entry.shape)
    return TensorEntry(name, entry.shape[::-1], entry.dtype, turned, entry.place)


@dataclass(frozen=True, slots=True)
class _Payload:
    """A hole in the output that a tensor's bytes fill."""

    name: str
    nbytes: int


_Part = bytes | memoryview | _Payload


def plan(specs: Sequence[TensorSpec], options: WriteOptions) -> Layout:
    """The given model with these tensors as its initializers; `specs` are what `adapt` returns.

    Inline while protobuf's limit allows it, else (or with `extra={"external": True}`) beside it as `TARGET.data`.
    """
    graph = graph_of(options)
    wanted = {spec.name: spec for spec in specs}
    model = options.target.name
    parts = list(_model(graph, wanted, options, {}))
    if options.extra.get("external") or sum(map(_size, parts)) > PROTOBUF_LIMIT:
        external = _external_extents(specs)
        parts = list(_model(graph, wanted, options, external, f"{model}.data"))
        return _layout((f"{model}.data", model), parts, external, wanted)
    return _layout((model,), parts, {}, wanted)


def _size(part: _Part) -> int:
    return part.nbytes if isinstance(part, _Payload) else len(part)


def _external_extents(specs: Iterable[TensorSpec]) -> dict[str, Extent]:
    extents: dict[str, Extent] = {}
    at = 0
    for spec in specs:
        size = packed_size(prod(spec.shape), spec.dtype)
        if size >= SMALL and spec.strings is None:
            extents[spec.name] = Extent(0, at, size)
            at += size + -size % ALIGNMENT
    return extents


def _layout(
    files: tuple[str, ...], parts: Sequence[_Part], external: Mapping[str, Extent], wanted: Mapping[str, TensorSpec]
) -> Layout:
    extents = {name: (extent,) for name, extent in external.items()}
    model = len(files) - 1
    fixed: list[Patch] = []
    run = bytearray()
    begin = at = 0
    for part in parts:
        if isinstance(part, _Payload):
            fixed.append(Patch(model, begin, bytes(run)))
            extents[part.name] = (Extent(model, at, part.nbytes),)
            run.clear()
            begin = at + part.nbytes
        else:
            run += part
        at += _size(part)
    fixed.append(Patch(model, begin, bytes(run)))
    packing = {name: "nibbles" for name in extents if wanted[name].dtype.bits == 4}
    return Layout(files, extents, tuple(patch for patch in fixed if patch.data), packing=packing)  # type: ignore[arg-type]


def _model(
    graph: Graph,
    wanted: Mapping[str, TensorSpec],
    options: WriteOptions,
    external: Mapping[str, Extent],
    data: str = "",
) -> Iterator[_Part]:
    """The ModelProto in pieces."""
    view = graph.file.view
    inner = list(_graph(graph, wanted, external, data))
    for item, begin, end in records(view, 0, len(view)):
        if item.number == GRAPH:
            yield head(GRAPH, sum(map(_size, inner)))
            yield from inner
        elif item.number != MODEL_PROPS or read_pair(item, view)[0] not in options.metadata:
            yield view[begin:end]
    for key, value in options.metadata.items():
        yield message(MODEL_PROPS, message(1, key) + message(2, value))


def _graph(
    graph: Graph, wanted: Mapping[str, TensorSpec], external: Mapping[str, Extent], data: str
) -> Iterator[_Part]:
    """The GraphProto in pieces."""
    view = graph.file.view
    new = wanted.keys() - graph.initializers.keys()
    split = {_own_name(slot): slot for slot in name_initializers(graph).slots if _own_name(slot) in new}
    dropped = {slot.identity for slot in split.values() if slot.identity is not None}
    rewired: dict[int, dict[int, str]] = {}
    for name, slot in split.items():
        for node, position in () if slot.identity is not None else slot.uses:
            rewired.setdefault(node, {})[position] = name
    raw = {tensor.start: tensor.name for tensor in graph.initializers.values()}
    index = -1
    for item, begin, end in records(view, graph.start, graph.end):
        index += item.number == NODE
        if item.number == INITIALIZER:
            name = raw[item.offset]
            yield from _tensor(graph, name, wanted[name], external.get(name), data)
        elif item.number != NODE or (index not in dropped and index not in rewired):
            yield view[begin:end]
        elif index not in dropped:
            yield message(NODE, _with_inputs(view, item, rewired[index]))
    for name, slot in split.items():
        yield from _tensor(graph, slot.initializer, wanted[name], external.get(name), data)


def _with_inputs(view: memoryview, node: Field, names: Mapping[int, str]) -> bytes:
    """A NodeProto with some of its inputs renamed."""
    out = bytearray()
    position = 0
    for item, begin, end in records(view, node.offset, node.end):
        if item.number == NODE_INPUT:
            out += message(NODE_INPUT, names[position]) if position in names else view[begin:end]
            position += 1
        else:
            out += view[begin:end]
    return bytes(out)


def _tensor(graph: Graph, like: str, spec: TensorSpec, external: Extent | None, data: str) -> Iterator[_Part]:
    """An initializer as `like` describes it, with the spec's name and elements."""
    view = graph.file.view
    tensor = graph.initializers[like]
    body = bytearray()
    for item, begin, end in records(view, tensor.start, tensor.end):
        if item.number != NAME and item.number not in PAYLOAD:
            body += view[begin:end]
    body += message(NAME, spec.name)
    size = packed_size(prod(spec.shape), spec.dtype)
    if spec.strings is not None:
        body += b"".join(message(STRING_DATA, value) for value in spec.strings)
    elif external is not None:
        for key, value in (("location", data), ("offset", external.offset), ("length", external.nbytes)):
            body += message(EXTERNAL_DATA, message(1, key) + message(2, str(value)))
        body += integer(DATA_LOCATION, 1)
    else:
        body += head(RAW_DATA, size)
        yield head(INITIALIZER, len(body) + size) + bytes(body)
        yield _Payload(spec.name, size)
        return
    yield message(INITIALIZER, bytes(body))
