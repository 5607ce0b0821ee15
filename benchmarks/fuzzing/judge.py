"""Puts one mutant in a folder, reads it, converts it, and says what came of it."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fuzzing.attacks import Mutant
from fuzzing.seeds import Seed
from porting.checkpoint.entry import Checkpoint
from porting.checkpoint.equal import string_values
from porting.checkpoint.registry import format_named, read
from porting.checkpoint.write import write
from porting.convert.convert import convert
from porting.convert.verify import hash_entry, verify
from porting.errors import LINE, PortError

MEMORY = 1 << 30
"""Resident bytes that no mutant may need."""

SPACE = 3 << 30
"""Bytes of address space of a worker."""

CANARY = b"canary: never read, outside the checkpoint's folder. "
GOOD = ("refused", "refused by convert", "equal", "difference found")
"""Outcomes that are right. `refused by convert`: its tensors read, and the conversion says what is wrong."""

FORBIDDEN = frozenset({"os.system", "os.exec", "pickle.find_class", "socket.connect"})
"""Events of Python's audit hooks that no checkpoint may cause."""

LISTING = "porting.checkpoint.keras.h5_index"
"""The one program that reading may run."""

Facts = dict[str, tuple[tuple[int, ...], str, str]]


@dataclass(frozen=True)
class Outcome:
    """What came of a mutant. kind: one of GOOD, or what is wrong. text: the error, or why it is wrong."""

    kind: str
    text: str = ""

    @property
    def good(self) -> bool:
        """Is it what a bad file should come to?"""
        return self.kind in GOOD


class Room:
    """A worker's folder: `in` for the mutant, `out` for conversions, `base` for the good ones, and canaries."""

    def __init__(self, folder: Path, seeds: list[Seed]) -> None:
        self.folder = folder
        self.mutant, self.out, self.base = folder / "in", folder / "out", folder / "base"
        for place in (self.mutant, self.out, self.base):
            place.mkdir(parents=True)
        content = CANARY * 400
        for name in ("canary", "canary.bin"):
            (folder / name).write_bytes(content)
        tensor = {"w": np.frombuffer(content[: len(content) // 4 * 4], np.float32)}
        write(folder / "canary.safetensors", tensor, format="safetensors")
        self.facts: dict[str, Facts] = {}
        self.ledgers: dict[str, Path] = {}
        for seed in seeds:
            place = self.base / seed.name
            lay(place, seed.files)
            source = read(place / seed.typed)
            self.facts[seed.name] = facts(source)
            convert(place / seed.typed, place / "result", to=seed.to, source_format=seed.format)
            self.ledgers[seed.name] = place / "result.port.json"
        self.opened: list[str] = []
        self.names = sorted(path.name for path in folder.iterdir())
        os.chdir(self.out)

    def watch(self) -> None:
        """Note from now on every file that Python opens in this folder beside its parts, and every program it runs."""
        sys.addaudithook(self._heard)

    def _heard(self, event: str, args: tuple[object, ...]) -> None:
        if event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
            path = os.path.abspath(os.fsdecode(args[0]))  # noqa: PTH100 - links are not followed here
            allowed = (str(self.mutant), str(self.out), str(self.base))
            if path.startswith((str(self.folder), "/etc/")) and not path.startswith(allowed):
                self.opened.append(path)
        elif event in FORBIDDEN or (event == "subprocess.Popen" and LISTING not in str(args[1])):
            self.opened.append(f"{event} {args}")


def lay(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files into a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def facts(checkpoint: Checkpoint) -> Facts:
    """Shape, dtype and hash of every tensor; reads them all."""
    found: Facts = {}
    for name, entry in checkpoint.items():
        text = entry.dtype.kind == "string"
        value = repr(string_values(entry)) if text else hash_entry(entry, "xxh3_128")
        found[name] = (entry.shape, entry.dtype.name, value)
        if CANARY[:16] in entry.read().tobytes()[:4096]:
            raise AssertionError(f"{name}: holds bytes of a file outside the checkpoint's folder")
    return found


def limit() -> None:
    """Bound the address space of this process."""
    resource.setrlimit(resource.RLIMIT_AS, (SPACE, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def memory() -> Iterator[list[int]]:
    """The peak of resident bytes within."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    peak: list[int] = []
    yield peak
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak += [int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")]


def judge(room: Room, mutant: Mutant) -> Outcome:
    """What came of one mutant: every promise on bad input held against it."""
    lay(room.mutant, mutant.files)
    shutil.rmtree(room.out)
    room.out.mkdir()
    room.opened.clear()
    os.chdir(room.out)
    with memory() as peak:
        try:
            outcome = _tried(room, mutant)
        except Exception:  # noqa: BLE001 - whatever escapes is what is looked for
            return Outcome("another exception", traceback.format_exc(limit=-6))
    if peak and peak[0] > MEMORY:
        return Outcome("memory", f"{peak[0] >> 20} MiB")
    if room.opened:
        return Outcome("opened a file outside", ", ".join(room.opened))
    if sorted(path.name for path in room.folder.iterdir()) != room.names:
        return Outcome("a file outside the output folder", str(sorted(path.name for path in room.folder.iterdir())))
    if sorted(path.name for path in room.mutant.iterdir()) != sorted(mutant.files):
        return Outcome("a file beside the source", str(sorted(path.name for path in room.mutant.iterdir())))
    return outcome


def _tried(room: Room, mutant: Mutant) -> Outcome:
    seed, path = mutant.seed, room.mutant / mutant.seed.typed
    try:
        found = facts(read(path))
    except PortError as error:
        return _refusal("refused", error)
    same = found == room.facts[seed.name]
    try:
        convert(path, room.out / "result", to=seed.to)
    except PortError as error:
        left = [file.name for file in room.out.iterdir()]
        return (
            Outcome("something left behind", f"{left} after {error}") if left else _refusal("refused by convert", error)
        )
    if format_named(seed.format).verify and mutant.blind and seed.checked and not same:
        return Outcome("a wrong checksum is not said", ", ".join(_changes(found, room.facts[seed.name])))
    if not (room.out / "result.port.json").exists() or any(file.name.endswith(".part") for file in room.out.iterdir()):
        return Outcome("an output that is not whole", str(list(room.out.iterdir())))
    if same:
        return Outcome("equal")
    return _held_against_ledger(room, seed, path, found)


def _held_against_ledger(room: Room, seed: Seed, path: Path, found: Facts) -> Outcome:
    """A mutant that reads and differs: `port verify` with the ledger of the good one must see it."""
    try:
        result = verify(room.ledgers[seed.name], source=path)
    except PortError as error:
        return _refusal("difference found", error)
    if not result.holds:
        return Outcome("difference found", result.problems[0])
    return Outcome("a difference that verify does not find", ", ".join(_changes(found, room.facts[seed.name])))


def _changes(found: Facts, good: Facts) -> list[str]:
    return [name for name in found.keys() | good.keys() if found.get(name) != good.get(name)][:3]


def _refusal(kind: str, error: PortError) -> Outcome:
    """An error, if its text is one a person can read: a line, or a title with a line per mismatch."""
    title, *rest = str(error).split("\n")
    clear = (
        title.strip()
        and all(line.startswith("  ") for line in rest)
        and all(line.isprintable() for line in (title, *rest))
    )
    if not clear or max(map(len, (title, *rest))) > LINE + 100:
        return Outcome("an error that is not clear", ascii(str(error)[:300]))
    return Outcome(kind, str(error))
