"""TinyBERT in PyTorch: student, teacher, and the nets that hold both.

huawei-noah/Pretrained-Language-Model TinyBERT/transformer/modeling.py, general_distill.py and task_distill.py; with
a config of ModelZoo's the same as mindspore-ai/models research/nlp/tinybert src/tinybert_for_gd_td.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from porting.backends.protocol import Build
from porting_bert.spec import IGNORED, option
from porting_bert.torch_backbone import Backbone
from porting_bert.torch_layers import DTYPES, Dense, Pass, replaced, wide
from porting_tinybert.layout import Layout, Part, layout

if TYPE_CHECKING:
    from porting_tinybert.config import TinyBertConfig

Values = dict[str, Tensor]


def build(config: TinyBertConfig, build: Build) -> TinyBert:
    """The net of a task, freshly initialised.

    Build.extra: `attention` eager or sdpa (PyTorch's fused kernel, in layers whose scores are not distilled).
    Raises: UsageError for a task that does not fit the config, or an option that there is not.
    """
    return TinyBert(layout(config, build), build)


class TinyBert(nn.Module):
    """A task's net; its layout says what is in it."""

    def __init__(self, net: Layout, build: Build) -> None:
        super().__init__()
        self.layout, self.build = net, build
        for part in net.parts:
            if part.role == "teacher":
                self.teacher = nn.Module()
            self._add(self.teacher if part.role == "teacher" else self, part)
        if net.distils:
            self.fit_dense = Dense(net.student.config.hidden_size, net.parts[0].config.hidden_size)
        _initialise(self, net.student.config.initializer_range)

    def _add(self, holder: nn.Module, part: Part) -> None:
        """An encoder and its classifier, under `holder`."""
        fused = frozenset[int]()
        if option(self.build, "attention", "eager", "sdpa") == "sdpa" and self.build.dropout.mode != "shared":
            distilled = self.layout.needed(())
            fused = frozenset(
                i
                for i in range(part.config.num_hidden_layers)
                if f"{part.prefix}layer.{i}.attention.scores" not in distilled
            )
        holder.bert = _encoder(part, fused)
        if part.head != "none":
            holder.classifier = Dense(part.config.hidden_size, part.labels)
        if not part.trained:
            holder.requires_grad_(requires_grad=False)

    @property
    def gathered(self) -> dict[str, str]:
        """Tables all of whose uses are one gather, and the feature they are gathered by."""
        return {} if self.layout.student.role == "teacher" else {"bert.embeddings.word_embeddings.weight": "input_ids"}

    def forward(
        self, batch: Mapping[str, Tensor], taps: frozenset[str] = frozenset(), step: int = 0
    ) -> dict[str, Tensor]:
        """The task's outputs, the loss if it can be, the taps asked for. `step` is in the masks already."""
        del step
        asked = self.layout.asked(taps)
        needed = self.layout.needed(asked)
        values: Values = {}
        for part in self.layout.parts:
            with torch.set_grad_enabled(torch.is_grad_enabled() and part.trained):
                values |= self._read(part, batch, needed)
        if self.layout.distils:
            values |= self._fits(_replaced(values, batch))
        values |= self._losses(_replaced(values, batch), batch)
        return {name: values[name] for name in asked if name in values}

    def _read(self, part: Part, batch: Mapping[str, Tensor], needed: frozenset[str]) -> Values:
        """A part's taps: its encoder's, and its head's as far as it is needed."""
        holder: Any = self.teacher if part.role == "teacher" else self
        taps = part.own(needed)
        mode = self.build.dropout.mode if self.training and part.trained else "off"
        run = EncoderPass(batch if part.trained else _plain(batch), taps, mode, DTYPES[self.build.compute])
        run.padding, run.prefix = part.config.padding_idx, part.prefix
        hidden = holder.bert(batch, run)
        logits = bool(taps & {"logits", "log_probs"})
        if "pooled" in taps or (logits and part.head == "sequence"):
            pooled = holder.bert.pool(hidden, run)
            hidden = pooled if part.head == "sequence" else hidden
        if logits:
            scores = run.tap("logits", wide(holder.classifier(_activated(part, hidden, run))))
            run.tap("log_probs", F.log_softmax(scores, dim=-1))
        return {part.prefix + name: value for name, value in run.found.items()}

    def _fits(self, values: Values) -> Values:
        """The student's hidden states at the teacher's width, those that were kept."""
        states = enumerate(mine for mine, _ in self.layout.representations())
        dtype = DTYPES[self.build.compute]
        return {f"fit.{i}": wide(self.fit_dense(values[name].to(dtype))) for i, name in states if name in values}

    def _losses(self, values: Values, batch: Mapping[str, Tensor]) -> Values:
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
            return {"loss": F.mse_loss(values["logits"].squeeze(-1), labels)}
        return {"loss": _cross_entropy(values["logits"], labels)}


class EncoderPass(Pass):
    """BERT's, with the tap and the gradient that are TinyBERT's own.

    padding: the id whose row of the word embeddings gets no gradient. prefix: what stands before its taps.
    """

    padding: int | None = None
    prefix = ""

    def given(self, name: str) -> Tensor | None:
        """What takes the place of a tap."""
        return super().given(self.prefix + name)

    def drop(self, site: str, value: Tensor, rate: float) -> Tensor:
        """Dropout at a site; what it leaves of the embeddings is hidden state 0."""
        dropped = super().drop(site, value, rate)
        return self.tap("encoder.input", dropped) if site == "embeddings" else dropped

    def rows(self, gathered: Tensor, parameter: str) -> Tensor:
        """With the zeros whose gradient is that of the rows; none of padding_idx, as of the table itself."""
        if self.padding is None:
            return super().rows(gathered, parameter)
        kept = (self.batch["input_ids"] != self.padding)[..., None]
        return torch.where(kept, super().rows(gathered, parameter), gathered.detach())


def _encoder(part: Part, fused: frozenset[int]) -> Backbone:
    """BERT's encoder with pooler. fused: layers whose attention is PyTorch's fused kernel."""
    plain = Build("encoder")
    backbone = Backbone(part.config.encoder, plain, pooler=True)
    backbone.embeddings.word_embeddings.padding_idx = part.config.padding_idx
    layers: Any = backbone.encoder["layer"]
    for index in fused:
        layers[index].fused = True
    return backbone


def _replaced(values: Values, batch: Mapping[str, Tensor]) -> Values:
    """Values with what is given in their place."""
    found = dict(values)
    for name in values:
        if (given := batch.get(f"given.{name}")) is not None:
            found[name] = replaced(name, values[name], given)
    return found


def _plain(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without masks and rows, which are the trained part's."""
    return {name: value for name, value in batch.items() if not name.startswith(("mask.", "rows."))}


def _activated(part: Part, hidden: Tensor, run: Pass) -> Tensor:
    """What the classifier takes of the pooled output, or of the tokens."""
    if part.config.pooled_activation == "relu":
        return F.relu(hidden)
    return run.drop("pooled" if part.head == "sequence" else "sequence", hidden, part.config.hidden_dropout_prob)


def _visible(scores: Tensor) -> Tensor:
    """Scores (batch, head, query, key) with masked ones, which are near -10000, as zero."""
    return scores.masked_fill(scores <= -100.0, 0.0)


def _squares(pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum of mean squared errors; masked and padded entries count in the mean."""
    return torch.stack([F.mse_loss(mine, theirs) for mine, theirs in pairs]).sum()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over what is labelled; 0 if nothing is."""
    total = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def soft_cross_entropy(mine: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """Of logits (*, label) with the teacher's probabilities: the mean over classes too, and no temperature squared."""
    target = F.softmax(theirs / temperature, dim=-1)
    return (-target * F.log_softmax(mine / temperature, dim=-1)).mean()


def _initialise(model: nn.Module, deviation: float) -> None:
    """Normal weights, biases 0, LayerNorm 1: modeling.py:init_bert_weights."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=deviation)
        elif not name.endswith("LayerNorm.weight"):
            nn.init.zeros_(parameter)
