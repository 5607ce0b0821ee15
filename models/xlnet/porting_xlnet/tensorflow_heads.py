"""XLNet's heads in TensorFlow: function_builder.py, modeling.py (summarize_sequence), run_squad.py."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from porting.backends.protocol import Build
from porting_xlnet.config import XLNetConfig
from porting_xlnet.spec import task_name
from porting_xlnet.tensorflow_layers import MASKED, Run, Tensor, dense, from_heads, layer_norm, to_heads
from porting_xlnet.tensorflow_transformer import TABLE, Inputs, XLNet

Batch = Mapping[str, Tensor]
SUMMARY = "model/sequnece_summary"


class Encoder(XLNet):
    """No head."""

    def head(self, sequence: Tensor, batch: Batch, run: Run) -> dict[str, Tensor]:
        """The states themselves."""
        del batch, run
        return {"sequence": sequence}


class Pretraining(XLNet):
    """Permutation language model: function_builder.py, two_stream_loss. The softmax's weight is the word table."""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__(config, build)
        self.weights.filled("model/lm_loss/bias", config.n_token, 0)

    def inputs(self, batch: Batch) -> Inputs:
        """Names as in the original's pre-training records."""
        names = ("seg_id", "input_mask", "perm_mask", "mems", "input_q", "target_mapping")
        return Inputs(batch["input_k"], *(batch.get(name) for name in names))

    def head(self, sequence: Tensor, batch: Batch, run: Run) -> dict[str, Tensor]:
        """logits: (b, p, vocab)."""
        table = tf.cast(self.weights[TABLE], sequence.dtype)
        scores = tf.cast(tf.einsum("bph,vh->bpv", sequence, table), tf.float32)
        logits = run.tap("logits", scores + self.weights["model/lm_loss/bias"])
        outputs = {"sequence": sequence, "logits": logits}
        if "target" in batch:
            loss = run.tap("per_example_loss", _cross_entropy(logits, batch["target"]))
            counted = batch["target_mask"] if "target_mask" in batch else tf.ones_like(loss)
            outputs["loss"] = tf.reduce_sum(loss * counted) / tf.reduce_sum(counted)
        return outputs


class Pooled(XLNet):
    """With a summary of the sequence: modeling.py, summarize_sequence."""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__(config, build)
        if config.summary_type == "attn":
            self.weights.normal(f"{SUMMARY}/summary_bias", config.d_model)
            for name in "qkvo":
                self.weights.kernel(f"{SUMMARY}/abs_attn/{name}", config)
            self.weights.layer_norm(f"{SUMMARY}/abs_attn/LayerNorm", config.d_model)
        if config.use_summ_proj:
            self.weights.dense(f"{SUMMARY}/summary", config.d_model, config.d_model)

    def pool(self, sequence: Tensor, padding: Tensor | None, run: Run) -> Tensor:
        """(b, i, h) to (b, h)."""
        match self.config.summary_type:
            case "last":
                pooled = sequence[:, -1]
            case "first":
                pooled = sequence[:, 0]
            case "mean":
                pooled = tf.reduce_mean(sequence, 1)
            case _:
                pooled = self._attend(sequence, padding, run)
        if self.config.use_summ_proj:
            pooled = tf.tanh(dense(pooled, self.weights, f"{SUMMARY}/summary"))
        return run.tap("pooled", run.drop("pooled", pooled, self.config.dropout))

    def _attend(self, sequence: Tensor, padding: Tensor | None, run: Run) -> Tensor:
        """One learned query over all tokens, no residual: modeling.py, multihead_attn."""
        config, weights, scope = self.config, self.weights, f"{SUMMARY}/abs_attn"
        query = tf.cast(weights[f"{SUMMARY}/summary_bias"], sequence.dtype)
        query = tf.tile(query[None, None], (tf.shape(sequence)[0], 1, 1))
        query, key, value = (
            to_heads(states, weights, f"{scope}/{name}")
            for name, states in (("q", query), ("k", sequence), ("v", sequence))
        )
        score = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32) * (1 / config.d_head**0.5)
        if padding is not None:
            score -= MASKED * padding[:, None, None]
        probs = run.drop("summary.probs", tf.cast(tf.nn.softmax(score), sequence.dtype), config.dropatt)
        output = run.drop("summary.output", from_heads(tf.matmul(probs, value), weights, f"{scope}/o"), config.dropout)
        return layer_norm(output, weights, f"{scope}/LayerNorm", config.layer_norm_epsilon)[:, 0]


class Classification(Pooled):
    """function_builder.py, get_classification_loss."""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__(config, build)
        self._logit = f"model/classification_{task_name(build)}/logit"
        self.weights.dense(self._logit, config.d_model, build.labels)

    def head(self, sequence: Tensor, batch: Batch, run: Run) -> dict[str, Tensor]:
        """pooled: (b, h). logits: (b, label)."""
        pooled = self.pool(sequence, batch.get("input_mask"), run)
        logits = run.tap("logits", tf.cast(dense(pooled, self.weights, self._logit), tf.float32))
        outputs = {"pooled": pooled, "logits": logits}
        if "label_ids" in batch:
            outputs["loss"] = tf.reduce_mean(run.tap("per_example_loss", _cross_entropy(logits, batch["label_ids"])))
        return outputs


class Regression(Pooled):
    """function_builder.py, get_regression_loss."""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__(config, build)
        self._logit = f"model/regression_{task_name(build)}/logit"
        self.weights.dense(self._logit, config.d_model, 1)

    def head(self, sequence: Tensor, batch: Batch, run: Run) -> dict[str, Tensor]:
        """pooled: (b, h). logits: (b,)."""
        pooled = self.pool(sequence, batch.get("input_mask"), run)
        logits = run.tap("logits", tf.cast(dense(pooled, self.weights, self._logit)[:, 0], tf.float32))
        outputs = {"pooled": pooled, "logits": logits}
        if "label_values" in batch:
            loss = run.tap("per_example_loss", tf.square(logits - batch["label_values"]))
            outputs["loss"] = tf.reduce_mean(loss)
        return outputs


class QuestionAnswering(XLNet):
    """Spans: function_builder.py, get_qa_outputs; the loss of run_squad.py.

    Ends are scored given a start: the true one if the batch has start_positions, else each of the likeliest.
    """

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__(config, build)
        width = config.d_model
        self.weights.dense("start_logits/dense", width, 1)
        self.weights.dense("end_logits/dense_0", 2 * width, width)
        self.weights.layer_norm("end_logits/LayerNorm", width)
        self.weights.dense("end_logits/dense_1", width, 1)
        self.weights.dense("answer_class/dense_0", 2 * width, width)
        self.weights.dense("answer_class/dense_1", width, 1, bias=False)

    def head(self, sequence: Tensor, batch: Batch, run: Run) -> dict[str, Tensor]:
        """Log probabilities over tokens, or beams of them; cls_logits: (b,)."""
        hidden = batch["p_mask"]
        starts = _log_probs(dense(sequence, self.weights, "start_logits/dense")[..., 0], hidden)
        starts = run.tap("start_log_probs", starts)
        answerable = run.tap("cls_logits", self._answerable(sequence, starts, batch, run))
        outputs = {"start_log_probs": starts, "cls_logits": answerable}
        if "start_positions" not in batch:
            return outputs | self._beams(sequence, starts, hidden)
        start = tf.gather(sequence, batch["start_positions"], axis=1, batch_dims=1)
        ends = run.tap("end_log_probs", _log_probs(self._ends(sequence, start[:, None])[:, 0], hidden))
        outputs["end_log_probs"] = ends
        if "end_positions" in batch and "is_impossible" in batch:
            spans = tf.gather(starts, batch["start_positions"], axis=1, batch_dims=1)
            spans += tf.gather(ends, batch["end_positions"], axis=1, batch_dims=1)
            unanswerable = tf.nn.sigmoid_cross_entropy_with_logits(batch["is_impossible"], outputs["cls_logits"])
            outputs["loss"] = -0.5 * tf.reduce_mean(spans) + 0.5 * tf.reduce_mean(unanswerable)
        return outputs

    def _ends(self, sequence: Tensor, starts: Tensor) -> Tensor:
        """End logits given states of starts: (b, i, h), (b, k, h) to (b, k, i)."""
        tokens = tf.repeat(sequence[:, None], tf.shape(starts)[1], 1)
        chosen = tf.repeat(starts[:, :, None], tf.shape(sequence)[1], 2)
        inner = tf.tanh(dense(tf.concat((tokens, chosen), -1), self.weights, "end_logits/dense_0"))
        inner = layer_norm(inner, self.weights, "end_logits/LayerNorm", self.config.layer_norm_epsilon)
        return dense(inner, self.weights, "end_logits/dense_1")[..., 0]

    def _beams(self, sequence: Tensor, starts: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        """The likeliest starts, and for each the likeliest ends."""
        start_log_probs, start_index = _top(starts, self.config.start_n_top)
        chosen = tf.gather(sequence, start_index, axis=1, batch_dims=1)
        ends = _log_probs(self._ends(sequence, chosen), hidden[:, None])
        end_log_probs, end_index = _top(ends, self.config.end_n_top)
        batch = tf.shape(sequence)[0]
        return {
            "start_top_log_probs": start_log_probs,
            "start_top_index": start_index,
            "end_top_log_probs": tf.reshape(end_log_probs, (batch, -1)),
            "end_top_index": tf.reshape(end_index, (batch, -1)),
        }

    def _answerable(self, sequence: Tensor, starts: Tensor, batch: Batch, run: Run) -> Tensor:
        expected = tf.einsum("bi,bih->bh", tf.cast(tf.exp(starts), sequence.dtype), sequence)
        of_class = tf.gather(sequence, batch["cls_index"], axis=1, batch_dims=1)
        inner = tf.tanh(dense(tf.concat((expected, of_class), -1), self.weights, "answer_class/dense_0"))
        inner = run.drop("answer_class", inner, self.config.dropout)
        return tf.cast(dense(inner, self.weights, "answer_class/dense_1")[:, 0], tf.float32)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(…, classes), (…) to (…)."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def _log_probs(logits: Tensor, hidden: Tensor) -> Tensor:
    """Over the last axis, hidden ones at -1e30. float32."""
    return tf.nn.log_softmax(tf.cast(logits, tf.float32) * (1 - hidden) - MASKED * hidden)


def _top(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The greatest of the last axis and their places; of equals the first."""
    found = tf.math.top_k(values, tf.minimum(count, tf.shape(values)[-1]))
    return found.values, found.indices
