"""Holds two checkpoints against a ledger: is the one still the conversion of the other?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.pieces import entry_pieces
from porting.checkpoint.registry import read
from porting.checkpoint.sound import unsound
from porting.checkpoint.stream import hash_pieces
from porting.convert.ledger import Ledger, Line, read_ledger
from porting.convert.names import collapse
from porting.convert.source import named
from porting.convert.torch_state import separate_state
from porting.errors import FormatError


@dataclass(frozen=True, slots=True)
class Verification:
    """What was held against the ledger. problems: empty if everything is as it was."""

    ledger: Path
    source: Path
    target: Path
    compared: int
    unhashed: int
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Is every tensor on both sides what the ledger says, and was there anything to compare?"""
        return not self.problems and self.compared > 0


def verify(ledger: str | Path, *, source: str | Path | None = None, target: str | Path | None = None) -> Verification:
    """Read both sides again and compare every tensor's name, shape, dtype and hash with the ledger's.

    source, target: where the checkpoints are now, if they were moved. A target beside its ledger is
    found there.
    Raises: FormatError if the ledger or one of the checkpoints cannot be read at all.
    """
    path = Path(ledger)
    book = read_ledger(path)
    there = Path(target) if target else _target(path, book)
    origin = Path(source) if source else _source(path, book)
    wrote = read(there, format=book.target.format)
    like = book.options.get("like")
    took = named(read(origin, format=book.source.format), Path(like) if like else None).entries
    if optimizer := book.options.get("optimizer"):
        took = {**took, **separate_state(read(_beside(path, Path(optimizer)))).entries}
    moved, took_from = book.moved_to, book.moved_from
    problems = [*_compare("target", wrote.entries, moved), *_compare("source", took, took_from)]
    known = {line[0] for line in moved}
    extra = [name for name in wrote if name not in known]
    problems += [f"target: {name}  unexpected" for name in collapse(extra)]
    problems += [f"target: {line}" for line in unsound(wrote)]
    lines = [*moved, *took_from]
    unhashed = sum(line[3] is None for line in lines)
    return Verification(path, origin, there, len(lines) - unhashed, unhashed, tuple(problems))


def _target(path: Path, book: Ledger) -> Path:
    beside = path.parent / Path(book.target.path).name
    known = [path.parent / line["name"] for line in book.target.files]
    return beside if all(file.exists() for file in known) else Path(book.target.path)


def _source(path: Path, book: Ledger) -> Path:
    """Where the ledger says; a relative path is tried from the ledger's folder too, for a folder that was moved."""
    stated = Path(book.source.path)
    beside = path.parent / stated.name
    gone = not (stated.exists() or any(stated.parent.glob(f"{stated.name}.*")))
    return beside if gone and (beside.exists() or any(path.parent.glob(f"{stated.name}.index"))) else stated


def _beside(path: Path, file: Path) -> Path:
    """A file where the ledger says it is, or beside the ledger."""
    return file if file.exists() else path.parent / file.name


def _compare(side: str, entries: Mapping[str, TensorEntry], expected: Iterable[Line]) -> list[str]:
    def one(line: Line) -> str | None:
        name, shape, dtype, want = line
        entry = entries.get(name)
        if entry is None:
            return f"{side}: {name}  missing"
        if (entry.shape, entry.dtype.name) != (shape, dtype):
            return f"{side}: {name}: wanted {dtype} {shape}, got {entry.dtype} {entry.shape}"
        if want is not None and want != hash_entry(entry, want.partition(":")[0]):
            return f"{side}: {name}: its bytes are not those of the conversion"
        return None

    with ThreadPoolExecutor(2) as pool:
        return [problem for problem in pool.map(one, expected) if problem is not None]


def hash_entry(entry: TensorEntry, algorithm: str) -> str:
    """The hash of a tensor's bytes in row-major order, as `algorithm:hex`.

    Raises: FormatError for an algorithm that the kit does not know.
    """
    try:
        return hash_pieces(entry_pieces(entry), algorithm)
    except KeyError:
        raise FormatError("", entry.name, f"hash {algorithm}: not known") from None
