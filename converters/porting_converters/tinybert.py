"""TinyBERT: MindSpore ModelZoo's nets, the PyTorch original, and a TensorFlow dialect of the kit's own.

modelzoo  mindspore-ai/models research/nlp/tinybert src/tinybert_model.py, tinybert_for_gd_td.py; golden names. The
          student's names begin with tinybert_, the teacher's with bert_. The nets of general and task distillation
          hold both: `teacher.` stands before the teacher, `bert.` before the student, fit_dense before neither
hf        huawei-noah/Pretrained-Language-Model TinyBERT/transformer/modeling.py, which is also what is released as
          huawei-noah/TinyBERT_General_4L_312D: BERT's names in transformers, and fit_dense, so one dialect for both
kit_tf    the kit's own: Google's BERT names under `tinybert/`. No TensorFlow TinyBERT was released

A student without fit_dense and without tinybert_ names is a BERT by its names, and is converted as one.
"""

from __future__ import annotations

from porting.convert.table import Dialect, Family, Row, group, row, scope
from porting_converters import bert, slots
from porting_converters.rows import columns, training_state

# `fit` is the teacher's hidden size, `hidden` the student's: sizes bind per model, so a net holds 768 beside 312.
FIT: tuple[Row, ...] = (
    row(
        modelzoo="fit_dense.weight : fit hidden",
        hf="fit_dense.weight : fit hidden",
        kit_tf="fit_dense/kernel : hidden fit",
    ),
    row(
        modelzoo="fit_dense.bias : fit",
        hf="fit_dense.bias : fit",
        kit_tf="fit_dense/bias : fit",
    ),
)


def _shared(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return columns(rows, modelzoo="modelzoo", hf="hf", kit_tf="google")


FAMILY = Family(
    name="tinybert",
    dialects=(
        Dialect(
            "modelzoo",
            "mindspore",
            (
                scope("bert.tinybert_", pooler="bert.", head="bert.", name="student"),  # general distillation
                scope("tinybert_", name="student"),  # TinyBertModel
                scope(
                    "teacher.bert.bert_", pooler="teacher.bert.", head="teacher.", net="teacher.", name="teacher"
                ),  # task
                scope("teacher.bert_", pooler="teacher.", head="teacher.", net="teacher.", name="teacher"),  # general
                scope("bert.bert.bert_", pooler="bert.bert.", head="bert.", name="student"),  # task distillation
                scope("bert.bert_", pooler="bert."),  # BertModelCLS
                scope("bert_"),  # BertModel
            ),
            format="mindspore-ckpt",
            slots=slots.MINDSPORE,
        ),
        Dialect(
            "hf",
            "pytorch",
            (
                scope("bert.", pooler="bert.", name="student"),
                scope("teacher.bert.", pooler="teacher.bert.", head="teacher.", net="teacher.", name="teacher"),
                scope(),
            ),
            slots=(*slots.PYTORCH, slots.BERT_ADAM),
            modules=bert.MODULES,
        ),
        Dialect(
            "kit_tf",
            "tensorflow",
            (
                scope("tinybert/", pooler="tinybert/", name="student"),
                scope("teacher/bert/", pooler="teacher/bert/", head="teacher/", net="teacher/", name="teacher"),
            ),
            "/",
            "tf-bundle",
            slots.TENSORFLOW,
        ),
    ),
    groups=(
        group("backbone", *_shared((*bert.BACKBONE, bert.POSITION_IDS)), required=True),
        group("pooler", *_shared(bert.POOLER), at="pooler"),
        group("mlm", *_shared(bert.MLM), at="head"),
        group("nsp", *_shared(bert.NSP), at="head"),
        group("classifier", *_shared(bert.CLASSIFIER), at="head"),
        group("fit_dense", *FIT, at="net"),
        training_state("modelzoo"),
    ),
    labels=bert.LABELS,
    config_files=("config.json", "bert_config.json"),
    specialises="bert",
)
