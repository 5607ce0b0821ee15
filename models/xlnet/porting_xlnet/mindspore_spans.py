"""XLNet's head of spans in MindSpore: function_builder.py, get_qa_outputs; run_squad.py."""

from __future__ import annotations

import mindspore as ms
from mindspore import ops

from porting.backends.protocol import Build
from porting_xlnet.config import XLNetConfig
from porting_xlnet.mindspore_layers import (
    MASKED,
    Cell,
    Dense,
    Drop,
    LayerNorm,
    Tensor,
    log_softmax,
    picked,
    replaced,
    tanh,
)
from porting_xlnet.mindspore_model import XLNet

Drops = tuple[Tensor, ...]
Given = tuple[Tensor, ...]


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

    def head(self, sequence: Tensor, drops: Drops, given: Given, *features: Tensor) -> tuple[Tensor, ...]:
        """Log probabilities over tokens, or beams of them; cls_logits: (b,)."""
        hidden, class_index, start_positions, end_positions, impossible = features[3:8]
        starts = _log_probs(self.start_logits(sequence), hidden)
        begun, of_class = replaced(starts, given[0]), _rows(sequence, class_index.reshape(-1, 1))[:, 0]
        unanswerable = self.answer_class(sequence, begun, of_class, drops[-1])
        if start_positions is None:
            return (None, starts, unanswerable, None, *self._beams(sequence, begun, hidden))
        ends = self.end_logits(sequence, _rows(sequence, start_positions.reshape(-1, 1)))[:, 0]
        ends = _log_probs(ends, hidden)
        loss = None
        if end_positions is not None and impossible is not None:
            spans = picked(begun, start_positions) + picked(replaced(ends, given[2]), end_positions)
            loss = 0.5 * _wrong(replaced(unanswerable, given[1]), impossible).mean() - 0.5 * spans.mean()
        return loss, starts, unanswerable, ends, None, None, None, None

    def _beams(self, sequence: Tensor, starts: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        """The likeliest starts, and for each the likeliest ends."""
        start_log_probs, start_index = _top(starts, self.config.start_n_top)
        ends = _log_probs(self.end_logits(sequence, _rows(sequence, start_index)), ops.expand_dims(hidden, 1))
        end_log_probs, end_index = _top(ends, self.config.end_n_top)
        batch = sequence.shape[0]
        return start_log_probs, start_index, end_log_probs.reshape(batch, -1), end_index.reshape(batch, -1)


def _wrong(logits: Tensor, impossible: Tensor) -> Tensor:
    """The binary cross-entropy of logits (b,) that there is no answer."""
    return ops.relu(logits) - logits * impossible + ops.log1p(ops.exp(-ops.abs(logits)))


def _rows(sequence: Tensor, index: Tensor) -> Tensor:
    """(b, i, h) at (b, k) to (b, k, h)."""
    places = ops.tile(ops.expand_dims(index, 2), (1, 1, sequence.shape[2]))
    return ops.gather_elements(sequence, 1, places)


def _log_probs(logits: Tensor, hidden: Tensor) -> Tensor:
    """Over the last axis, hidden ones at -1e30. float32."""
    return log_softmax(logits.astype(ms.float32) * (1 - hidden) - MASKED * hidden)


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
