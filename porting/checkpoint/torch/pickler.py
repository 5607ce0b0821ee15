"""Writes the pickle inside a torch file: protocol 2, opcode for opcode as CPython's pickler does.

Only what a checkpoint holds: tensors, mappings, lists, tuples, plain values. For an OrderedDict of
tensors the bytes equal those of torch.save, memo numbers included.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from porting.checkpoint.format import TensorSpec
from porting.checkpoint.storage import contiguous_strides
from porting.checkpoint.torch.tree import TensorRef
from porting.checkpoint.torch.values import STORAGES, Leaf

_BATCH = 1000
"""Items between a MARK and its SETITEMS or APPENDS (pickle.py, `_BATCHSIZE`)."""

_CLASSES = {name: kind for kind, name in STORAGES.items()}


@dataclass(slots=True)
class Pickler:
    """One pickle being written.

    storages: the storage key of every tensor by name.
    """

    tensors: Mapping[str, TensorSpec]
    storages: Mapping[str, str]
    out: bytearray = field(default_factory=lambda: bytearray(b"\x80\x02"))
    memo: dict[object, int] = field(default_factory=dict)
    count: int = 0

    def dump(self, value: Any) -> bytes:
        """The finished pickle of a decoded tree.

        Raises: TypeError for a value that has no place in it, KeyError for a tensor that is not known.
        """
        self.save(value)
        return bytes(self.out + b".")

    def remember(self, key: object = None) -> None:
        """Number the value just written, under `key` if it may be asked for again."""
        number = self.count
        self.count += 1
        if key is not None:
            self.memo[key] = number
        self.out += b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<I", number)

    def recalled(self, key: object) -> bool:
        """Write a reference to a value remembered under `key`, if there is one."""
        number = self.memo.get(key)
        if number is None:
            return False
        self.out += b"h" + bytes([number]) if number < 256 else b"j" + struct.pack("<I", number)
        return True

    def save(self, value: Any) -> None:
        """Write one value."""
        if value is None or isinstance(value, bool):
            self.out += {None: b"N", True: b"\x88", False: b"\x89"}[value]
        elif isinstance(value, int):
            self.integer(value)
        elif isinstance(value, float):
            self.out += b"G" + struct.pack(">d", value)
        elif isinstance(value, str):
            # Strings of one Latin-1 character exist once in CPython, so its pickler meets them again.
            self.text(value, shared=len(value) == 1 and value < "\u0100")
        elif isinstance(value, TensorRef):
            self.tensor(self.tensors[value.name])
        elif isinstance(value, tuple):
            self.sequence(value)
        elif isinstance(value, list):
            self.out += b"]"
            self.remember()
            self.items([(item,) for item in value], b"a", b"e")
        elif isinstance(value, Mapping):
            self.out += b"}"
            self.remember()
            self.items(list(value.items()), b"s", b"u")
        else:
            self.leaf(value)

    def integer(self, value: int) -> None:
        """The shortest opcode that holds it."""
        if 0 <= value < 1 << 8:
            self.out += b"K" + struct.pack("B", value)
        elif 0 <= value < 1 << 16:
            self.out += b"M" + struct.pack("<H", value)
        elif -(1 << 31) <= value < 1 << 31:
            self.out += b"J" + struct.pack("<i", value)
        else:
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            if len(raw) > 1 and value < 0 and raw[-1] == 0xFF and raw[-2] & 0x80:
                raw = raw[:-1]
            self.out += b"\x8a" + bytes([len(raw)]) + raw

    def text(self, value: str, *, shared: bool = True) -> None:
        """A string, once if `shared`."""
        if shared and self.recalled(("text", value)):
            return
        raw = value.encode()
        self.out += b"X" + struct.pack("<I", len(raw)) + raw
        self.remember(("text", value) if shared else None)

    def name(self, module: str, name: str) -> None:
        """A class or function by its name."""
        if not self.recalled((module, name)):
            self.out += f"c{module}\n{name}\n".encode("ascii")
            self.remember((module, name))

    def sequence(self, value: tuple[Any, ...]) -> None:
        """A tuple; the empty one is not remembered."""
        if not value:
            self.out += b")"
            return
        if len(value) > 3:
            self.out += b"("
        for item in value:
            self.save(item)
        self.out += {1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(value), b"t")
        self.remember()

    def items(self, items: list[tuple[Any, ...]], one: bytes, many: bytes) -> None:
        """Items of a list or mapping, in batches."""
        for begin in range(0, len(items), _BATCH):
            batch = items[begin : begin + _BATCH]
            self.out += b"(" if len(batch) > 1 else b""
            for item in batch:
                for part in item:
                    self.save(part)
            self.out += many if len(batch) > 1 else one

    def ordered(self, items: list[tuple[str, Any]]) -> None:
        """A collections.OrderedDict."""
        self.name("collections", "OrderedDict")
        self.out += b")R"
        self.remember()
        self.items(items, b"s", b"u")

    def tensor(self, spec: TensorSpec) -> None:
        """A tensor as torch's own `Tensor.__reduce_ex__` describes it, row-major at the start of its storage."""
        kind = _CLASSES.get(spec.dtype.name)
        self.name("torch._utils", "_rebuild_tensor_v2" if kind else "_rebuild_tensor_v3")
        self.out += b"(("
        self.text("storage")
        self.name(*(("torch", kind) if kind else ("torch.storage", "UntypedStorage")))
        self.text(self.storages[spec.name])
        self.text("cpu")
        self.integer(spec.nbytes // (spec.dtype.itemsize if kind else 1))
        self.out += b"t"
        self.remember()
        self.out += b"QK\x00"
        self.sequence(spec.shape)
        self.sequence(contiguous_strides(spec.shape, 1))
        self.out += b"\x89"
        self.ordered([])
        if not kind:
            self.name("torch", spec.dtype.name)
        self.out += b"t"
        self.remember()
        self.out += b"R"
        self.remember()

    def leaf(self, value: Any) -> None:
        """What a decoded tree has beyond Python's plain values."""
        if isinstance(value, bytes):
            self.call("_codecs", "encode", (value.decode("latin-1"), "latin1"))
        elif isinstance(value, complex):
            self.call("__builtin__", "complex", (value.real, value.imag))
        elif isinstance(value, Leaf) and value.kind == "dtype":
            self.name("torch", value.value)
        elif isinstance(value, Leaf) and value.kind == "set":
            self.call("__builtin__", "set", (value.value,))
        elif isinstance(value, Leaf) and value.kind == "size":
            self.call("torch", "Size", (tuple(value.value),))
        elif isinstance(value, Leaf) and value.kind == "layout":
            self.call("torch.serialization", "_get_layout", (value.value,))
        elif isinstance(value, Leaf) and value.kind == "device":
            name, _, index = value.value.partition(":")
            self.call("torch", "device", (name, int(index)) if index else (name,))
        else:
            raise TypeError(f"a {type(value).__name__} has no place in a checkpoint")

    def call(self, module: str, name: str, args: tuple[Any, ...]) -> None:
        """The result of a function of the closed list."""
        self.name(module, name)
        self.sequence(args)
        self.out += b"R"
        self.remember()


def flat_pickle(specs: Mapping[str, TensorSpec], storages: Mapping[str, str]) -> bytes:
    """An OrderedDict of all specs, as torch.save of a state_dict."""
    pickler = Pickler(specs, storages)
    pickler.ordered([(name, TensorRef(name)) for name in specs])
    return bytes(pickler.out + b".")


def tree_pickle(value: Any, specs: Mapping[str, TensorSpec], storages: Mapping[str, str]) -> bytes:
    """A decoded tree."""
    return Pickler(specs, storages).dump(value)
