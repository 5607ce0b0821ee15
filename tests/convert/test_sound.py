"""The checksums that a source stores are compared with its bytes, each once, wherever these are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made import google_bert, save

from porting.checkpoint import sound
from porting.checkpoint.checksum import STEPS, Checksum
from porting.checkpoint.registry import read
from porting.checkpoint.sound import unsound
from porting.checkpoint.storage import Mapped
from porting.checkpoint.tensorflow.leveldb import masked, unmasked
from porting.convert.convert import convert
from porting.errors import MismatchError

TURNED = "bert/encoder/layer_0/output/dense/kernel"
COPIED = "bert/embeddings/word_embeddings"
LEFT_OUT = "bert/encoder/layer_2/output/dense/bias"
ALLOWED = "adapter/w"
WAYS = [{"threads": 1}, {"threads": 2}, {"workers": 2}]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three layers, and a tensor that nobody knows."""
    arrays = google_bert(layers=3) | {ALLOWED: np.ones(5, np.float32)}
    (tmp_path / "in").mkdir()
    return save(tmp_path / "in" / "m.ckpt", arrays, "tf-bundle")


def damage(path: Path, *names: str) -> None:
    """A bit of each tensor is turned over."""
    data = path.with_name(path.name + ".data-00000-of-00001")
    whole = bytearray(data.read_bytes())
    for name in names:
        storage = read(path)[name].storage
        assert isinstance(storage, Mapped)
        whole[storage.offset + 5] ^= 1
    data.write_bytes(whole)


def run(path: Path, out: Path, **choices: object) -> None:
    convert(path, out, to="modelzoo", layers=[0, 1], allow_unexpected=[ALLOWED], **choices)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("names", [[TURNED], [COPIED], [LEFT_OUT], [ALLOWED], [COPIED, TURNED, LEFT_OUT, ALLOWED]])
def test_damage_is_named_before_anything_appears(
    names: list[str], way: dict[str, object], source: Path, tmp_path: Path
) -> None:
    run(source, tmp_path / "good.ckpt", **way)
    damage(source, *names)
    there = sorted(tmp_path.iterdir())
    with pytest.raises(MismatchError, match="stores checksums that its bytes do not have") as caught:
        run(source, tmp_path / "bad.ckpt", **way)
    assert sorted(line.split(": wanted crc32c ")[0] for line in caught.value.problems) == sorted(names)
    assert sorted(tmp_path.iterdir()) == there
    run(source, tmp_path / "bad.ckpt", verify=False, **way)
    assert read(tmp_path / "bad.ckpt").keys() == read(tmp_path / "good.ckpt").keys()


@pytest.mark.parametrize("verify", [True, False])
def test_every_byte_goes_into_one_checksum(
    verify: bool, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even those that are read for a hash, for a matrix that is turned, and to be left out, are read again."""
    seen: list[int] = []

    def step(data: memoryview, value: int) -> int:
        seen.append(len(data))
        return STEPS["crc32c"](data, value)

    monkeypatch.setattr(sound, "STEPS", {"crc32c": step})
    run(source, tmp_path / "out.ckpt", threads=1, verify=verify)
    assert sum(seen) == (sum(entry.nbytes for entry in read(source).values()) if verify else 0)


def test_a_checksum_in_an_entry_is_of_its_bytes(source: Path) -> None:
    checkpoint = read(source)
    for entry in checkpoint.values():
        assert entry.checksum == Checksum("crc32c", STEPS["crc32c"](entry.read().reshape(-1).view(np.uint8).data, 0))
    assert list(unsound(checkpoint)) == []
    damage(source, COPIED, TURNED)
    assert {line.split(":")[0] for line in unsound(read(source))} == {COPIED, TURNED}
    assert list(unsound(read(source), but={COPIED, TURNED})) == []


def test_a_file_that_was_cut_since_is_said(source: Path) -> None:
    checkpoint = read(source)
    data = source.with_name(source.name + ".data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:100])
    lines = list(unsound(checkpoint))
    assert len(lines) >= len(checkpoint) - 2
    assert all(str(data) in line or "crc32c" in line for line in lines)


@pytest.mark.parametrize("crc", [0, 1, 0x8000, 0xFFFFFFFF, 0xA282EAD8])
def test_masks_come_off(crc: int) -> None:
    assert unmasked(masked(crc)) == crc
