"""TinyBERT in TensorFlow, under the kit's own names: no TensorFlow TinyBERT was released.

The arithmetic is that of the PyTorch port, on BERT's encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from porting_bert.spec import IGNORED
from porting_bert.tensorflow_backbone import backbone_shapes, dense_shapes, encode, pool
from porting_bert.tensorflow_layers import Pass, Tensor, cross_entropy, replaced
from porting_tinybert.layout import Layout, Part, layout

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_tinybert.config import TinyBertConfig

Values = dict[str, Tensor]
Batch = Mapping[str, Tensor]


def build(config: TinyBertConfig, build: Build) -> TinyBert:
    """The net of a task, freshly initialised. Raises: UsageError for a task that does not fit the config."""
    return TinyBert(layout(config, build), build)


class TinyBert(tf.Module):  # type: ignore[misc] # TensorFlow ships no types
    """A task's net; its layout says what is in it. training: whether dropout acts."""

    def __init__(self, net: Layout, build: Build) -> None:
        super().__init__()
        self.layout, self.build, self.training = net, build, False
        self.parts = [_variables(part) for part in net.parts]
        if net.distils:
            shapes = dense_shapes("fit_dense", net.student.config.hidden_size, net.parts[0].config.hidden_size)
            self.fit_dense = {name: _variable(name, name, shape, net.student) for name, shape in shapes.items()}

    def __call__(self, batch: Batch, taps: frozenset[str] = frozenset(), step: int = 0) -> Values:
        """The task's outputs, the loss if it can be, the taps asked for. `step` is in the masks already."""
        del step
        asked = self.layout.asked(taps)
        needed = self.layout.needed(asked)
        values: Values = {}
        for part, weights in zip(self.layout.parts, self.parts, strict=True):
            values |= self._read(part, weights, batch, needed)
        if self.layout.distils:
            values |= self._fits(_replaced(values, batch))
        values |= self._losses(_replaced(values, batch), batch)
        return {name: values[name] for name in asked if name in values}

    def _read(self, part: Part, weights: Mapping[str, Any], batch: Batch, needed: frozenset[str]) -> Values:
        """A part's taps: its encoder's, and its head's as far as it is needed."""
        taps, config = part.own(needed), part.config.encoder
        mode = self.build.dropout.mode if self.training and part.trained else "off"
        row = part.config.padding_idx
        if row is not None:
            words = "bert/embeddings/word_embeddings"
            weights = {**weights, words: _without_row(weights[words], row)}
        extra = batch if part.trained else {name: value for name, value in batch.items() if name.startswith("given.")}
        run = EncoderPass(weights, extra, taps, mode, self.build.compute, config.layer_norm_eps)
        run.prefix = part.prefix
        hidden = encode(config, batch, run, one_hot=False)
        logits = bool(taps & {"logits", "log_probs"})
        if "pooled" in taps or (logits and part.head == "sequence"):
            pooled = pool(config, hidden, run)
            hidden = pooled if part.head == "sequence" else hidden
        if logits:
            scores = run.tap("logits", run.output("", _activated(part, hidden, run)))
            run.tap("log_probs", tf.nn.log_softmax(scores))
        frozen = (lambda value: value) if part.trained else tf.stop_gradient
        return {part.prefix + name: frozen(value) for name, value in run.found.items()}

    def _fits(self, values: Values) -> Values:
        """The student's hidden states at the teacher's width, those that were kept."""
        run = Pass(self.fit_dense, {}, frozenset(), "off", self.build.compute, 1.0)
        states = enumerate(mine for mine, _ in self.layout.representations())
        kept = ((i, tf.cast(values[name], run.dtype)) for i, name in states if name in values)
        return {f"fit.{i}": tf.cast(run.dense("fit_dense", state), tf.float32) for i, state in kept}

    def _losses(self, values: Values, batch: Batch) -> Values:
        net = self.layout
        if net.loss == "fit":
            fits = ((values[f"fit.{i}"], values[theirs]) for i, (_, theirs) in enumerate(net.representations()))
            scores = ((_visible(values[mine]), _visible(values[theirs])) for mine, theirs in net.pairs())
            attention, representation = _squares(scores), _squares(fits)
            both = {"attention_loss": attention, "representation_loss": representation}
            taken = _replaced(both, batch)
            return {**both, "loss": taken["attention_loss"] + taken["representation_loss"]}
        if net.loss == "soft":
            return {"loss": soft_cross_entropy(values["logits"], values["teacher.logits"], net.temperature)}
        labels = batch.get(net.label)
        if labels is None:
            return {}
        if net.loss == "values":
            return {"loss": tf.reduce_mean(tf.math.squared_difference(values["logits"][..., 0], labels))}
        return {"loss": _mean_cross_entropy(values["logits"], labels)}


class EncoderPass(Pass):
    """BERT's, with the tap that is TinyBERT's own. prefix: what stands before its taps."""

    prefix = ""

    def given(self, name: str) -> Tensor | None:
        """What takes the place of a tap."""
        return super().given(self.prefix + name)

    def drop(self, site: str, value: Tensor, rate: float) -> Tensor:
        """Dropout at a site; what it leaves of the embeddings is hidden state 0."""
        dropped = super().drop(site, value, rate)
        return self.tap("encoder.input", dropped) if site == "embeddings" else dropped


def _replaced(values: Values, batch: Batch) -> Values:
    """Values with what is given in their place."""
    found = dict(values)
    for name in values:
        if (given := batch.get(f"given.{name}")) is not None:
            found[name] = replaced(name, values[name], given)
    return found


def _variables(part: Part) -> dict[str, Any]:
    """A part's variables by their names in Google's BERT, where the encoder looks for them."""
    own = {"bert/": "teacher/bert/", "": "teacher/"} if part.role == "teacher" else {"bert/": "tinybert/", "": ""}
    shapes = backbone_shapes(part.config.encoder, pooler=True)
    if part.head != "none":
        shapes |= {"output_weights": (part.labels, part.config.hidden_size), "output_bias": (part.labels,)}
    found = {}
    for name, shape in shapes.items():
        scope = "bert/" if name.startswith("bert/") else ""
        found[name] = _variable(name, own[scope] + name.removeprefix(scope), shape, part)
    return found


def _variable(kind: str, name: str, shape: tuple[int, ...], part: Part) -> Any:
    """Normal weights, biases 0, LayerNorm 1: modeling.py:init_bert_weights."""
    if len(shape) > 1:
        initial = tf.random.normal(shape, stddev=part.config.initializer_range)
    else:
        initial = tf.ones(shape) if kind.endswith("gamma") else tf.zeros(shape)
    return tf.Variable(initial, name=name, trainable=part.trained)


def _without_row(table: Any, row: int) -> Tensor:
    """The same table, one of whose rows gets no gradient: padding_idx of PyTorch. It costs no copy."""

    @tf.custom_gradient  # type: ignore[untyped-decorator] # TensorFlow ships no types
    def same(rows: Tensor) -> tuple[Tensor, Any]:
        def slope(upstream: Any) -> Any:
            slices = tf.IndexedSlices(upstream.values, upstream.indices, upstream.dense_shape)
            kept = tf.cast(slices.indices != row, slices.values.dtype)[:, None]
            return tf.IndexedSlices(slices.values * kept, slices.indices, slices.dense_shape)

        return tf.identity(rows), slope

    return same(tf.convert_to_tensor(table))


def _activated(part: Part, hidden: Tensor, run: Pass) -> Tensor:
    """What the classifier takes of the pooled output, or of the tokens."""
    if part.config.pooled_activation == "relu":
        return tf.nn.relu(hidden)
    return run.drop("pooled" if part.head == "sequence" else "sequence", hidden, part.config.hidden_dropout_prob)


def _visible(scores: Tensor) -> Tensor:
    """Scores (batch, head, query, key) with masked ones, which are near -10000, as zero."""
    return tf.where(scores <= -100.0, 0.0, scores)


def _squares(pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum of mean squared errors; masked and padded entries count in the mean."""
    return tf.add_n([tf.reduce_mean(tf.math.squared_difference(mine, theirs)) for mine, theirs in pairs])


def _mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over what is labelled; 0 if nothing is."""
    labels = tf.reshape(labels, [-1])
    counted = tf.cast(labels != IGNORED, tf.float32)
    each = cross_entropy(tf.reshape(logits, [-1, logits.shape[-1]]), tf.where(labels == IGNORED, 0, labels))
    return tf.reduce_sum(each * counted) / tf.maximum(tf.reduce_sum(counted), 1.0)


def soft_cross_entropy(mine: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """Of logits (*, label) with the teacher's probabilities: the mean over classes too, and no temperature squared."""
    target = tf.nn.softmax(theirs / temperature)
    return tf.reduce_mean(-target * tf.nn.log_softmax(mine / temperature))
