"""RoBERTa: transformers, fairseq, and dialects of the kit's own for TensorFlow and MindSpore.

hf             transformers 5.23 models/roberta
fairseq        facebookresearch/fairseq models/roberta/model.py: query, key and value apart (fairseq 0.9 and later)
fairseq_fused  the files that fairseq released in 2019: one in_proj of query, key and value, stacked in that order
               (modules/multihead_attention.py, upgrade_state_dict_named), under `decoder.`, with emb_layer_norm
kit_tf         the kit's own: Google's BERT names under `roberta/`. No TensorFlow RoBERTa was released
kit_ms         the kit's own: ModelZoo's BERT names under `roberta.`. ModelZoo has no RoBERTa

Positions start at 2 (padding_idx + 1): the table is the whole of the file's, its first two rows included. fairseq adds
no token types; transformers stores one, which is zeros in the files that were converted from fairseq
(convert_roberta_original_pytorch_checkpoint_to_pytorch.py).
"""

from __future__ import annotations

from dataclasses import replace

from porting.convert.table import Dialect, Family, Row, group, row, scope
from porting_converters import bert, slots
from porting_converters.rows import columns, training_state

_TYPES = "embeddings.token_type_embeddings.weight"
_HF_LAYER = "encoder.layer.{layer}"

# What the two generations of fairseq share.
_FAIRSEQ = {
    "embeddings.word_embeddings.weight": "embed_tokens.weight : vocab hidden",
    "embeddings.position_embeddings.weight": "embed_positions.weight : positions hidden",
    f"{_HF_LAYER}.attention.output.dense.weight": "layers.{layer}.self_attn.out_proj.weight : hidden' hidden",
    f"{_HF_LAYER}.attention.output.dense.bias": "layers.{layer}.self_attn.out_proj.bias : hidden",
    f"{_HF_LAYER}.attention.output.LayerNorm.weight": "layers.{layer}.self_attn_layer_norm.weight : hidden",
    f"{_HF_LAYER}.attention.output.LayerNorm.bias": "layers.{layer}.self_attn_layer_norm.bias : hidden",
    f"{_HF_LAYER}.intermediate.dense.weight": "layers.{layer}.fc1.weight : inner hidden",
    f"{_HF_LAYER}.intermediate.dense.bias": "layers.{layer}.fc1.bias : inner",
    f"{_HF_LAYER}.output.dense.weight": "layers.{layer}.fc2.weight : hidden inner",
    f"{_HF_LAYER}.output.dense.bias": "layers.{layer}.fc2.bias : hidden",
    f"{_HF_LAYER}.output.LayerNorm.weight": "layers.{layer}.final_layer_norm.weight : hidden",
    f"{_HF_LAYER}.output.LayerNorm.bias": "layers.{layer}.final_layer_norm.bias : hidden",
}
_PROJ = f"{_HF_LAYER}.attention.self.{{proj}}"

FAIRSEQ = _FAIRSEQ | {
    "embeddings.LayerNorm.weight": "layernorm_embedding.weight | emb_layer_norm.weight : hidden",
    "embeddings.LayerNorm.bias": "layernorm_embedding.bias | emb_layer_norm.bias : hidden",
    f"{_PROJ}.weight": "layers.{layer}.self_attn.{proj[q k v]}_proj.weight : hidden' hidden",
    f"{_PROJ}.bias": "layers.{layer}.self_attn.{proj[q k v]}_proj.bias : hidden'",
}

FAIRSEQ_FUSED = _FAIRSEQ | {
    "embeddings.LayerNorm.weight": "emb_layer_norm.weight | layernorm_embedding.weight : hidden",
    "embeddings.LayerNorm.bias": "emb_layer_norm.bias | layernorm_embedding.bias : hidden",
    f"{_PROJ}.weight": "layers.{layer}.self_attn.in_proj_weight : (proj hidden') hidden",
    f"{_PROJ}.bias": "layers.{layer}.self_attn.in_proj_bias : (proj hidden')",
}

BACKBONE = tuple(
    replace(line, zeros=True, drop="fairseq adds no token types, and these are zero") if line.key == _TYPES else line
    for line in columns(
        bert.BACKBONE, hf="hf", fairseq=FAIRSEQ, fairseq_fused=FAIRSEQ_FUSED, kit_tf="google", kit_ms="modelzoo"
    )
)

_VERSION = row(
    fairseq="version : 1",
    drop="fairseq's mark of its own module version, no weight",
    optional=True,
)

LM: tuple[Row, ...] = (
    row(
        hf="lm_head.dense.weight : hidden' hidden",
        fairseq="lm_head.dense.weight : hidden' hidden",
        fairseq_fused="lm_head.dense.weight : hidden' hidden",
        kit_tf="lm_head/dense/kernel : hidden hidden'",
        kit_ms="lm_head.dense.weight : hidden' hidden",
    ),
    row(
        hf="lm_head.dense.bias : hidden'",
        fairseq="lm_head.dense.bias : hidden'",
        fairseq_fused="lm_head.dense.bias : hidden'",
        kit_tf="lm_head/dense/bias : hidden'",
        kit_ms="lm_head.dense.bias : hidden'",
    ),
    row(
        hf="lm_head.layer_norm.weight : hidden",
        fairseq="lm_head.layer_norm.weight : hidden",
        fairseq_fused="lm_head.layer_norm.weight : hidden",
        kit_tf="lm_head/LayerNorm/gamma : hidden",
        kit_ms="lm_head.layernorm.gamma : hidden",
    ),
    row(
        hf="lm_head.layer_norm.bias : hidden",
        fairseq="lm_head.layer_norm.bias : hidden",
        fairseq_fused="lm_head.layer_norm.bias : hidden",
        kit_tf="lm_head/LayerNorm/beta : hidden",
        kit_ms="lm_head.layernorm.beta : hidden",
    ),
    row(
        hf="lm_head.bias : vocab",
        fairseq="lm_head.bias : vocab",
        fairseq_fused="lm_head.bias : vocab",
        kit_tf="lm_head/output_bias : vocab",
        kit_ms="lm_head.output_bias : vocab",
    ),
    row(
        hf="lm_head.decoder.weight : vocab hidden",
        fairseq="lm_head.weight : vocab hidden",
        fairseq_fused="lm_head.weight : vocab hidden",
        tie="embeddings.word_embeddings.weight",
    ),
    row(hf="lm_head.decoder.bias : vocab", tie="lm_head.bias"),
)

# fairseq's inner_dim is the hidden size unless a user chose another, which transformers cannot express.
SEQUENCE_CLASSIFIER: tuple[Row, ...] = (
    row(
        hf="classifier.dense.weight : hidden' hidden",
        fairseq="classification_heads.{head*}.dense.weight : hidden' hidden",
        fairseq_fused="classification_heads.{head*}.dense.weight : hidden' hidden",
        kit_tf="classifier/dense/kernel : hidden hidden'",
        kit_ms="classifier.dense.weight : hidden' hidden",
    ),
    row(
        hf="classifier.dense.bias : hidden'",
        fairseq="classification_heads.{head*}.dense.bias : hidden'",
        fairseq_fused="classification_heads.{head*}.dense.bias : hidden'",
        kit_tf="classifier/dense/bias : hidden'",
        kit_ms="classifier.dense.bias : hidden'",
    ),
    row(
        hf="classifier.out_proj.weight : labels hidden",
        fairseq="classification_heads.{head*}.out_proj.weight : labels hidden",
        fairseq_fused="classification_heads.{head*}.out_proj.weight : labels hidden",
        kit_tf="classifier/out_proj/kernel : hidden labels",
        kit_ms="classifier.out_proj.weight : labels hidden",
    ),
    row(
        hf="classifier.out_proj.bias : labels",
        fairseq="classification_heads.{head*}.out_proj.bias : labels",
        fairseq_fused="classification_heads.{head*}.out_proj.bias : labels",
        kit_tf="classifier/out_proj/bias : labels",
        kit_ms="classifier.out_proj.bias : labels",
    ),
)

# fairseq loads strictly (models/fairseq_model.py), and its state_dict holds lm_head.weight beside the embedding.
_FAIRSEQ_SCOPES = (
    scope("encoder.sentence_encoder.", head="encoder.", variables={"head": "sentence_classification_head"}),
    scope("decoder.sentence_encoder.", head="decoder.", variables={"head": "sentence_classification_head"}),
)

# RobertaEmbeddings.__init__
MODULES = ("word_embeddings", "token_type_embeddings", "LayerNorm", "position_embeddings")

FAMILY = Family(
    name="roberta",
    dialects=(
        Dialect("hf", "pytorch", (scope("roberta.", pooler="roberta."), scope()), slots=slots.PYTORCH, modules=MODULES),
        Dialect("fairseq", "pytorch", _FAIRSEQ_SCOPES, format="torch", slots=slots.PYTORCH, stores_ties=True),
        Dialect(
            "fairseq_fused", "pytorch", _FAIRSEQ_SCOPES[::-1], format="torch", slots=slots.PYTORCH, stores_ties=True
        ),
        Dialect("kit_tf", "tensorflow", (scope("roberta/", pooler="roberta/"),), "/", "tf-bundle", slots.TENSORFLOW),
        Dialect(
            "kit_ms",
            "mindspore",
            (scope("roberta.", pooler="roberta."),),
            format="mindspore-ckpt",
            slots=slots.MINDSPORE,
        ),
    ),
    groups=(
        group("backbone", *BACKBONE, columns((bert.POSITION_IDS,), hf="hf")[0], _VERSION, required=True),
        group("pooler", *columns(bert.POOLER, hf="hf", kit_tf="google", kit_ms="modelzoo"), at="pooler"),
        group("lm", *LM, at="head"),
        group("sequence_classifier", *SEQUENCE_CLASSIFIER, at="net"),
        group("classifier", *columns(bert.CLASSIFIER, hf="hf", kit_tf="google", kit_ms="modelzoo"), at="net"),
        group("squad", *columns(bert.SQUAD, hf="hf", kit_tf="google", kit_ms="modelzoo"), at="net"),
        training_state("kit_ms"),
    ),
    labels=bert.LABELS,
    specialises="bert",
    evidence={"token_types": 1},
)
