"""The stack, the marks and the memo of a pickle being read, each step bounded by the bytes that are there."""

from __future__ import annotations

import struct
from typing import Any

from porting.checkpoint.torch.values import PickleError, StorageRef

TEXT = 64 << 20
"""Bytes of strings that one pickle may make."""


class Machine:
    """The state of one pickle being read."""

    __slots__ = ("at", "data", "end", "marks", "memo", "persistent", "room", "stack", "storages")

    def __init__(self, data: memoryview, at: int, *, persistent: bool) -> None:
        self.data = data
        self.at = at
        self.end = len(data)
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, StorageRef] = {}
        self.persistent = persistent
        self.room = TEXT

    def take(self, count: int) -> memoryview:
        """The next `count` bytes."""
        if count > self.end - self.at:
            raise PickleError(f"wanted {count} bytes, {self.end - self.at} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def natural(self, size: int) -> int:
        """The next `size` bytes as a number of 0 or more, little-endian."""
        return int.from_bytes(self.take(size), "little")

    def integer(self, size: int) -> int:
        """The next `size` bytes as a number in two's complement, little-endian."""
        return int.from_bytes(self.take(size), "little", signed=True)

    def real(self) -> float:
        """The next eight bytes as a number, big-endian."""
        value: float = struct.unpack(">d", self.take(8))[0]
        return value

    def line(self) -> str:
        """The text up to the next line feed, 256 bytes at most."""
        ahead = bytes(self.data[self.at : self.at + 256])
        stop = ahead.find(b"\n")
        if stop < 0 or not ahead[:stop].isascii():
            raise PickleError("a name that does not end")
        self.at += stop + 1
        return ahead[:stop].decode("ascii")

    def pop(self) -> Any:
        """The top of the stack; never reaches below the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise PickleError("wanted a value on the stack, it is empty")
        return self.stack.pop()

    def top(self) -> Any:
        """The top of the stack, left there."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise PickleError("wanted a value on the stack, it is empty")
        return self.stack[-1]

    def popped_to_mark(self) -> list[Any]:
        """The values above the last mark, and the mark gone."""
        if not self.marks:
            raise PickleError("wanted a mark on the stack, there is none")
        begin = self.marks.pop()
        items = self.stack[begin:]
        del self.stack[begin:]
        return items

    def spend(self, count: int) -> None:
        """Account for `count` bytes of text that are about to be made."""
        self.room -= count
        if self.room < 0:
            raise PickleError(f"more than {TEXT} bytes of text")
