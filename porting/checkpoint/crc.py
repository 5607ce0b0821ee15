"""CRC-32 put together from parts, so that parts can be summed in any order and by any thread.

A CRC is a remainder of polynomials over GF(2): appending n bytes multiplies by x^(8n) and adds the
CRC of what is appended (Ross Williams, "A Painless Guide to CRC Error Detection Algorithms", and
zlib's `crc32_combine`, which this agrees with). Polynomials are held as zlib holds them: bit 31 is x^0.
"""

from __future__ import annotations

from functools import cache

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31
_MASK = 0xFFFFFFFF


def _times(a: int, b: int) -> int:
    """The product of two polynomials modulo the CRC's."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


@cache
def _square_power(k: int) -> int:
    """x^(8 * 2^k)."""
    if not k:
        return _ONE >> 8
    half = _square_power(k - 1)
    return _times(half, half)


def _shift(crc: int, nbytes: int) -> int:
    """The polynomial times x^(8 * nbytes)."""
    k = 0
    while nbytes:
        if nbytes & 1:
            crc = _times(_square_power(k), crc)
        nbytes >>= 1
        k += 1
    return crc


def combine_crc32(first: int, second: int, nbytes: int) -> int:
    """The CRC-32 of two byte strings one after the other, from theirs. nbytes: length of the second.

    >>> import zlib
    >>> combine_crc32(zlib.crc32(b"check"), zlib.crc32(b"point"), 5) == zlib.crc32(b"checkpoint")
    True
    """
    return _shift(first, nbytes) ^ second


def extend_crc32_by_zeros(crc: int, nbytes: int) -> int:
    """The CRC-32 after `nbytes` more bytes of zero.

    >>> import zlib
    >>> extend_crc32_by_zeros(zlib.crc32(b"a"), 3) == zlib.crc32(b"a" + bytes(3))
    True
    """
    return _shift(crc ^ _MASK, nbytes) ^ _MASK
