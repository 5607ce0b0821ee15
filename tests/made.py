"""Checkpoints made for tests, and what becomes of them, written down by hand.

Nothing here asks the tables: `as_hf` and `as_modelzoo` are lists of replacements that a person has read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from porting.checkpoint.registry import read
from porting.checkpoint.write import write

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]

SIZES = {"layers": 2, "hidden": 8, "inner": 12, "vocab": 30, "positions": 16, "types": 2}
SQUARE = {"layers": 2, "hidden": 8, "inner": 8, "vocab": 8, "positions": 8, "types": 8}
GROUPS = ("pooler", "mlm", "nsp")


def google_bert(groups: tuple[str, ...] = GROUPS, seed: int = 0, **sizes: int) -> Arrays:
    """Google's BERT with random values: names and shapes as modeling.py and run_pretraining.py make them."""
    of = {**SIZES, **sizes}
    hidden, inner = of["hidden"], of["inner"]
    shapes: dict[str, tuple[int, ...]] = {
        "bert/embeddings/word_embeddings": (of["vocab"], hidden),
        "bert/embeddings/token_type_embeddings": (of["types"], hidden),
        "bert/embeddings/position_embeddings": (of["positions"], hidden),
        "bert/embeddings/LayerNorm/beta": (hidden,),
        "bert/embeddings/LayerNorm/gamma": (hidden,),
    }
    for layer in range(of["layers"]):
        at = f"bert/encoder/layer_{layer}"
        for name, (i, o) in {
            "attention/self/query": (hidden, hidden),
            "attention/self/key": (hidden, hidden),
            "attention/self/value": (hidden, hidden),
            "attention/output/dense": (hidden, hidden),
            "intermediate/dense": (hidden, inner),
            "output/dense": (inner, hidden),
        }.items():
            shapes |= {f"{at}/{name}/kernel": (i, o), f"{at}/{name}/bias": (o,)}
        for name in ("attention/output/LayerNorm", "output/LayerNorm"):
            shapes |= {f"{at}/{name}/beta": (hidden,), f"{at}/{name}/gamma": (hidden,)}
    if "pooler" in groups:
        shapes |= {"bert/pooler/dense/kernel": (hidden, hidden), "bert/pooler/dense/bias": (hidden,)}
    if "mlm" in groups:
        at = "cls/predictions"
        shapes |= {f"{at}/transform/dense/kernel": (hidden, hidden), f"{at}/transform/dense/bias": (hidden,)}
        shapes |= {f"{at}/transform/LayerNorm/{name}": (hidden,) for name in ("beta", "gamma")}
        shapes |= {f"{at}/output_bias": (of["vocab"],)}
    if "nsp" in groups:
        shapes |= {"cls/seq_relationship/output_weights": (2, hidden), "cls/seq_relationship/output_bias": (2,)}
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


_HF = (
    ("bert/encoder/layer_", "bert.encoder.layer."),
    ("/", "."),
    ("_embeddings", "_embeddings.weight"),
    (".kernel", ".weight"),
    (".gamma", ".weight"),
    (".beta", ".bias"),
    ("predictions.output_bias", "predictions.bias"),
    ("relationship.output_weights", "relationship.weight"),
    ("relationship.output_bias", "relationship.bias"),
)

_MODELZOO = (
    ("bert/embeddings/word_embeddings", "bert.bert.bert_embedding_lookup.embedding_table"),
    (
        "bert/embeddings/token_type_embeddings",
        "bert.bert.bert_embedding_postprocessor.token_type_embedding.embedding_table",
    ),
    (
        "bert/embeddings/position_embeddings",
        "bert.bert.bert_embedding_postprocessor.full_position_embedding.embedding_table",
    ),
    ("bert/embeddings/", "bert.bert.bert_embedding_postprocessor."),
    ("bert/encoder/layer_", "bert.bert.bert_encoder.layers."),
    ("bert/pooler/dense", "bert.bert.dense"),
    ("attention/self/query", "attention.attention.query_layer"),
    ("attention/self/key", "attention.attention.key_layer"),
    ("attention/self/value", "attention.attention.value_layer"),
    ("intermediate/dense", "intermediate"),
    ("cls/predictions/transform", "bert.cls1"),
    ("cls/predictions", "bert.cls1"),
    ("cls/seq_relationship/output_weights", "bert.cls2.dense.weight"),
    ("cls/seq_relationship/output_bias", "bert.cls2.dense.bias"),
    ("/", "."),
    ("LayerNorm", "layernorm"),
    (".kernel", ".weight"),
)


def _renamed(name: str, steps: tuple[tuple[str, str], ...]) -> str:
    for old, new in steps:
        name = name.replace(old, new)
    return name


def _moved(arrays: Mapping[str, Any], steps: tuple[tuple[str, str], ...]) -> Arrays:
    """Dense kernels are [in, out] at Google's, [out, in] elsewhere; everything else keeps its axes."""
    return {
        _renamed(name, steps): np.ascontiguousarray(value.T) if name.endswith("/kernel") else value
        for name, value in arrays.items()
    }


def as_hf(google: Mapping[str, Any]) -> Arrays:
    """What a BERT of Google's is in transformers' names and axes."""
    return _moved(google, _HF)


def as_modelzoo(google: Mapping[str, Any]) -> Arrays:
    """What it is in the names and axes of MindSpore's ModelZoo."""
    return _moved(google, _MODELZOO)


def save(path: Path, arrays: Mapping[str, Any], kind: str = "safetensors", **options: Any) -> Path:
    """Write, over what is there, and return the path."""
    write(path, arrays, format=kind, overwrite=True, **options)
    return path


def load(path: Path) -> Arrays:
    """Every tensor of a checkpoint as an array of its own."""
    return {name: np.array(entry.read()) for name, entry in read(path).items()}


def configure(folder: Path, name: str = "bert_config.json", **values: object) -> Path:
    """A config beside a checkpoint."""
    path = folder / name
    path.write_text(json.dumps(values))
    return path


def differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Names that only one has, or whose shape, dtype or bits differ."""
    wrong = sorted(set(one) ^ set(two))
    for name in set(one) & set(two):
        a, b = np.asarray(one[name]), np.asarray(two[name])
        if a.shape != b.shape or a.dtype != b.dtype or a.tobytes() != b.tobytes():
            wrong.append(name)
    return wrong
