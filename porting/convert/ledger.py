"""The ledger: what a conversion did, tensor by tensor, with hashes on both sides."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from porting.checkpoint.format import whole
from porting.errors import FormatError

Line = tuple[str, tuple[int, ...], str, str | None]
"""Name, shape, dtype and hash of a tensor."""

VERSION = 1
SUFFIX = ".port.json"

LIMIT = 256 << 20
"""Bytes of a ledger at most: some 300,000 tensors."""


class SourceTensor(NamedTuple):
    """A tensor that was read. hash: of its bytes in row-major order, as `algorithm:hex`; None where none was made."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    hash: str | None = None


class Record(NamedTuple):
    """A tensor that was written, and how. slot: the optimizer's role if it is not a parameter."""

    target: str
    sources: tuple[str, ...]
    operation: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    hash: str | None = None
    group: str = ""
    slot: str | None = None


class Side(NamedTuple):
    """One side of a conversion.

    files: name and size of each file; a hash of the whole file where one was asked for.
    content: hash over names, shapes, dtypes and hashes of all the tensors on this side that the
        conversion moved, in the order of their names.
    """

    path: str
    format: str
    dialect: str
    files: tuple[Mapping[str, Any], ...]
    content: str | None = None


class Ledger(NamedTuple):
    """Everything that a conversion did. `port verify` holds two checkpoints against it."""

    kit: str
    family: str
    table: str
    source: Side
    target: Side
    config: Mapping[str, Any]
    inferred: Mapping[str, Any]
    options: Mapping[str, Any]
    read: tuple[SourceTensor, ...]
    tensors: tuple[Record, ...]
    dropped: tuple[Mapping[str, str], ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    absent_groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    verified: bool = False
    version: int = VERSION

    def to_json(self) -> str:
        """As a JSON document, a tensor per line, in ASCII: names and paths need not be valid Unicode."""
        own = self._asdict().items()
        return "{\n" + ",\n".join(f" {json.dumps(key)}: {_json(value)}" for key, value in own) + "\n}\n"

    @property
    def moved_from(self) -> list[Line]:
        """The tensors that were read."""
        return [(tensor.name, tensor.shape, tensor.dtype, tensor.hash) for tensor in self.read]

    @property
    def moved_to(self) -> list[Line]:
        """The tensors that were written."""
        return [(record.target, record.shape, record.dtype, record.hash) for record in self.tensors]

    @property
    def parameters(self) -> int:
        """Elements written, optimizer slots not counted."""
        total = 0
        for record in self.tensors:
            if record.slot is None:
                count = 1
                for size in record.shape:
                    count *= size
                total += count
        return total


def _json(value: Any) -> str:
    """A value of the ledger: a list of tensors or sides a line each, anything else in one line."""
    if isinstance(value, (SourceTensor, Record, Side)):
        return json.dumps(value._asdict())
    if isinstance(value, tuple) and value:
        return "[\n  " + ",\n  ".join(map(_json, value)) + "\n ]"
    return json.dumps(value)


def content_hash(tensors: Sequence[Line]) -> str | None:
    """A hash over (name, shape, dtype, hash) of tensors, whatever their order; None if a hash is missing."""
    from porting.checkpoint.stream import digest

    if not tensors or any(line[3] is None for line in tensors):
        return None
    state = digest("sha256")
    for name, shape, dtype, value in sorted(tensors):
        state.update(f"{name}\0{list(shape)}\0{dtype}\0{value}\n".encode("utf-8", "surrogatepass"))
    return f"sha256:{state.hexdigest()}"


def read_ledger(path: Path) -> Ledger:
    """Raises: FormatError if the file cannot be read or is no ledger of this version."""
    text = whole(path, LIMIT)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(path, "", f"wanted a ledger in JSON: {error}") from None
    if not isinstance(data, dict) or data.get("version") != VERSION:
        got = data.get("version") if isinstance(data, dict) else type(data).__name__
        raise FormatError(path, "version", f"wanted a conversion ledger of version {VERSION}, got {got}")
    try:
        ledger = _ledger(data)
        typed = _typed(ledger)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(path, "", f"wanted a conversion ledger, but {error} is wrong or missing") from None
    if not typed:
        raise FormatError(path, "", "wanted a conversion ledger, but some of its values are of another type")
    for place, side, lines in (
        ("source", ledger.source, ledger.moved_from),
        ("target", ledger.target, ledger.moved_to),
    ):
        if side.content != content_hash(lines):
            raise FormatError(
                path, f"{place}.content", "does not fit the ledger's own tensors: it was edited or damaged"
            )
    return ledger


def _typed(ledger: Ledger) -> bool:
    """Are the values that others rely on of the types that they are declared with?"""
    sides = (ledger.source, ledger.target)
    paths: list[Any] = [side.path for side in sides] + [file.get("name") for side in sides for file in side.files]
    paths += [ledger.options[key] for key in ("like", "optimizer") if key in ledger.options]
    lines = [*ledger.moved_from, *ledger.moved_to]
    return (
        isinstance(ledger.options, dict)
        and all(isinstance(path, str) and _possible(path) for path in paths)
        and all(isinstance(side.format, str) for side in sides)
        and all(isinstance(name, str) and isinstance(dtype, str) for name, _, dtype, _ in lines)
        and all(type(size) is int for _, shape, _, _ in lines for size in shape)
        and all(value is None or isinstance(value, str) for *_, value in lines)
    )


def _possible(path: str) -> bool:
    """Can it be a path at all?"""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def _ledger(data: dict[str, Any]) -> Ledger:
    data["source"] = Side(**{**data["source"], "files": tuple(data["source"]["files"])})
    data["target"] = Side(**{**data["target"], "files": tuple(data["target"]["files"])})
    data["read"] = tuple(SourceTensor(**{**line, "shape": tuple(line["shape"])}) for line in data["read"])
    data["tensors"] = tuple(
        Record(
            **{
                **line,
                "shape": tuple(line["shape"]),
                "sources": tuple(line["sources"]),
                "operation": tuple(line["operation"]),
            }
        )
        for line in data["tensors"]
    )
    for key in ("dropped", "missing", "unexpected", "absent_groups", "notes"):
        data[key] = tuple(data[key])
    return Ledger(**data)
