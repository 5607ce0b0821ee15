"""The ledger: what it says of a conversion, and that it survives its JSON."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash
from made import as_modelzoo, google_bert, load, save

from porting.convert.convert import convert
from porting.convert.ledger import Ledger, content_hash, read_ledger
from porting.convert.verify import verify
from porting.errors import PortError

Golden = Callable[[str], Path]


def made(folder: Path, **options: Any) -> tuple[Ledger, Path]:
    """A ledger and its file."""
    source = save(folder / "source.npz", google_bert(), "npz")
    ledger = convert(source, folder / "out.ckpt", to="modelzoo", **options)
    return ledger, folder / "out.ckpt.port.json"


def test_it_is_written_beside_the_output_and_reads_back(tmp_path: Path) -> None:
    ledger, path = made(tmp_path)
    assert read_ledger(path) == ledger
    assert json.loads(path.read_text("utf-8"))["version"] == 1


def test_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    """By another hand: numpy's bytes and the xxhash package."""
    ledger, _ = made(tmp_path)
    source, target = google_bert(), as_modelzoo(google_bert())
    assert {t.name: t.hash for t in ledger.read} == {
        name: f"xxh3_128:{xxhash.xxh3_128(value.tobytes()).hexdigest()}" for name, value in source.items()
    }
    assert {r.target: r.hash for r in ledger.tensors} == {
        name: f"xxh3_128:{xxhash.xxh3_128(value.tobytes()).hexdigest()}" for name, value in target.items()
    }
    assert ledger.source.content != ledger.target.content
    lines = [(t.name, t.shape, t.dtype, t.hash) for t in reversed(ledger.read)]
    assert content_hash(lines) == ledger.source.content
    assert content_hash([*lines[1:], (*lines[0][:3], None)]) is None


def test_sha256_covers_the_input_files_too(tmp_path: Path) -> None:
    ledger, path = made(tmp_path, hash="sha256")
    whole = hashlib.sha256((tmp_path / "source.npz").read_bytes()).hexdigest()
    assert ledger.source.files == (
        {"name": "source.npz", "bytes": (tmp_path / "source.npz").stat().st_size, "hash": f"sha256:{whole}"},
    )
    value = google_bert()["bert/pooler/dense/bias"]
    assert next(t.hash for t in ledger.read if t.name == "bert/pooler/dense/bias") == (
        f"sha256:{hashlib.sha256(value.tobytes()).hexdigest()}"
    )
    assert verify(path).holds


def test_every_source_tensor_is_accounted_for(tmp_path: Path, golden: Golden) -> None:
    """Converted or dropped with a reason: nothing vanishes in silence."""
    for case in ("xlnet_b1/xlnet_model.ckpt", "bert_a1/finetuned.ckpt", "tinybert_c1/teacher_cls.ckpt"):
        source = golden(case)
        ledger = convert(source, tmp_path / "out.safetensors", to="hf", config="none", overwrite=True)
        used = {name for record in ledger.tensors for name in record.sources}
        dropped = {line["name"] for line in ledger.dropped}
        assert used | dropped == set(load(source))
        assert not used & dropped
        assert all(line["reason"] for line in ledger.dropped)


def test_parts_of_what_cannot_be_made_are_dropped_by_name(tmp_path: Path, golden: Golden) -> None:
    """A stack lacks one layer, by the user's leave: the other layers have nowhere to go, and that is said."""
    convert(golden("xlnet_b1/pretrained.ckpt"), tmp_path / "hf.npz", to="hf", format="npz", config="none")
    arrays = load(tmp_path / "hf.npz")
    gone = "transformer.layer.1.rel_attn.r_w_bias"
    del arrays[gone]
    save(tmp_path / "less.npz", arrays, "npz")
    ledger = convert(tmp_path / "less.npz", tmp_path / "out", to="google", allow_missing=[gone], config="none")
    assert ledger.missing == (gone,)
    left = {line["name"] for line in ledger.dropped}
    assert left == {f"transformer.layer.{layer}.rel_attn.r_w_bias" for layer in (0, 2)}
    assert "model/transformer/r_w_bias" not in load(tmp_path / "out")


def test_a_dry_run_has_no_hashes_and_writes_nothing(tmp_path: Path) -> None:
    source = save(tmp_path / "source.npz", google_bert(), "npz")
    ledger = convert(source, tmp_path / "out.ckpt", to="modelzoo", dry_run=True)
    assert [path.name for path in tmp_path.iterdir()] == ["source.npz"]
    assert {t.hash for t in ledger.read} == {None}
    assert {r.hash for r in ledger.tensors} == {None}
    wet = convert(source, tmp_path / "out.ckpt", to="modelzoo")
    assert [r.target for r in ledger.tensors] == [r.target for r in wet.tensors]


def test_names_outside_ascii_and_unicode(tmp_path: Path) -> None:
    source = save(tmp_path / "Modell-Größe.npz", google_bert(), "npz")
    config = tmp_path / "config.json"
    config.write_text('{"name": "\\ud800 läuft"}')
    ledger = convert(source, tmp_path / "ausgäbe.ckpt", to="modelzoo")
    assert read_ledger(tmp_path / "ausgäbe.ckpt.port.json") == ledger
    assert verify(tmp_path / "ausgäbe.ckpt.port.json").holds


def test_a_ledger_that_was_edited_is_refused(tmp_path: Path) -> None:
    _, path = made(tmp_path)
    good = json.loads(path.read_text("utf-8"))
    for side, key, at in (("tensors", "hash", "target"), ("read", "hash", "source"), ("tensors", "target", "target")):
        bad = copy.deepcopy(good)
        bad[side][3][key] = "xxh3_128:00" if key == "hash" else "another"
        path.write_text(json.dumps(bad))
        with pytest.raises(PortError, match=f"{at}.content: does not fit the ledger's own tensors"):
            verify(path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"version": 2}', '{"version": 1}', "[" * 100_000, "\ufeff{}", '{"version": "1"}'],
)
def test_what_is_no_ledger(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.port.json"
    path.write_text(text)
    with pytest.raises(PortError, match=r"x\.port\.json"):
        read_ledger(path)


def test_damaged_ledgers_are_one_clear_error_or_hold(tmp_path: Path) -> None:
    """Every value replaced by another of another type, and a thousand random damages to the text."""
    _, path = made(tmp_path)
    text = path.read_text("utf-8")
    choose = random.Random(3)
    damaged = []
    for at in _places(json.loads(text)):
        values = (None, 7, "no\0path", [1], {"a": 1}, -1, "\ud800", True)
        damaged += [json.dumps(_replaced(json.loads(text), at, value)) for value in values]
    for _ in range(200):
        i = choose.randrange(len(text))
        damaged.append(text[:i] + choose.choice(["", "}", '"', "9", ",", "[", "é"]) + text[i + choose.randrange(9) :])
    choose.shuffle(damaged)
    lines = []
    for bad in damaged[:500]:
        path.write_text(bad, "utf-8")
        try:
            verify(path)
        except PortError as error:
            lines.append(str(error))
    assert len(lines) > 200
    assert not [line for line in lines if "\n" in line]


def _places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value, of lists only to the first two."""
    found = [at] if at else []
    items = data.items() if isinstance(data, dict) else enumerate(data[:2]) if isinstance(data, list) else ()
    for key, value in items:
        found += _places(value, (*at, key))
    return found


def _replaced(data: Any, at: tuple[Any, ...], value: Any) -> Any:
    inner = data
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return data
