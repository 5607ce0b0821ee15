"""The tasks of BERT and RoBERTa in TensorFlow: a class per head, each a whole model.

pretraining: google-research/bert run_pretraining.py. classification: run_classifier.py:create_model.
question answering: run_squad.py. Token classification, RoBERTa's heads: transformers 5.23 models/bert and roberta.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from porting.errors import UsageError
from porting_bert.config import CREATE_MODEL_DROPOUT, BertConfig
from porting_bert.spec import IGNORED, RELATIONS, SPANS, label_count, option
from porting_bert.tensorflow_backbone import Batch, Shapes, backbone_shapes, dense_shapes, encode, norm_shapes, pool
from porting_bert.tensorflow_layers import Pass, Tensor, activation, cross_entropy

if TYPE_CHECKING:
    from porting.backends.protocol import Build

Outputs = dict[str, Tensor]


class Model(tf.Module):  # type: ignore[misc] # TensorFlow ships no types
    """A backbone and a task's head. training: whether dropout acts."""

    def __init__(self, config: BertConfig, build: Build) -> None:
        super().__init__()
        self.config, self.build, self.training = config, build, False
        self.one_hot = option(build, "one_hot", False, True)
        shapes = backbone_shapes(config, pooler=self.pooled) | self.head_shapes()
        self.weights = {name: _variable(name, shape, config.initializer_range) for name, shape in shapes.items()}

    @property
    def pooled(self) -> bool:
        """Whether the task has a pooler."""
        return False

    def __call__(self, batch: Batch, taps: frozenset[str] = frozenset(), step: int = 0) -> Outputs:
        """The task's outputs, the loss if there are labels, the taps asked for. `step` is in the masks already."""
        del step
        mode = self.build.dropout.mode if self.training else "off"
        run = Pass(self.weights, batch, taps, mode, self.build.compute, self.config.layer_norm_eps)
        sequence = encode(self.config, batch, run, one_hot=self.one_hot)
        outputs = self.outputs(sequence, batch, run)
        losses = self.losses({name: run.emit(name, value) for name, value in outputs.items()}, batch)
        wanted = {name: loss for name, loss in losses.items() if name == "loss" or name in taps}
        return {**run.found, **wanted}

    def head_shapes(self) -> Shapes:
        """Variables of the head."""
        return {}

    def outputs(self, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        """The task's outputs, float32."""
        raise NotImplementedError

    def losses(self, outputs: Outputs, batch: Batch) -> Outputs:
        """The loss and its parts, of the labels there are."""
        del outputs, batch
        return {}


def _variable(name: str, shape: tuple[int, ...], deviation: float) -> Any:
    """Weights from a truncated normal, biases 0, LayerNorm 1: modeling.py:create_initializer."""
    if len(shape) > 1:
        return tf.Variable(tf.random.truncated_normal(shape, stddev=deviation), name=name)
    return tf.Variable(tf.ones(shape) if name.endswith("gamma") else tf.zeros(shape), name=name)


class Encoder(Model):
    """No head: the sequence, and in BERT the pooled output."""

    @property
    def pooled(self) -> bool:
        return bool(self.config.model_type == "bert")

    def outputs(self, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        del batch
        found = {"sequence": tf.cast(sequence, tf.float32)}
        pooled = {"pooled": tf.cast(pool(self.config, sequence, run), tf.float32)} if self.pooled else {}
        return found | pooled


class MaskedLM(Model):
    """Every token's scores over the vocabulary: (batch, seq, vocab)."""

    @property
    def scope(self) -> str:
        """Where the head's variables are."""
        return "cls/predictions" if self.config.model_type == "bert" else "lm_head"

    @property
    def transform(self) -> str:
        """Where those before the decoder are."""
        return f"{self.scope}/transform" if self.config.model_type == "bert" else self.scope

    def head_shapes(self) -> Shapes:
        hidden = self.config.hidden_size
        shapes = dense_shapes(f"{self.transform}/dense", hidden, hidden) | norm_shapes(self.transform, hidden)
        return shapes | {f"{self.scope}/output_bias": (self.config.vocab_size,)}

    def outputs(self, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        del batch
        return {"logits": self.decode(sequence, run)}

    def losses(self, outputs: Outputs, batch: Batch) -> Outputs:
        return _token_loss(outputs["logits"], batch.get("token_labels"))

    def decode(self, hidden: Tensor, run: Pass) -> Tensor:
        """Scores over the vocabulary by the word table itself."""
        bert = self.config.model_type == "bert"
        # RoBERTa's head has gelu whatever the config says: fairseq's activation_fn, transformers' RobertaLMHead.
        activate = activation(self.config.hidden_act if bert else "gelu_erf")
        inner = run.layer_norm(f"{self.transform}/LayerNorm", activate(run.dense(f"{self.transform}/dense", hidden)))
        table = self.weights[f"{self.config.model_type}/embeddings/word_embeddings"]
        bias = self.weights[f"{self.scope}/output_bias"]
        return tf.cast(run.affine(inner, table, bias, transposed=True), tf.float32)


class Pretraining(MaskedLM):
    """Masked positions and next sentence."""

    @property
    def pooled(self) -> bool:
        return True

    def head_shapes(self) -> Shapes:
        return super().head_shapes() | _output_shapes("cls/seq_relationship/", RELATIONS, self.config)

    def outputs(self, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        positions = batch["masked_lm_positions"]
        rows, seq = tf.unstack(tf.shape(sequence)[:2])
        flat = tf.reshape(positions + tf.range(rows)[:, None] * seq, [-1])
        masked = tf.gather(tf.reshape(sequence, [-1, self.config.hidden_size]), flat)
        masked = tf.reshape(masked, tf.concat([tf.shape(positions), [self.config.hidden_size]], 0))
        relation = run.output("cls/seq_relationship/", pool(self.config, sequence, run))
        return {"mlm.logits": self.decode(masked, run), "nsp.logits": relation}

    def losses(self, outputs: Outputs, batch: Batch) -> Outputs:
        found: Outputs = {}
        ids, weights = batch.get("masked_lm_ids"), batch.get("masked_lm_weights")
        if ids is not None and weights is not None:
            each = cross_entropy(outputs["mlm.logits"], ids) * weights
            found["mlm.loss"] = tf.reduce_sum(each) / (tf.reduce_sum(weights) + 1e-5)
        labels = batch.get("next_sentence_labels")
        if labels is not None:
            found["nsp.loss"] = tf.reduce_mean(cross_entropy(outputs["nsp.logits"], labels[:, 0]))
        words, following = (batch.get(f"given.{name}", found.get(name)) for name in ("mlm.loss", "nsp.loss"))
        return found if words is None or following is None else found | {"loss": words + following}


class Classification(Model):
    """Classes of a sequence: (batch, labels). With one label and label_values: regression."""

    @property
    def pooled(self) -> bool:
        return bool(self.config.model_type == "bert")

    def head_shapes(self) -> Shapes:
        labels, hidden = label_count(self.build), self.config.hidden_size
        if self.config.model_type == "bert":
            return _output_shapes("", labels, self.config)
        return dense_shapes("classifier/dense", hidden, hidden) | dense_shapes("classifier/out_proj", hidden, labels)

    def outputs(self, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        del batch
        if self.config.model_type == "bert":
            pooled = pool(self.config, sequence, run)
            return {"logits": run.output("", run.drop("pooled", pooled, CREATE_MODEL_DROPOUT))}
        rate = self.config.head_dropout
        first = run.drop("classifier.input", sequence[:, 0], rate)
        inner = run.drop("classifier.hidden", tf.tanh(run.dense("classifier/dense", first)), rate)
        return {"logits": tf.cast(run.dense("classifier/out_proj", inner), tf.float32)}

    def losses(self, outputs: Outputs, batch: Batch) -> Outputs:
        ids, values = batch.get("label_ids"), batch.get("label_values")
        if ids is not None:
            return {"loss": tf.reduce_mean(cross_entropy(outputs["logits"], ids))}
        gap = None if values is None else tf.math.squared_difference(outputs["logits"][:, 0], values)
        return {} if gap is None else {"loss": tf.reduce_mean(gap)}


class TokenClassification(Model):
    """Classes of every token: (batch, seq, labels)."""

    def head_shapes(self) -> Shapes:
        return _output_shapes("", label_count(self.build), self.config)

    def outputs(self, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        del batch
        return {"logits": run.output("", run.drop("sequence", sequence, self.config.head_dropout))}

    def losses(self, outputs: Outputs, batch: Batch) -> Outputs:
        return _token_loss(outputs["logits"], batch.get("token_labels"))


class QuestionAnswering(Model):
    """Where the answer starts and ends: (batch, seq) each."""

    def head_shapes(self) -> Shapes:
        return _output_shapes("cls/squad/", SPANS, self.config)

    def outputs(self, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        del batch
        start, end = tf.unstack(run.output("cls/squad/", sequence), axis=-1)
        return {"start_logits": start, "end_logits": end}

    def losses(self, outputs: Outputs, batch: Batch) -> Outputs:
        start, end = batch.get("start_positions"), batch.get("end_positions")
        if start is None or end is None:
            return {}
        both = cross_entropy(outputs["start_logits"], start) + cross_entropy(outputs["end_logits"], end)
        return {"loss": tf.reduce_mean(both) / 2}


def _output_shapes(scope: str, units: int, config: BertConfig) -> Shapes:
    """Variables of Google's heads, whose weights are not transposed."""
    return {f"{scope}output_weights": (units, config.hidden_size), f"{scope}output_bias": (units,)}


def _token_loss(logits: Tensor, labels: Tensor | None) -> Outputs:
    """The mean over the tokens that are labelled; 0 if none is."""
    if labels is None:
        return {}
    counted = tf.cast(labels != IGNORED, tf.float32)
    total = tf.reduce_sum(cross_entropy(logits, tf.where(labels == IGNORED, 0, labels)) * counted)
    return {"loss": total / tf.maximum(tf.reduce_sum(counted), 1.0)}


_HEADS: Mapping[str, type[Model]] = {
    "encoder": Encoder,
    "pretraining": Pretraining,
    "mlm": MaskedLM,
    "classification": Classification,
    "regression": Classification,
    "token_classification": TokenClassification,
    "question_answering": QuestionAnswering,
}


def head(task: str, model_type: str) -> type[Model]:
    """The model of a task. Raises: UsageError for a task that this model has not."""
    if task not in _HEADS or (model_type == "roberta" and task == "pretraining"):
        raise UsageError(f"{model_type}: no task {task}")
    return _HEADS[task]
