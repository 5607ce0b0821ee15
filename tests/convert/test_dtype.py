"""--dtype: the one operation that rounds."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from made import as_modelzoo, google_bert, load, save

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.pieces import storage_pieces
from porting.checkpoint.registry import read
from porting.checkpoint.write import as_entry
from porting.convert.cast import cast
from porting.convert.convert import convert
from porting.convert.stats import tensor_stats
from porting.errors import UsageError
from porting.testing.formats import random_bits

FLOATS = sorted(kind.name for kind in DTYPES.values() if kind.kind == "float")
TARGETS = [name for name in FLOATS if name not in {"float4_e2m1fn", "float8_e8m0fnu"}]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_values_are_those_of_numpy_and_ml_dtypes(dtype: str, tmp_path: Path) -> None:
    arrays = google_bert()
    ledger = convert(
        save(tmp_path / "a.npz", arrays, "npz"), tmp_path / "out", to="modelzoo", format="safetensors", dtype=dtype
    )
    got = load(tmp_path / "out")
    for name, value in as_modelzoo(arrays).items():
        assert got[name].tobytes() == value.astype(DTYPES[dtype].numpy()).tobytes(), name
    assert ledger.notes == ()
    steps = {record.operation for record in ledger.tensors}
    assert steps == {("copy", f"cast float32 -> {dtype}"), ("transpose", f"cast float32 -> {dtype}")}
    assert all(tensor.hash and tensor.dtype == "float32" for tensor in ledger.read)


def test_the_dtype_that_it_has_is_no_cast(tmp_path: Path) -> None:
    ledger = convert(save(tmp_path / "a.npz", google_bert(), "npz"), tmp_path / "out", to="modelzoo", dtype="float32")
    assert {record.operation for record in ledger.tensors} == {("copy",), ("transpose",)}


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_pair_of_floats_in_pieces(source: str, target: str) -> None:
    """Random bits, so NaNs, infinities and denormals too; counted is what was finite and is no longer."""
    array = random_bits(source, (37, 11), 3)
    entry = cast(as_entry("w", array), DTYPES[target])
    with np.errstate(all="ignore"):
        want = (array.astype(np.float32) if source == "float8_e8m0fnu" else array).astype(DTYPES[target].numpy())
        lost = np.isfinite(array.astype(np.float64)) & ~np.isfinite(want.astype(np.float64))
    assert entry.dtype.name == target
    assert np.asarray(entry.read()).tobytes() == want.tobytes()
    pieces = storage_pieces(entry.storage, entry.shape, entry.dtype.itemsize, 64)
    assert b"".join(piece.tobytes() for piece in pieces) == want.tobytes()
    if source != target:
        assert sum(entry.storage.overflowed) == int(lost.sum())  # type: ignore[attr-defined]


def test_overflow_is_noted(tmp_path: Path) -> None:
    arrays = google_bert()
    arrays["bert/embeddings/word_embeddings"][3, :2] = 70000, -1e30
    arrays["bert/embeddings/word_embeddings"][4, 0] = np.inf
    ledger = convert(save(tmp_path / "a.npz", arrays, "npz"), tmp_path / "out", to="modelzoo", dtype="float16")
    assert ledger.notes == (
        "bert.bert.bert_embedding_lookup.embedding_table: 2 finite values became infinite in float16",
    )


def test_elements_that_end_where_no_unpacked_part_does(tmp_path: Path) -> None:
    """A deflated tensor comes in parts of any length."""
    arrays = google_bert(layers=1, hidden=384, vocab=4001)
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    convert(tmp_path / "a.npz", tmp_path / "out", to="modelzoo", format="safetensors", dtype="float16")
    got = load(tmp_path / "out")
    for name, value in as_modelzoo(arrays).items():
        assert got[name].tobytes() == value.astype(np.float16).tobytes(), name
    name = "bert/embeddings/word_embeddings"
    known = tensor_stats(read(tmp_path / "a.npz")[name])
    assert known is not None
    assert known.high == arrays[name].max()


def test_integers_are_never_cast(tmp_path: Path) -> None:
    arrays = google_bert()
    arrays["bert/embeddings/word_embeddings"] = (arrays["bert/embeddings/word_embeddings"] * 50).astype(np.int8)
    convert(save(tmp_path / "a.npz", arrays, "npz"), tmp_path / "out", to="modelzoo", dtype="bfloat16")
    got = load(tmp_path / "out")
    table = got.pop("bert.bert.bert_embedding_lookup.embedding_table")
    assert table.dtype == np.int8
    assert {value.dtype for value in got.values()} == {np.dtype(ml_dtypes.bfloat16)}


@pytest.mark.parametrize("dtype", ["int8", "float31", "", "complex64", "string", "float4_e2m1fn", "float8_e8m0fnu"])
def test_what_is_no_float(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--dtype"):
        convert(save(tmp_path / "a.npz", google_bert(), "npz"), tmp_path / "out", to="modelzoo", dtype=dtype)
