"""XLNet: the original TensorFlow code, transformers, and a MindSpore dialect of the kit's own.

google  github.com/zihangdai/xlnet modeling.py, function_builder.py; golden names. `sequnece_summary` is spelled so
hf      transformers 5.23 models/xlnet
kit_ms  the kit's own: transformers' names with MindSpore's embedding_table, gamma and beta, and the heads of the
        original that transformers lacks. No MindSpore XLNet was released
kit_pt  the kit's own for PyTorch: transformers' names, and the attention summary that transformers lacks

The kernels q, k, v, o and r are [hidden, head, d] everywhere, o as well. The biases r_w, r_r and r_s are one tensor
over all layers in the original ([layer, head, d] with untie_r, [head, d] shared by the layers without), one tensor
per layer in transformers, which repeats the shared one. seg_embed has a layer axis in the original either way.
"""

from __future__ import annotations

from dataclasses import replace

from porting.convert.table import Dialect, Family, Group, Row, group, row, scope, variants
from porting_converters import slots
from porting_converters import xlnet_heads as heads
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

_TASKS = {"task": "task", "score": "task"}

# XLNetRelativeAttention.__init__ and XLNetFeedForward.__init__
MODULES = (
    *("q", "k", "v", "o", "r", "r_r_bias", "r_s_bias", "r_w_bias", "seg_embed"),
    *("layer_norm", "layer_1", "layer_2"),
)


def _with_kit_pt(member: Group) -> Group:
    """The group with a column for kit_pt: what hf has, and what has a cell of its own."""
    lines = (
        replace(line, cells={**line.cells, "kit_pt": line.cells["hf"]}) if "hf" in line.cells else line
        for line in member.rows
    )
    return replace(member, rows=tuple(lines))


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
        Dialect("kit_pt", "pytorch", (scope("transformer."), scope()), slots=slots.PYTORCH, modules=MODULES),
    ),
    groups=tuple(
        _with_kit_pt(member)
        for member in (
            group("backbone", *BACKBONE, required=True),
            group("query_stream", *QUERY_STREAM),
            group("segments", *SEGMENTS),
            group("lm", *LM, at="head"),
            group("summary", *heads.SUMMARY, at="head"),
            group("attention_summary", *heads.ATTENTION_SUMMARY, at="head"),
            group("classification", *heads.CLASSIFICATION, at="head"),
            group("regression", *heads.REGRESSION, at="head", shares="classification"),
            group("choice", *heads.CHOICE, at="net", shares="classification"),
            group("squad", *heads.SQUAD, at="net"),
            group("tokens", *heads.TOKENS, at="net"),
            group("span", *heads.SPAN, at="net"),
            training_state("kit_ms"),
        )
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
