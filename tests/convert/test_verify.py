"""`port verify`: is the one file still the conversion of the other?"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made import as_hf, as_modelzoo, google_bert, save

from porting.checkpoint import release
from porting.checkpoint.output import Output
from porting.checkpoint.registry import read
from porting.convert.convert import convert
from porting.convert.verify import verify
from porting.errors import FormatError, PortError

FORMATS = ("tf-bundle", "mindspore-ckpt", "mindspore-safetensors", "safetensors", "torch", "npz")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_flipped_byte_is_found_on_either_side(kind: str, side: str, tmp_path: Path) -> None:
    """In the middle of a weight, where no checksum of the format may look."""
    source = save(tmp_path / "source", google_bert(), kind)
    convert(source, tmp_path / "target", to="modelzoo" if kind != "torch" else "hf", format=kind)
    ledger = tmp_path / "target.port.json"
    whole = verify(ledger)
    assert whole.holds
    assert (whole.compared, whole.unhashed) == (2 * len(google_bert()), 0)
    value = google_bert()["bert/embeddings/position_embeddings"].tobytes()[40:72]
    hit = 0
    for file in tmp_path.glob(f"{side}*"):
        data = file.read_bytes()
        if file.name != "target.port.json" and value in data:
            at = data.index(value) + 9
            file.chmod(0o644)
            file.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            hit += 1
    assert hit == 1
    broken = verify(ledger)
    assert not broken.holds
    assert all(problem.startswith(f"{side}: ") for problem in broken.problems)
    assert any("position_embedding" in problem for problem in broken.problems)


def test_every_byte_of_every_weight_counts(tmp_path: Path) -> None:
    source = save(tmp_path / "source.npz", google_bert(layers=1), "npz")
    convert(source, tmp_path / "out.safetensors", to="hf")
    good = bytearray((tmp_path / "out.safetensors").read_bytes())
    start = 8 + int.from_bytes(good[:8], "little")
    for at in np.random.default_rng(0).integers(start, len(good), 60):
        bad = good.copy()
        bad[at] ^= 1 << int(at % 8)
        (tmp_path / "out.safetensors").write_bytes(bad)
        result = verify(tmp_path / "out.safetensors.port.json")
        assert len(result.problems) == 1
        assert result.problems[0].endswith("its bytes are not those of the conversion")


def test_other_names_shapes_and_dtypes(tmp_path: Path) -> None:
    source = save(tmp_path / "source.npz", google_bert(layers=1), "npz")
    convert(source, tmp_path / "out.npz", to="hf", format="npz")
    arrays = as_hf(google_bert(layers=1))
    arrays["bert.pooler.dense.bias"] = arrays["bert.pooler.dense.bias"].reshape(1, 8)
    arrays["cls.predictions.bias"] = arrays["cls.predictions.bias"].view("i4")
    del arrays["cls.seq_relationship.bias"]
    arrays["stranger"] = np.ones(1)
    save(tmp_path / "out.npz", arrays, "npz")
    assert sorted(verify(tmp_path / "out.npz.port.json").problems) == [
        "target: bert.pooler.dense.bias: wanted float32 (8,), got float32 (1, 8)",
        "target: cls.predictions.bias: wanted float32 (30,), got int32 (30,)",
        "target: cls.seq_relationship.bias  missing",
        "target: stranger  unexpected",
    ]


@pytest.mark.parametrize("kind", ["tf-bundle", "safetensors"])
def test_moved_together_or_apart(kind: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    save(here / "source.ckpt", google_bert(), kind)
    convert(here / "source.ckpt", here / "out", to="modelzoo")
    here.rename(there)
    ledger = there / "out.port.json"
    assert verify(ledger).holds, "a folder that was moved as a whole is found from its ledger"
    apart = tmp_path / "apart"
    apart.mkdir()
    for file in there.glob("source*"):
        file.rename(apart / file.name)
    with pytest.raises(PortError, match="no such file"):
        verify(ledger)
    assert verify(ledger, source=apart / "source.ckpt").holds
    shutil.move(there / "out", apart / "renamed")
    with pytest.raises(PortError, match="no such file"):
        verify(ledger, source=apart / "source.ckpt")
    assert verify(ledger, source=apart / "source.ckpt", target=apart / "renamed").holds


def test_another_file_in_its_place(tmp_path: Path) -> None:
    source = save(tmp_path / "source.npz", google_bert(), "npz")
    convert(source, tmp_path / "out.ckpt", to="modelzoo")
    save(tmp_path / "out.ckpt", as_modelzoo(google_bert(seed=1)), "mindspore-ckpt")
    result = verify(tmp_path / "out.ckpt.port.json")
    assert len(result.problems) == len(google_bert())
    save(tmp_path / "out.ckpt", as_modelzoo(google_bert()), "npz")
    with pytest.raises(FormatError, match="wanted mindspore-ckpt"):
        verify(tmp_path / "out.ckpt.port.json")


@pytest.mark.parametrize("memory", [1 << 40, 1 << 10])
def test_what_is_written_is_read_back(memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk or a memory that loses a bit is caught before the output gets its name; --no-verify says so.

    Where the machine has less memory than the output, part by part.
    """
    monkeypatch.setattr(release, "memory", lambda: memory)
    monkeypatch.setattr(release, "PART", 1 << 10)
    write = Output.write

    def faulty(self: Output, file: int, offset: int, data: object) -> None:
        copy = bytearray(memoryview(data).cast("B"))  # type: ignore[arg-type]
        if len(copy) == 8 * 30 * 4:
            copy[100] ^= 1
        write(self, file, offset, copy)

    monkeypatch.setattr(Output, "write", faulty)
    source = tmp_path / "source.npz"
    np.savez(source, **google_bert())
    with pytest.raises(PortError, match="embedding_table: what was read back"):
        convert(source, tmp_path / "out.ckpt", to="modelzoo")
    assert [file.name for file in tmp_path.iterdir()] == ["source.npz"]
    ledger = convert(source, tmp_path / "out.ckpt", to="modelzoo", verify=False)
    assert not ledger.verified
    assert not verify(tmp_path / "out.ckpt.port.json").holds


def test_shared_copies_have_hashes_on_both_sides(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    arrays = {name: torch.from_numpy(value) for name, value in as_hf(google_bert()).items()}
    arrays["cls.predictions.decoder.weight"] = arrays["bert.embeddings.word_embeddings.weight"]
    arrays["cls.predictions.decoder.bias"] = arrays["cls.predictions.bias"]
    torch.save(arrays, tmp_path / "model.bin")
    assert read(tmp_path / "model.bin")["cls.predictions.decoder.weight"].tied
    convert(tmp_path / "model.bin", tmp_path / "out.bin", to="hf", format="torch", like=tmp_path / "model.bin")
    result = verify(tmp_path / "out.bin.port.json")
    assert result.holds
    assert result.unhashed == 0
    assert result.compared == 2 * len(arrays)
    out = torch.load(tmp_path / "out.bin", weights_only=True)
    assert len({value.untyped_storage().data_ptr() for value in out.values()}) == len(arrays) - 2, "still shared"


def test_an_unknown_hash(tmp_path: Path) -> None:
    source = save(tmp_path / "source.npz", google_bert(), "npz")
    with pytest.raises(PortError, match="md5"):
        convert(source, tmp_path / "out.ckpt", to="modelzoo", hash="md5")
    assert [file.name for file in tmp_path.iterdir()] == ["source.npz"]


def test_golden(golden: Callable[[str], Path], tmp_path: Path) -> None:
    convert(golden("xlnet_b1/finetuned.ckpt"), tmp_path / "out", to="kit_ms")
    assert verify(tmp_path / "out.port.json").holds


@pytest.mark.parametrize("kind", FORMATS)
def test_without_hashes_the_same_is_written_and_nothing_is_said_to_be_verified(kind: str, tmp_path: Path) -> None:
    source = save(tmp_path / "source", google_bert(), kind)
    target = {"to": "modelzoo" if kind != "torch" else "hf", "format": kind, "verify": False}
    convert(source, tmp_path / "hashed", **target)
    book = convert(source, tmp_path / "plain", hash="none", **target)
    hashed, plain = read(tmp_path / "hashed"), read(tmp_path / "plain")
    for name, entry in hashed.items():
        np.testing.assert_array_equal(plain[name].read(), entry.read())
    assert plain.keys() == hashed.keys()
    assert not book.verified
    assert [line.hash for line in (*book.read, *book.tensors)] == [None] * (2 * len(google_bert()))
    found = verify(tmp_path / "plain.port.json")
    assert (found.compared, found.unhashed) == (0, 2 * len(google_bert()))
    with pytest.raises(PortError, match="--hash none leaves nothing to verify by: it wants --no-verify"):
        convert(source, tmp_path / "never", hash="none", **{**target, "verify": True})
    assert not (tmp_path / "never").exists()
