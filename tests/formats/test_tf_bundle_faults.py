"""TensorFlow bundles that are hard to find, incomplete, or that lie: each is found, or refused in one clear line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from porting.checkpoint.registry import locate, read
from porting.checkpoint.sound import unsound
from porting.checkpoint.tensorflow import BUNDLE as FORMAT
from porting.checkpoint.tensorflow.leveldb_build import build
from porting.checkpoint.tensorflow.proto import Entry, encode_entry, encode_header
from porting.checkpoint.tensorflow.slices import slice_key
from porting.checkpoint.tensorflow.strings import encode_strings
from porting.checkpoint.wire import integer, message
from porting.checkpoint.write import write
from porting.errors import FormatError, PortError
from porting.testing.formats import mutate

if TYPE_CHECKING:
    from pathlib import Path


def test_where_a_bundle_is_found(tmp_path: Path) -> None:
    prefix = tmp_path / "m.ckpt-7"
    write(prefix, {"w": np.zeros(2, np.float32)}, format="tf-bundle")
    for path in (prefix, tmp_path, tmp_path / "m.ckpt-7.index", tmp_path / "m.ckpt-7.data-00000-of-00001"):
        assert locate(path) == (FORMAT, prefix)
    assert FORMAT.locate(tmp_path / "m.ckpt") is None


def test_a_folder_of_several_bundles_needs_its_state_file(tmp_path: Path) -> None:
    for step in (1, 10, 2):
        write(tmp_path / f"m-{step}", {"w": np.full(2, step, np.float32)}, format="tf-bundle")
    with pytest.raises(FormatError, match="several bundles: m-1, m-10, m-2"):
        locate(tmp_path)
    for state in ("m-2", "/elsewhere/before/m-2", r"\155-2"):
        (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{state}"\nall_model_checkpoint_paths: "m-1"\n')
        assert locate(tmp_path)[1] == tmp_path / "m-2"


@pytest.mark.parametrize("state", ["m-3", "../outside", "", "sub/../../outside", "a\\000b", "\\377"])
def test_a_state_file_that_names_what_is_not_there(tmp_path: Path, state: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write(tmp_path / "outside", {"w": np.zeros(1)}, format="tf-bundle")
    write(folder / "m-33", {"w": np.zeros(1)}, format="tf-bundle")
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{state}"\n')
    with pytest.raises(FormatError, match="model_checkpoint_path"):
        locate(folder)


def test_missing_files_are_named(tmp_path: Path) -> None:
    write(tmp_path / "m", {"w": np.zeros(2)}, format="tf-bundle")
    index, data = tmp_path / "m.index", tmp_path / "m.data-00000-of-00001"
    kept = index.read_bytes()
    index.unlink()
    with pytest.raises(FormatError, match=r"m\.index: cannot be read"):
        read(data)
    index.write_bytes(kept[:-3])
    with pytest.raises(FormatError, match="table footer"):
        read(tmp_path / "m")
    index.write_bytes(kept)
    data.unlink()
    with pytest.raises(FormatError, match="00000-of-00001: cannot be read"):
        read(tmp_path / "m")


HEADER = encode_header(1)


def bundle(folder: Path, items: dict[bytes, bytes], header: bytes = HEADER, data: bytes = b"\1" * 64) -> Path:
    """A bundle with the entries as given, every crc of the index right."""
    (folder / "m.index").write_bytes(build(sorted({b"": header, **items}.items())))
    (folder / "m.data-00000-of-00001").write_bytes(data)
    return folder / "m"


def parent(shape: tuple[int, ...], *slices: list[tuple[int, int]]) -> bytes:
    extents = [b"".join(message(1, integer(1, start) + integer(2, n)) for start, n in part) for part in slices]
    return encode_entry(Entry(1, shape, 0, 0, 0, 0)) + b"".join(message(7, part) for part in extents)


def sliced(*parts: tuple[int, int], count: int | None = None) -> dict[bytes, bytes]:
    return {
        slice_key(b"w", [part]): encode_entry(Entry(1, (n if count is None else count,), 0, 0, 4 * n, 0))
        for part in parts
        for n in [part[1]]
    }


def read_whole(path: Path) -> None:
    for entry in read(path).values():
        entry.read()


LIES = {
    "big-endian": ({}, integer(1, 1) + integer(2, 1), "big-endian"),
    "a version of the future": ({}, integer(1, 1) + message(3, integer(1, 9) + integer(2, 5)), "bundle version 1"),
    "no header": ({b"": encode_entry(Entry(1, (2,), 0, 0, 8, 0))}, HEADER, "header"),
    "bytes that are not there": ({b"w": encode_entry(Entry(1, (4,), 0, 60, 16, 0))}, HEADER, "the file has 64"),
    "a size unlike the shape": ({b"w": encode_entry(Entry(1, (4,), 0, 0, 12, 0))}, HEADER, "wanted 16 bytes"),
    "an immense shape": ({b"w": encode_entry(Entry(1, (1 << 40, 1 << 40), 0, 0, 8, 0))}, HEADER, "cannot be"),
    "an immense empty shape": ({b"w": encode_entry(Entry(1, (0, 1 << 62), 0, 0, 0, 0))}, HEADER, "cannot be"),
    "a negative size": ({b"w": encode_entry(Entry(1, (-4,), 0, 0, 16, 0))}, HEADER, "cannot be"),
    "too many axes": ({b"w": encode_entry(Entry(1, (1,) * 33, 0, 0, 4, 0))}, HEADER, "at most 32 axes"),
    "an unknown rank": ({b"w": integer(1, 1) + message(2, integer(3, 1))}, HEADER, "rank is unknown"),
    "an unknown dtype": ({b"w": encode_entry(Entry(77, (2,), 0, 0, 8, 0))}, HEADER, "dtype 77 is not known"),
    "an unknown shard": ({b"w": encode_entry(Entry(1, (2,), 5, 0, 8, 0))}, HEADER, "wanted shard 5"),
    "an unknown field": ({b"w": integer(1, 1) + integer(9, 1)}, HEADER, "field 9"),
    "a name that is not text": ({b"\xff": encode_entry(Entry(1, (2,), 0, 0, 8, 0))}, HEADER, "UTF-8"),
    "too many strings": ({b"s": encode_entry(Entry(7, (1 << 50,), 0, 0, 64, 0))}, HEADER, "cannot be in 64 bytes"),
    "strings that are too long": ({b"s": encode_entry(Entry(7, (2,), 0, 0, 64, 0))}, HEADER, "wanted 8 bytes"),
    "a slice that is missing": ({b"w": parent((8,), [(0, 4)], [(4, 4)]), **sliced((0, 4))}, HEADER, "not in the index"),
    "slices with a hole": (
        {b"w": parent((9,), [(0, 4)], [(5, 4)]), **sliced((0, 4), (5, 4))},
        HEADER,
        "8 elements of 9",
    ),
    "slices that overlap": ({b"w": parent((8,), [(0, 4)], [(3, 4)]), **sliced((0, 4), (3, 4))}, HEADER, "overlaps"),
    "a slice out of its tensor": ({b"w": parent((4,), [(1, 4)]), **sliced((1, 4))}, HEADER, "reaches out"),
    "a slice of another rank": ({b"w": parent((2, 2), [(0, 4)]), **sliced((0, 4))}, HEADER, "1 axes"),
    "a slice of another shape": ({b"w": parent((4,), [(0, 4)]), **sliced((0, 4), count=3)}, HEADER, "got 1 \\(3,\\)"),
    "a broken object graph": (
        {b"_CHECKPOINTABLE_OBJECT_GRAPH": encode_entry(Entry(7, (), 0, 0, 8, 0))},
        HEADER,
        "_CHECKPOINTABLE_OBJECT_GRAPH",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_bundles_that_lie(tmp_path: Path, lie: str) -> None:
    items, header, problem = LIES[lie]
    if items.get(b"") is not None:
        header = items[b""]
    path = bundle(tmp_path, items, header)
    with pytest.raises(FormatError, match=problem) as error:
        read_whole(path)
    assert "\n" not in str(error.value)


def test_an_overlap_of_the_right_volume(tmp_path: Path) -> None:
    """Two slices that together count eight elements of eight, but share one and leave one out."""
    items = {b"w": parent((8,), [(0, 5)], [(4, 3)]), **sliced((0, 5), (4, 3))}
    with pytest.raises(FormatError, match="overlaps"):
        read(bundle(tmp_path, items))


def test_what_only_tensorflow_can_read_is_noted(tmp_path: Path) -> None:
    path = bundle(
        tmp_path, {b"v": encode_entry(Entry(21, (), 0, 0, 9, 0)), b"w": encode_entry(Entry(1, (), 0, 9, 4, 0))}
    )
    opened = read(path)
    assert list(opened) == ["w"]
    assert opened.notes == ("v: not read, a variant is for TensorFlow only",)


def test_damage_behind_right_crcs_never_escapes(tmp_path: Path) -> None:
    strings, crc = encode_strings([b"one", b"three"])
    items = {
        b"": HEADER,
        b"w": parent((8,), [(0, 4)], [(4, 4)]),
        **sliced((0, 4), (4, 4)),
        b"x": encode_entry(Entry(3, (2, 2), 0, 4, 16, 0)),
        b"s": encode_entry(Entry(7, (2,), 0, 0, len(strings), crc)),
    }
    generator = np.random.default_rng(11)
    refused = 0
    for _ in range(600):
        key = list(items)[int(generator.integers(len(items)))]
        broken = mutate(key, generator) if key and generator.integers(4) == 0 else key
        changed = {name: value for name, value in items.items() if name != key} | {
            broken: mutate(items[key], generator)
        }
        path = bundle(tmp_path, changed, changed.get(b"", b""), strings.ljust(64, b"\1"))
        try:
            read_whole(path)
            list(unsound(read(path)))
        except PortError:
            refused += 1
    assert refused > 300
