"""The tasks of BERT and RoBERTa in MindSpore: a cell per head, and the model that holds backbone and head.

pretraining: google-research/bert run_pretraining.py. classification: run_classifier.py:create_model.
question answering: run_squad.py. Token classification, RoBERTa's heads: transformers 5.23 models/bert and roberta.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import mindspore as ms
from mindspore import ops

from porting.backends.feed import NoSuchTaps
from porting.errors import UsageError
from porting_bert.config import CREATE_MODEL_DROPOUT, BertConfig
from porting_bert.mindspore_backbone import Backbone, Given, Masks, Pooler, backbone_scope, head_scope
from porting_bert.mindspore_layers import (
    Cell,
    Dense,
    Drop,
    LayerNorm,
    Tensor,
    activation,
    affine,
    constant,
    cross_entropy,
    replaced,
    tanh,
)
from porting_bert.spec import IGNORED, RELATIONS, ROBERTA, SPANS, SPEC, label_count, sites

if TYPE_CHECKING:
    from porting.backends.protocol import Build

Values = tuple[Tensor | None, ...]


class Head(Cell):
    """A task's end. names: of the values it returns, in order, `loss` last. pooled: whether it has a pooler.

    construct(sequence, words, labels, masks, given): words is the word table, labels what the task has
    behind its text, masks those of its own sites, given what takes the place of what it returns; each may be None.
    """

    names: tuple[str, ...] = ("loss",)
    ties = False

    def __init__(self, config: BertConfig, build: Build) -> None:
        super().__init__()
        self.bert = config.model_type == "bert"
        self.scope, self.mode, self.labels = head_scope(config), build.dropout.mode, label_count(build)


class Encoder(Head):
    """No head: in BERT the pooled output."""

    def __init__(self, config: BertConfig, build: Build) -> None:
        super().__init__(config, build)
        self.pooler = Pooler(config) if self.bert else None
        self.names = ("pooled", "loss") if self.bert else ("loss",)

    def construct(self, sequence: Tensor, _words: Tensor, _labels: Values, _masks: Masks, _given: Given) -> Values:
        return (None,) if self.pooler is None else (self.pooler(sequence), None)


class Decoder(Cell):
    """Dense, activation and LayerNorm, then scores over the vocabulary by the word table itself."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        bert = config.model_type == "bert"
        name = "bert.cls1" if bert else "lm_head"
        self.dense = Dense(f"{name}.dense", config.hidden_size, config.hidden_size, config)
        # RoBERTa's head has gelu whatever the config says: fairseq's activation_fn, transformers' RobertaLMHead.
        self.activate = activation(config.hidden_act if bert else "gelu_erf")
        self.norm = LayerNorm(f"{name}.layernorm", config)
        self.bias = constant(f"{name}.output_bias", config.vocab_size, 0.0)

    def construct(self, hidden: Tensor, words: Tensor) -> Tensor:
        return affine(self.norm(self.activate(self.dense(hidden))), words, self.bias).astype(ms.float32)


class MaskedLM(Head):
    """Every token's scores over the vocabulary: (batch, seq, vocab)."""

    names = ("logits", "loss")
    ties = True

    def __init__(self, config: BertConfig, build: Build) -> None:
        super().__init__(config, build)
        self.decoder = Decoder(config)

    def construct(self, sequence: Tensor, words: Tensor, labels: Values, _masks: Masks, given: Given) -> Values:
        logits = self.decoder(sequence, words)
        return logits, token_loss(replaced(logits, given[0]), labels[0])


class Pretraining(Head):
    """Masked positions and next sentence."""

    names = ("pooled", "mlm.logits", "nsp.logits", "mlm.loss", "nsp.loss", "loss")
    ties = True

    def __init__(self, config: BertConfig, build: Build) -> None:
        super().__init__(config, build)
        self.pooler, self.decoder = Pooler(config), Decoder(config)
        self.relation = Dense("bert.cls2.dense", config.hidden_size, RELATIONS, config)

    def construct(
        self, sequence: Tensor, words: Tensor, labels: tuple[Tensor, ...], _masks: Masks, given: Given
    ) -> Values:
        positions, ids, weights, following = labels
        pooled = self.pooler(sequence)
        relation = self.relation(replaced(pooled, given[0])).astype(ms.float32)
        batch, seq, width = sequence.shape
        flat = (positions + ops.arange(batch).astype(ms.int32).expand_dims(-1) * seq).reshape((-1,))
        masked = ops.gather(sequence.reshape((-1, width)), flat, 0).reshape((*positions.shape, width))
        logits = self.decoder(masked, words)
        words_loss, next_loss, loss = None, None, None
        if ids is not None and weights is not None:
            each = cross_entropy(replaced(logits, given[1]).reshape((-1, logits.shape[-1])), ids.reshape((-1,)))
            words_loss = (each * weights.reshape((-1,))).sum() / (weights.sum() + 1e-5)
        if following is not None:
            next_loss = cross_entropy(replaced(relation, given[2]), following.reshape((-1,))).mean()
        if words_loss is not None and next_loss is not None:
            loss = replaced(words_loss, given[3]) + replaced(next_loss, given[4])
        return pooled, logits, relation, words_loss, next_loss, loss


class Classification(Head):
    """Classes of a sequence: (batch, labels). With one label and label_values: regression."""

    def __init__(self, config: BertConfig, build: Build) -> None:
        super().__init__(config, build)
        hidden, self.regression = config.hidden_size, build.task == "regression"
        self.names = ("pooled", "logits", "loss") if self.bert else ("logits", "loss")
        self.drop = Drop(self.mode, CREATE_MODEL_DROPOUT if self.bert else config.head_dropout)
        if self.bert:
            self.pooler, self.out = Pooler(config), Dense("bert.dense_1", hidden, self.labels, config)
        else:
            self.dense = Dense("classifier.dense", hidden, hidden, config)
            self.out = Dense("classifier.out_proj", hidden, self.labels, config)

    def construct(self, sequence: Tensor, _words: Tensor, labels: Values, masks: Masks, given: Given) -> Values:
        if self.bert:
            pooled = self.pooler(sequence)
            logits = self.out(self.drop(replaced(pooled, given[0]), masks[0])).astype(ms.float32)
            return pooled, logits, self.loss(replaced(logits, given[1]), labels[0])
        inner = tanh(self.dense(self.drop(sequence[:, 0], masks[0])))
        logits = self.out(self.drop(inner, masks[1])).astype(ms.float32)
        return logits, self.loss(replaced(logits, given[0]), labels[0])

    def loss(self, logits: Tensor, labels: Tensor | None) -> Tensor | None:
        """Cross-entropy, or the mean square of a regression."""
        if labels is None:
            return None
        if self.regression:
            return ops.square(logits[:, 0] - labels).mean()
        return cross_entropy(logits, labels).mean()


class TokenClassification(Head):
    """Classes of every token: (batch, seq, labels)."""

    names = ("logits", "loss")

    def __init__(self, config: BertConfig, build: Build) -> None:
        super().__init__(config, build)
        self.out = Dense(f"{self.scope}dense_1", config.hidden_size, self.labels, config)
        self.drop = Drop(self.mode, config.head_dropout)

    def construct(self, sequence: Tensor, _words: Tensor, labels: Values, masks: Masks, given: Given) -> Values:
        logits = self.out(self.drop(sequence, masks[0])).astype(ms.float32)
        return logits, token_loss(replaced(logits, given[0]), labels[0])


class QuestionAnswering(Head):
    """Where the answer starts and ends: (batch, seq) each."""

    names = ("start_logits", "end_logits", "loss")

    def __init__(self, config: BertConfig, build: Build) -> None:
        super().__init__(config, build)
        self.out = Dense(f"{self.scope}dense1", config.hidden_size, SPANS, config)

    def construct(self, sequence: Tensor, _words: Tensor, labels: Values, _masks: Masks, given: Given) -> Values:
        both = self.out(sequence).astype(ms.float32)
        start, end = both[:, :, 0], both[:, :, 1]
        if labels[0] is None or labels[1] is None:
            return start, end, None
        losses = cross_entropy(replaced(start, given[0]), labels[0]) + cross_entropy(replaced(end, given[1]), labels[1])
        return start, end, losses.mean() / 2


def token_loss(logits: Tensor, labels: Tensor | None) -> Tensor | None:
    """The mean over the tokens that are labelled; 0 if none is."""
    if labels is None:
        return None
    flat = labels.reshape((-1,))
    counted = (flat != IGNORED).astype(ms.float32)
    each = cross_entropy(logits.reshape((-1, logits.shape[-1])), ops.where(flat == IGNORED, ops.zeros_like(flat), flat))
    return (each * counted).sum() / ops.maximum(counted.sum(), ms.Tensor(1.0, ms.float32))


_HEADS: Mapping[str, type[Head]] = {
    "encoder": Encoder,
    "pretraining": Pretraining,
    "mlm": MaskedLM,
    "classification": Classification,
    "regression": Classification,
    "token_classification": TokenClassification,
    "question_answering": QuestionAnswering,
}


class Model(Cell):
    """A backbone and a task's head.

    features: what it takes, in order: the task's own, then `rows.<parameter>`, `mask.<site>`, `given.<tap>`; each may
        be None.
    outputs: what it returns, in order; None for a loss without labels.
    """

    def __init__(self, config: BertConfig, build: Build) -> None:
        super().__init__()
        task = (SPEC if config.model_type == "bert" else ROBERTA).task(build.task)
        self.backbone = Backbone(config, build)
        self.head = _HEADS[build.task](config, build)
        self.words = self.backbone.embeddings.words
        self.gathered = _gathered(config, build, ties=self.head.ties)
        rows = tuple(f"rows.{name}" for name in self.gathered) if build.extra.get("rows") else ()
        drawn = sites(config, build, {"input_ids": (1, 1)}) if build.dropout.mode == "shared" else {}
        given = (f"given.{name}" for name in build.extra.get("given", ()))
        self.features = (*task.features, *rows, *(f"mask.{name}" for name in drawn), *given)
        self.outputs = (*task.outputs, "loss", *build.extra.get("taps", ()))
        names = (*self.backbone.names, *self.head.names)
        unknown = [name for name in self.outputs if name not in names]
        if unknown:
            raise NoSuchTaps(f"{config.model_type} {build.task}", unknown)
        self.picks = tuple(names.index(name) for name in self.outputs)
        self.text = tuple(self._place(name) for name in ("input_ids", "input_mask", "segment_ids"))
        labels = (name for name in task.features if name not in ("input_ids", "input_mask", "segment_ids"))
        self.labelled = tuple(self._place(name) for name in labels)
        self.rows = tuple(self._place(f"rows.{backbone_scope(config)}{name}") for name in _TABLES)
        layers = range(config.num_hidden_layers)
        own = [f"layer.{i}.{name}" for i in layers for name in ("attention.probs", "attention.output", "ffn.output")]
        self.inner = tuple(self._place(f"mask.{name}") for name in ("embeddings", *own))
        ends = ("classifier.input", "classifier.hidden") if config.model_type == "roberta" else ("pooled",)
        ends = ("sequence",) if build.task == "token_classification" else ends
        self.outer = tuple(self._place(f"mask.{name}") for name in ends)
        self.given_inside = tuple(self._place(f"given.{name}") for name in self.backbone.names)
        self.given_outside = tuple(self._place(f"given.{name}") for name in self.head.names)

    def construct(self, *features: Tensor | None) -> Values:
        text, rows = chosen(features, self.text), chosen(features, self.rows)
        given = chosen(features, self.given_inside)
        values = self.backbone(text, rows, chosen(features, self.inner), given)
        labels, masks = chosen(features, self.labelled), chosen(features, self.outer)
        sequence = replaced(values[-1], given[-1])
        values = values + self.head(sequence, self.words, labels, masks, chosen(features, self.given_outside))
        results: Values = ()
        for place in self.picks:
            value = values[place]
            results = (*results, value if value is None else value.astype(ms.float32))
        return results

    def _place(self, feature: str) -> int:
        """Where a feature stands, -1 for nowhere."""
        return self.features.index(feature) if feature in self.features else -1


_TABLES = ("embedding_lookup.embedding_table", "embedding_postprocessor.full_position_embedding.embedding_table")


def chosen(features: Values, places: tuple[int, ...]) -> Values:
    """Features at these places, None for those that are nowhere."""
    found: Values = ()
    for place in places:
        found = (*found, None if place < 0 else features[place])
    return found


def _gathered(config: BertConfig, build: Build, *, ties: bool) -> dict[str, str]:
    """Tables all of whose uses are one gather, and the feature they are gathered by."""
    words, positions = (f"{backbone_scope(config)}{name}" for name in _TABLES)
    found = {} if ties or build.extra.get("one_hot") else {words: "input_ids"}
    return found | ({positions: "input_ids"} if config.model_type == "roberta" else {})


def head(task: str, model_type: str) -> type[Model]:
    """The model of a task. Raises: UsageError for a task that this model has not."""
    if task not in _HEADS or (model_type == "roberta" and task == "pretraining"):
        raise UsageError(f"{model_type}: no task {task}")
    return Model
