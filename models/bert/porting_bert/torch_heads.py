"""The tasks of BERT and RoBERTa in PyTorch: a class per head, each a whole model.

pretraining: google-research/bert run_pretraining.py. classification: run_classifier.py:create_model.
question answering: run_squad.py. Token classification, RoBERTa's heads: transformers 5.23 models/bert and roberta.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from porting.errors import UsageError
from porting_bert.config import CREATE_MODEL_DROPOUT, BertConfig
from porting_bert.spec import IGNORED, RELATIONS, SPANS, label_count
from porting_bert.torch_backbone import Backbone
from porting_bert.torch_layers import DTYPES, Dense, LayerNorm, Pass, activation, initialise, wide

if TYPE_CHECKING:
    from porting.backends.protocol import Build

Batch = Mapping[str, Tensor]
Outputs = dict[str, Tensor]


class Model(nn.Module):
    """A backbone under its own name, and a task's head."""

    pooled = False

    def __init__(self, config: BertConfig, build: Build) -> None:
        super().__init__()
        self.config, self.build = config, build
        self.add_module(config.model_type, Backbone(config, build, pooler=self.pooled))
        self.add_head(config, build)
        initialise(self, config)

    @property
    def gathered(self) -> dict[str, str]:
        """Tables all of whose uses are one gather, and the feature they are gathered by."""
        tables = ["word"] if not (self.build.extra.get("one_hot") or self.ties) else []
        tables += ["position"] if self.config.model_type == "roberta" else []
        return {f"{self.config.model_type}.embeddings.{table}_embeddings.weight": "input_ids" for table in tables}

    @property
    def ties(self) -> bool:
        """Whether the head reads the word table."""
        return False

    def forward(self, batch: Batch, taps: frozenset[str] = frozenset(), step: int = 0) -> Outputs:
        """The task's outputs, the loss if there are labels, the taps asked for. `step` is in the masks already."""
        del step
        mode = self.build.dropout.mode if self.training else "off"
        run = Pass(batch, taps, mode, DTYPES[self.build.compute])
        backbone: Any = self.get_submodule(self.config.model_type)
        sequence = backbone(batch, run)
        outputs = self.outputs(backbone, sequence, batch, run)
        losses = self.losses({name: run.emit(name, value) for name, value in outputs.items()}, batch)
        wanted = {name: loss for name, loss in losses.items() if name == "loss" or name in taps}
        return {**run.found, **wanted}

    def add_head(self, config: BertConfig, build: Build) -> None:
        """Give the model its head's modules."""

    def outputs(self, backbone: Backbone, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        """The task's outputs, float32."""
        raise NotImplementedError

    def losses(self, outputs: Outputs, batch: Batch) -> Outputs:
        """The loss and its parts, of the labels there are."""
        del outputs, batch
        return {}


class Encoder(Model):
    """No head: the sequence, and in BERT the pooled output."""

    def __init__(self, config: BertConfig, build: Build) -> None:
        self.pooled = config.model_type == "bert"
        super().__init__(config, build)

    def outputs(self, backbone: Backbone, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        del batch
        found = {"sequence": wide(sequence)}
        return found | {"pooled": wide(backbone.pool(sequence, run))} if self.pooled else found


class Transform(nn.Module):
    """Dense, activation and LayerNorm before the tied decoder, under BERT's names or RoBERTa's."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = Dense(config.hidden_size, config.hidden_size)
        self.norm_name = "LayerNorm" if config.model_type == "bert" else "layer_norm"
        self.add_module(self.norm_name, LayerNorm(config.hidden_size, eps=config.layer_norm_eps))
        # RoBERTa's head has gelu whatever the config says: fairseq's activation_fn, transformers' RobertaLMHead.
        self.activate = activation(config.hidden_act if config.model_type == "bert" else "gelu_erf")

    def forward(self, hidden: Tensor) -> Tensor:
        return self.get_submodule(self.norm_name)(self.activate(self.dense(hidden)))  # type: ignore[no-any-return]


class MaskedLM(Model):
    """Every token's scores over the vocabulary: (batch, seq, vocab)."""

    @property
    def ties(self) -> bool:
        return True

    def add_head(self, config: BertConfig, build: Build) -> None:
        del build
        bias = nn.Parameter(torch.zeros(config.vocab_size))
        if config.model_type == "bert":
            predictions = nn.ModuleDict({"transform": Transform(config)})
            predictions.register_parameter("bias", bias)
            self.cls = nn.ModuleDict({"predictions": predictions})
        else:
            self.lm_head = Transform(config)
            self.lm_head.register_parameter("bias", bias)

    def outputs(self, backbone: Backbone, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        del batch, run
        return {"logits": self.decode(backbone, sequence)}

    def losses(self, outputs: Outputs, batch: Batch) -> Outputs:
        return _token_loss(outputs["logits"], batch.get("token_labels"))

    def decode(self, backbone: Backbone, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary by the word table itself."""
        bert = self.config.model_type == "bert"
        owner: Any = self.get_submodule("cls.predictions" if bert else "lm_head")
        transformed = owner["transform"](hidden) if bert else owner(hidden)
        table, dtype = backbone.embeddings.word_embeddings.weight, transformed.dtype
        return wide(F.linear(transformed, table.to(dtype), owner.bias.to(dtype)))


class Pretraining(MaskedLM):
    """Masked positions and next sentence."""

    pooled = True

    def add_head(self, config: BertConfig, build: Build) -> None:
        super().add_head(config, build)
        self.cls["seq_relationship"] = Dense(config.hidden_size, RELATIONS)

    def outputs(self, backbone: Backbone, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        positions = batch["masked_lm_positions"]
        rows = torch.arange(positions.shape[0], device=positions.device)[:, None]
        relation = self.cls["seq_relationship"](backbone.pool(sequence, run))
        return {"mlm.logits": self.decode(backbone, sequence[rows, positions]), "nsp.logits": wide(relation)}

    def losses(self, outputs: Outputs, batch: Batch) -> Outputs:
        found: Outputs = {}
        ids, weights = batch.get("masked_lm_ids"), batch.get("masked_lm_weights")
        if ids is not None and weights is not None:
            each = F.cross_entropy(outputs["mlm.logits"].flatten(0, 1), ids.flatten(), reduction="none")
            found["mlm.loss"] = (each * weights.flatten()).sum() / (weights.sum() + 1e-5)
        labels = batch.get("next_sentence_labels")
        if labels is not None:
            found["nsp.loss"] = F.cross_entropy(outputs["nsp.logits"], labels.flatten())
        words, following = (batch.get(f"given.{name}", found.get(name)) for name in ("mlm.loss", "nsp.loss"))
        return found if words is None or following is None else found | {"loss": words + following}


class Classification(Model):
    """Classes of a sequence: (batch, labels). With one label and label_values: regression."""

    def __init__(self, config: BertConfig, build: Build) -> None:
        self.pooled = config.model_type == "bert"
        super().__init__(config, build)

    def add_head(self, config: BertConfig, build: Build) -> None:
        labels, hidden = label_count(build), config.hidden_size
        if config.model_type == "bert":
            self.classifier: nn.Module = Dense(hidden, labels)
        else:
            self.classifier = nn.ModuleDict({"dense": Dense(hidden, hidden), "out_proj": Dense(hidden, labels)})

    def outputs(self, backbone: Backbone, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        del batch
        head: Any = self.classifier
        if self.config.model_type == "bert":
            pooled = run.drop("pooled", backbone.pool(sequence, run), CREATE_MODEL_DROPOUT)
            return {"logits": wide(head(pooled))}
        rate = self.config.head_dropout
        first = run.drop("classifier.input", sequence[:, 0], rate)
        inner = run.drop("classifier.hidden", torch.tanh(head["dense"](first)), rate)
        return {"logits": wide(head["out_proj"](inner))}

    def losses(self, outputs: Outputs, batch: Batch) -> Outputs:
        ids, values = batch.get("label_ids"), batch.get("label_values")
        if ids is not None:
            return {"loss": F.cross_entropy(outputs["logits"], ids)}
        return {} if values is None else {"loss": F.mse_loss(outputs["logits"][:, 0], values)}


class TokenClassification(Model):
    """Classes of every token: (batch, seq, labels)."""

    def add_head(self, config: BertConfig, build: Build) -> None:
        self.classifier = Dense(config.hidden_size, label_count(build))

    def outputs(self, backbone: Backbone, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        del backbone, batch
        return {"logits": wide(self.classifier(run.drop("sequence", sequence, self.config.head_dropout)))}

    def losses(self, outputs: Outputs, batch: Batch) -> Outputs:
        return _token_loss(outputs["logits"], batch.get("token_labels"))


class QuestionAnswering(Model):
    """Where the answer starts and ends: (batch, seq) each."""

    def add_head(self, config: BertConfig, build: Build) -> None:
        del build
        self.qa_outputs = Dense(config.hidden_size, SPANS)

    def outputs(self, backbone: Backbone, sequence: Tensor, batch: Batch, run: Pass) -> Outputs:
        del backbone, batch, run
        start, end = wide(self.qa_outputs(sequence)).unbind(-1)
        return {"start_logits": start, "end_logits": end}

    def losses(self, outputs: Outputs, batch: Batch) -> Outputs:
        start, end = batch.get("start_positions"), batch.get("end_positions")
        if start is None or end is None:
            return {}
        both = F.cross_entropy(outputs["start_logits"], start) + F.cross_entropy(outputs["end_logits"], end)
        return {"loss": both / 2}


def _token_loss(logits: Tensor, labels: Tensor | None) -> Outputs:
    """The mean over the tokens that are labelled; 0 if none is."""
    if labels is None:
        return {}
    total = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return {"loss": total / (labels != IGNORED).sum().clamp(min=1)}


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
