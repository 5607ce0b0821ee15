"""XLNet's heads of one score or class in MindSpore, and none at all: function_builder.py.

Spans are in mindspore_spans.
"""

# ruff: noqa: ARG002 - heads share a signature, and a compiled graph knows no del

from __future__ import annotations

import mindspore as ms
from mindspore import ops
from mindspore.common.initializer import initializer

from porting.backends.protocol import Build
from porting_xlnet.config import XLNetConfig
from porting_xlnet.mindspore_layers import Cell, Dense, Tensor, log_softmax, picked, replaced
from porting_xlnet.mindspore_model import XLNet
from porting_xlnet.mindspore_summary import Summary
from porting_xlnet.spec import task_name

Drops = tuple[Tensor, ...]
Given = tuple[Tensor, ...]


class Encoder(XLNet):
    """No head."""

    def inputs(self, *features: Tensor) -> tuple[Tensor, ...]:
        """See XLNet."""
        return (*features[:5], None, None)

    def head(self, sequence: Tensor, drops: Drops, given: Given, *features: Tensor) -> tuple[Tensor, ...]:
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

    def head(self, sequence: Tensor, drops: Drops, given: Given, *features: Tensor) -> tuple[Tensor, ...]:
        """logits: (b, p, vocab)."""
        target, counted = features[7:9]
        table = self.transformer.word_embedding.embedding_table.astype(sequence.dtype)
        logits = ops.matmul(sequence, table.T).astype(ms.float32) + self.lm_loss.bias
        if target is None:
            return None, logits, None
        loss = _cross_entropy(replaced(logits, given[0]), target)
        taken = replaced(loss, given[1])
        if counted is None:
            return taken.mean(), logits, loss
        return (taken * counted).sum() / counted.sum(), logits, loss


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

    def head(self, sequence: Tensor, drops: Drops, given: Given, *features: Tensor) -> tuple[Tensor, ...]:
        """pooled: (b, h). logits: (b, label), or (b,) of a score."""
        pooled = self.sequence_summary(sequence, features[2], drops[-3:])
        logits = self.shaped(self.logit(replaced(pooled, given[0])).astype(ms.float32))
        if features[3] is None:
            return None, pooled, logits, None
        loss = self.judge(replaced(logits, given[1]), features[3])
        return replaced(loss, given[2]).mean(), pooled, logits, loss

    def shaped(self, logits: Tensor) -> Tensor:
        """What the task calls logits."""
        return logits

    def judge(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss by example."""
        raise NotImplementedError


class Classification(Pooled):
    """function_builder.py, get_classification_loss."""

    kind = "classification"

    def judge(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See Pooled."""
        return _cross_entropy(logits, labels)


class Regression(Pooled):
    """function_builder.py, get_regression_loss."""

    kind = "regression"

    def shaped(self, logits: Tensor) -> Tensor:
        """A score: (b,)."""
        return logits[:, 0]

    def judge(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See Pooled."""
        return ops.square(logits - labels)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(…, classes), (…) to (…)."""
    return -picked(log_softmax(logits), labels)
