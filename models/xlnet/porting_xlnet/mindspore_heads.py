"""XLNet's heads in MindSpore: function_builder.py, modeling.py (summarize_sequence), run_squad.py."""

# ruff: noqa: ARG002 - heads share a signature, and a compiled graph knows no del

from __future__ import annotations

import mindspore as ms
from mindspore import ops
from mindspore.common.initializer import initializer

from porting.backends.protocol import Build
from porting_xlnet.config import XLNetConfig
from porting_xlnet.mindspore_layers import (
    MASKED,
    Cell,
    Dense,
    Drop,
    LayerNorm,
    Tensor,
    drawn,
    from_heads,
    kernel,
    tanh,
    to_heads,
)
from porting_xlnet.mindspore_model import XLNet
from porting_xlnet.spec import task_name

Drops = tuple[Tensor, ...]


class Encoder(XLNet):
    """No head."""

    def inputs(self, *features: Tensor) -> tuple[Tensor, ...]:
        """See XLNet."""
        return (*features[:5], None, None)

    def head(self, sequence: Tensor, drops: Drops, *features: Tensor) -> tuple[Tensor, ...]:
        """No loss."""
        return (None,)


class Bias(Cell):
    """The softmax's; its weight is the word table."""

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__()
        self.bias = ms.Parameter(initializer("zeros", (config.n_token,), ms.float32))


class Pretraining(XLNet):
    """Permutation language model: function_builder.py, two_stream_loss."""

    head_taps = ("logits", "per_example_loss")

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__(config, build)
        self.lm_loss = Bias(config)

    def inputs(self, *features: Tensor) -> tuple[Tensor, ...]:
        """See XLNet. The features are input_k, input_q, seg_id, input_mask, perm_mask, target_mapping, mems."""
        ids, targets, segments, padding, permutation, mapping, mems = features[:7]
        return ids, segments, padding, permutation, mems, targets, mapping

    def head(self, sequence: Tensor, drops: Drops, *features: Tensor) -> tuple[Tensor, ...]:
        """logits: (b, p, vocab)."""
        target, counted = features[7:9]
        table = self.transformer.word_embedding.embedding_table.astype(sequence.dtype)
        logits = ops.matmul(sequence, table.T).astype(ms.float32) + self.lm_loss.bias
        if target is None:
            return None, logits, None
        loss = _cross_entropy(logits, target)
        if counted is None:
            return loss.mean(), logits, loss
        return (loss * counted).sum() / counted.sum(), logits, loss


class Attention(Cell):
    """One learned query over all tokens, no residual: modeling.py, multihead_attn."""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__()
        own = build.dropout.mode == "own"
        self.scale = 1 / config.d_head**0.5
        self.q, self.k, self.v, self.o = (kernel(config) for _ in range(4))
        self.layer_norm = LayerNorm(config)
        self.drop_probs = Drop(config.dropatt, own=own)
        self.drop_output = Drop(config.dropout, own=own)

    def construct(self, query: Tensor, sequence: Tensor, padding: Tensor, drops: Drops) -> Tensor:
        """query: (b, 1, h). sequence: (b, i, h). Returns (b, h)."""
        key, value = to_heads(sequence, self.k), to_heads(sequence, self.v)
        score = ops.matmul(to_heads(query, self.q), key.swapaxes(2, 3)).astype(ms.float32) * self.scale
        if padding is not None:
            score = score - MASKED * padding.reshape(padding.shape[0], 1, 1, -1)
        probs = self.drop_probs(ops.softmax(score, -1).astype(sequence.dtype), drops[0])
        output = self.drop_output(from_heads(ops.matmul(probs, value), self.o), drops[1])
        return self.layer_norm(output)[:, 0]


class Summary(Cell):
    """modeling.py, summarize_sequence."""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__()
        self.kind, self.projects = config.summary_type, config.use_summ_proj
        if self.kind == "attn":
            self.summary_bias = drawn(config, config.d_model)
            self.abs_attn = Attention(config, build)
        if self.projects:
            self.summary = Dense(config, config.d_model, config.d_model)
        self.drop = Drop(config.dropout, own=build.dropout.mode == "own")

    def construct(self, sequence: Tensor, padding: Tensor, drops: Drops) -> Tensor:
        """(b, i, h) to (b, h)."""
        if self.kind == "last":
            pooled = sequence[:, -1]
        elif self.kind == "first":
            pooled = sequence[:, 0]
        elif self.kind == "mean":
            pooled = sequence.mean(1)
        else:
            query = ops.tile(self.summary_bias.astype(sequence.dtype), (sequence.shape[0], 1, 1))
            pooled = self.abs_attn(query, sequence, padding, drops)
        if self.projects:
            pooled = tanh(self.summary(pooled))
        return self.drop(pooled, drops[2])


class Pooled(XLNet):
    """With a summary of the sequence."""

    head_sites = ("summary.probs", "summary.output", "pooled")
    head_taps = ("pooled", "logits", "per_example_loss")
    kind = ""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__(config, build)
        self.sequence_summary = Summary(config, build)
        labels = build.labels if self.kind == "classification" else 1
        self.logit = Dense(config, config.d_model, labels)
        for parameter in self.logit.get_parameters():
            parameter.name = f"{self.kind}_{task_name(build)}.{parameter.name}"

    def head(self, sequence: Tensor, drops: Drops, *features: Tensor) -> tuple[Tensor, ...]:
        """pooled: (b, h). logits: (b, label), or (b,) of a score."""
        pooled = self.sequence_summary(sequence, features[2], drops[-3:])
        logits = self.logit(pooled).astype(ms.float32)
        return self.judge(pooled, logits, features[3])

    def judge(self, pooled: Tensor, logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """The loss, pooled, logits, and the loss by example."""
        raise NotImplementedError


class Classification(Pooled):
    """function_builder.py, get_classification_loss."""

    kind = "classification"

    def judge(self, pooled: Tensor, logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """See Pooled."""
        if labels is None:
            return None, pooled, logits, None
        loss = _cross_entropy(logits, labels)
        return loss.mean(), pooled, logits, loss


class Regression(Pooled):
    """function_builder.py, get_regression_loss."""

    kind = "regression"

    def judge(self, pooled: Tensor, logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """See Pooled."""
        score = logits[:, 0]
        if labels is None:
            return None, pooled, score, None
        loss = ops.square(score - labels)
        return loss.mean(), pooled, score, loss


class Start(Cell):
    """Start logits."""

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__()
        self.dense = Dense(config, config.d_model, 1)

    def construct(self, sequence: Tensor) -> Tensor:
        """(b, i, h) to (b, i)."""
        return self.dense(sequence)[:, :, 0]


class End(Cell):
    """End logits given states of starts."""

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__()
        self.dense_0 = Dense(config, 2 * config.d_model, config.d_model)
        self.LayerNorm = LayerNorm(config)
        self.dense_1 = Dense(config, config.d_model, 1)

    def construct(self, sequence: Tensor, starts: Tensor) -> Tensor:
        """(b, i, h), (b, k, h) to (b, k, i)."""
        shape = (sequence.shape[0], starts.shape[1], sequence.shape[1], sequence.shape[2])
        tokens = ops.broadcast_to(ops.expand_dims(sequence, 1), shape)
        chosen = ops.broadcast_to(ops.expand_dims(starts, 2), shape)
        inner = tanh(self.dense_0(ops.cat((tokens, chosen), 3)))
        return self.dense_1(self.LayerNorm(inner))[:, :, :, 0]


class Answerable(Cell):
    """Whether there is no answer, from the expected start's state and the class token's."""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__()
        self.dense_0 = Dense(config, 2 * config.d_model, config.d_model)
        self.dense_1 = Dense(config, config.d_model, 1, bias=False)
        self.drop = Drop(config.dropout, own=build.dropout.mode == "own")

    def construct(self, sequence: Tensor, starts: Tensor, of_class: Tensor, drop: Tensor) -> Tensor:
        """(b, i, h), (b, i), (b, h) to (b,), float32."""
        expected = ops.matmul(ops.expand_dims(ops.exp(starts).astype(sequence.dtype), 1), sequence)[:, 0]
        inner = self.drop(tanh(self.dense_0(ops.cat((expected, of_class), 1))), drop)
        return self.dense_1(inner)[:, 0].astype(ms.float32)


class QuestionAnswering(XLNet):
    """Spans: function_builder.py, get_qa_outputs; the loss of run_squad.py.

    Ends are scored given a start: the true one if start_positions are given, else each of the likeliest.
    """

    head_sites = ("answer_class",)
    head_taps = (
        "start_log_probs",
        "cls_logits",
        "end_log_probs",
        "start_top_log_probs",
        "start_top_index",
        "end_top_log_probs",
        "end_top_index",
    )

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__(config, build)
        self.start_logits = Start(config)
        self.end_logits = End(config)
        self.answer_class = Answerable(config, build)

    def head(self, sequence: Tensor, drops: Drops, *features: Tensor) -> tuple[Tensor, ...]:
        """Log probabilities over tokens, or beams of them; cls_logits: (b,)."""
        hidden, class_index, start_positions, end_positions, impossible = features[3:8]
        starts = _log_probs(self.start_logits(sequence), hidden)
        unanswerable = self.answer_class(sequence, starts, _rows(sequence, class_index.reshape(-1, 1))[:, 0], drops[-1])
        if start_positions is None:
            return (None, starts, unanswerable, None, *self._beams(sequence, starts, hidden))
        ends = self.end_logits(sequence, _rows(sequence, start_positions.reshape(-1, 1)))[:, 0]
        ends = _log_probs(ends, hidden)
        loss = None
        if end_positions is not None and impossible is not None:
            spans = _picked(starts, start_positions) + _picked(ends, end_positions)
            wrong = ops.relu(unanswerable) - unanswerable * impossible + ops.log1p(ops.exp(-ops.abs(unanswerable)))
            loss = 0.5 * wrong.mean() - 0.5 * spans.mean()
        return loss, starts, unanswerable, ends, None, None, None, None

    def _beams(self, sequence: Tensor, starts: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        """The likeliest starts, and for each the likeliest ends."""
        start_log_probs, start_index = _top(starts, self.config.start_n_top)
        ends = _log_probs(self.end_logits(sequence, _rows(sequence, start_index)), ops.expand_dims(hidden, 1))
        end_log_probs, end_index = _top(ends, self.config.end_n_top)
        batch = sequence.shape[0]
        return start_log_probs, start_index, end_log_probs.reshape(batch, -1), end_index.reshape(batch, -1)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(…, classes), (…) to (…)."""
    return -_picked(_log_softmax(logits), labels)


def _log_softmax(logits: Tensor) -> Tensor:
    """Over the last axis. MindSpore 2.10's own is 5e-6 off on the CPU, twice this."""
    below = logits - logits.max(-1, keepdims=True)
    return below - ops.log(ops.exp(below).sum(-1, keepdims=True))


def _picked(log_probs: Tensor, index: Tensor) -> Tensor:
    return ops.gather_elements(log_probs, log_probs.ndim - 1, ops.expand_dims(index, -1)).squeeze(-1)


def _rows(sequence: Tensor, index: Tensor) -> Tensor:
    """(b, i, h) at (b, k) to (b, k, h)."""
    places = ops.tile(ops.expand_dims(index, 2), (1, 1, sequence.shape[2]))
    return ops.gather_elements(sequence, 1, places)


def _log_probs(logits: Tensor, hidden: Tensor) -> Tensor:
    """Over the last axis, hidden ones at -1e30. float32."""
    return _log_softmax(logits.astype(ms.float32) * (1 - hidden) - MASKED * hidden)


def _top(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The greatest of the last axis and their places; of equals the first."""
    best: tuple[Tensor, ...] = ()
    places: tuple[Tensor, ...] = ()
    left = values
    for _ in range(min(count, values.shape[-1])):
        place = ops.argmax(left, -1, keepdim=True).astype(ms.int32)
        best = (*best, ops.gather_elements(values, values.ndim - 1, place))
        places = (*places, place)
        taken = ops.arange(values.shape[-1]).astype(ms.int32) == place
        left = ops.where(taken, ops.full_like(left, float("-inf")), left)
    return ops.cat(best, -1), ops.cat(places, -1)
