"""Weights and a batch that show mistakes in a port of XLNet.

The residual stream is kept small, as in BERT's probe and for the same reasons; so are the features that the span
head normalises. Memories, which are always visible, are in the encoder's batch; without them the query stream of
pre-training has rows that see nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from porting.model.probe import Arrays, Draw, Probe

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_xlnet.config import XLNetConfig

Floats = np.ndarray[Any, np.dtype[np.float32]]

STREAM = 0.01
"""Root mean square of the hidden states."""

_LAYERS = (
    Draw("*word_embedding.weight", STREAM),
    Draw("*mask_emb", STREAM),
    Draw("*rel_attn.q", 2 / STREAM, over=("hidden",)),
    Draw("*rel_attn.k", 2 / STREAM, over=("hidden",)),
    Draw("*rel_attn.v", 1 / STREAM, over=("hidden",)),
    Draw("*rel_attn.o", 0.3 * STREAM, over=("head", "value")),
    Draw("*rel_attn.r", 1.5, over=("hidden",)),  # sines, of 0.7
    Draw("*rel_attn.r_?_bias", 0.5),
    Draw("*rel_attn.seg_embed", 0.5),
    Draw("*layer_norm.bias", 0.3 * STREAM),
    Draw("*ff.layer_1.weight", 2 / STREAM, over=("hidden",)),
    Draw("*ff.layer_1.bias", 0.5),
    Draw("*ff.layer_2.weight", 0.4 * STREAM, over=("inner",)),
    Draw("*ff.layer_2.bias", 0.1 * STREAM),
)

_HEADS = (
    Draw("*summary_bias", STREAM),
    Draw("*abs_attn.q", 2 / STREAM, over=("hidden",)),
    Draw("*abs_attn.k", 2 / STREAM, over=("hidden",)),
    Draw("*abs_attn.v", 1 / STREAM, over=("hidden",)),
    Draw("*abs_attn.o", STREAM, over=("head", "value")),
    Draw("*summary.summary.weight", 1 / STREAM, over=("hidden",)),
    Draw("start_logits.dense.weight", 2 / STREAM, over=("hidden",)),
    Draw("end_logits.dense_0.weight", 0.03 / STREAM, over=("hidden",)),
    Draw("end_logits.dense_0.bias", 0.01),
    Draw("end_logits.LayerNorm.weight", 0.3, 1.0),
    Draw("end_logits.dense_1.weight", 2.0, over=("ends",)),
    Draw("answer_class.dense_0.weight", 1 / STREAM, over=("hidden",)),
    Draw("answer_class.dense_1.weight", 2.0, over=("answer",)),
    Draw("*bias", 0.3),
)


def probe(config: XLNetConfig, build: Build) -> Probe:
    """Of a task. Before a softmax over words the last layer gives more than a stream: the table is of its size."""
    norm = Draw("*layer_norm.weight", 0.3 * STREAM, STREAM)
    top = f"*layer.{config.n_layer - 1}.ff.layer_norm.weight"
    last = [Draw(top, 0.6 / STREAM, 2 / STREAM, over=("hidden",))] if build.task == "pretraining" else []
    projects = build.extra.get("use_summ_proj", config.use_summ_proj)
    logits = Draw("logits_proj.weight", *((2.5,) if projects else (2 / STREAM,)), over=("hidden",))
    return Probe((*last, *_LAYERS, norm, logits, *_HEADS), partial(_batch, config, build))


def _batch(config: XLNetConfig, build: Build, random: np.random.Generator, batch: int, seq: int) -> Arrays:
    ids = random.integers(0, config.n_token, (batch, seq), np.int32)
    ids[:, 1] = ids[:, 0]
    segments = (np.arange(seq)[None] >= random.integers(1, seq, (batch, 1))).astype(np.int32)
    segments[:, -1] = 2
    padding = _padding(batch, seq)
    if build.task == "pretraining":
        return {"input_k": ids, "seg_id": segments, **_permuted(config, random, batch, seq, padding)}
    features = {"input_ids": ids, "segment_ids": segments, "input_mask": padding}
    if build.task == "encoder":
        mems = random.normal(0, STREAM, (config.n_layer, seq // 2, batch, config.d_model)).astype(np.float32)
        return {**features, "perm_mask": _permutation(random, batch, seq), "mems": mems}
    return {**features, **_labels(build, random, batch, seq)}


def _padding(batch: int, seq: int) -> Floats:
    """1 for padding, (batch, seq): none, on the left, everywhere, one in the middle, and so on again."""
    padding = np.zeros((batch, seq), np.float32)
    for row in range(batch):
        places = {1: slice(0, seq // 3), 2: slice(0, seq), 3: slice(seq // 2, seq // 2 + 1)}
        if row % 4 in places:
            padding[row, places[row % 4]] = 1
    return padding


def _permutation(random: np.random.Generator, batch: int, seq: int) -> Floats:
    """1 where i may not see j: what comes no earlier in an order of each example's own, (batch, seq, seq)."""
    ranks = np.stack([random.permutation(seq) for _ in range(batch)])
    hidden: Floats = (ranks[:, :, None] <= ranks[:, None, :]).astype(np.float32)
    return hidden


def _permuted(config: XLNetConfig, random: np.random.Generator, batch: int, seq: int, padding: Floats) -> Arrays:
    """What pre-training adds: the order, the targets and their places; one target of each example does not count."""
    count = min(4, seq)
    places = np.stack([np.sort(random.permutation(seq)[:count]) for _ in range(batch)])
    mapping = (places[:, :, None] == np.arange(seq)).astype(np.float32)
    counted = np.ones((batch, count), np.float32)
    counted[:, -1] = 0
    return {
        "input_q": mapping.sum(1),
        "input_mask": padding,
        "perm_mask": _permutation(random, batch, seq),
        "target_mapping": mapping,
        "target": random.integers(0, config.n_token, (batch, count), np.int32),
        "target_mask": counted,
    }


def _labels(build: Build, random: np.random.Generator, batch: int, seq: int) -> Arrays:
    match build.task:
        case "classification":
            return {"label_ids": (np.arange(batch) % build.labels).astype(np.int32)}
        case "regression":
            return {"label_values": random.normal(1, 2, batch).astype(np.float32)}
        case _:
            outside = np.zeros((batch, seq), np.float32)
            outside[:, :2] = 1
            start = random.integers(2, seq, batch, np.int32)
            return {
                "p_mask": outside,
                "cls_index": np.full(batch, seq - 1, np.int32),
                "start_positions": start,
                "end_positions": random.integers(start, seq, dtype=np.int32),
                "is_impossible": (np.arange(batch) % 2).astype(np.float32),
            }
