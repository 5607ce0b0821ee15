"""Are the bytes of a checkpoint those whose checksums its files store?"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from porting.checkpoint.checksum import STEPS
from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.pieces import READ, entry_pieces
from porting.checkpoint.registry import format_named
from porting.errors import FormatError


def checked(entry: TensorEntry, pieces: Iterable[memoryview], wrong: list[str]) -> Iterator[memoryview]:
    """A whole tensor's pieces as they pass, and then a line for `wrong` if they do not have its stored checksum."""
    stored = entry.checksum
    if stored is None:
        yield from pieces
        return
    step, value = STEPS[stored.kind], 0
    for piece in pieces:
        value = step(piece, value)
        yield piece
    if value != stored.value:
        wrong.append(f"{entry.name}: wanted {stored}, the bytes give {value:08x}")


def unsound(checkpoint: Checkpoint, but: Container[str] = ()) -> Iterator[str]:
    """One line for every stored checksum that the bytes do not have.

    but: names of entries whose own checksums are compared elsewhere.
    """
    wrong: list[str] = []
    for entry in checkpoint.values():
        if entry.checksum is None or entry.name in but:
            continue
        try:
            for _ in checked(entry, entry_pieces(entry, piece=READ), wrong):
                pass
        except FormatError as error:
            wrong.append(str(error))
    yield from wrong
    check = format_named(checkpoint.format).verify
    if check is not None:
        yield from check(checkpoint)
