"""What TinyBERT is in every framework: tasks, features, taps, dropout sites, published sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from porting.model.spec import Feature, Mean, ModelSpec, Tap, Task
from porting_tinybert.config import TinyBertConfig, configure
from porting_tinybert.layout import sites
from porting_tinybert.mistakes import mistakes
from porting_tinybert.probe import probe
from porting_tinybert.symmetry import symmetry

_TEXT = ("input_ids", "input_mask", "segment_ids")
_FIT = ("attention_loss", "representation_loss")
_SOFT = ("logits", "log_probs", "teacher.logits", "teacher.log_probs")

TASKS = (
    Task("student", _TEXT, ("sequence", "pooled")),
    Task("teacher", _TEXT, ("teacher.sequence", "teacher.pooled")),
    Task("classification", (*_TEXT, "label_ids"), ("logits", "log_probs")),
    Task("regression", (*_TEXT, "label_values"), ("logits",)),
    Task(
        "token_classification",
        (*_TEXT, "token_labels"),
        ("logits", "log_probs"),
        (Mean("loss", "token_labels", floor=1.0),),
    ),
    Task("general_distill", _TEXT, _FIT),
    Task("task_distill_1", _TEXT, _FIT),
    Task("task_distill_2", _TEXT, _SOFT),
    Task("task_distill_2_tokens", _TEXT, _SOFT),
)

FEATURES = (
    Feature("input_ids", "batch seq", "int32", below="vocab_size"),
    Feature("input_mask", "batch seq", "int32", optional=True),
    Feature("segment_ids", "batch seq", "int32", optional=True, below="type_vocab_size"),
    Feature("label_ids", "batch", "int32", optional=True, below="labels"),
    Feature("label_values", "batch", "float32", optional=True),
    Feature("token_labels", "batch seq", "int32", optional=True),
)

_ENCODER = (
    Tap("embeddings", "batch seq hidden", "the sum of the tables after LayerNorm, before dropout"),
    Tap("encoder.input", "batch seq hidden", "the same after dropout: hidden state 0, the first that is distilled"),
    Tap("layer.{layer}.attention.scores", "batch head query key", "scaled, the mask added, before the softmax"),
    Tap("layer.{layer}.attention.output", "batch seq hidden", "after the residual and LayerNorm"),
    Tap("layer.{layer}.ffn.output", "batch seq hidden", "after the second dense, before dropout and the residual"),
    Tap("layer.{layer}.output", "batch seq hidden", "after the residual and LayerNorm: hidden state layer + 1"),
    Tap("sequence", "batch seq hidden", "output of the last layer"),
    Tap("pooled", "batch hidden", "tanh of a dense of the first token, before relu or dropout"),
    Tap("logits", "batch label | batch seq label", "of the classifier, before any softmax"),
    Tap("log_probs", "batch label | batch seq label", "log softmax of the logits, without the temperature"),
)

TAPS = (
    *(Tap(f"teacher.{tap.name}", tap.axes, f"of the teacher: {tap.what}") for tap in _ENCODER),
    *_ENCODER,
    Tap("fit.{layer}", "batch seq fit", "fit_dense of hidden state {layer} of the student"),
    Tap("attention_loss", "", "sum over the student's layers of the mean squared error of scores, those <= -100 as 0"),
    Tap("representation_loss", "", "sum over the hidden states of the mean squared error of fit and the teacher's"),
    Tap("loss", "", "of the task; of a classification where the batch has labels"),
)

TRAPS = (
    "gelu is the tanh form in ModelZoo, the erf form in the PyTorch original: 1e-3 on hidden states",
    "LayerNorm's epsilon is 1e-7 in ModelZoo (MindSpore's default), 1e-12 in the PyTorch original",
    "the scores that are distilled are those before the softmax, with the mask's -10000 in",
    "scores <= -100 count as 0, yet the mean goes over all entries; representations include padded rows",
    "padding_idx=0 of the PyTorch original keeps a row of the word embeddings from training; MindSpore trains it",
    "relu stands between the pooled output and the classifier; ModelZoo calls it `dropout`",
    "the soft cross-entropy is a mean over batch and classes, without the temperature squared",
    "fit_dense is not saved by ModelZoo: its second phase starts without it",
    "the PyTorch scripts never put the teacher into eval mode: it drops 0.1 while it teaches",
    "ModelZoo's task distillation passes mask and token types to its NER nets in each other's place",
    "the optimizer of MindSpore decays weights that a phase does not use; BertAdam leaves them alone",
    "masked scores are near -10000, where float32 has steps of 1e-3",
)

_BERT_BASE = TinyBertConfig(hidden_size=768, num_hidden_layers=12, intermediate_size=3072, padding_idx=0)
_FOUR = TinyBertConfig(padding_idx=0, teacher=_BERT_BASE)


def _as_modelzoo(config: TinyBertConfig) -> TinyBertConfig:
    return replace(config, hidden_act="gelu_tanh", layer_norm_eps=1e-7, padding_idx=None)


# The first two are Huawei's, in the form of its PyTorch code; the last is that of ModelZoo's gd_config.yaml.
SIZES: Mapping[str, TinyBertConfig] = {
    "tinybert-4-312": _FOUR,
    "tinybert-6-768": replace(_FOUR, hidden_size=768, num_hidden_layers=6, intermediate_size=3072),
    "tinybert-4-384": _as_modelzoo(
        replace(_FOUR, hidden_size=384, intermediate_size=1536, teacher=_as_modelzoo(_BERT_BASE))
    ),
}


def bounds(config: TinyBertConfig) -> dict[str, int]:
    """What a batch may not exceed. A teacher has at least as many positions and token types."""
    return {
        "seq": config.max_position_embeddings,
        "vocab_size": config.vocab_size,
        "type_vocab_size": config.type_vocab_size,
    }


SPEC = ModelSpec(
    name="tinybert",
    family="tinybert",
    package="porting_tinybert",
    sizes=SIZES,
    configure=configure,
    tasks=TASKS,
    features=FEATURES,
    taps=TAPS,
    dialects={"pytorch": "hf", "tensorflow": "kit_tf", "mindspore": "modelzoo"},
    traps=TRAPS,
    bounds=bounds,
    sites=sites,
    symmetry=symmetry,
    probe=probe,
    mistakes=mistakes,
)
