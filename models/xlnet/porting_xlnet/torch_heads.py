"""XLNet's heads in PyTorch: function_builder.py, modeling.py (summarize_sequence), run_squad.py."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from porting.backends.protocol import Build
from porting_xlnet.config import XLNetConfig
from porting_xlnet.torch_layers import MASKED, Dense, LayerNorm, Run, from_heads, kernel, to_heads, wide
from porting_xlnet.torch_transformer import Inputs, XLNet

Batch = Mapping[str, Tensor]


class Encoder(XLNet):
    """No head."""

    def head(self, sequence: Tensor, batch: Batch, run: Run) -> dict[str, Tensor]:
        """The states themselves."""
        del batch, run
        return {"sequence": sequence}


class Bias(nn.Module):
    """The softmax's; its weight is the word table."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size))


class Pretraining(XLNet):
    """Permutation language model: function_builder.py, two_stream_loss. The softmax's weight is the word table."""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__(config, build)
        self.gathered = {}
        self.lm_loss = Bias(config.n_token)

    def inputs(self, batch: Batch) -> Inputs:
        """Names as in the original's pre-training records."""
        names = ("seg_id", "input_mask", "perm_mask", "mems", "input_q", "target_mapping")
        return Inputs(batch["input_k"], *(batch.get(name) for name in names))

    def head(self, sequence: Tensor, batch: Batch, run: Run) -> dict[str, Tensor]:
        """logits: (b, p, vocab)."""
        table = self.transformer.word_embedding.weight.to(sequence.dtype)
        logits = run.tap("logits", wide(sequence @ table.T) + self.lm_loss.bias)
        outputs = {"sequence": sequence, "logits": logits}
        if "target" in batch:
            loss = run.tap("per_example_loss", _cross_entropy(logits, batch["target"]))
            counted = batch["target_mask"] if "target_mask" in batch else torch.ones_like(loss)
            outputs["loss"] = (loss * counted).sum() / counted.sum()
        return outputs


class Attention(nn.Module):
    """One learned query over all tokens, no residual: modeling.py, multihead_attn."""

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__()
        self.config = config
        self.q, self.k, self.v, self.o = (kernel(config) for _ in range(4))
        self.layer_norm = LayerNorm(config.d_model, eps=config.layer_norm_epsilon)

    def forward(self, query: Tensor, sequence: Tensor, padding: Tensor | None, run: Run) -> Tensor:
        """query: (b, 1, h). sequence: (b, i, h). Returns (b, h)."""
        score = wide(to_heads(query, self.q) @ to_heads(sequence, self.k).mT) * self.config.d_head**-0.5
        if padding is not None:
            score = score - MASKED * padding[:, None, None]
        weights = run.drop("summary.probs", score.softmax(-1).to(sequence.dtype), self.config.dropatt)
        output = from_heads(weights @ to_heads(sequence, self.v), self.o)
        normal: Tensor = self.layer_norm(run.drop("summary.output", output, self.config.dropout))
        return normal[:, 0]


class Summary(nn.Module):
    """modeling.py, summarize_sequence."""

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__()
        self.config = config
        if config.summary_type == "attn":
            self.summary_bias = nn.Parameter(torch.empty(config.d_model).normal_(0, config.init_std))
            self.abs_attn = Attention(config)
        if config.use_summ_proj:
            self.summary = _dense(config, config.d_model, config.d_model)

    def forward(self, sequence: Tensor, padding: Tensor | None, run: Run) -> Tensor:
        """(b, i, h) to (b, h)."""
        match self.config.summary_type:
            case "last":
                pooled = sequence[:, -1]
            case "first":
                pooled = sequence[:, 0]
            case "mean":
                pooled = sequence.mean(1)
            case _:
                query = self.summary_bias.to(sequence.dtype).expand(sequence.shape[0], 1, -1)
                pooled = self.abs_attn(query, sequence, padding, run)
        if self.config.use_summ_proj:
            pooled = self.summary(pooled).tanh()
        return run.tap("pooled", run.drop("pooled", pooled, self.config.dropout))


class Classification(XLNet):
    """function_builder.py, get_classification_loss."""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__(config, build)
        self.sequence_summary = Summary(config)
        self.logits_proj = _dense(config, config.d_model, build.labels)

    def head(self, sequence: Tensor, batch: Batch, run: Run) -> dict[str, Tensor]:
        """pooled: (b, h). logits: (b, label)."""
        pooled = self.sequence_summary(sequence, batch.get("input_mask"), run)
        logits = run.tap("logits", wide(self.logits_proj(pooled)))
        outputs = {"pooled": pooled, "logits": logits}
        if "label_ids" in batch:
            outputs["loss"] = run.tap("per_example_loss", _cross_entropy(logits, batch["label_ids"])).mean()
        return outputs


class Regression(XLNet):
    """function_builder.py, get_regression_loss."""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__(config, build)
        self.sequence_summary = Summary(config)
        self.logits_proj = _dense(config, config.d_model, 1)

    def head(self, sequence: Tensor, batch: Batch, run: Run) -> dict[str, Tensor]:
        """pooled: (b, h). logits: (b,)."""
        pooled = self.sequence_summary(sequence, batch.get("input_mask"), run)
        logits = run.tap("logits", wide(self.logits_proj(pooled)[:, 0]))
        outputs = {"pooled": pooled, "logits": logits}
        if "label_values" in batch:
            outputs["loss"] = run.tap("per_example_loss", (logits - batch["label_values"]).square()).mean()
        return outputs


class QuestionAnswering(XLNet):
    """Spans: function_builder.py, get_qa_outputs; the loss of run_squad.py.

    Ends are scored given a start: the true one if the batch has start_positions, else each of the likeliest.
    """

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__(config, build)
        width = config.d_model
        self.start_logits = nn.ModuleDict({"dense": _dense(config, width, 1)})
        self.end_logits = nn.ModuleDict(
            {
                "dense_0": _dense(config, 2 * width, width),
                "LayerNorm": LayerNorm(width, eps=config.layer_norm_epsilon),
                "dense_1": _dense(config, width, 1),
            }
        )
        self.answer_class = nn.ModuleDict(
            {"dense_0": _dense(config, 2 * width, width), "dense_1": _dense(config, width, 1, bias=False)}
        )

    def head(self, sequence: Tensor, batch: Batch, run: Run) -> dict[str, Tensor]:
        """Log probabilities over tokens, or beams of them; cls_logits: (b,)."""
        hidden = batch["p_mask"]
        starts = run.tap("start_log_probs", _log_probs(self.start_logits["dense"](sequence)[..., 0], hidden))
        answerable = run.tap("cls_logits", self._answerable(sequence, starts, batch, run))
        outputs = {"start_log_probs": starts, "cls_logits": answerable}
        if "start_positions" not in batch:
            return outputs | self._beams(sequence, starts, hidden)
        start = _rows(sequence, batch["start_positions"])
        ends = run.tap("end_log_probs", _log_probs(self._ends(sequence, start[:, None])[:, 0], hidden))
        outputs["end_log_probs"] = ends
        if "end_positions" in batch and "is_impossible" in batch:
            spans = _picked(starts, batch["start_positions"]) + _picked(ends, batch["end_positions"])
            unanswerable = functional.binary_cross_entropy_with_logits(outputs["cls_logits"], batch["is_impossible"])
            outputs["loss"] = -0.5 * spans.mean() + 0.5 * unanswerable
        return outputs

    def _ends(self, sequence: Tensor, starts: Tensor) -> Tensor:
        """End logits given states of starts: (b, i, h), (b, k, h) to (b, k, i)."""
        shape = (-1, starts.shape[1], sequence.shape[1], -1)
        pairs = torch.cat((sequence[:, None].expand(shape), starts[:, :, None].expand(shape)), -1)
        inner = self.end_logits["LayerNorm"](self.end_logits["dense_0"](pairs).tanh())
        logits: Tensor = self.end_logits["dense_1"](inner)
        return logits[..., 0]

    def _beams(self, sequence: Tensor, starts: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        """The likeliest starts, and for each the likeliest ends."""
        start_log_probs, start_index = _top(starts, self.config.start_n_top)
        chosen = sequence.gather(1, start_index[..., None].expand(-1, -1, sequence.shape[-1]))
        ends = _log_probs(self._ends(sequence, chosen), hidden[:, None])
        end_log_probs, end_index = _top(ends, self.config.end_n_top)
        return {
            "start_top_log_probs": start_log_probs,
            "start_top_index": start_index.int(),
            "end_top_log_probs": end_log_probs.flatten(1),
            "end_top_index": end_index.flatten(1).int(),
        }

    def _answerable(self, sequence: Tensor, starts: Tensor, batch: Batch, run: Run) -> Tensor:
        expected = (starts.exp().to(sequence.dtype)[:, None] @ sequence)[:, 0]
        features = torch.cat((expected, _rows(sequence, batch["cls_index"])), -1)
        inner = self.answer_class["dense_0"](features).tanh()
        inner = run.drop("answer_class", inner, self.config.dropout)
        logits: Tensor = self.answer_class["dense_1"](inner)
        return wide(logits[:, 0])


def _dense(config: XLNetConfig, width: int, out: int, *, bias: bool = True) -> Dense:
    layer = Dense(width, out, bias=bias)
    nn.init.normal_(layer.weight, 0, config.init_std)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(…, classes), (…) to (…)."""
    return -_picked(logits.log_softmax(-1), labels)


def _picked(log_probs: Tensor, index: Tensor) -> Tensor:
    return log_probs.gather(-1, index.long()[..., None])[..., 0]


def _rows(sequence: Tensor, index: Tensor) -> Tensor:
    """(b, i, h) at (b,) to (b, h)."""
    return sequence.gather(1, index.long()[:, None, None].expand(-1, 1, sequence.shape[-1]))[:, 0]


def _log_probs(logits: Tensor, hidden: Tensor) -> Tensor:
    """Over the last axis, hidden ones at -1e30. float32."""
    return (wide(logits) * (1 - hidden) - MASKED * hidden).log_softmax(-1)


def _top(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The greatest of the last axis and their places; of equals the first, as tf.nn.top_k has it.

    One by one: torch.topk leaves the order of equals open, and a stable sort has no form in ONNX.
    """
    left, places = values, []
    for _ in range(count):
        place = left.argmax(-1, keepdim=True)
        left = left.scatter(-1, place, float("-inf"))
        places.append(place)
    chosen = torch.cat(places, -1)[..., : values.shape[-1]]
    return values.gather(-1, chosen), chosen
