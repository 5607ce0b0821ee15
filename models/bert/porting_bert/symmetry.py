"""What may be reordered in BERT and RoBERTa without a change of what they compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porting.model.symmetry import Part, Symmetry

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_bert.config import BertConfig

LAYERS = (
    "encoder.layer.{layer}.attention.self.{proj[query key]}.weight : (head match) hidden",
    "encoder.layer.{layer}.attention.self.{proj[query key]}.bias : (head match)",
    "encoder.layer.{layer}.attention.self.{proj[value]}.weight : (head value) hidden",
    "encoder.layer.{layer}.attention.self.{proj[value]}.bias : (head value)",
    "encoder.layer.{layer}.attention.output.dense.weight : hidden (head value)",
)
"""Units that a query and a key are matched in, `match`, need not stand as those of the value do."""

POOLER = (
    "pooler.dense.weight : pooled hidden",
    "pooler.dense.bias : pooled",
)

# What these give is decoded by the table of words, so it stands as the hidden axis does.
_LM = (
    "cls.predictions.transform.dense.weight : hidden' hidden",
    "cls.predictions.transform.dense.bias : hidden",
    "lm_head.dense.weight : hidden' hidden",
    "lm_head.dense.bias : hidden",
)

_HEADS = (
    "cls.seq_relationship.weight : relation pooled",
    "classifier.dense.weight : pooled hidden",
    "classifier.dense.bias : pooled",
    "classifier.out_proj.weight : labels pooled",
)

POOLED_TAP = "pooled : batch pooled"

FIXED = {
    "vocab": "ids of the batch and of labels count it",
    "positions": "places of the sequence count it",
    "token_types": "segment ids of the batch count it",
    "relation": "labels of the batch count it",
    "labels": "labels of the batch count it",
    "span": "start and end stand in this order",
}


def sizes(hidden: int, inner: int, heads: int) -> dict[str, int]:
    """Of one encoder with its pooler, by label."""
    units = hidden // heads
    return {"hidden": hidden, "inner": inner, "head": heads, "match": units, "value": units, "pooled": hidden}


def symmetry(config: BertConfig, build: Build) -> Symmetry:
    """Of a task's net. The classifier of sequences reads the pooled output, that of tokens the last hidden states."""
    pooled = config.model_type == "bert" and build.task in ("classification", "regression")
    classifier = ("classifier.weight : labels pooled",) if pooled else ()
    return Symmetry(
        dialect="hf",
        parts=(Part(sizes(config.hidden_size, config.intermediate_size, config.num_attention_heads)),),
        cells=(*LAYERS, *POOLER, *_LM, *_HEADS, *classifier),
        fixed=FIXED,
        taps=(POOLED_TAP,),
    )
