"""XLNet's heads: rows of the family in xlnet.py, where the dialects and their sources stand."""

from __future__ import annotations

from porting.convert.table import Row, row

SUMMARY: tuple[Row, ...] = (
    row(
        google="sequnece_summary/summary/kernel : hidden hidden'",
        hf="sequence_summary.summary.weight : hidden' hidden",
        kit_ms="sequence_summary.summary.weight : hidden' hidden",
    ),
    row(
        google="sequnece_summary/summary/bias : hidden'",
        hf="sequence_summary.summary.bias : hidden'",
        kit_ms="sequence_summary.summary.bias : hidden'",
    ),
)

_NO_ATTENTION = "transformers' XLNet has no attention summary"

ATTENTION_SUMMARY: tuple[Row, ...] = (
    row(
        google="sequnece_summary/summary_bias : hidden",
        kit_ms="sequence_summary.summary_bias : hidden",
        kit_pt="sequence_summary.summary_bias : hidden",
        drop=_NO_ATTENTION,
    ),
    row(
        google="sequnece_summary/abs_attn/{kernel[q k v o]}/kernel : hidden head d",
        kit_ms="sequence_summary.abs_attn.{kernel[q k v o]} : hidden head d",
        kit_pt="sequence_summary.abs_attn.{kernel[q k v o]} : hidden head d",
        drop=_NO_ATTENTION,
    ),
    row(
        google="sequnece_summary/abs_attn/LayerNorm/gamma : hidden",
        kit_ms="sequence_summary.abs_attn.layer_norm.gamma : hidden",
        kit_pt="sequence_summary.abs_attn.layer_norm.weight : hidden",
        drop=_NO_ATTENTION,
    ),
    row(
        google="sequnece_summary/abs_attn/LayerNorm/beta : hidden",
        kit_ms="sequence_summary.abs_attn.layer_norm.beta : hidden",
        kit_pt="sequence_summary.abs_attn.layer_norm.bias : hidden",
        drop=_NO_ATTENTION,
    ),
)

CLASSIFICATION: tuple[Row, ...] = (
    row(
        google="classification_{task*}/logit/kernel : hidden labels",
        hf="logits_proj.weight : labels hidden",
        kit_ms="classification_{task*}.logit.weight : labels hidden",
    ),
    row(
        google="classification_{task*}/logit/bias : labels",
        hf="logits_proj.bias : labels",
        kit_ms="classification_{task*}.logit.bias : labels",
    ),
)

REGRESSION: tuple[Row, ...] = (
    row(
        google="regression_{score*}/logit/kernel : hidden 1",
        hf="logits_proj.weight : 1 hidden",
        kit_ms="regression_{score*}.logit.weight : 1 hidden",
    ),
    row(
        google="regression_{score*}/logit/bias : 1",
        hf="logits_proj.bias : 1",
        kit_ms="regression_{score*}.logit.bias : 1",
    ),
)

CHOICE: tuple[Row, ...] = (
    row(
        google="logits/dense/kernel : hidden 1",
        hf="logits_proj.weight : 1 hidden",
        kit_ms="logits.dense.weight : 1 hidden",
    ),
    row(
        google="logits/dense/bias : 1",
        hf="logits_proj.bias : 1",
        kit_ms="logits.dense.bias : 1",
    ),
)

# `features` is twice the hidden size: a token's state beside the start's, or beside that of the class token.
SQUAD: tuple[Row, ...] = (
    row(
        google="start_logits/dense/kernel : hidden 1",
        hf="start_logits.dense.weight : 1 hidden",
        kit_ms="start_logits.dense.weight : 1 hidden",
    ),
    row(
        google="start_logits/dense/bias : 1",
        hf="start_logits.dense.bias : 1",
        kit_ms="start_logits.dense.bias : 1",
    ),
    row(
        google="end_logits/dense_0/kernel : features hidden",
        hf="end_logits.dense_0.weight : hidden features",
        kit_ms="end_logits.dense_0.weight : hidden features",
    ),
    row(
        google="end_logits/dense_0/bias : hidden",
        hf="end_logits.dense_0.bias : hidden",
        kit_ms="end_logits.dense_0.bias : hidden",
    ),
    row(
        google="end_logits/LayerNorm/gamma : hidden",
        hf="end_logits.LayerNorm.weight : hidden",
        kit_ms="end_logits.LayerNorm.gamma : hidden",
    ),
    row(
        google="end_logits/LayerNorm/beta : hidden",
        hf="end_logits.LayerNorm.bias : hidden",
        kit_ms="end_logits.LayerNorm.beta : hidden",
    ),
    row(
        google="end_logits/dense_1/kernel : hidden 1",
        hf="end_logits.dense_1.weight : 1 hidden",
        kit_ms="end_logits.dense_1.weight : 1 hidden",
    ),
    row(
        google="end_logits/dense_1/bias : 1",
        hf="end_logits.dense_1.bias : 1",
        kit_ms="end_logits.dense_1.bias : 1",
    ),
    row(
        google="answer_class/dense_0/kernel : features hidden",
        hf="answer_class.dense_0.weight : hidden features",
        kit_ms="answer_class.dense_0.weight : hidden features",
    ),
    row(
        google="answer_class/dense_0/bias : hidden",
        hf="answer_class.dense_0.bias : hidden",
        kit_ms="answer_class.dense_0.bias : hidden",
    ),
    row(
        google="answer_class/dense_1/kernel : hidden 1",
        hf="answer_class.dense_1.weight : 1 hidden",
        kit_ms="answer_class.dense_1.weight : 1 hidden",
    ),
)

# Heads that transformers added.
TOKENS: tuple[Row, ...] = (
    row(
        hf="classifier.weight : labels hidden",
        kit_ms="classifier.weight : labels hidden",
        drop="the original XLNet has no token classification",
    ),
    row(
        hf="classifier.bias : labels",
        kit_ms="classifier.bias : labels",
        drop="the original XLNet has no token classification",
    ),
)

SPAN: tuple[Row, ...] = (
    row(
        hf="qa_outputs.weight : span hidden",
        kit_ms="qa_outputs.weight : span hidden",
        drop="the original XLNet predicts spans with start_logits and end_logits",
    ),
    row(
        hf="qa_outputs.bias : span",
        kit_ms="qa_outputs.bias : span",
        drop="the original XLNet predicts spans with start_logits and end_logits",
    ),
)
