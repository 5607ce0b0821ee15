"""tf.train.Example to and from arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from porting.checkpoint.wire import BYTES, Field, WireError, packed, scan
from porting.data.example import BYTES_LIST, FLOAT_LIST, INT64_LIST, bytes_entry, int64_entry, joined, number_entry

Array = np.ndarray[Any, np.dtype[Any]]
Value = Array | list[bytes]
"""A feature's values: int64 or float32 of one axis, or byte strings."""


def encode_example(features: Mapping[str, Value | Sequence[int] | Sequence[float]]) -> bytes:
    """An Example. Integers and booleans become int64, floating numbers float32, byte strings bytes.

    Raises: TypeError for other values.
    """
    entries = []
    for name, values in features.items():
        if isinstance(values, list) and values and isinstance(values[0], bytes):
            entries.append(bytes_entry(name, values))
            continue
        array = np.asarray(values).reshape(-1)
        if array.dtype.kind in "iub":
            entries.append(int64_entry(name, array.tolist()))
        elif array.dtype.kind == "f":
            entries.append(number_entry(name, FLOAT_LIST, array.astype("<f4").tobytes()))
        else:
            raise TypeError(f"{name}: wanted integers, floating numbers or byte strings, got {array.dtype}")
    return joined(*entries)


def decode_example(payload: bytes) -> dict[str, Value]:
    """The features of an Example by name, in the order in which they stand. An entry without a list is left out.

    Raises: WireError with the offset, for bytes that are no Example.
    """
    buffer = memoryview(payload)
    found: dict[str, Value] = {}
    for features in scan(buffer):
        if features.number != 1:
            continue
        inner = features.bytes(buffer)
        for entry in scan(inner):
            if entry.number == 1:
                name, value = _entry(entry.bytes(inner))
                if value is not None:
                    found[name] = value
    return found


def _entry(entry: memoryview) -> tuple[str, Value | None]:
    name, value = "", None
    for field in scan(entry):
        if field.number == 1:
            name = field.text(entry)
        elif field.number == 2:
            value = _feature(field.bytes(entry))
    return name, value


def _feature(feature: memoryview) -> Value | None:
    for field in scan(feature):
        if field.number == BYTES_LIST:
            inner = field.bytes(feature)
            return [bytes(value.bytes(inner)) for value in scan(inner) if value.number == 1]
        if field.number == FLOAT_LIST:
            return _floats(field.bytes(feature))
        if field.number == INT64_LIST:
            return _integers(field.bytes(feature))
    return None


def _floats(numbers: memoryview) -> Array:
    """The packed form in one piece; unpacked numbers one by one."""
    parts = []
    for field in scan(numbers):
        data = field.bytes(numbers) if field.wire == BYTES else numbers[field.offset : field.offset + 4]
        if len(data) % 4:
            raise WireError(field.offset, f"wanted float32 numbers, got {len(data)} bytes")
        parts.append(np.frombuffer(data, "<f4"))
    return np.concatenate(parts).astype(np.float32, copy=False) if parts else np.empty(0, np.float32)


def _integers(numbers: memoryview) -> Array:
    parts = [_unpacked(field, numbers) for field in scan(numbers) if field.number == 1]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _unpacked(field: Field, buffer: memoryview) -> Array:
    """Varints as int64, all at once when none is longer than three bytes: token ids are not."""
    raw = np.frombuffer(field.bytes(buffer), np.uint8) if field.wire == BYTES else np.empty(0, np.uint8)
    more = raw >= 0x80
    if field.wire == BYTES and not more.any():
        return raw.astype(np.int64)
    if field.wire != BYTES or more[-1] or (more[:-2] & more[1:-1] & more[2:]).any():
        return np.fromiter(packed(field, buffer), np.uint64).view(np.int64)
    starts = np.flatnonzero(np.concatenate(([True], ~more[:-1])))
    wide: np.ndarray[Any, np.dtype[np.int64]] = np.concatenate((raw, [0, 0])).astype(np.int64)
    first, second, third = wide[starts], wide[starts + 1], wide[starts + 2]
    values: Array = first & 0x7F
    values += np.where(first >= 0x80, (second & 0x7F) << 7, 0)
    values += np.where((first >= 0x80) & (second >= 0x80), third << 14, 0)
    return values
