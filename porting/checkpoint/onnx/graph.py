"""The graph of an ONNX model as far as weights need it: initializers, nodes, and what exporters noted on them.

Reference: github.com/onnx/onnx, onnx/onnx.proto, messages ModelProto, GraphProto, NodeProto, AttributeProto
and ValueInfoProto. What torch's dynamo exporter writes into metadata_props: torch/onnx/_internal/exporter/_core.py;
`folded_from`: onnxscript/optimizer/_constant_folding.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from porting.checkpoint.onnx import MODEL_WIRES
from porting.checkpoint.onnx.tensor import DataFiles, Initializer, read_pair, read_tensor
from porting.checkpoint.storage import MappedFile
from porting.checkpoint.wire import BYTES, FIXED64, VARINT, Field, WireError, scan, varint
from porting.errors import FormatError

IR_VERSION, PRODUCER, PRODUCER_VERSION, GRAPH, OPSET, MODEL_PROPS = 1, 2, 3, 7, 8, 14
NODE, INITIALIZER, INPUT, OUTPUT, VALUE_INFO, SPARSE, GRAPH_PROPS = 1, 5, 11, 12, 13, 15, 16
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP, NODE_ATTRIBUTE, NODE_PROPS = 1, 2, 3, 4, 5, 9

GRAPH_FIELDS = frozenset({NODE, 2, INITIALIZER, 10, INPUT, OUTPUT, VALUE_INFO, 14, SPARSE, GRAPH_PROPS})

_SCOPES = "pkg.torch.onnx.name_scopes"
_CLASSES = "pkg.torch.onnx.class_hierarchy"
_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
_PERSISTENT = "pkg.torch.export.graph_signature.InputSpec.persistent"
_FOLDED = "pkg.onnxscript.optimizer.folded_from"
_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
_QUOTED = re.compile(r"'([^'\\]*)'")
_TARGET = re.compile(r": (?:PARAMETER|BUFFER) target='([^'\\\n]*)'(?! persistent=False)")


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the main graph.

    scopes: the module path that dynamo noted, outermost first, the FX node's own name last.
    torch_op: the ATen operator it came from (`aten.linear.default`), as dynamo noted it; else "".
    trans_b: the transB attribute of a Gemm.
    start, end: of the message in the file.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scopes: tuple[str, ...]
    torch_op: str
    trans_b: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX model.

    start, end: of the GraphProto in the file.
    kinds: of values that dynamo's graph signature describes: PARAMETER, BUFFER, CONSTANT_TENSOR, USER_INPUT …;
        CONSTANT for buffers that a state dict does not hold.
    folded: from a value that constant folding made to the names that it was computed from.
    targets: names of all parameters and buffers in the exported module's state dict, folded or not.
    """

    file: MappedFile
    start: int
    end: int
    initializers: dict[str, Initializer]
    nodes: tuple[Node, ...]
    boundary: frozenset[str]
    kinds: dict[str, str]
    folded: dict[str, tuple[str, ...]]
    targets: frozenset[str]
    metadata: dict[str, object]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Parts:
    """What a scan of the graph collects."""

    tensors: list[Field] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    boundary: set[str] = field(default_factory=set)
    kinds: dict[str, str] = field(default_factory=dict)
    folded: dict[str, tuple[str, ...]] = field(default_factory=dict)
    targets: set[str] = field(default_factory=set)
    sparse: int = 0


def is_model(path: Path) -> bool:
    """Whether the file's outermost records are a ModelProto's. A graph that is cut off still counts."""
    try:
        file = MappedFile(path)
    except FormatError:
        return False
    seen: set[int] = set()
    try:
        for item in scan(file.view):
            version_ok = item.number != IR_VERSION or 0 < item.value < 1000
            if MODEL_WIRES.get(item.number) != item.wire or not version_ok:
                return False
            seen.add(item.number)
    except WireError as error:
        return file.view[error.offset : error.offset + 1] == bytes([GRAPH << 3 | BYTES]) and IR_VERSION in seen
    return {IR_VERSION, GRAPH} <= seen and _starts_like_graph(file.view)


def _starts_like_graph(view: memoryview) -> bool:
    """A SavedModel has a number in field 1 too: the graph's first field tells them apart."""
    for item in scan(view):
        if item.number == GRAPH:
            try:
                first = next(scan(view, item.offset, item.end), None)
            except WireError:
                return True
            return first is None or (first.number in GRAPH_FIELDS and first.wire == BYTES)
    return False


def read_graph(path: Path) -> Graph:
    """Scan the model at `path`.

    Raises: FormatError.
    """
    file = MappedFile(path)
    try:
        return _read(file)
    except WireError as error:
        raise FormatError(path, f"offset {error.offset}", error.problem) from None


def _read(file: MappedFile) -> Graph:
    buffer = file.view
    graphs: list[Field] = []
    metadata: dict[str, object] = {}
    opsets: dict[str, int] = {}
    props: dict[str, str] = {}
    for item in scan(buffer):
        if MODEL_WIRES.get(item.number, item.wire) != item.wire:
            raise WireError(item.offset, f"field {item.number}: wire type {item.wire}")
        if item.number == GRAPH:
            graphs.append(item)
        elif item.number == IR_VERSION:
            metadata["ir_version"] = item.value
        elif item.number in (PRODUCER, PRODUCER_VERSION):
            metadata["producer" if item.number == PRODUCER else "producer_version"] = item.text(buffer)
        elif item.number == OPSET:
            opsets.update([_opset(item, buffer)])
        elif item.number == MODEL_PROPS:
            props.update([read_pair(item, buffer)])
    if len(graphs) != 1:
        raise FormatError(file.path, "", f"wanted one graph, got {len(graphs)}")
    metadata |= {"opset": opsets, "metadata_props": props}
    parts = _scan_graph(buffer, graphs[0])
    notes = (f"{parts.sparse} sparse initializers are not read",) if parts.sparse else ()
    return Graph(
        file,
        graphs[0].offset,
        graphs[0].end,
        _tensors(file, parts.tensors),
        tuple(parts.nodes),
        frozenset(parts.boundary),
        parts.kinds,
        parts.folded,
        frozenset(parts.targets),
        metadata,
        notes,
    )


def records(buffer: memoryview, start: int, end: int) -> Iterator[tuple[Field, int, int]]:
    """The fields of the message in buffer[start:end], each with the extent of its record, key included.

    Raises: WireError.
    """
    begin = start
    for item in scan(buffer, start, end):
        stop = item.end if item.wire == BYTES else item.offset + (8 if item.wire == FIXED64 else 4)
        if item.wire == VARINT:
            _, stop = varint(buffer, item.offset, end)
        yield item, begin, stop
        begin = stop


def _opset(item: Field, buffer: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for part in scan(buffer, item.offset, item.end):
        if part.number == 1:
            domain = part.text(buffer)
        elif part.number == 2:
            version = part.value
    return domain or "ai.onnx", version


def _scan_graph(buffer: memoryview, graph: Field) -> _Parts:
    parts = _Parts()
    for item in scan(buffer, graph.offset, graph.end):
        if item.number in GRAPH_FIELDS and item.wire != BYTES:
            raise WireError(item.offset, f"field {item.number} of the graph: wire type {item.wire}")
        if item.number == INITIALIZER:
            parts.tensors.append(item)
        elif item.number == NODE:
            parts.nodes.append(read_node(buffer, item))
        elif item.number in (INPUT, OUTPUT, VALUE_INFO):
            _value(buffer, item, parts)
        elif item.number == SPARSE:
            parts.sparse += 1
        elif item.number == GRAPH_PROPS:
            key, value = read_pair(item, buffer)
            if key == _SIGNATURE:
                parts.targets.update(_TARGET.findall(value))
    return parts


def _tensors(file: MappedFile, items: list[Field]) -> dict[str, Initializer]:
    data = DataFiles(file.path)
    found: dict[str, Initializer] = {}
    for item in items:
        tensor = read_tensor(file, item.offset, item.end, data)
        if not tensor.name or tensor.name in found:
            problem = "a name that occurs twice" if tensor.name else "an initializer without a name"
            raise FormatError(file.path, tensor.place, problem)
        found[tensor.name] = tensor
    return found


def _value(buffer: memoryview, item: Field, parts: _Parts) -> None:
    """A ValueInfoProto: its name, and what dynamo and onnxscript noted on it."""
    name = ""
    props: dict[str, str] = {}
    for part in scan(buffer, item.offset, item.end):
        if part.number == 1:
            name = part.text(buffer)
        elif part.number == 4:
            props.update([read_pair(part, buffer)])
    if item.number == OUTPUT:
        parts.boundary.add(name)
    if _KIND in props:
        parts.kinds[name] = "CONSTANT" if props.get(_PERSISTENT) == "False" else props[_KIND]
    if _FOLDED in props:
        parts.folded[name] = tuple(_QUOTED.findall(props[_FOLDED]))


def read_node(buffer: memoryview, item: Field) -> Node:
    """A NodeProto; of its attributes only transB is looked at.

    Raises: WireError.
    """
    texts = {NODE_NAME: "", NODE_OP: ""}
    inputs: list[str] = []
    outputs: list[str] = []
    props: dict[str, str] = {}
    attributes: list[Field] = []
    for part in scan(buffer, item.offset, item.end):
        if part.number == NODE_INPUT:
            inputs.append(part.text(buffer))
        elif part.number == NODE_OUTPUT:
            outputs.append(part.text(buffer))
        elif part.number in texts:
            texts[part.number] = part.text(buffer)
        elif part.number == NODE_PROPS:
            props.update([read_pair(part, buffer)])
        elif part.number == NODE_ATTRIBUTE:
            attributes.append(part)
    classes = _QUOTED.findall(props.get(_CLASSES, ""))
    return Node(
        texts[NODE_OP],
        texts[NODE_NAME],
        tuple(inputs),
        tuple(outputs),
        tuple(_QUOTED.findall(props.get(_SCOPES, ""))),
        classes[-1] if classes else "",
        texts[NODE_OP] == "Gemm" and _trans_b(buffer, attributes),
        item.offset,
        item.end,
    )


def _trans_b(buffer: memoryview, attributes: list[Field]) -> bool:
    for item in attributes:
        if item.wire == BYTES:
            parts = {part.number: part for part in scan(buffer, item.offset, item.end) if part.number in (1, 3)}
            if 1 in parts and 3 in parts and parts[1].text(buffer) == "transB":
                return bool(parts[3].value)
    return False
