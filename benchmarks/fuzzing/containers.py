"""Pickles with code and bombs in them, and HDF5 files that lead elsewhere."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tempfile
from functools import cache
from pathlib import Path

import h5py
import numpy as np

Random = np.random.Generator


class _Runs:
    """Pickles into a call of `function`."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def _tensor(shape: str, stride: str, offset: str = "K\x00", count: str = "K\x04") -> bytes:
    """A pickle of one tensor with these numbers, in opcodes."""
    text = (
        "\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        f"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu{count}tQ{offset}{shape}{stride}\x89}}tRs."
    )
    return text.encode("latin-1")


def _long(value: int) -> str:
    return "\x8a\x09" + value.to_bytes(9, "little", signed=True).decode("latin-1")


@cache
def evil_pickles() -> tuple[bytes, ...]:
    """Pickles that run code under Python's unpickler, or cost time or memory."""
    calls = (
        _Runs(os.system, "touch pwned"),
        _Runs(eval, "__import__('os').system('touch pwned')"),
        _Runs(exec, "open('pwned', 'w')"),
        _Runs(__import__, "antigravity"),
        _Runs(open, "pwned", "w"),
        _Runs(bytearray, 1 << 40),
        _Runs(Path, "/etc/passwd"),
    )
    code = [pickle.dumps({"w": call}, 2) for call in calls]
    named = [
        b"\x80\x02c" + name + b"\n" + rest
        for name, rest in (
            (b"posix\nsystem", b"X\x0b\x00\x00\x00touch pwned\x85R."),
            (b"torch\nload", b"X\x06\x00\x00\x00pwned!\x85R."),
            (b"torch.nn.modules.linear\nLinear", b")\x81}b."),
            (b"torch._utils\n__builtins__", b"."),
            (b"collections\nOrderedDict.__init__.__globals__", b"."),
        )
    ]
    laughs = (
        b"\x80\x02]q\0"
        + b"".join(b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60))
        + b"."
    )
    nested = b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b"."
    deep = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    memo = b"\x80\x02Nr" + struct.pack("<I", 0xFFFFFFF0) + b"."
    long4 = b"\x80\x02\x8b" + struct.pack("<I", 0x7FFFFFFF) + b"."
    text = b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"."
    itself = b"\x80\x02}q\0X\x01\x00\x00\x00wh\0s."
    quadratic = b"\x80\x02]q\0" + b"h\0a" * 100_000 + b"."
    sizes = [
        _tensor("K\x04\x85", "K\x01\x85", count=_long(1 << 60)),
        _tensor(_long(1 << 62) + "\x85", "K\x00\x85"),
        _tensor(_long(1 << 40) + _long(1 << 40) + "\x86", "K\x00K\x00\x86"),
        _tensor("K\x04\x85", _long(-(1 << 60)) + "\x85"),
        _tensor("K\x02\x85", _long(-1) + "\x85"),
        _tensor("K\x04\x85", "K\x01\x85", offset=_long(1 << 62)),
        _tensor("K\x04\x85", "K\x01\x85", offset=_long(-4)),
        _tensor("(" + "K\x01" * 80 + "t", "(" + "K\x01" * 80 + "t"),
        _tensor("]", "]"),
        _tensor("K\x04\x85", ")"),
    ]
    return (*code, *named, laughs, nested, deep, memo, long4, text, itself, quadratic, *sizes)


def damaged_pickle(data: bytes, random: Random) -> bytes:
    """A good pickle with opcodes changed, or an evil one, alone or in front of the good one."""
    if random.random() < 0.5:
        chosen = evil_pickles()[int(random.integers(len(evil_pickles())))]
        return chosen if random.random() < 0.7 else chosen[:-1] + data[2:]
    out = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        at = int(random.integers(len(out)))
        kind = int(random.integers(4))
        if kind == 0:
            out[at] = int(random.integers(256))
        elif kind == 1:
            del out[at : at + int(random.integers(1, 6))]
        elif kind == 2:
            out[at:at] = b"(2h\0q\1r0Re)]}tNs"[int(random.integers(14)) :][:2]
        else:
            out[at:at] = out[at : at + 30]
    return bytes(out)


def legacy_pickle(data: bytes, random: Random) -> bytes:
    """The object's pickle of a file from before torch 1.6 damaged or exchanged."""
    start = data.index(b"\x80\x02ccollections")
    end = data.index(b".\x80\x02]", start) + 1
    return data[:start] + damaged_pickle(data[start:end], random) + data[end:]


def _made(build: object) -> bytes:
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        build(file)  # type: ignore[operator]
    return held.getvalue()


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("../canary.h5", "w", (4,))
    file.create_virtual_dataset("w", layout)


def _deep(file: h5py.File) -> None:
    group: h5py.Group = file
    for _ in range(600):
        group = group.create_group("g")
    group["w"] = np.zeros(3, "f4")


def _loop(file: h5py.File) -> None:
    group = file.create_group("g")
    group["again"] = group


def _links(file: h5py.File) -> None:
    file["w"] = h5py.ExternalLink("../canary.h5", "w")


def _soft(file: h5py.File) -> None:
    file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")


def _outside(file: h5py.File) -> None:
    file.create_dataset("w", (4,), "f4", external=[("../canary.bin", 0, 16)])


def _huge(file: h5py.File) -> None:
    file.create_dataset("w", (1 << 40,), "f4", chunks=(1 << 20,), fillvalue=1.0)


def _empty(file: h5py.File) -> None:
    file.create_dataset("w", (1 << 20, 1 << 20), "f4")


def _bomb(file: h5py.File) -> None:
    file.create_dataset(
        "w", data=np.zeros(60_000_000, "f4"), chunks=(60_000_000,), compression="gzip", compression_opts=1
    )


def _kinds(file: h5py.File) -> None:
    file["text"] = "a text"
    file.create_dataset("compound", (2,), np.dtype([("a", "f4"), ("b", "i8")]))
    file["ref"] = file["text"].ref


def _array(file: h5py.File) -> None:
    file.create_dataset("w", (2,), np.dtype(("f4", (1000, 1000))))


def _null(file: h5py.File) -> None:
    file["w"] = h5py.Empty("f4")


def _many(file: h5py.File) -> None:
    for i in range(500):
        file[f"w{i}"] = np.float32(i)


@cache
def hostile_files() -> tuple[bytes, ...]:
    """HDF5 files that are whole and mean no good."""
    builders = (_virtual, _deep, _loop, _links, _soft, _huge, _empty, _bomb, _kinds, _array, _null, _many)
    made = [_made(build) for build in builders]
    with tempfile.TemporaryDirectory() as folder:  # external storage needs a file with a name
        path = Path(folder) / "outside.h5"
        with h5py.File(path, "w") as file:
            _outside(file)
        made.append(path.read_bytes())
    return tuple(made)


def hostile_h5(data: bytes, random: Random) -> bytes:
    """A hostile file, or the good one with a byte of its structures changed."""
    if random.random() < 0.4:
        return hostile_files()[int(random.integers(len(hostile_files())))]
    out = bytearray(data)
    signatures = (b"OHDR", b"TREE", b"HEAP", b"SNOD", b"\x89HDF", b"FRHP", b"GCOL")
    present = [mark for mark in signatures if mark in data]
    mark = present[int(random.integers(len(present)))]
    places = [i for i in range(len(data)) if data.startswith(mark, i)]
    at = places[int(random.integers(len(places)))] + int(random.integers(64))
    out[min(at, len(out) - 1)] = (0, 1, 0x7F, 0xFF, int(random.integers(256)))[int(random.integers(5))]
    return bytes(out)
