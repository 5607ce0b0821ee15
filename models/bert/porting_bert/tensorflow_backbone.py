"""Embeddings, encoder and pooler of BERT and RoBERTa in TensorFlow, and the shapes of their variables."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from porting_bert.config import BertConfig
from porting_bert.tensorflow_layers import Pass, Tensor, activation

Shapes = dict[str, tuple[int, ...]]
Batch = Mapping[str, Tensor]


def dense_shapes(scope: str, width: int, units: int) -> Shapes:
    """Variables of a dense."""
    return {f"{scope}/kernel": (width, units), f"{scope}/bias": (units,)}


def norm_shapes(scope: str, width: int) -> Shapes:
    """Variables of a LayerNorm."""
    return {f"{scope}/LayerNorm/{name}": (width,) for name in ("beta", "gamma")}


def backbone_shapes(config: BertConfig, *, pooler: bool) -> Shapes:
    """All variables by name, in the order of the original's graph."""
    root, hidden, inner = config.model_type, config.hidden_size, config.intermediate_size
    shapes: Shapes = {
        f"{root}/embeddings/word_embeddings": (config.vocab_size, hidden),
        f"{root}/embeddings/token_type_embeddings": (config.type_vocab_size, hidden),
        f"{root}/embeddings/position_embeddings": (config.max_position_embeddings, hidden),
    }
    shapes |= norm_shapes(f"{root}/embeddings", hidden)
    for index in range(config.num_hidden_layers):
        layer = f"{root}/encoder/layer_{index}"
        for name in ("query", "key", "value"):
            shapes |= dense_shapes(f"{layer}/attention/self/{name}", hidden, hidden)
        shapes |= dense_shapes(f"{layer}/attention/output/dense", hidden, hidden)
        shapes |= norm_shapes(f"{layer}/attention/output", hidden)
        shapes |= dense_shapes(f"{layer}/intermediate/dense", hidden, inner)
        shapes |= dense_shapes(f"{layer}/output/dense", inner, hidden) | norm_shapes(f"{layer}/output", hidden)
    return shapes | (dense_shapes(f"{root}/pooler/dense", hidden, hidden) if pooler else {})


def encode(config: BertConfig, batch: Batch, run: Pass, *, one_hot: bool) -> Tensor:
    """The last layer's output, (batch, seq, hidden)."""
    mask = batch.get("input_mask")
    adder = None if mask is None else (1.0 - tf.cast(mask[:, None, None, :], tf.float32)) * -10000.0
    hidden = run.tap("embeddings", _embeddings(config, batch, run, one_hot=one_hot))
    hidden = run.drop("embeddings", tf.cast(hidden, run.dtype), config.hidden_dropout_prob)
    for index in range(config.num_hidden_layers):
        hidden = _layer(config, index, hidden, adder, run)
    return run.tap("sequence", hidden)


def pool(config: BertConfig, sequence: Tensor, run: Pass) -> Tensor:
    """The first token through a dense and tanh: (batch, hidden)."""
    return run.tap("pooled", tf.tanh(run.dense(f"{config.model_type}/pooler/dense", sequence[:, 0])))


def _embeddings(config: BertConfig, batch: Batch, run: Pass, *, one_hot: bool) -> Tensor:
    """Words, positions and token types, summed and normalised: (batch, seq, hidden) float32."""
    scope, ids, types = f"{config.model_type}/embeddings", batch["input_ids"], batch.get("segment_ids")
    words = _rows(run.weights[f"{scope}/word_embeddings"], ids, one_hot=one_hot)
    positions = run.weights[f"{scope}/position_embeddings"]
    if config.model_type == "roberta":
        padding = ids == config.pad_token_id
        visible = tf.cast(~padding, ids.dtype)
        places = tf.cumsum(visible, 1) * visible + config.pad_token_id
        words = _unlearned(words, padding)
        placed = _unlearned(_rows(positions, places, one_hot=False), padding)
    else:
        placed = positions[: tf.shape(ids)[1]]
    # Without segments all are of type 0: one row for all tokens.
    table = run.weights[f"{scope}/token_type_embeddings"]
    kinds = table[0] if types is None else _rows(table, types, one_hot=True)
    return run.layer_norm(f"{scope}/LayerNorm", words + kinds + placed)


def _rows(table: Tensor, ids: Tensor, *, one_hot: bool) -> Tensor:
    """Rows of a table: gathered, or by a product, which gives the table a dense gradient."""
    flat = tf.reshape(ids, [-1])
    rows = tf.matmul(tf.one_hot(flat, table.shape[0]), table) if one_hot else tf.gather(table, flat)
    return tf.reshape(rows, tf.concat([tf.shape(ids), [table.shape[1]]], 0))


def _unlearned(vectors: Tensor, padding: Tensor) -> Tensor:
    """The same, with no gradient where there is padding: padding_idx of fairseq and transformers."""
    return tf.where(padding[..., None], tf.stop_gradient(vectors), vectors)


def _layer(config: BertConfig, index: int, hidden: Tensor, adder: Tensor | None, run: Pass) -> Tensor:
    """Self-attention and two denses, each with its residual and LayerNorm."""
    scope, site, rate = f"{config.model_type}/encoder/layer_{index}", f"layer.{index}", config.hidden_dropout_prob
    mixed = run.dense(f"{scope}/attention/output/dense", _attend(config, index, hidden, adder, run))
    mixed = run.drop(f"{site}.attention.output", mixed, rate)
    hidden = run.layer_norm(f"{scope}/attention/output/LayerNorm", mixed + hidden)
    hidden = run.tap(f"{site}.attention.output", hidden)
    inner = activation(config.hidden_act)(run.dense(f"{scope}/intermediate/dense", hidden))
    widened = run.tap(f"{site}.ffn.output", run.dense(f"{scope}/output/dense", inner))
    widened = run.drop(f"{site}.ffn.output", widened, rate)
    return run.tap(f"{site}.output", run.layer_norm(f"{scope}/output/LayerNorm", widened + hidden))


def _attend(config: BertConfig, index: int, hidden: Tensor, adder: Tensor | None, run: Pass) -> Tensor:
    """Scaled, then masked, then the softmax: (batch, seq, hidden)."""
    batch, seq = tf.unstack(tf.shape(hidden)[:2])
    heads = [batch, seq, config.num_attention_heads, config.head_size]
    scope, site = f"{config.model_type}/encoder/layer_{index}/attention/self", f"layer.{index}.attention"
    query, key, value = (
        tf.transpose(tf.reshape(run.dense(f"{scope}/{name}", hidden), heads), [0, 2, 1, 3])
        for name in ("query", "key", "value")
    )
    scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32) * config.head_size**-0.5
    scores = run.tap(f"{site}.scores", scores if adder is None else scores + adder)
    probs = run.drop(f"{site}.probs", tf.nn.softmax(scores), config.attention_probs_dropout_prob)
    context = tf.transpose(tf.matmul(tf.cast(probs, value.dtype), value), [0, 2, 1, 3])
    return tf.reshape(context, [batch, seq, config.hidden_size])
