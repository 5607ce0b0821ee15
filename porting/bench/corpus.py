"""Examples of a matrix: from TFRecord files, or generated with the row counts of CoLA.

Generated sentences are drawn, not written: their lengths are log-normal with a mean of 7.7 words, their words follow
Zipf's law, and the share of class 1 is that of CoLA's development set. In four of five of class 0 one word is of a set
that class 1 never uses, so that there is something to learn; how much of it a model learns says nothing of CoLA.

The data of a setting, as JSON values:

    {"kind": "generated", "seed": 0, "train": 8551, "eval": 1043, "length": 128}
    {"kind": "files", "train": [{"path", "bytes", "hash"}], "eval": [...], "examples": null or a number}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from porting.acceptance.inputs import input_of
from porting.backends.protocol import Array
from porting.convert.registry import family_named
from porting.convert.sizes import config_sizes
from porting.data.layout import Layout, style_of
from porting.data.packed import pack, unpack
from porting.data.schema import LABEL, REAL, SCHEMA, read_schema
from porting.data.tasks import Task
from porting.errors import UsageError
from porting.model.spec import Config, ModelSpec
from porting.train.batches import Records, limits, load
from porting.train.examples import real_examples

COLA = {"train": 8551, "eval": 1043}
"""Rows of CoLA's training and development sets (the GLUE benchmark; the field case has the same)."""

LENGTH = 128
"""Of a sequence with its padding, as in the field case."""

POSITIVE = 721 / 1043
"""The share of class 1 in the development set: the accuracy of always saying 1, 69.13 %, which the field case shows."""

WORDS, SPREAD = 7.7, 0.5
"""The mean number of words in a sentence, and the standard deviation of its logarithm."""

MARKED, MARKS = 0.8, 0.02
"""The share of class 0 with a marked word, and the share of the vocabulary that marks."""


def generated(examples: int | None, *, seed: int, length: int = LENGTH) -> dict[str, Any]:
    """Data of a setting. examples: of training, and of evaluation as far as there are so many; None for all.

    Raises: UsageError for fewer than one, or more than CoLA has.
    """
    if examples is not None and not 1 <= examples <= COLA["train"]:
        raise UsageError(f"--examples: wanted 1 to {COLA['train']}, the rows of CoLA, got {examples}")
    counts = {name: min(count, examples or count) for name, count in COLA.items()}
    return {"kind": "generated", "seed": seed, **counts, "length": length}


def from_files(train: Sequence[Path], evaluation: Sequence[Path], examples: int | None) -> dict[str, Any]:
    """Data of a setting, with the files' hashes. Raises: UsageError, FormatError for one that cannot be read."""
    if not train or not evaluation:
        raise UsageError("--train and --eval: wanted both, or neither for generated examples")
    if examples is not None and examples < 1:
        raise UsageError(f"--examples: wanted at least 1, got {examples}")
    found = {name: [_file(path) for path in paths] for name, paths in (("train", train), ("eval", evaluation))}
    return {"kind": "files", **found, "examples": examples}


def _file(path: Path) -> dict[str, Any]:
    found = input_of(path.absolute())
    return {"path": found.path, "bytes": found.size, "hash": found.hash}


def split(data: Mapping[str, Any], name: str, spec: ModelSpec, config: Config, task: Task) -> Records:
    """Examples of `train` or `eval`, with the features that a model takes. Raises: UsageError, FormatError."""
    head = "regression" if task.regression else "classification"
    label = "label_values" if task.regression else LABEL
    features = [one for one in spec.task(head).features if one in ("input_ids", "input_mask", "segment_ids", label)]
    if data["kind"] == "generated":
        made = _made(spec, config, data, name)
        return Records({one: made[one] for one in features}, data[name])
    paths = [Path(one["path"]) for one in data[name]]
    below = limits(spec, spec.bounds(config), len(task.labels))
    schema = read_schema(paths[0].parent / SCHEMA)
    columns = {one: LABEL if one == label else one for one in features}
    columns |= {REAL: REAL} if any(column.name == REAL for column in schema) else {}
    return first(real_examples(paths[0], load(paths, schema, columns, below)), data["examples"])


def first(records: Records, count: int | None) -> Records:
    """The first so many, or all there are."""
    count = min(records.count, count or records.count)
    return Records({name: array[:count] for name, array in records.arrays.items()}, count)


def _made(spec: ModelSpec, config: Config, data: Mapping[str, Any], name: str) -> dict[str, Array]:
    """Features (examples, length) and labels (examples,) of one split."""
    values = config.to_dict()
    vocabulary = config_sizes(family_named(spec.family), values)["vocab"]
    style = style_of(spec.family)
    marks = max(1, int(vocabulary * MARKS))
    start = min(1000, vocabulary // 5)  # below stand unused and special ids
    layout = Layout(style, data["length"], cls=start - 2, sep=start - 1, pad=values.get("pad_token_id") or 0)
    random = _generator(data["seed"], name)
    labels = (random.random(data[name]) < POSITIVE).astype(np.int32)
    rows: list[tuple[list[int], list[int], list[int]]] = []
    for label, words in zip(labels, _lengths(random, data[name], data["length"] - 2), strict=True):
        ids = start + marks + (random.zipf(1.3, words) - 1) % (vocabulary - start - marks)
        if label == 0 and random.random() < MARKED:
            ids[random.integers(words)] = start + random.integers(marks)
        laid = layout.lay(pack(ids.tolist()))
        padded = list(unpack(layout.padded(laid.packed, laid.tokens)))
        rows.append((padded, layout.mask(laid.tokens), layout.segments(laid.first, laid.tokens)))
    ids, mask, segments = (np.array(column, np.int32) for column in zip(*rows, strict=True))
    dtype = np.float32 if style == "xlnet" else np.int32
    return {"input_ids": ids, "input_mask": mask.astype(dtype), "segment_ids": segments, LABEL: labels}


def _lengths(random: np.random.Generator, count: int, most: int) -> Array:
    """Words of each sentence, at least one."""
    drawn = random.lognormal(np.log(WORDS) - SPREAD**2 / 2, SPREAD, count)
    lengths: Array = np.clip(np.rint(drawn), 1, most).astype(int)
    return lengths


def _generator(seed: int, name: str) -> np.random.Generator:
    key = hashlib.sha256(f"bench\0{seed}\0{name}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
