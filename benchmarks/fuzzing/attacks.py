"""Damage of every kind: blind, and by the structure of each format with its checksums put right again."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fuzzing import archives, containers, messages
from fuzzing.seeds import Seed

Random = np.random.Generator
Attack = Callable[[bytes, Random], bytes]

NUMBERS = (
    0,
    1,
    127,
    255,
    1 << 15,
    (1 << 16) - 1,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 62,
    (1 << 63) - 1,
    (1 << 64) - 1,
)


@dataclass(frozen=True)
class Mutant:
    """A damaged checkpoint. attack: what was done to which file. blind: without putting a checksum right."""

    seed: Seed
    attack: str
    files: dict[str, bytes]
    blind: bool


def flip(data: bytes, random: Random) -> bytes:
    """One bit."""
    out = bytearray(data)
    out[int(random.integers(len(out)))] ^= 1 << int(random.integers(8))
    return bytes(out)


def cut(data: bytes, random: Random) -> bytes:
    """The file ends early, sometimes at once."""
    return data[: int(random.integers(len(data)))]


def extend(data: bytes, random: Random) -> bytes:
    """Bytes behind the end."""
    return data + random.bytes(int(random.integers(1, 64)))


def overwrite(data: bytes, random: Random) -> bytes:
    """A run of ones, zeros or noise."""
    out, at, length = bytearray(data), int(random.integers(len(data))), int(random.integers(1, 40))
    run = (b"\xff" * length, bytes(length), random.bytes(length))[int(random.integers(3))]
    out[at : at + length] = run[: len(out[at : at + length])]
    return bytes(out)


def move(data: bytes, random: Random) -> bytes:
    """A stretch inserted, removed, or repeated elsewhere."""
    a, b = (int(random.integers(len(data))) for _ in range(2))
    stretch = data[a : a + int(random.integers(1, 200))]
    kind = int(random.integers(3))
    if kind == 0:
        return data[:a] + data[a + len(stretch) :]
    return data[:b] + (stretch if kind == 1 else random.bytes(len(stretch))) + data[b:]


def number(data: bytes, random: Random) -> bytes:
    """A number of one to eight bytes becomes an extreme one, mostly near the ends, where headers are."""
    out = bytearray(data)
    width, order = (1, 2, 4, 8)[int(random.integers(4))], "<>"[int(random.integers(2))]
    span = min(len(out), 400) if random.random() < 0.6 else len(out)
    at = int(random.integers(span))
    at = len(out) - 1 - at if random.random() < 0.3 else at
    value = NUMBERS[int(random.integers(len(NUMBERS)))] & ((1 << 8 * width) - 1)
    raw = struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[width], value)
    out[at : at + width] = raw[: len(out[at : at + width])]
    return bytes(out)


def varint(data: bytes, random: Random) -> bytes:
    """A varint of extreme length, in place of some bytes or between them."""
    at = int(random.integers(len(data)))
    return data[:at] + b"\xff" * int(random.integers(1, 12)) + b"\x7f" + data[at + int(random.integers(12)) :]


BLIND: tuple[Attack, ...] = (flip, flip, flip, cut, extend, overwrite, move, number, varint)

ODD: tuple[Any, ...] = (
    -1, 0, 1 << 31, 1 << 63, 10**30, 1.5, True, None, "", "x" * 70_000, [], {}, [[]], "\u0000", "../m", "F64", "F4",
    [1 << 40, 1 << 40], [-1, 4], [0], [0, 1 << 62], [8] * 64, ["8"], {"dtype": "F32"},
)  # fmt: skip


def _nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as container and key."""
    found: list[tuple[Any, Any]] = []
    stack = [value]
    while stack:
        node = stack.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
        found += [(node, key) for key in keys]
        stack += [node[key] for key in keys]
    return found


def json_text(text: bytes, random: Random) -> bytes:
    """A value replaced, a key renamed, or what only the text can be: nested deeply, twice the same key, NaN."""
    kind = int(random.integers(8))
    if kind == 0:
        return b'{"a":' + b"[" * int(random.integers(10, 300_000))
    if kind == 1:
        return text.replace(b":", b": 1" + b"0" * 5000 + b",", 1)
    if kind == 2:
        return text.replace(b"{", b'{"a": NaN, "a": 1e999, "\\ud800": "\\udfff",', 1)
    value = json.loads(text)
    places = _nodes(value)
    for _ in range(int(random.integers(1, 3))):
        node, key = places[int(random.integers(len(places)))]
        if kind < 5 and isinstance(node, dict) and key in node:
            node[str(ODD[int(random.integers(len(ODD)))])] = node.pop(key)
        elif isinstance(node, list) or key in node:
            node[key] = ODD[int(random.integers(len(ODD)))]
    return json.dumps(value).encode()


def safetensors_header(data: bytes, random: Random) -> bytes:
    """The header damaged as JSON, its length right."""
    length = int.from_bytes(data[:8], "little")
    text = json_text(data[8 : 8 + length], random)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


PATHS = (
    "../canary", "../canary.safetensors", "../canary.bin", "/etc/passwd", "/dev/zero", "..", ".", "", "a\0b",
    "sub/../../canary", "..\\canary", "C:canary", "/proc/self/mem", "x" * 300, "../../../../../../etc/passwd", "m", "file:///etc/passwd",
)  # fmt: skip


def index_paths(data: bytes, random: Random) -> bytes:
    """An index of shards that leads elsewhere."""
    value = json.loads(data)
    names = list(value["weight_map"])
    every = random.random() < 0.5
    path = PATHS[int(random.integers(len(PATHS)))]
    for name in names if every else names[: int(random.integers(1, 4))]:
        value["weight_map"][name] = path
    return json.dumps(value).encode()


STRUCTURED: dict[str, tuple[tuple[str, Attack], ...]] = {
    "tf-bundle": ((".index", messages.table_values), (".index", messages.table_blocks)),
    "tf-v1": (("", messages.table_values), ("", messages.table_blocks)),
    "mindspore-ckpt": (("", messages.damage),),
    "safetensors": (("rs", safetensors_header), (".json", json_text), (".json", index_paths)),
    "mindspore-safetensors": (("", safetensors_header),),
    "torch": (
        (".bin", archives.torch_pickle), (".bin", archives.records), (".bin", archives.directory), (".json", json_text),
        (".json", index_paths),
    ),
    "torch-legacy": (("", containers.legacy_pickle),),
    "onnx": ((".onnx", messages.damage), (".onnx", messages.external_paths)),
    "npz": (("", archives.npy_headers), ("", archives.records), ("", archives.directory)),
    "keras-h5": (("", containers.hostile_h5),),
    "keras-zip": (("", archives.keras_weights), ("", archives.records), ("", archives.directory)),
}  # fmt: skip


def mutate(seed: Seed, random: Random) -> Mutant:
    """One mutant: half of them blind, half by the format's structure; sometimes several blind ones at once."""
    files = dict(seed.files)
    fitting = [(end, attack) for end, attack in STRUCTURED[seed.format] if any(name.endswith(end) for name in files)]
    if random.random() < 0.5:
        name = list(files)[int(random.integers(len(files)))]
        chosen = [BLIND[int(random.integers(len(BLIND)))] for _ in range(1 if random.random() < 0.8 else 3)]
        for attack in chosen:
            files[name] = attack(files[name], random) if files[name] else b"\0"
        return Mutant(seed, f"{'+'.join(attack.__name__ for attack in chosen)} {name}", files, blind=True)
    end, attack = fitting[int(random.integers(len(fitting)))]
    names = [name for name in files if name.endswith(end)]
    name = names[int(random.integers(len(names)))]
    files[name] = attack(files[name], random)
    return Mutant(seed, f"{attack.__name__} {name}", files, blind=False)
