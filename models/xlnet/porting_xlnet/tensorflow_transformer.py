"""XLNet's transformer in TensorFlow: embeddings, masks, relative positions, segments, mems, and the layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import tensorflow as tf

from porting.backends.protocol import Build
from porting_xlnet.config import XLNetConfig
from porting_xlnet.positions import frequencies
from porting_xlnet.tensorflow_layers import MASKED, Layer, Memory, Run, Tensor, Weights, make_layer

SCOPE = "model/transformer"
TABLE = f"{SCOPE}/word_embedding/lookup_table"
BIASES = ("r_w_bias", "r_r_bias", "r_s_bias")


class Inputs(NamedTuple):
    """A batch by what its tensors are for. Names and axes are those of spec.FEATURES."""

    ids: Tensor
    segments: Tensor | None
    padding: Tensor | None
    permutation: Tensor | None
    mems: Tensor | None
    targets: Tensor | None = None
    mapping: Tensor | None = None

    @property
    def qlen(self) -> Tensor:
        """Tokens of an example."""
        return tf.shape(self.ids)[1]

    @property
    def mlen(self) -> Tensor | int:
        """Tokens of the mems."""
        return 0 if self.mems is None else tf.shape(self.mems)[1]


class XLNet(tf.Module):  # type: ignore[misc] # TensorFlow ships no types
    """The transformer beside the head of a task, which subclasses add.

    training: whether dropout of the framework's own acts.
    """

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__()
        self.config = config
        self.training = False
        self._dropout = build.dropout
        self._compute = tf.as_dtype(build.compute)
        self._frequencies = frequencies(config.d_model)
        self.weights = Weights(config.init_std, build.dropout.seed)
        self._make(with_query=build.task == "pretraining")

    def __call__(
        self, batch: Mapping[str, Tensor], taps: Collection[str] = frozenset(), step: int = 0
    ) -> dict[str, Tensor]:
        """Outputs of the task, the loss if the batch has labels, and the taps asked for.

        step: not used; masks of dropout come with the batch.
        """
        del step
        run = Run(self._dropout, batch, taps, training=self.training)
        sequence = self._transform(self.inputs(batch), run)
        outputs = {**self.head(sequence, batch, run), **run.kept}
        return {
            name: tf.cast(value, tf.float32) if value.dtype.is_floating else value for name, value in outputs.items()
        }

    def inputs(self, batch: Mapping[str, Tensor]) -> Inputs:
        """What the transformer reads of a batch."""
        names = ("input_ids", "segment_ids", "input_mask", "perm_mask", "mems")
        return Inputs(batch[names[0]], *(batch.get(name) for name in names[1:]))

    def head(self, sequence: Tensor, batch: Mapping[str, Tensor], run: Run) -> dict[str, Tensor]:
        """sequence: (b, i, h) or (b, p, h). Returns the outputs of the task."""
        raise NotImplementedError

    def _make(self, *, with_query: bool) -> None:
        config, weights = self.config, self.weights
        layers = (config.n_layer,) if config.untie_r else ()
        for name in BIASES:
            weights.normal(f"{SCOPE}/{name}", *layers, config.n_head, config.d_head)
        weights.normal(f"{SCOPE}/seg_embed", config.n_layer, 2, config.n_head, config.d_head)
        weights.normal(TABLE, config.n_token, config.d_model)
        if with_query:
            weights.normal(f"{SCOPE}/mask_emb/mask_emb", 1, 1, config.d_model)
        for layer in range(config.n_layer):
            make_layer(weights, config, f"{SCOPE}/layer_{layer}")

    def _layer(self, index: int) -> Layer:
        untied = self.config.untie_r
        shared = (self.weights[f"{SCOPE}/{name}"] for name in BIASES)
        word, place, segment = (bias[index] if untied else bias for bias in shared)
        segments = self.weights[f"{SCOPE}/seg_embed"][index]
        scope = f"{SCOPE}/layer_{index}"
        return Layer(self.config, self.weights, scope, (word, place, segment), segments, f"layer.{index}")

    def _transform(self, inputs: Inputs, run: Run) -> Tensor:
        """The last layer after dropout: of the query stream where there are targets, else of the content stream.

        modeling.py, transformer_xl.
        """
        content, query = self._embed(inputs, run)
        mems = None if inputs.mems is None else tf.cast(tf.transpose(inputs.mems, (0, 2, 1, 3)), self._compute)
        positions = tf.cast(self._positions(inputs, run), self._compute)
        differs, masks = _differs(inputs), self._masks(inputs)
        caches = []
        for i in range(self.config.n_layer):
            past = None if mems is None else mems[i]
            if self.config.caches:
                caches.append(self._cache(content, past))
            memory = Memory(past, positions, differs, masks, inputs.mapping)
            content, query = self._layer(i)(content, query, memory, run)
        if caches:
            run.kept["new_mems"] = tf.stack(caches)
        output = run.drop("sequence", content if query is None else query, self.config.dropout)
        return run.tap("sequence", output)

    def _embed(self, inputs: Inputs, run: Run) -> tuple[Tensor, Tensor | None]:
        rate = self.config.dropout
        words = tf.cast(tf.nn.embedding_lookup(self.weights[TABLE], inputs.ids), self._compute)
        content = run.tap("embeddings", run.drop("embeddings", words, rate))
        if inputs.targets is None:
            return content, None
        unknown = tf.cast(self.weights[f"{SCOPE}/mask_emb/mask_emb"], self._compute)
        if inputs.mapping is None:
            share = tf.cast(inputs.targets, self._compute)[..., None]
            query = share * unknown + (1 - share) * words
        else:
            query = tf.tile(unknown, (tf.shape(inputs.ids)[0], tf.shape(inputs.mapping)[1], 1))
        return content, run.tap("query.embeddings", run.drop("query.embeddings", query, rate))

    def _positions(self, inputs: Inputs, run: Run) -> Tensor:
        """(b, r, h), or (1, r, h) where all examples have the same. modeling.py, relative_positional_encoding."""
        config, batch, klen = self.config, tf.shape(inputs.ids)[0], inputs.mlen + inputs.qlen
        count = config.positions(inputs.qlen, klen)
        place = tf.cast(klen - tf.range(count), tf.float32)
        directions = tf.stack((place, -place)) if config.bi_data else place[None]
        if config.clamp_len > 0:
            directions = tf.clip_by_value(directions, -config.clamp_len, config.clamp_len)
        angles = directions[..., None] * self._frequencies
        table = tf.concat((tf.sin(angles), tf.cos(angles)), -1)
        if config.bi_data:
            table = tf.repeat(table, batch // 2, 0)
        if run.drops("positions", config.dropout):
            table = tf.broadcast_to(table, (batch, count, config.d_model))
            table = run.drop("positions", table, config.dropout)
        return run.tap("positions", table)

    def _masks(self, inputs: Inputs) -> tuple[Tensor | None, Tensor | None]:
        """What is added to scores of the content and of the query stream, float32, (b or 1, 1, i or 1, j)."""
        row = tf.range(inputs.qlen)[:, None] + inputs.mlen
        column = tf.range(inputs.mlen + inputs.qlen)
        hidden = None
        if self.config.attn_type == "uni":
            hidden = (column > row)[None]
            if self.config.same_length:
                hidden |= column < row - inputs.mlen
        data = _data_mask(inputs)
        if data is not None:
            data = tf.pad(data, ((0, 0), (0, 0), (inputs.mlen, 0)))
            hidden = data if hidden is None else hidden | data
        if hidden is None:
            return None, None
        of_content, of_query = (
            -MASKED * tf.cast(mask[:, None], tf.float32) for mask in (hidden & (column != row), hidden)
        )
        return of_content, of_query

    def _cache(self, content: Tensor, past: Tensor | None) -> Tensor:
        """(m, b, h): the newest mem_len inputs of the layer, without a gradient. modeling.py, _cache_mem."""
        kept = content[:, : self.config.reuse_len] if self.config.reuse_len else content
        kept = kept if past is None else tf.concat((past, kept), 1)
        return tf.transpose(tf.stop_gradient(kept[:, -self.config.mem_len :]), (1, 0, 2))


def _differs(inputs: Inputs) -> Tensor | None:
    """(b, 1, i, j): whether the key is of another segment than the query; mems are of segment 0."""
    if inputs.segments is None:
        return None
    keys = tf.pad(inputs.segments, ((0, 0), (inputs.mlen, 0)))
    return (inputs.segments[:, :, None] != keys[:, None])[:, None]


def _data_mask(inputs: Inputs) -> Tensor | None:
    """(b, i or 1, i): which tokens padding and permutation hide."""
    if inputs.padding is None:
        return None if inputs.permutation is None else inputs.permutation > 0
    padding = inputs.padding[:, None]
    return (padding if inputs.permutation is None else padding + inputs.permutation) > 0
