"""Nested checkpoints as flat tensors and a tree: what torch.save was given, without torch.

`{"model": {"w": tensor}, "optimizer": {"state": {0: {"step": 3}}}}` becomes the tensor `model.w` and a
JSON-like tree in which every tensor is `{"tensor": its name}`. JSON has no word for what the left column
says, so the tree has one object for each:

    a mapping with other keys than text   {"items": [[0, …], [1, …]]}     an optimizer's state
    a tuple, a set                        {"tuple": […]}  {"set": […]}    betas
    bytes                                 {"bytes": "hexadecimal"}
    a complex number                      {"complex": [real, imaginary]}
    torch.Size, dtype, device, layout     {"size": […]}  {"dtype": "float32"}  {"device": "cpu"}  {"layout": …}

A mapping that would look like one of these is written as `items` too. `decode` and `encode` change
between a tree and Python values, so that an optimizer's state is handled with its integer keys:

    >>> decode({"items": [[0, {"step": {"tensor": "state.0.step"}}]]})
    {0: {'step': TensorRef(name='state.0.step')}}
    >>> encode({"betas": (0.9, 0.999)})
    {'betas': {'tuple': [0.9, 0.999]}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from porting.checkpoint.torch.values import Leaf, Mapped, PickleError, StorageRef, TensorView

DEPTH = 64
"""Levels of nesting at most."""

_MARKERS = frozenset(("tensor", "items", "tuple", "set", "bytes", "complex", "size", "dtype", "device", "layout"))


@dataclass(frozen=True, slots=True)
class TensorRef:
    """The place of a tensor in a decoded tree; its bytes are the checkpoint's entry of that name."""

    name: str


@dataclass(slots=True)
class Flat:
    """A nested value taken apart.

    tensors: views by dotted name, in the order of the file.
    tree: everything, JSON-like; None for a plain mapping from names to tensors, which says it all.
    attributes: what was set on mappings (`_metadata` of a state_dict), as trees by dotted name.
    """

    tensors: dict[str, TensorView] = field(default_factory=dict)
    tree: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)

    def metadata(self) -> dict[str, Any]:
        """What a checkpoint says beside its tensors."""
        found = {"attributes": self.attributes} if self.attributes else {}
        return found if self.tree is None else {"tree": self.tree, **found}


def flatten(value: Any, limit: int) -> Flat:
    """Take a value of the interpreter apart.

    limit: nodes that the tree may have; shared values count each time, so that they cannot multiply.
    Raises: PickleError for what has no place in a checkpoint.
    """
    flat = Flat()
    left = limit

    def walk(node: Any, path: tuple[str, ...]) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or len(path) > DEPTH:
            raise PickleError(f"values nested more than {DEPTH} deep or shared more than they are written")
        if isinstance(node, TensorView):
            name = ".".join(path) or "tensor"
            if name in flat.tensors:
                raise PickleError(f"two tensors would be called {name!r}")
            flat.tensors[name] = node
            return {"tensor": name}
        if isinstance(node, Mapped) and node.attributes is not None:
            flat.attributes[".".join(path)] = walk(node.attributes, (*path, "attributes"))
        return _form(node, lambda key, child: walk(child, (*path, str(key))))

    tree = walk(value, ())
    plain = isinstance(value, Mapped) and all(
        type(key) is str and isinstance(child, TensorView) for key, child in value.items()
    )
    flat.tree = None if plain else tree
    return flat


def _form(node: Any, child: Callable[[Any, Any], Any]) -> Any:
    """The tree of one value, `child` making those of its parts."""
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, list):
        return [child(i, item) for i, item in enumerate(node)]
    if isinstance(node, tuple):
        return {"tuple": [child(i, item) for i, item in enumerate(node)]}
    if isinstance(node, Mapping):
        if all(type(key) is str for key in node) and not (len(node) == 1 and next(iter(node)) in _MARKERS):
            return {key: child(key, item) for key, item in node.items()}
        return {"items": [[key, child(key, item)] for key, item in node.items()]}
    if isinstance(node, Leaf):
        return {node.kind: _leaf(node, child)}
    what = "bare storage" if isinstance(node, StorageRef) else type(node).__name__
    raise PickleError(f"a {what} where a tensor or a plain value was wanted")


def _leaf(node: Leaf, child: Callable[[Any, Any], Any]) -> Any:
    if node.kind == "bytes":
        return node.value.hex()
    if node.kind == "complex":
        return [node.value.real, node.value.imag]
    if node.kind in {"set", "size"}:
        return [child(i, item) for i, item in enumerate(node.value)]
    return node.value


def encode(value: Any) -> Any:
    """The tree of a Python value: what `decode` makes, and bytes, complex numbers and sets.

    Raises: TypeError for a value that a tree has no word for.
    """
    if isinstance(value, TensorRef):
        return {"tensor": value.name}
    if isinstance(value, bytes | bytearray):
        value = Leaf("bytes", bytes(value))
    elif isinstance(value, complex):
        value = Leaf("complex", value)
    elif isinstance(value, set | frozenset):
        value = Leaf("set", sorted(value, key=repr))
    try:
        return _form(value, lambda _, item: encode(item))
    except PickleError as error:
        raise TypeError(error.problem) from None


def decode(tree: Any) -> Any:
    """The Python value of a tree: tuples and integer keys restored, tensors as `TensorRef`.

    Sets become lists in a `Leaf`, as dtypes, devices, layouts and sizes become leaves.
    Raises: ValueError if it is not a tree.
    """
    if isinstance(tree, list):
        return [decode(item) for item in tree]
    if not isinstance(tree, Mapping):
        return tree
    if len(tree) != 1 or (kind := next(iter(tree))) not in _MARKERS:
        return {key: decode(item) for key, item in tree.items()}
    content = tree[kind]
    try:
        return _MAKE[kind](content) if kind in _MAKE else Leaf(kind, content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"not a tree of a checkpoint: {kind}: {error}") from None


_MAKE: Mapping[str, Callable[[Any], Any]] = {
    "tensor": TensorRef,
    "items": lambda pairs: {key: decode(item) for key, item in pairs},
    "tuple": lambda items: tuple(decode(item) for item in items),
    "bytes": bytes.fromhex,
    "complex": lambda parts: complex(*parts),
    "set": lambda items: Leaf("set", [decode(item) for item in items]),
    "size": lambda items: Leaf("size", [decode(item) for item in items]),
}
