"""Weights and a batch that show mistakes in a port of BERT or RoBERTa.

The residual stream is kept small, 0.01, so that the variance that LayerNorm divides by is near 1e-4 everywhere and an
epsilon of 1e-7 or 1e-5 shows at each. What reads from the stream amplifies it, what writes into it reduces: queries and
keys of 2 make scores of tens, inner units of 2 reach where the two forms of gelu differ most (4.7e-4 at 2.7).
Attention writes a fortieth of the stream: a fully masked row holds scores near -10000, where float32 has steps of
1e-3, and so little of it keeps these from hiding everything else.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from porting.model.probe import Arrays, Draw, Probe

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_bert.config import BertConfig

STREAM = 0.01
"""Root mean square of the hidden states."""

IGNORED = -100

ENCODER = (
    Draw("*word_embeddings.weight", 0.7 * STREAM),
    Draw("*position_embeddings.weight", 0.5 * STREAM),
    Draw("*token_type_embeddings.weight", 0.5 * STREAM),
    Draw("*.self.query.weight", 2 / STREAM, over=("hidden",)),
    Draw("*.self.key.weight", 2 / STREAM, over=("hidden",)),
    Draw("*.self.value.weight", 1 / STREAM, over=("hidden",)),
    Draw("*.self.*.bias", 0.5),
    Draw("*.attention.output.dense.weight", 0.05 * STREAM, over=("head", "value")),
    Draw("*.intermediate.dense.weight", 2 / STREAM, over=("hidden",)),
    Draw("*.intermediate.dense.bias", 0.5),
    Draw("*.output.dense.weight", 0.4 * STREAM, over=("inner",)),
    Draw("*.output.dense.bias", 0.1 * STREAM),
    Draw("*pooler.dense.weight", 1 / STREAM, over=("hidden",)),
)

# What the transform of the head gives is normalised, after gelu: at 0.2 both its epsilon and its form show.
_LM = (
    Draw("cls.predictions.transform.dense.weight", 0.2 / STREAM, over=("hidden",)),
    Draw("lm_head.dense.weight", 0.2 / STREAM, over=("hidden",)),
    Draw("cls.predictions.transform.dense.bias", 0.05),
    Draw("lm_head.dense.bias", 0.05),
    *(
        Draw(f"{norm}.{name}", std / STREAM, mean / STREAM, over=("hidden",))
        for norm in ("cls.predictions.transform.LayerNorm", "lm_head.layer_norm")
        for name, std, mean in (("weight", 0.6, 2.0), ("bias", 0.6, 0.0))
    ),
)

NORMS = (
    Draw("*LayerNorm.weight", 0.3 * STREAM, STREAM),
    Draw("*LayerNorm.bias", 0.3 * STREAM),
)

FROM_POOLED = Draw("*classifier.weight", 2.5, over=("pooled",))
FROM_STREAM = Draw("*classifier.weight", 2 / STREAM, over=("hidden",))
BIASES = Draw("*bias", 0.3)

_HEADS = (
    Draw("cls.seq_relationship.weight", 2.5, over=("pooled",)),
    Draw("classifier.dense.weight", 1 / STREAM, over=("hidden",)),
    Draw("classifier.out_proj.weight", 2.5, over=("pooled",)),
    Draw("qa_outputs.weight", 2 / STREAM, over=("hidden",)),
)


def probe(config: BertConfig, build: Build) -> Probe:
    """Of a task."""
    classifier = FROM_STREAM if build.task == "token_classification" else FROM_POOLED
    return Probe((*ENCODER, *_LM, *NORMS, *_HEADS, classifier, BIASES), partial(_batch, config, build))


def _batch(config: BertConfig, build: Build, random: np.random.Generator, batch: int, seq: int) -> Arrays:
    roberta = config.model_type == "roberta"
    features = dict(text(random, batch, seq, config.vocab_size, config.pad_token_id))
    if roberta:
        del features["segment_ids"]
    count = config.vocab_size if build.task == "mlm" else build.labels
    features |= labels(build.task, random, batch, seq, count)
    if build.task == "pretraining":
        features |= _masked_lm(random, batch, seq, config.vocab_size)
    return features


def text(random: np.random.Generator, batch: int, seq: int, vocab: int, pad: int) -> Arrays:
    """Ids, mask and segments (batch, seq): full, padded, fully masked, with a hole, padded first, and so on again.

    Where a row ends in padding its ids are `pad`. Ids are drawn with repeats, so that rows of the table add up.
    """
    ids = random.integers(0, vocab, (batch, seq), np.int32)
    ids[:, 1] = ids[:, 0]
    mask = np.ones((batch, seq), np.int32)
    for row in range(batch):
        match row % 5:
            case 1:
                mask[row, seq * 2 // 3 :] = 0
                ids[row, seq * 2 // 3 :] = pad
            case 2:
                mask[row] = 0
            case 3:
                mask[row, seq // 2] = 0
            case 4:
                mask[row, : seq // 3] = 0
    starts = random.integers(1, seq, (batch, 1))
    segments = (np.arange(seq)[None] >= starts).astype(np.int32)
    return {"input_ids": ids, "input_mask": mask, "segment_ids": segments}


def labels(task: str, random: np.random.Generator, batch: int, seq: int, count: int) -> Arrays:
    """The labels of the tasks that BERT, RoBERTa and TinyBERT share; none of them constant."""
    match task:
        case "classification":
            return {"label_ids": (np.arange(batch) % count).astype(np.int32)}
        case "regression":
            return {"label_values": random.normal(1, 2, batch).astype(np.float32)}
        case "mlm" | "token_classification":
            found = random.integers(0, count, (batch, seq), np.int32)
            found[:, ::4] = IGNORED
            return {"token_labels": found}
        case "question_answering":
            start, end = (random.integers(0, seq, batch, np.int32) for _ in range(2))
            return {"start_positions": start, "end_positions": end}
        case _:
            return {}


def _masked_lm(random: np.random.Generator, batch: int, seq: int, vocab: int) -> Arrays:
    """Masked places, their ids and weights, of which some are 0, and whether the next sentence is one."""
    count = min(4, seq)
    weights = np.ones((batch, count), np.float32)
    weights[::2, -1] = 0
    return {
        "masked_lm_positions": np.stack([np.sort(random.permutation(seq)[:count]) for _ in range(batch)]).astype(
            np.int32
        ),
        "masked_lm_ids": random.integers(0, vocab, (batch, count), np.int32),
        "masked_lm_weights": weights,
        "next_sentence_labels": (np.arange(batch) % 2).astype(np.int32)[:, None],
    }
