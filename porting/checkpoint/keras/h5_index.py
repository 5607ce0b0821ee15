"""Lists the datasets of an HDF5 file as JSON: `python -m porting.checkpoint.keras.h5_index PATH OFFSET LENGTH FD`.

A program of its own, because libhdf5 is C and a hostile file may crash it or make it allocate: here that
costs a child process with limits, and the caller an error message. The file is the `LENGTH` bytes from
`OFFSET` of PATH (an archive's member), opened through Python, so that nothing in it can name another file.
Datasets that do not lie in the file as little-endian runs (compressed, chunked, compact, big-endian)
are written to the descriptor FD.

Standard output: {"datasets": [{"path", "shape", "dtype", "offset", "copied", "tied"}],
"attributes": {path: {name: text or texts}}}.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from porting.checkpoint.dtypes import DTYPES

MEMORY = 768 << 20
"""Bytes of address space beyond what the interpreter and the libraries take."""

SECONDS = 300
"""Of processor time."""

RATIO = 1032
"""What deflate can expand a byte to (zlib.net, "Technical Details")."""

DEPTH = 256
BLOCK = 16 << 20
SMALL = 64 << 10
"""The largest compact dataset, and what a dataset without storage may come to."""

ATTRIBUTES = ("keras_version", "backend", "model_config", "training_config", "name", "layer_names", "weight_names")
"""What Keras writes on groups; lists that exceed HDF5's header are split as layer_names0, layer_names1 …"""


class RefusedError(Exception):
    """A file that this program does not list, in one line."""


class Window(io.RawIOBase):
    """A range of a file as a file."""

    def __init__(self, file: IO[bytes], offset: int, length: int) -> None:
        super().__init__()
        self.file, self.offset, self.length, self.at = file, offset, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.length}[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = os.pread(self.file.fileno(), max(0, min(len(view), self.length - self.at)), self.offset + self.at)
        view[: len(data)] = data
        self.at += len(data)
        return len(data)


def limit() -> None:
    """Bounds this process's memory and time from here on."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    memory = pages * resource.getpagesize() + MEMORY
    for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def objects(root: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Every group once and every dataset at each of its hard links, parents first.

    Raises: RefusedError for a link to another place or file, and for nesting beyond DEPTH.
    """
    stack: list[tuple[str, h5py.Group, int]] = [("", root, 0)]
    seen = {h5py.h5o.get_info(root.id).addr}
    while stack:
        path, group, depth = stack.pop()
        yield path, group
        inner = []
        for name in group:
            place = f"{path}/{name}" if path else name
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise RefusedError(f"{place}: a soft or external link")
            found = group[name]
            if isinstance(found, h5py.Dataset):
                yield place, found
            elif isinstance(found, h5py.Group):
                address = h5py.h5o.get_info(found.id).addr
                if address in seen or depth > DEPTH:
                    raise RefusedError(f"{place}: a group linked twice or nested too deeply")
                seen.add(address)
                inner.append((place, found, depth + 1))
        stack.extend(reversed(inner))


def dtype_name(place: str, data: h5py.Dataset) -> str:
    """The kit's name of a dataset's element type.

    Keras writes bfloat16 and float8 as opaque bytes with the name in an attribute `dtype`; its legacy
    writer leaves the attribute out, and bfloat16 is the only opaque type of two bytes that Keras has.
    """
    kind = data.dtype
    if h5py.check_string_dtype(kind) is not None:
        raise RefusedError(f"{place}: wanted numbers, got strings")
    if kind.hasobject or kind.names or kind.subdtype:
        raise RefusedError(f"{place}: wanted numbers, got {kind}")
    name = str(kind.name)
    if kind.kind == "V":
        noted = text(data.attrs["dtype"]) if "dtype" in data.attrs else "bfloat16"
        name = noted if noted in DTYPES and DTYPES[noted].itemsize == kind.itemsize else name
    if name not in DTYPES:
        raise RefusedError(f"{place}: element type {kind} is not known")
    return name


def text(value: object) -> str:
    """A string attribute, whichever of HDF5's ways it is stored in."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def attributes(node: h5py.Group) -> dict[str, str | list[str]]:
    """The Keras attributes of a group as strings and lists of strings."""
    found: dict[str, str | list[str]] = {}
    for name in node.attrs:
        stem = name.rstrip("0123456789")
        if stem in ATTRIBUTES:
            value = node.attrs[name]
            found[name] = (
                [text(item) for item in value.reshape(-1).tolist()] if isinstance(value, np.ndarray) else text(value)
            )
    return found


def lies_plainly(data: h5py.Dataset) -> bool:
    """Whether the file holds the elements in one little-endian run."""
    swapped = data.dtype.byteorder == ">"
    return data.id.get_offset() is not None and data.id.get_storage_size() == data.nbytes and not swapped


def copy(place: str, data: h5py.Dataset, target: int, at: int) -> None:
    """Write the elements, little-endian and row-major, to `target` at `at`.

    Raises: RefusedError if the dataset claims more than its stored bytes can expand to.
    """
    if data.nbytes > RATIO * data.id.get_storage_size() + SMALL:
        raise RefusedError(f"{place}: claims {data.nbytes} bytes of {data.id.get_storage_size()} stored")
    little = data.dtype.newbyteorder("<")
    if not data.shape:
        os.pwrite(target, np.asarray(data[()], little).tobytes(), at)
        return
    row = max(1, data.nbytes // data.shape[0])
    rows = max(1, BLOCK // row, data.chunks[0] if data.chunks else 1)
    for start in range(0, data.shape[0], rows):
        block = np.ascontiguousarray(data[start : start + rows], little).reshape(-1).view(np.uint8).data
        while block:
            done = os.pwrite(target, block, at)
            block, at = block[done:], at + done


def describe(place: str, data: h5py.Dataset, target: int, at: int) -> dict[str, Any]:
    """One dataset's line of the index; copies it to `target` at `at` where it must be.

    Raises: RefusedError.
    """
    plist = data.id.get_create_plist()
    if plist.get_layout() == h5py.h5d.VIRTUAL or plist.get_external_count():
        raise RefusedError(f"{place}: its elements lie in another file")
    if data.shape is None:
        raise RefusedError(f"{place}: a dataset without a shape")
    line = {"path": place, "shape": list(data.shape), "dtype": dtype_name(place, data)}
    if not data.nbytes:
        return line | {"offset": 0, "copied": True}
    if lies_plainly(data):
        return line | {"offset": data.id.get_offset(), "copied": False}
    copy(place, data, target, at)
    return line | {"offset": at, "copied": True}


def index(file: h5py.File, target: int) -> dict[str, Any]:
    """The whole index."""
    datasets: dict[str, dict[str, Any]] = {}
    found: dict[str, dict[str, str | list[str]]] = {}
    owners: dict[int, str] = {}
    at = 0
    for path, node in objects(file):
        if isinstance(node, h5py.Group):
            found[path] = attributes(node)
            continue
        owner = owners.setdefault(h5py.h5o.get_info(node.id).addr, path)
        if owner != path:
            datasets[path] = datasets[owner] | {"path": path, "tied": owner}
            continue
        datasets[path] = describe(path, node, target, at)
        if datasets[path]["copied"]:
            at += node.nbytes + -node.nbytes % 64
    return {"datasets": [*datasets.values()], "attributes": {path: values for path, values in found.items() if values}}


def main(path: str, offset: str, length: str, target: str) -> int:
    """Print the index. Returns 0, or 1 after one line on standard error."""
    limit()
    try:
        with Path(path).open("rb") as raw, h5py.File(Window(raw, int(offset), int(length)), "r") as file:
            result = index(file, int(target))
    except RefusedError as error:
        problem = str(error)
    except MemoryError:
        problem = "wants more memory than such a file can need"
    except Exception as error:  # noqa: BLE001  whatever libhdf5 makes of a damaged file is one line for the caller
        problem = f"libhdf5: {error}"
    else:
        json.dump(result, sys.stdout)
        return 0
    sys.stderr.write(f"{' '.join(problem.split())}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
