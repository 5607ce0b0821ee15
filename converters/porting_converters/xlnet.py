"""XLNet: the original TensorFlow code, transformers, and a MindSpore dialect of the kit's own.

google  github.com/zihangdai/xlnet modeling.py, function_builder.py; golden names. `sequnece_summary` is spelled so
hf      transformers 5.23 models/xlnet
kit_ms  the kit's own: transformers' names with MindSpore's embedding_table, gamma and beta, and the heads of the
        original that transformers lacks. No MindSpore XLNet was released

The kernels q, k, v, o and r are [hidden, head, d] everywhere, o as well. The biases r_w, r_r and r_s are one tensor
over all layers in the original ([layer, head, d] with untie_r, [head, d] shared by the layers without), one tensor
per layer in transformers, which repeats the shared one. seg_embed has a layer axis in the original either way.
"""

from __future__ import annotations

from porting.convert.table import Dialect, Family, Row, group, row, scope, variants
from porting_converters import slots
from porting_converters.rows import training_state


def _position_bias(name: str) -> Row:
    return row(
        google=variants("untie_r", true=f"{name} : layer head d", false=f"{name} : head d"),
        hf=f"layer.{{layer}}.rel_attn.{name} : head d",
        kit_ms=f"layer.{{layer}}.rel_attn.{name} : head d",
    )


BACKBONE: tuple[Row, ...] = (
    row(
        google="word_embedding/lookup_table : vocab hidden",
        hf="word_embedding.weight : vocab hidden",
        kit_ms="word_embedding.embedding_table : vocab hidden",
    ),
    _position_bias("r_w_bias"),
    _position_bias("r_r_bias"),
    row(
        google="layer_{layer}/rel_attn/{kernel[q k v o r]}/kernel : hidden head d",
        hf="layer.{layer}.rel_attn.{kernel[q k v o r]} : hidden head d",
        kit_ms="layer.{layer}.rel_attn.{kernel[q k v o r]} : hidden head d",
    ),
    row(
        google="layer_{layer}/rel_attn/LayerNorm/gamma : hidden",
        hf="layer.{layer}.rel_attn.layer_norm.weight : hidden",
        kit_ms="layer.{layer}.rel_attn.layer_norm.gamma : hidden",
    ),
    row(
        google="layer_{layer}/rel_attn/LayerNorm/beta : hidden",
        hf="layer.{layer}.rel_attn.layer_norm.bias : hidden",
        kit_ms="layer.{layer}.rel_attn.layer_norm.beta : hidden",
    ),
    row(
        google="layer_{layer}/ff/layer_1/kernel : hidden inner",
        hf="layer.{layer}.ff.layer_1.weight : inner hidden",
        kit_ms="layer.{layer}.ff.layer_1.weight : inner hidden",
    ),
    row(
        google="layer_{layer}/ff/layer_1/bias : inner",
        hf="layer.{layer}.ff.layer_1.bias : inner",
        kit_ms="layer.{layer}.ff.layer_1.bias : inner",
    ),
    row(
        google="layer_{layer}/ff/layer_2/kernel : inner hidden",
        hf="layer.{layer}.ff.layer_2.weight : hidden inner",
        kit_ms="layer.{layer}.ff.layer_2.weight : hidden inner",
    ),
    row(
        google="layer_{layer}/ff/layer_2/bias : hidden",
        hf="layer.{layer}.ff.layer_2.bias : hidden",
        kit_ms="layer.{layer}.ff.layer_2.bias : hidden",
    ),
    row(
        google="layer_{layer}/ff/LayerNorm/gamma : hidden",
        hf="layer.{layer}.ff.layer_norm.weight : hidden",
        kit_ms="layer.{layer}.ff.layer_norm.gamma : hidden",
    ),
    row(
        google="layer_{layer}/ff/LayerNorm/beta : hidden",
        hf="layer.{layer}.ff.layer_norm.bias : hidden",
        kit_ms="layer.{layer}.ff.layer_norm.beta : hidden",
    ),
)

# A graph without a query stream (fine-tuning) has no mask_emb, a graph without segments neither of the two rows.
QUERY_STREAM: tuple[Row, ...] = (
    row(
        google="mask_emb/mask_emb : 1 1 hidden",
        hf="mask_emb : 1 1 hidden",
        kit_ms="mask_emb : 1 1 hidden",
    ),
)

SEGMENTS: tuple[Row, ...] = (
    _position_bias("r_s_bias"),
    row(
        google="seg_embed : layer segment head d",
        hf="layer.{layer}.rel_attn.seg_embed : segment head d",
        kit_ms="layer.{layer}.rel_attn.seg_embed : segment head d",
    ),
)

LM: tuple[Row, ...] = (
    row(
        google="lm_loss/bias : vocab",
        hf="lm_loss.bias : vocab",
        kit_ms="lm_loss.bias : vocab",
    ),
    row(
        google="lm_loss/weight : vocab hidden",
        hf="lm_loss.weight : vocab hidden",
        kit_ms="lm_loss.weight : vocab hidden",
        tie="word_embedding.weight",
    ),
)

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
        drop=_NO_ATTENTION,
    ),
    row(
        google="sequnece_summary/abs_attn/{kernel[q k v o]}/kernel : hidden head d",
        kit_ms="sequence_summary.abs_attn.{kernel[q k v o]} : hidden head d",
        drop=_NO_ATTENTION,
    ),
    row(
        google="sequnece_summary/abs_attn/LayerNorm/gamma : hidden",
        kit_ms="sequence_summary.abs_attn.layer_norm.gamma : hidden",
        drop=_NO_ATTENTION,
    ),
    row(
        google="sequnece_summary/abs_attn/LayerNorm/beta : hidden",
        kit_ms="sequence_summary.abs_attn.layer_norm.beta : hidden",
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

_TASKS = {"task": "task", "score": "task"}

# XLNetRelativeAttention.__init__ and XLNetFeedForward.__init__
MODULES = (
    *("q", "k", "v", "o", "r", "r_r_bias", "r_s_bias", "r_w_bias", "seg_embed"),
    *("layer_norm", "layer_1", "layer_2"),
)

FAMILY = Family(
    name="xlnet",
    dialects=(
        Dialect(
            "google",
            "tensorflow",
            (scope("model/transformer/", head="model/", variables=_TASKS),),
            "/",
            "tf-bundle",
            slots.TENSORFLOW,
        ),
        Dialect("hf", "pytorch", (scope("transformer."), scope()), slots=slots.PYTORCH, modules=MODULES),
        Dialect(
            "kit_ms",
            "mindspore",
            (scope("transformer.", variables=_TASKS),),
            format="mindspore-ckpt",
            slots=slots.MINDSPORE,
        ),
    ),
    groups=(
        group("backbone", *BACKBONE, required=True),
        group("query_stream", *QUERY_STREAM),
        group("segments", *SEGMENTS),
        group("lm", *LM, at="head"),
        group("summary", *SUMMARY, at="head"),
        group("attention_summary", *ATTENTION_SUMMARY, at="head"),
        group("classification", *CLASSIFICATION, at="head"),
        group("regression", *REGRESSION, at="head", shares="classification"),
        group("choice", *CHOICE, at="net", shares="classification"),
        group("squad", *SQUAD, at="net"),
        group("tokens", *TOKENS, at="net"),
        group("span", *SPAN, at="net"),
        training_state("kit_ms"),
    ),
    labels={
        "layer": ("n_layer", "num_hidden_layers"),
        "hidden": ("d_model", "hidden_size"),
        "inner": ("d_inner",),
        "head": ("n_head", "num_attention_heads"),
        "d": ("d_head",),
        "vocab": ("n_token", "vocab_size"),
        "labels": ("num_labels",),
    },
    config_files=("config.json", "xlnet_config.json"),
)
