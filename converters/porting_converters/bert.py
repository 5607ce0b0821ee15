"""BERT: Google's TensorFlow code, transformers, MindSpore ModelZoo, mindnlp.

RoBERTa-wwm-ext and its three-layer cut RBTL3 are BERT architectures: they need no table of their own.

google    google-research/bert modeling.py, run_pretraining.py, run_classifier.py, run_squad.py; golden names
hf        transformers 5.23 models/bert; LayerNorm.gamma and .beta in files converted before 2019
modelzoo  mindspore-ai/models official/nlp/Bert src/bert_model.py, bert_for_pre_training.py, finetune_eval_model.py
mindnlp   mindspore-lab/mindnlp at df8cf14, transformers/models/bert/bert.py, torch_to_mindspore

Dense kernels are [in, out] in TensorFlow and [out, in] elsewhere; embeddings, and the `output_weights` of Google's
heads, are the same everywhere.
"""

from __future__ import annotations

from porting.convert.table import Dialect, Family, Row, group, row, scope
from porting_converters import slots
from porting_converters.rows import training_state

POSITION_IDS = row(
    hf="embeddings.position_ids : 1 positions",
    drop="a buffer that counts from 0, no weight",
    optional=True,
)

BACKBONE: tuple[Row, ...] = (
    row(
        google="embeddings/word_embeddings : vocab hidden",
        hf="embeddings.word_embeddings.weight : vocab hidden",
        modelzoo="embedding_lookup.embedding_table : vocab hidden",
        mindnlp="embeddings.word_embeddings.embedding_table : vocab hidden",
    ),
    row(
        google="embeddings/token_type_embeddings : token_types hidden",
        hf="embeddings.token_type_embeddings.weight : token_types hidden",
        modelzoo="embedding_postprocessor.token_type_embedding.embedding_table : token_types hidden",
        mindnlp="embeddings.token_type_embeddings.embedding_table : token_types hidden",
    ),
    row(
        google="embeddings/position_embeddings : positions hidden",
        hf="embeddings.position_embeddings.weight : positions hidden",
        modelzoo="embedding_postprocessor.full_position_embedding.embedding_table : positions hidden",
        mindnlp="embeddings.position_embeddings.embedding_table : positions hidden",
    ),
    row(
        google="embeddings/LayerNorm/gamma : hidden",
        hf="embeddings.LayerNorm.weight | embeddings.LayerNorm.gamma : hidden",
        modelzoo="embedding_postprocessor.layernorm.gamma : hidden",
        mindnlp="embeddings.LayerNorm.gamma : hidden",
    ),
    row(
        google="embeddings/LayerNorm/beta : hidden",
        hf="embeddings.LayerNorm.bias | embeddings.LayerNorm.beta : hidden",
        modelzoo="embedding_postprocessor.layernorm.beta : hidden",
        mindnlp="embeddings.LayerNorm.beta : hidden",
    ),
    row(
        google="encoder/layer_{layer}/attention/self/{proj[query key value]}/kernel : hidden hidden'",
        hf="encoder.layer.{layer}.attention.self.{proj[query key value]}.weight : hidden' hidden",
        modelzoo="encoder.layers.{layer}.attention.attention.{proj[query key value]}_layer.weight : hidden' hidden",
        mindnlp="encoder.layer.{layer}.attention.self.{proj[query key value]}.weight : hidden' hidden",
    ),
    row(
        google="encoder/layer_{layer}/attention/self/{proj[query key value]}/bias : hidden'",
        hf="encoder.layer.{layer}.attention.self.{proj[query key value]}.bias : hidden'",
        modelzoo="encoder.layers.{layer}.attention.attention.{proj[query key value]}_layer.bias : hidden'",
        mindnlp="encoder.layer.{layer}.attention.self.{proj[query key value]}.bias : hidden'",
    ),
    row(
        google="encoder/layer_{layer}/attention/output/dense/kernel : hidden hidden'",
        hf="encoder.layer.{layer}.attention.output.dense.weight : hidden' hidden",
        modelzoo="encoder.layers.{layer}.attention.output.dense.weight : hidden' hidden",
        mindnlp="encoder.layer.{layer}.attention.output.dense.weight : hidden' hidden",
    ),
    row(
        google="encoder/layer_{layer}/attention/output/dense/bias : hidden",
        hf="encoder.layer.{layer}.attention.output.dense.bias : hidden",
        modelzoo="encoder.layers.{layer}.attention.output.dense.bias : hidden",
        mindnlp="encoder.layer.{layer}.attention.output.dense.bias : hidden",
    ),
    row(
        google="encoder/layer_{layer}/attention/output/LayerNorm/gamma : hidden",
        hf="encoder.layer.{layer}.attention.output.LayerNorm.weight"
        " | encoder.layer.{layer}.attention.output.LayerNorm.gamma : hidden",
        modelzoo="encoder.layers.{layer}.attention.output.layernorm.gamma : hidden",
        mindnlp="encoder.layer.{layer}.attention.output.LayerNorm.gamma : hidden",
    ),
    row(
        google="encoder/layer_{layer}/attention/output/LayerNorm/beta : hidden",
        hf="encoder.layer.{layer}.attention.output.LayerNorm.bias"
        " | encoder.layer.{layer}.attention.output.LayerNorm.beta : hidden",
        modelzoo="encoder.layers.{layer}.attention.output.layernorm.beta : hidden",
        mindnlp="encoder.layer.{layer}.attention.output.LayerNorm.beta : hidden",
    ),
    row(
        google="encoder/layer_{layer}/intermediate/dense/kernel : hidden inner",
        hf="encoder.layer.{layer}.intermediate.dense.weight : inner hidden",
        modelzoo="encoder.layers.{layer}.intermediate.weight : inner hidden",
        mindnlp="encoder.layer.{layer}.intermediate.dense.weight : inner hidden",
    ),
    row(
        google="encoder/layer_{layer}/intermediate/dense/bias : inner",
        hf="encoder.layer.{layer}.intermediate.dense.bias : inner",
        modelzoo="encoder.layers.{layer}.intermediate.bias : inner",
        mindnlp="encoder.layer.{layer}.intermediate.dense.bias : inner",
    ),
    row(
        google="encoder/layer_{layer}/output/dense/kernel : inner hidden",
        hf="encoder.layer.{layer}.output.dense.weight : hidden inner",
        modelzoo="encoder.layers.{layer}.output.dense.weight : hidden inner",
        mindnlp="encoder.layer.{layer}.output.dense.weight : hidden inner",
    ),
    row(
        google="encoder/layer_{layer}/output/dense/bias : hidden",
        hf="encoder.layer.{layer}.output.dense.bias : hidden",
        modelzoo="encoder.layers.{layer}.output.dense.bias : hidden",
        mindnlp="encoder.layer.{layer}.output.dense.bias : hidden",
    ),
    row(
        google="encoder/layer_{layer}/output/LayerNorm/gamma : hidden",
        hf="encoder.layer.{layer}.output.LayerNorm.weight | encoder.layer.{layer}.output.LayerNorm.gamma : hidden",
        modelzoo="encoder.layers.{layer}.output.layernorm.gamma : hidden",
        mindnlp="encoder.layer.{layer}.output.LayerNorm.gamma : hidden",
    ),
    row(
        google="encoder/layer_{layer}/output/LayerNorm/beta : hidden",
        hf="encoder.layer.{layer}.output.LayerNorm.bias | encoder.layer.{layer}.output.LayerNorm.beta : hidden",
        modelzoo="encoder.layers.{layer}.output.layernorm.beta : hidden",
        mindnlp="encoder.layer.{layer}.output.LayerNorm.beta : hidden",
    ),
)

POOLER: tuple[Row, ...] = (
    row(
        google="pooler/dense/kernel : hidden hidden'",
        hf="pooler.dense.weight : hidden' hidden",
        modelzoo="dense.weight : hidden' hidden",
        mindnlp="pooler.dense.weight : hidden' hidden",
    ),
    row(
        google="pooler/dense/bias : hidden'",
        hf="pooler.dense.bias : hidden'",
        modelzoo="dense.bias : hidden'",
        mindnlp="pooler.dense.bias : hidden'",
    ),
)

MLM: tuple[Row, ...] = (
    row(
        google="cls/predictions/transform/dense/kernel : hidden hidden'",
        hf="cls.predictions.transform.dense.weight : hidden' hidden",
        modelzoo="cls1.dense.weight : hidden' hidden",
        mindnlp="cls.predictions.transform.dense.weight : hidden' hidden",
    ),
    row(
        google="cls/predictions/transform/dense/bias : hidden'",
        hf="cls.predictions.transform.dense.bias : hidden'",
        modelzoo="cls1.dense.bias : hidden'",
        mindnlp="cls.predictions.transform.dense.bias : hidden'",
    ),
    row(
        google="cls/predictions/transform/LayerNorm/gamma : hidden",
        hf="cls.predictions.transform.LayerNorm.weight | cls.predictions.transform.LayerNorm.gamma : hidden",
        modelzoo="cls1.layernorm.gamma : hidden",
        mindnlp="cls.predictions.transform.LayerNorm.gamma : hidden",
    ),
    row(
        google="cls/predictions/transform/LayerNorm/beta : hidden",
        hf="cls.predictions.transform.LayerNorm.bias | cls.predictions.transform.LayerNorm.beta : hidden",
        modelzoo="cls1.layernorm.beta : hidden",
        mindnlp="cls.predictions.transform.LayerNorm.beta : hidden",
    ),
    row(
        google="cls/predictions/output_bias : vocab",
        hf="cls.predictions.bias : vocab",
        modelzoo="cls1.output_bias : vocab",
        mindnlp="cls.predictions.bias : vocab",
    ),
    row(
        hf="cls.predictions.decoder.weight : vocab hidden",
        mindnlp="cls.predictions.decoder.weight : vocab hidden",
        tie="embeddings.word_embeddings.weight",
    ),
    row(
        hf="cls.predictions.decoder.bias : vocab",
        mindnlp="cls.predictions.decoder.bias : vocab",
        tie="cls.predictions.bias",
    ),
)

NSP: tuple[Row, ...] = (
    row(
        google="cls/seq_relationship/output_weights : relation hidden",
        hf="cls.seq_relationship.weight : relation hidden",
        modelzoo="cls2.dense.weight : relation hidden",
        mindnlp="cls.seq_relationship.weight : relation hidden",
    ),
    row(
        google="cls/seq_relationship/output_bias : relation",
        hf="cls.seq_relationship.bias : relation",
        modelzoo="cls2.dense.bias : relation",
        mindnlp="cls.seq_relationship.bias : relation",
    ),
)

# One head for sequences, choices and tokens: none of the dialects tells them apart by name.
CLASSIFIER: tuple[Row, ...] = (
    row(
        google="output_weights : labels hidden",
        hf="classifier.weight : labels hidden",
        modelzoo="dense_1.weight : labels hidden",
        mindnlp="classifier.weight : labels hidden",
    ),
    row(
        google="output_bias : labels",
        hf="classifier.bias : labels",
        modelzoo="dense_1.bias : labels",
        mindnlp="classifier.bias : labels",
    ),
)

SQUAD: tuple[Row, ...] = (
    row(
        google="cls/squad/output_weights : span hidden",
        hf="qa_outputs.weight : span hidden",
        modelzoo="dense1.weight : span hidden",
        mindnlp="qa_outputs.weight : span hidden",
    ),
    row(
        google="cls/squad/output_bias : span",
        hf="qa_outputs.bias : span",
        modelzoo="dense1.bias : span",
        mindnlp="qa_outputs.bias : span",
    ),
)

# BertEmbeddings.__init__
MODULES = ("word_embeddings", "position_embeddings", "token_type_embeddings")

LABELS = {
    "layer": ("num_hidden_layers",),
    "hidden": ("hidden_size",),
    "inner": ("intermediate_size",),
    "vocab": ("vocab_size",),
    "positions": ("max_position_embeddings",),
    "token_types": ("type_vocab_size",),
    "labels": ("num_labels",),
}

FAMILY = Family(
    name="bert",
    dialects=(
        Dialect("google", "tensorflow", (scope("bert/", pooler="bert/"),), "/", "tf-bundle", slots.TENSORFLOW),
        Dialect("hf", "pytorch", (scope("bert.", pooler="bert."), scope()), slots=slots.PYTORCH, modules=MODULES),
        Dialect(
            "modelzoo",
            "mindspore",
            (
                scope("bert.bert.bert_", pooler="bert.bert.", head="bert."),  # in a net with a loss
                scope("bert.bert_", pooler="bert."),  # BertPreTraining, BertCLSModel
                scope("bert_"),  # BertModel
            ),
            format="mindspore-ckpt",
            slots=slots.MINDSPORE,
        ),
        Dialect(
            "mindnlp",
            "mindspore",
            (scope("bert.", pooler="bert."), scope()),
            format="mindspore-ckpt",
            slots=slots.MINDSPORE,
        ),
    ),
    groups=(
        group("backbone", *BACKBONE, POSITION_IDS, required=True),
        group("pooler", *POOLER, at="pooler"),
        group("mlm", *MLM, at="head"),
        group("nsp", *NSP, at="head"),
        group("classifier", *CLASSIFIER, at="head"),
        group("squad", *SQUAD, at="head"),
        training_state("modelzoo", "mindnlp"),
    ),
    labels=LABELS,
    config_files=("config.json", "bert_config.json"),
)
