"""An encoder and its classifier in MindSpore: BERT's cells, under the names of ModelZoo's nets.

A graph is fixed when it is compiled, so every cell returns all of its taps; what nobody asks for is not computed.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import nn, ops

from porting.backends.protocol import Build
from porting_bert.mindspore_backbone import Embeddings, Given, Layer, Masks, Pooler
from porting_bert.mindspore_layers import DTYPES, Cell, Dense, Drop, Tensor, one_hot_rows, replaced, unlearned
from porting_tinybert.config import TinyBertConfig
from porting_tinybert.layout import Part

# BERT's cells name their parameters as ModelZoo's BertModelCLS within a net with a loss.
_ENCODER, _POOLER, _HEAD = "bert.bert.bert_", "bert.bert.dense.", "bert.dense_1."


class PaddedEmbeddings(Embeddings):
    """BERT's, with a row of the word table that gets no gradient."""

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__(config.encoder, one_hot=False)
        self.padding = -1 if config.padding_idx is None else config.padding_idx

    def construct(  # type: ignore[override] # of a cell it is no method that others call
        self, ids: Tensor, segments: Tensor | None, rows: Tensor | None
    ) -> Tensor:
        words = ops.gather(self.words, ids, 0)
        if rows is not None:
            words = words + rows
        if self.padding >= 0:
            words = unlearned(words, (ids != self.padding).astype(ms.int32))
        kinds = self.types[0] if segments is None else one_hot_rows(self.types, segments)
        return self.norm(words + kinds + self.positions[: ids.shape[1]])


class PartCell(Cell):
    """An encoder with its pooler, and a classifier if the part has one. names: of what it returns, in order."""

    def __init__(self, part: Part, build: Build, *, classified: bool) -> None:
        super().__init__()
        config, mode = part.config, build.dropout.mode if part.trained else "off"
        self.dtype, self.head = DTYPES[build.compute], part.head
        self.embeddings = PaddedEmbeddings(config)
        layers = [Layer(config.encoder, index, mode) for index in range(config.num_hidden_layers)]
        self.layers = nn.CellList(layers, auto_prefix=False)
        self.drop = Drop(mode, config.hidden_dropout_prob)
        self.pooler = Pooler(config.encoder)
        if part.head != "none":
            self.classifier = Dense(_HEAD.rstrip("."), config.hidden_size, part.labels, config.encoder)
        self.relu = config.pooled_activation == "relu"
        self.names = part.taps()
        self._rename(part, classified=classified)

    def construct(self, text: Masks, rows: Tensor | None, masks: Masks, given: Given) -> tuple[Tensor, ...]:
        """text: ids, mask, segments. masks: of the embeddings, three per layer, of what the classifier takes.

        given: in place of what it returns, in that order.
        """
        ids, mask, segments = text
        adder = None
        if mask is not None:
            adder = (1.0 - mask.astype(ms.float32).reshape((mask.shape[0], 1, 1, mask.shape[1]))) * -10000.0
        normed = self.embeddings(ids, segments, rows)
        hidden = self.drop(replaced(normed, given[0]).astype(self.dtype), masks[0])
        values: tuple[Tensor, ...] = (normed, hidden)
        hidden = replaced(hidden, given[1])
        for index, layer in enumerate(self.layers):
            own = given[4 * index + 2 : 4 * index + 6]
            found = layer(hidden, adder, masks[3 * index + 1 : 3 * index + 4], own)
            values = values + found
            hidden = replaced(found[3], own[3])
        return values + self.end(hidden, masks, given[4 * len(self.layers) + 2 :])

    def end(self, hidden: Tensor, masks: Masks, given: Given) -> tuple[Tensor, ...]:
        """The last two or more taps: sequence, pooled, logits of a classifier, log_probs where they are of classes."""
        taken = replaced(hidden, given[0])
        pooled = self.pooler(taken)
        values: tuple[Tensor, ...] = (hidden, pooled)
        if self.head == "none":
            return values
        taken = replaced(pooled, given[1]) if self.head == "sequence" else taken
        taken = ops.relu(taken) if self.relu else self.drop(taken, masks[-1])
        logits = self.classifier(taken).astype(ms.float32)
        if logits.shape[-1] == 1:
            return (*values, logits)
        return (*values, logits, log_softmax(replaced(logits, given[2])))

    def _rename(self, part: Part, *, classified: bool) -> None:
        """ModelZoo's names. classified: whether the net's students and teachers are BertModelCLS or bare encoders."""
        encoder, pooler, head = _ENCODER, _POOLER, _HEAD
        if part.role == "teacher":
            inner = "teacher.bert." if classified else "teacher."
            encoder, pooler, head = f"{inner}bert_", f"{inner}dense.", "teacher.dense_1."
        elif not classified:
            encoder, pooler = "bert.tinybert_", "bert.dense."
        for parameter in self.get_parameters():
            parameter.name = _renamed(parameter.name, {_ENCODER: encoder, _POOLER: pooler, _HEAD: head})
            parameter.requires_grad = part.trained


def log_softmax(logits: Tensor) -> Tensor:
    """Over the last axis. MindSpore's own operator (2.10, CPU) is off by 4e-6 where float32 allows 1e-6."""
    shifted = logits - ops.stop_gradient(logits.max(-1, keepdims=True))
    return shifted - ops.log(ops.exp(shifted).sum(-1, keepdims=True))


def _renamed(name: str, prefixes: dict[str, str]) -> str:
    old = next(prefix for prefix in prefixes if name.startswith(prefix))
    return prefixes[old] + name.removeprefix(old)


def unused(cell: Any, *, pooler: bool, classifier: bool) -> list[str]:
    """Names of parameters that a loss does not reach. pooler, classifier: whether it reaches those."""
    idle = [] if pooler else [*cell.pooler.get_parameters()]
    idle += [] if classifier or cell.head == "none" else [*cell.classifier.get_parameters()]
    return [parameter.name for parameter in idle]
