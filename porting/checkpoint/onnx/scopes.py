"""Which torch parameter an ONNX initializer is, told from the graph and never from a shape.

Exporters transpose the weights of Linear layers and call them `onnx::MatMul_11` (TorchScript) or `val_0`
(dynamo); they merge equal tensors, and give one initializer several consumers. A *slot* is one
parameter's place in the graph. Evidence, strongest first: dynamo's note of what a value was folded
from, checked against the module's own list of parameters; the named bias that is added in the same
scope; the scope of the consuming node.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from porting.checkpoint.onnx.graph import Graph, Node
from porting.checkpoint.onnx.tensor import Initializer

Use = tuple[int, int]
"""(index of the node, index of its input)."""

_GENERATED = re.compile(r"onnx::.+|val_\d+|\d+|/.*_output_\d+|.*/Constant(_\d+)?", re.DOTALL)
_INTERMEDIATE = re.compile(r"/.*_output_\d+", re.DOTALL)
_NOT_WEIGHTS = frozenset({"bool", "int32", "int64", "string"})
_LEAVES = {
    ("Gather", 0): "weight",
    ("Gemm", 1): "weight",
    ("Gemm", 2): "bias",
    ("Conv", 1): "weight",
    ("Conv", 2): "bias",
    ("ConvTranspose", 1): "weight",
    ("ConvTranspose", 2): "bias",
    ("LayerNormalization", 1): "weight",
    ("LayerNormalization", 2): "bias",
    ("RMSNormalization", 1): "weight",
    ("BatchNormalization", 1): "weight",
    ("BatchNormalization", 2): "bias",
    ("BatchNormalization", 3): "running_mean",
    ("BatchNormalization", 4): "running_var",
}
"""Inputs that are a torch module's parameter of that name, by operator and input."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter's place in the graph.

    name: of the parameter.
    label: the value the consumers name: the initializer, or what an Identity node makes of it.
    initializer: the initializer's own name.
    transposed: whether it lies with its two axes swapped.
    uses: the consumers that read this parameter.
    identity: index of the Identity node between initializer and label.
    """

    name: str
    label: str
    initializer: str
    transposed: bool = False
    uses: tuple[Use, ...] = ()
    identity: int | None = None


@dataclass(frozen=True, slots=True)
class Naming:
    """All slots of a graph in its order, and what has none.

    anonymous: initializers (or Identity outputs) that must be weights and cannot be named, with the reason.
    constants: generated initializers that hold no weights: shapes, indices, scalars, literals.
    roots: from each label to its initializer.
    """

    slots: tuple[Slot, ...]
    anonymous: dict[str, str]
    constants: tuple[str, ...]
    roots: dict[str, str]


@dataclass(slots=True)
class Wiring:
    """Who reads what.

    roots: from each label to its initializer; identities: the Identity nodes behind labels.
    uses: consumers of each label. readers: consumers of every value, by node index.
    """

    roots: dict[str, str]
    identities: dict[str, int] = field(default_factory=dict)
    uses: dict[str, list[Use]] = field(default_factory=dict)
    readers: dict[str, list[int]] = field(default_factory=dict)
    producers: dict[str, int] = field(default_factory=dict)


def wire_up(graph: Graph) -> Wiring:
    """The wiring of the main graph."""
    wiring = Wiring({name: name for name in graph.initializers})
    for index, node in enumerate(graph.nodes):
        for name in node.outputs:
            wiring.producers[name] = index
        if _is_alias(graph, node, wiring):
            wiring.roots[node.outputs[0]] = wiring.roots[node.inputs[0]]
            wiring.identities[node.outputs[0]] = index
            continue
        for position, name in enumerate(node.inputs):
            wiring.readers.setdefault(name, []).append(index)
            if name in wiring.roots:
                wiring.uses.setdefault(name, []).append((index, position))
    return wiring


def _is_alias(graph: Graph, node: Node, wiring: Wiring) -> bool:
    """TorchScript merges equal tensors and puts the lost name on an Identity node's output."""
    if node.op != "Identity" or len(node.inputs) != 1 or len(node.outputs) != 1 or graph.kinds:
        return False
    output = node.outputs[0]
    fresh = output not in graph.boundary and output not in wiring.roots and not _INTERMEDIATE.fullmatch(output)
    return fresh and node.inputs[0] in wiring.roots


def name_initializers(graph: Graph) -> Naming:
    """The slots of every initializer."""
    wiring = wire_up(graph)
    slots: list[Slot] = []
    anonymous: dict[str, str] = {}
    constants: list[str] = []
    for label, root in wiring.roots.items():
        tensor = graph.initializers[root]
        if _is_named(graph, label):
            slots.extend(_named_slots(graph, wiring, label))
        elif _is_constant(graph, label, tensor):
            if label == root:
                constants.append(label)
        else:
            found = _anonymous_slots(graph, wiring, label, tensor)
            if isinstance(found, str):
                anonymous[label] = found
            else:
                slots.extend(found)
    claimed = {slot.name for slot in slots if slot.name != slot.label}
    slots = [slot for slot in slots if slot.uses or slot.name != slot.label or slot.name not in claimed]
    return Naming(tuple(slots), anonymous, tuple(constants), wiring.roots)


def _is_named(graph: Graph, label: str) -> bool:
    if graph.kinds:
        told = graph.kinds.get(label) in ("PARAMETER", "BUFFER")
        return told or (label in graph.targets and label not in graph.folded)
    return not _GENERATED.fullmatch(label)


def _is_constant(graph: Graph, label: str, tensor: Initializer) -> bool:
    if tensor.dtype.name in _NOT_WEIGHTS or label in graph.kinds:
        return True
    if label in graph.folded:
        return graph.targets.isdisjoint(graph.folded[label])
    literal = bool(graph.folded) and label.startswith("val_")
    return literal or not tensor.shape


def _named_slots(graph: Graph, wiring: Wiring, label: str) -> Iterator[Slot]:
    """The label's own slot, and one for each other parameter that was merged into it."""
    own: list[Use] = []
    others: dict[str, list[Use]] = {}
    for index, position in wiring.uses.get(label, ()):
        name = _module_parameter(graph.nodes[index], position)
        if name is not None and name != label and name in graph.targets:
            others.setdefault(name, []).append((index, position))
        else:
            own.append((index, position))
    root = wiring.roots[label]
    yield Slot(label, label, root, uses=tuple(own), identity=wiring.identities.get(label))
    for name, uses in others.items():
        yield Slot(name, label, root, uses=tuple(uses), identity=wiring.identities.get(label))


def _module_parameter(node: Node, position: int) -> str | None:
    """The parameter that dynamo's scope of the node gives its input, if the input is a module's own."""
    if len(node.scopes) < 2:
        return None
    leaf = _LEAVES.get((node.op, position))
    if node.op == "Add" and node.torch_op.startswith("aten.linear"):
        leaf = "bias"
    return None if leaf is None else _join(node.scopes[-2], leaf)


def _anonymous_slots(graph: Graph, wiring: Wiring, label: str, tensor: Initializer) -> list[Slot] | str:
    """The slots of a generated name, or why it has none."""
    uses = wiring.uses.get(label, [])
    names: dict[tuple[str, bool], list[Use]] = {}
    for use in uses:
        found = _evidence(graph, wiring, label, tensor, use)
        if found is None:
            node = graph.nodes[use[0]]
            sources = f", computed from {', '.join(graph.folded[label][:4])}" if label in graph.folded else ""
            return f"read by {node.op} {node.name or use[0]}, which tells no parameter{sources}"
        names.setdefault(found, []).append(use)
    if len({transposed for _, transposed in names}) != 1:
        return "read by no node of the main graph" if not uses else "read both as it is and transposed"
    root, identity = wiring.roots[label], wiring.identities.get(label)
    return [Slot(name, label, root, turned, tuple(at), identity) for (name, turned), at in names.items()]


def _evidence(graph: Graph, wiring: Wiring, label: str, tensor: Initializer, use: Use) -> tuple[str, bool] | None:
    """(parameter, whether the initializer is its transpose) as this consumer tells it."""
    node, position = graph.nodes[use[0]], use[1]
    if node.op in ("MatMul", "Gemm") and position == 1 and len(tensor.shape) == 2:
        name = _dynamo_weight(graph, label, node) if node.scopes else _scoped_weight(wiring, graph, node)
        return None if name is None else (name, not node.trans_b)
    if node.op == "Add" and len(tensor.shape) == 1 and len(node.inputs) == 2 and not node.scopes:
        return _scoped_bias(graph, wiring, node, position)
    return None


def _dynamo_weight(graph: Graph, label: str, node: Node) -> str | None:
    if not node.torch_op.startswith("aten.linear") or len(node.scopes) < 2:
        return None
    sources = graph.folded.get(label)
    name = _join(node.scopes[-2], "weight") if sources is None else sources[0] if len(sources) == 1 else None
    return name if name in graph.targets or (name and not graph.targets) else None


def _scoped_weight(wiring: Wiring, graph: Graph, node: Node) -> str | None:
    """TorchScript: the sibling of the bias added in the same scope; without one, the scope's own weight."""
    scope = _scope(node.name)
    if scope is None:
        return None
    path = module_path(scope)
    biases = [node.inputs[2]] if node.op == "Gemm" and len(node.inputs) > 2 else []
    for index in wiring.readers.get(node.outputs[0], ()) if node.outputs else ():
        reader = graph.nodes[index]
        if reader.op == "Add" and _scope(reader.name) == scope:
            biases.extend(name for name in reader.inputs if name not in node.outputs)
    for bias in biases:
        stem = bias.removesuffix("bias")
        outer = path.startswith(stem)  # the bias is a parameter of a module around this one, tied to its own
        sibling = stem.endswith((".", "in_proj_")) or bias == "bias"
        if bias in wiring.roots and _is_named(graph, bias) and sibling and not (outer and path):
            return stem + "weight"
    return _join(path, "weight") if path else None


def _scoped_bias(graph: Graph, wiring: Wiring, node: Node, position: int) -> tuple[str, bool] | None:
    """TorchScript: what is added to a MatMul with an initializer in the same scope."""
    maker = wiring.producers.get(node.inputs[1 - position])
    scope = _scope(node.name)
    if maker is None or not scope:
        return None
    product = graph.nodes[maker]
    same = product.op == "MatMul" and len(product.inputs) == 2 and _scope(product.name) == scope
    return (_join(module_path(scope), "bias"), False) if same and product.inputs[1] in wiring.roots else None


def _scope(node_name: str) -> tuple[str, ...] | None:
    """`/encoder/layer.0/dense/MatMul` without its last part; None for a name that is no path."""
    return tuple(node_name.split("/")[1:-1]) if node_name.startswith("/") else None


def module_path(scope: Sequence[str]) -> str:
    """The module that a TorchScript scope means. A child of a Sequential repeats its parent's name.

    >>> module_path(["bert", "encoder", "layer.0", "attention"])
    'bert.encoder.layer.0.attention'
    >>> module_path(["blocks.0", "blocks.0.1"])
    'blocks.0.1'
    """
    parts = [part.removeprefix(before + ".") for before, part in zip(("", *scope), scope, strict=False)]
    return ".".join(parts)


def _join(path: str, leaf: str) -> str:
    return f"{path}.{leaf}" if path else leaf
