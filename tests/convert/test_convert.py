"""`porting.convert` as a whole: outputs, ties, groups, absences."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made import as_hf, as_modelzoo, differences, google_bert, load, save

from porting.checkpoint import release
from porting.checkpoint.output import Output
from porting.checkpoint.registry import read
from porting.convert.asked import stem
from porting.convert.convert import convert
from porting.errors import FormatError, MismatchError, PortError, UsageError

Golden = Callable[[str], Path]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small BERT of Google's names."""
    return save(tmp_path / "bert_base.v2.npz", google_bert(), "npz")


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_default_output_stands_beside_the_source(source: Path) -> None:
    ledger = convert(source, to="mindspore")
    assert listing(source.parent) == [
        "bert_base.v2.modelzoo.ckpt",
        "bert_base.v2.modelzoo.ckpt.port.json",
        "bert_base.v2.npz",
    ]
    assert ledger.target.path == str(source.parent / "bert_base.v2.modelzoo.ckpt")
    convert(source.parent / "bert_base.v2.modelzoo.ckpt", to="tensorflow")
    assert read(source.parent / "bert_base.v2.google.ckpt").format == "tf-bundle"


@pytest.mark.parametrize(
    ("name", "dialect", "want"),
    [
        ("bert_model.ckpt", "google", "bert_model"),
        ("model.ckpt-1000", "google", "model.ckpt-1000"),
        ("model.safetensors.index.json", "hf", "model"),
        ("pytorch_model.bin", "hf", "pytorch_model"),
        ("bert.modelzoo.ckpt", "modelzoo", "bert"),
        ("bert.modelzoo.ckpt", "hf", "bert.modelzoo"),
        (".npz", "hf", ".npz"),
        ("model", "hf", "model"),
        ("v1.2", "hf", "v1.2"),
        ("hf", "hf", "hf"),
    ],
)
def test_stems(name: str, dialect: str, want: str) -> None:
    assert stem(name, dialect) == want


def test_a_folder_as_output(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    convert(source, tmp_path / "out", to="hf")
    assert listing(tmp_path / "out") == ["bert_base.v2.hf.safetensors", "bert_base.v2.hf.safetensors.port.json"]
    with pytest.raises(UsageError, match="there is no folder"):
        convert(source, tmp_path / "nowhere" / "x", to="hf")


@pytest.mark.parametrize(
    ("name", "to", "kind"),
    [
        ("x.npz", "hf", "npz"),
        ("x.safetensors", "modelzoo", "mindspore-safetensors"),
        ("x.safetensors", "hf", "safetensors"),
        ("x.ckpt", "modelzoo", "mindspore-ckpt"),
        ("x.ckpt", "google", "tf-bundle"),
        ("x.pt", "hf", "torch"),
        ("x.bin", "hf", "torch"),
        ("x.unknown", "hf", "safetensors"),
        ("x", "modelzoo", "mindspore-ckpt"),
    ],
)
def test_the_extension_chooses_among_formats_of_the_framework(name: str, to: str, kind: str, source: Path) -> None:
    ledger = convert(source, source.parent / name, to=to)
    assert ledger.target.format == kind
    assert read(source.parent / name).format == kind


def test_existing_outputs_are_kept_unless_overwritten(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ckpt"
    out.write_text("precious")
    with pytest.raises(UsageError, match="exists already; --overwrite"):
        convert(source, out, to="modelzoo")
    assert out.read_text() == "precious"
    convert(source, out, to="modelzoo", overwrite=True)
    assert differences(load(out), as_modelzoo(google_bert())) == []
    (tmp_path / "free.ckpt.port.json").write_text("an old ledger")
    with pytest.raises(UsageError, match=r"free\.ckpt\.port\.json: exists already"):
        convert(source, tmp_path / "free.ckpt", to="modelzoo")
    (tmp_path / "folder.ckpt.port.json").mkdir()
    with pytest.raises(UsageError, match="got a folder"):
        convert(source, tmp_path / "folder.ckpt", to="modelzoo", overwrite=True)


def test_the_output_may_not_be_an_input(tmp_path: Path) -> None:
    source = save(tmp_path / "model.npz", google_bert(), "npz")
    (tmp_path / "link.npz").symlink_to(source)
    before = source.read_bytes()
    for output in (source, tmp_path / "link.npz", tmp_path / "." / "model.npz"):
        with pytest.raises(UsageError, match="is the source itself"):
            convert(source, output, to="hf", format="npz", overwrite=True)
    assert source.read_bytes() == before


def test_shards_of_the_output_may_not_be_those_of_the_input(tmp_path: Path) -> None:
    source = save(tmp_path / "plain.npz", google_bert(layers=3), "npz")
    convert(source, tmp_path / "model.safetensors", to="hf", shard_size=4000)
    index = tmp_path / "model.safetensors.index.json"
    assert len(read(index).files) > 2
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="is the source itself"):
        convert(index, tmp_path / "model.safetensors", to="hf", shard_size=4000, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_sharded_outputs_hold_the_same(tmp_path: Path) -> None:
    arrays = google_bert(layers=3)
    source = save(tmp_path / "plain.npz", arrays, "npz")
    for kind, name in (("safetensors", "m.safetensors"), ("torch", "m.bin"), ("tf-bundle", "m.ckpt")):
        folder = tmp_path / kind
        folder.mkdir()
        to = "google" if kind == "tf-bundle" else "hf"
        ledger = convert(source, folder / name, to=to, shard_size=4000, format=kind)
        assert len(ledger.target.files) > 3
        found = next(iter(folder.glob("*.index.json")), folder / name)
        assert differences(load(found), arrays if to == "google" else as_hf(arrays)) == []


def test_the_umask_decides_the_mode(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out.ckpt", to="modelzoo")
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "out.ckpt").stat().st_mode == plain.stat().st_mode


def test_unknown_names_of_things(source: Path, tmp_path: Path) -> None:
    for options, why in (
        ({"to": "caffe"}, "bert has no dialect for caffe"),
        ({"to": "hf", "format": "zip"}, "format zip: not known"),
        ({"to": "hf", "format": "keras-h5"}, "is read only"),
        ({"to": "hf", "family": "gpt"}, "family gpt: not known"),
        ({"to": "hf", "source_dialect": "x"}, "no dialect x"),
        ({"to": "hf", "source_format": "torch"}, "wanted torch, but it is not"),
        ({"to": "hf", "config": "no.json"}, "no.json: cannot be read"),
    ):
        with pytest.raises(PortError, match=why):
            convert(source, tmp_path / "out", **options)  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="no such file"):
        convert(tmp_path / "nothing", tmp_path / "out", to="hf")
    assert listing(tmp_path) == ["bert_base.v2.npz"]


def test_a_path_that_is_a_file_and_a_prefix(tmp_path: Path) -> None:
    """bert.ckpt of MindSpore beside bert.ckpt.index of TensorFlow: the direction decides, or nothing does."""
    tf, ms = google_bert(seed=1), as_modelzoo(google_bert(seed=2))
    path = tmp_path / "bert.ckpt"
    save(path, tf, "tf-bundle")
    save(path, ms, "mindspore-ckpt")
    with pytest.raises(UsageError, match="is both"):
        convert(path, tmp_path / "out", to="hf")
    convert(path, tmp_path / "from_tf", to="hf", source_framework="tensorflow")
    convert(path, tmp_path / "from_ms", to="hf", source_framework="mindspore")
    convert(path, tmp_path / "by_format", to="hf", source_format="mindspore-ckpt")
    assert differences(load(tmp_path / "from_tf"), as_hf(tf)) == []
    assert differences(load(tmp_path / "from_ms"), as_hf(google_bert(seed=2))) == []
    assert differences(load(tmp_path / "by_format"), as_hf(google_bert(seed=2))) == []


def decoder(arrays: dict[str, np.ndarray], *, equal: bool) -> dict[str, np.ndarray]:
    """The same with the decoder that PyTorch ties to the embedding, as a copy or as something else."""
    table = arrays["bert.embeddings.word_embeddings.weight"]
    return arrays | {
        "cls.predictions.decoder.weight": table.copy() if equal else table + 1,
        "cls.predictions.decoder.bias": arrays["cls.predictions.bias"].copy(),
    }


def test_a_tied_decoder_that_is_equal_is_left_out_by_name(tmp_path: Path) -> None:
    source = save(tmp_path / "tied.npz", decoder(as_hf(google_bert()), equal=True), "npz")
    ledger = convert(source, tmp_path / "out", to="modelzoo")
    assert differences(load(tmp_path / "out"), as_modelzoo(google_bert())) == []
    assert {line["name"]: line["reason"] for line in ledger.dropped} == {
        "cls.predictions.decoder.weight": "tied: equal to bert.embeddings.word_embeddings.weight bit for bit",
        "cls.predictions.decoder.bias": "tied: equal to cls.predictions.bias bit for bit",
    }


def test_a_tied_decoder_that_differs_is_refused_where_there_is_no_room(tmp_path: Path) -> None:
    arrays = decoder(as_hf(google_bert()), equal=False)
    source = save(tmp_path / "untied.npz", arrays, "npz")
    with pytest.raises(MismatchError) as caught:
        convert(source, tmp_path / "out", to="modelzoo")
    (problem,) = caught.value.problems
    assert problem == (
        "cls.predictions.decoder.weight: differs from bert.embeddings.word_embeddings.weight, "
        "and modelzoo has room for one of them only"
    )
    convert(source, tmp_path / "same.npz", to="hf", format="npz")
    got = load(tmp_path / "same.npz")
    assert np.array_equal(got["cls.predictions.decoder.weight"], arrays["cls.predictions.decoder.weight"])


def test_a_sign_of_zero_is_a_difference(tmp_path: Path) -> None:
    arrays = decoder(as_hf(google_bert()), equal=True)
    for name, zero in (("bert.embeddings.word_embeddings.weight", 0.0), ("cls.predictions.decoder.weight", -0.0)):
        arrays[name][0, 0] = zero
    with pytest.raises(MismatchError, match="differs from"):
        convert(save(tmp_path / "zero.npz", arrays, "npz"), tmp_path / "out", to="modelzoo")
    arrays["bert.embeddings.word_embeddings.weight"][0, 0] = -0.0
    arrays["bert.embeddings.word_embeddings.weight"][1, 1] = np.nan
    arrays["cls.predictions.decoder.weight"][1, 1] = np.nan
    convert(save(tmp_path / "nan.npz", arrays, "npz"), tmp_path / "out", to="modelzoo")


@pytest.mark.torch
def test_a_tied_decoder_that_is_stored_in_other_strides(tmp_path: Path) -> None:
    """Large enough to come in several pieces, of different sizes on the two sides."""
    torch = pytest.importorskip("torch")
    arrays = as_hf(google_bert(vocab=40_000, hidden=32))
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    table = tensors["bert.embeddings.word_embeddings.weight"]
    tensors["cls.predictions.decoder.weight"] = table.T.contiguous().T
    torch.save(tensors, tmp_path / "strided.bin")
    convert(tmp_path / "strided.bin", tmp_path / "out.npz", to="modelzoo", format="npz")
    tensors["cls.predictions.decoder.weight"] = tensors["cls.predictions.decoder.weight"].clone()
    tensors["cls.predictions.decoder.weight"][39_999, 31] += 1
    torch.save(tensors, tmp_path / "strided.bin")
    with pytest.raises(MismatchError, match="differs from"):
        convert(tmp_path / "strided.bin", tmp_path / "no.npz", to="modelzoo", format="npz")


def test_missing_by_leave(tmp_path: Path) -> None:
    arrays = google_bert()
    gone = [name for name in arrays if name.endswith("output/dense/bias")]
    for name in gone:
        del arrays[name]
    source = save(tmp_path / "less.npz", arrays, "npz")
    with pytest.raises(MismatchError):
        convert(source, tmp_path / "out", to="modelzoo", allow_missing=["bert/encoder/layer_0/*"])
    ledger = convert(source, tmp_path / "out", to="modelzoo", allow_missing=["*/output/dense/bias"])
    assert sorted(ledger.missing) == sorted(gone)
    assert differences(load(tmp_path / "out"), as_modelzoo(arrays)) == []


def test_unexpected_by_leave(tmp_path: Path) -> None:
    arrays = google_bert() | {"adapter/w": np.ones(2, "f4"), "adapter/b": np.ones(2, "f4"), "note": np.ones(1)}
    source = save(tmp_path / "more.npz", arrays, "npz")
    with pytest.raises(MismatchError) as caught:
        convert(source, tmp_path / "out", to="modelzoo", allow_unexpected=["adapter/*"])
    assert caught.value.problems == ("note  unexpected: no row of bert google",)
    ledger = convert(source, tmp_path / "out", to="modelzoo", allow_unexpected=["adapter/*", "note"])
    assert sorted(ledger.unexpected) == ["adapter/b", "adapter/w", "note"]
    assert {line["name"] for line in ledger.dropped} == {"adapter/b", "adapter/w", "note"}


def test_required_groups(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out", to="modelzoo", require=["pooler", "mlm", "nsp"])
    with pytest.raises(MismatchError) as caught:
        convert(source, tmp_path / "no", to="modelzoo", require=["squad", "pooler", "moon"])
    assert caught.value.problems[0] == "group squad: required, but the checkpoint does not have it"
    assert caught.value.problems[1].startswith("group moon: not known; there are backbone, pooler")


def test_checksums_of_the_source_are_checked_while_it_is_read(tmp_path: Path, golden: Golden) -> None:
    source = golden("bert_a1/bert_model.ckpt")
    data = source.with_name(source.name + ".data-00000-of-00001")
    bad = bytearray(data.read_bytes())
    bad[len(bad) // 2] ^= 1
    data.write_bytes(bad)
    before = listing(tmp_path)
    with pytest.raises(PortError, match=r"crc|checksum"):
        convert(source, tmp_path / "out", to="hf")
    assert listing(tmp_path) == before


def test_progress_counts_what_is_written_and_read_back(source: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert(source, tmp_path / "out", to="modelzoo", progress=lambda done, total: seen.append((done, total)))
    total = 2 * sum(value.nbytes for value in google_bert().values())
    assert {whole for _, whole in seen} == {total}
    assert max(done for done, _ in seen) == total
    seen.clear()
    convert(
        source, tmp_path / "other", to="modelzoo", verify=False, progress=lambda done, all_: seen.append((done, all_))
    )
    assert max(done for done, _ in seen) == total // 2


def test_an_output_larger_than_the_memory_is_the_same(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts are written, read back and given back one after the other."""
    calls: list[tuple[str, int]] = []
    for name in ("write", "read", "release"):
        real = getattr(Output, name)

        def told(self: Output, file: int, offset: int, *rest: object, name: str = name, real=real) -> object:
            calls.append((name, offset))
            return real(self, file, offset, *rest)

        monkeypatch.setattr(Output, name, told)
    convert(source, tmp_path / "fits.ckpt", to="modelzoo", threads=1)
    assert "release" not in dict(calls)
    calls.clear()
    monkeypatch.setattr(release, "memory", lambda: 1 << 10)
    monkeypatch.setattr(release, "PART", 1 << 10)
    ledger = convert(source, tmp_path / "large.ckpt", to="modelzoo", threads=1)
    assert ledger.verified
    assert (tmp_path / "large.ckpt").read_bytes() == (tmp_path / "fits.ckpt").read_bytes()
    places = [offset for name, offset in calls if name == "release"]
    assert len(set(places)) == len(google_bert())
    for offset in set(places):
        assert calls.index(("write", offset)) < calls.index(("read", offset)) < calls.index(("release", offset))
    assert calls.index(("release", min(places))) < calls.index(("write", max(places)))


def test_one_thread_writes_the_same_file(source: Path, tmp_path: Path) -> None:
    for threads in (1, 4):
        convert(source, tmp_path / f"{threads}.ckpt", to="modelzoo", threads=threads)
    assert (tmp_path / "1.ckpt").read_bytes() == (tmp_path / "4.ckpt").read_bytes()


def test_sources_are_left_as_they_are(tmp_path: Path, golden: Golden) -> None:
    source = golden("xlnet_b1/xlnet_model.ckpt")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    convert(source, to="hf")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before


def test_the_config_beside_the_checkpoint_is_used_unless_none_is_wanted(tmp_path: Path, golden: Golden) -> None:
    source = golden("bert_a1/bert_model.ckpt")
    assert convert(source, tmp_path / "a", to="hf").config["vocab_size"] == 97
    assert convert(source, tmp_path / "b", to="hf", config="none").config == {}
    shutil.copy(tmp_path / "bert_config.json", tmp_path / "other.json")
    ledger = convert(source, tmp_path / "c", to="hf", config=tmp_path / "other.json")
    assert ledger.options["config_file"] == str(tmp_path / "other.json")
    assert ledger.inferred["num_hidden_layers"] == 2
    for text, why in (("[1]", "wanted a JSON object"), ("{", "wanted JSON"), ('{"vocab_size": 10', "wanted JSON")):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(FormatError, match=why):
            convert(source, tmp_path / "d", to="hf", config=tmp_path / "other.json")
