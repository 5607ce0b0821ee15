"""Token ids as they stand in a record: varints, one after the other.

A text goes from words to its record as bytes: the words' ids are packed once, and what is done with a text (joined,
counted, cut) is done on the bytes, which is several times as fast as on a list of integers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from porting.checkpoint.wire import encode_varint, varint

_CONTINUED = bytes(range(0x80, 0x100))
_ONE = re.compile(rb"[\x80-\xff]*[\x00-\x7f]")
"""A varint: every byte but its last one has the high bit."""


class _Packed(dict[int, bytes]):
    """The varint of every id that was asked for."""

    def __missing__(self, number: int) -> bytes:
        self[number] = found = encode_varint(number)
        return found


class _Numbers(dict[bytes, int]):
    """The id of every varint that was asked for."""

    def __missing__(self, data: bytes) -> int:
        self[data] = found = varint(memoryview(data), 0, len(data))[0]
        return found


_packed, _number = _Packed().__getitem__, _Numbers().__getitem__


def pack(ids: Iterable[int]) -> bytes:
    """Ids, none of them negative, as varints.

    >>> pack([5, 300]).hex()
    '05ac02'
    """
    return b"".join(map(_packed, ids))


def unpack(packed: bytes) -> list[int]:
    """The ids again.

    >>> unpack(pack([5, 300]))
    [5, 300]
    """
    return list(map(_number, _ONE.findall(packed)))


def count(packed: bytes) -> int:
    """The number of ids: of bytes that end a varint.

    >>> count(pack([5, 300]))
    2
    """
    return len(packed.translate(None, _CONTINUED))


def beginning(packed: bytes, tokens: int) -> bytes:
    """The first ids.

    >>> unpack(beginning(pack([5, 300, 7]), 2))
    [5, 300]
    """
    return b"".join(_ONE.findall(packed)[:tokens])
