"""What BERT and RoBERTa are in every framework: tasks, features, taps, dropout sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from porting.backends.protocol import Build
from porting.errors import UsageError
from porting.model.spec import Feature, Mean, ModelSpec, Site, Tap, Task
from porting_bert import sizes
from porting_bert.config import CREATE_MODEL_DROPOUT, BertConfig, bert_config, roberta_config
from porting_bert.mistakes import mistakes
from porting_bert.probe import probe
from porting_bert.symmetry import symmetry

IGNORED = -100
"""Label of a token that counts in no loss, as in transformers."""

RELATIONS = 2
"""Of next sentence prediction: 0 is the next, 1 a random one."""

SPANS = 2
"""Of question answering: scores of a start and of an end."""

_TEXT = ("input_ids", "input_mask", "segment_ids")
_MLM = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")
_PRETRAINING = (Mean("mlm.loss", "masked_lm_weights", more=1e-5), Mean("nsp.loss"))
_LABELLED = (Mean("loss", "token_labels", floor=1.0),)

FEATURES = (
    Feature("input_ids", "batch seq", "int32", below="vocab_size"),
    Feature("input_mask", "batch seq", "int32", optional=True),
    Feature("segment_ids", "batch seq", "int32", optional=True, below="type_vocab_size"),
    Feature("masked_lm_positions", "batch prediction", "int32", below="seq"),
    Feature("masked_lm_ids", "batch prediction", "int32", optional=True, below="vocab_size"),
    Feature("masked_lm_weights", "batch prediction", "float32", optional=True),
    Feature("next_sentence_labels", "batch 1", "int32", optional=True, below="relations"),
    Feature("token_labels", "batch seq", "int32", optional=True),
    Feature("label_ids", "batch", "int32", optional=True, below="labels"),
    Feature("label_values", "batch", "float32", optional=True),
    Feature("start_positions", "batch", "int32", optional=True, below="seq"),
    Feature("end_positions", "batch", "int32", optional=True, below="seq"),
)

TASKS = (
    Task("encoder", _TEXT, ("sequence", "pooled")),
    Task("pretraining", (*_TEXT, *_MLM, "next_sentence_labels"), ("mlm.logits", "nsp.logits"), _PRETRAINING),
    Task("mlm", (*_TEXT, "token_labels"), ("logits",), _LABELLED),
    Task("classification", (*_TEXT, "label_ids"), ("logits",)),
    Task("regression", (*_TEXT, "label_values"), ("logits",)),
    Task("token_classification", (*_TEXT, "token_labels"), ("logits",), _LABELLED),
    Task("question_answering", (*_TEXT, "start_positions", "end_positions"), ("start_logits", "end_logits")),
)

LAYER_TAPS = (
    Tap("layer.{layer}.attention.scores", "batch head query key", "scaled, the mask added, before the softmax"),
    Tap("layer.{layer}.attention.output", "batch seq hidden", "after the residual and LayerNorm"),
    Tap("layer.{layer}.ffn.output", "batch seq hidden", "after the second dense, before dropout and the residual"),
    Tap("layer.{layer}.output", "batch seq hidden", "after the residual and LayerNorm"),
)

TAPS = (
    Tap("embeddings", "batch seq hidden", "the sum of the tables after LayerNorm, before dropout"),
    *LAYER_TAPS,
    Tap("sequence", "batch seq hidden", "output of the last layer"),
    Tap("pooled", "batch hidden", "tanh of a dense of the first token, before dropout; where the task has a pooler"),
    Tap("mlm.logits", "batch prediction vocab", "pretraining: of the masked positions"),
    Tap("nsp.logits", "batch relation", "pretraining: class 0 is the next sentence"),
    Tap("logits", "batch label | batch seq label | batch seq vocab", "of the task's head, before any softmax"),
    Tap("start_logits", "batch seq", "question answering: padding is not masked"),
    Tap("end_logits", "batch seq", "question answering: padding is not masked"),
    Tap("mlm.loss", "", "pretraining: weighted mean, its denominator the sum of the weights + 1e-5"),
    Tap("nsp.loss", "", "pretraining: mean over the batch"),
    Tap("loss", "", "of the task, where the batch has labels"),
)

TRAPS = (
    "gelu is the tanh form in Google's and MindSpore's configs, the erf form in Hugging Face's: 1e-3 on hidden states",
    "LayerNorm's epsilon is 1e-12 (RoBERTa 1e-5); MindSpore's default is 1e-7, PyTorch's 1e-5",
    "the mask adds -10000: a row with nothing visible attends as if it had no mask",
    "the gradient of the word table is IndexedSlices in TensorFlow: its rows count apart in the global norm",
    "the gradient of a key's bias is zero but for rounding",
    "MindSpore 2.10 on a CPU: tanh is off by 1e-4 above 4; softmax's gradient is wrong in PyNative after another shape",
)

BERT_TRAPS = (
    *TRAPS,
    "classification drops 0.1 of the pooled output, whatever the config says",
    "the denominator of the masked LM loss has + 1e-5",
    "transformers gives the padding row of the word table no gradient through the lookup; Google's code does",
)

ROBERTA_TRAPS = (
    *TRAPS,
    "positions start at pad_token_id + 1 and skip padding; the table has as many rows more",
    "the rows of padding, in the tables of words and positions, get no gradient through the lookup",
    "the LM head has gelu, the erf form, whatever the config says",
)


def sites(config: BertConfig, build: Build, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Site]:
    """Every dropout site of a task by name, in the order of computation; masks are shaped as what they multiply.

    shapes: of the batch's features; `input_ids` counts. Sites with rate 0 are left out.
    """
    batch, seq = shapes["input_ids"]
    hidden = (batch, seq, config.hidden_size)
    scores = (batch, config.num_attention_heads, seq, seq)
    rate = config.hidden_dropout_prob
    found = {"embeddings": Site(hidden, rate)}
    for layer in range(config.num_hidden_layers):
        found[f"layer.{layer}.attention.probs"] = Site(scores, config.attention_probs_dropout_prob)
        found[f"layer.{layer}.attention.output"] = Site(hidden, rate)
        found[f"layer.{layer}.ffn.output"] = Site(hidden, rate)
    found |= _head_sites(config, build.task, hidden)
    return {name: site for name, site in found.items() if site.rate > 0}


def _head_sites(config: BertConfig, task: str, hidden: tuple[int, int, int]) -> dict[str, Site]:
    batch, _, width = hidden
    if task in ("classification", "regression"):
        if config.model_type == "bert":
            return {"pooled": Site((batch, width), CREATE_MODEL_DROPOUT)}
        rate = config.head_dropout
        return {"classifier.input": Site((batch, width), rate), "classifier.hidden": Site((batch, width), rate)}
    if task == "token_classification":
        return {"sequence": Site(hidden, config.head_dropout)}
    return {}


def bounds(config: BertConfig) -> dict[str, int]:
    """What a batch may not exceed."""
    return {
        "seq": config.longest,
        "vocab_size": config.vocab_size,
        "type_vocab_size": config.type_vocab_size,
        "relations": RELATIONS,
    }


def label_count(build: Build) -> int:
    """Rows of the classifier: one in a regression. Raises: UsageError for fewer than one."""
    if build.labels < 1:
        raise UsageError(f"task {build.task}: labels: wanted 1 or more, got {build.labels}")
    return 1 if build.task == "regression" else build.labels


def option(build: Build, name: str, *allowed: Any) -> Any:
    """A value of Build.extra, the first of those allowed if it is not there. Raises: UsageError for another."""
    value = build.extra.get(name, allowed[0])
    if value not in allowed:
        raise UsageError(f"{name}: wanted one of {', '.join(map(str, allowed))}, got {value}")
    return value


def _without(feature: str, *tasks: Task) -> tuple[Task, ...]:
    return tuple(replace(task, features=tuple(f for f in task.features if f != feature)) for task in tasks)


SPEC = ModelSpec(
    name="bert",
    family="bert",
    package="porting_bert",
    sizes=sizes.BERT,
    configure=bert_config,
    tasks=TASKS,
    features=FEATURES,
    taps=TAPS,
    dialects={"pytorch": "hf", "tensorflow": "google", "mindspore": "modelzoo"},
    traps=BERT_TRAPS,
    bounds=bounds,
    sites=sites,
    symmetry=symmetry,
    probe=probe,
    mistakes=mistakes,
)

ROBERTA = ModelSpec(
    name="roberta",
    family="roberta",
    package="porting_bert",
    sizes=sizes.ROBERTA,
    configure=roberta_config,
    tasks=(
        Task("encoder", ("input_ids", "input_mask"), ("sequence",)),
        *_without("segment_ids", *(task for task in TASKS if task.name not in ("encoder", "pretraining"))),
    ),
    features=tuple(
        feature for feature in FEATURES if feature.name not in ("segment_ids", *_MLM, "next_sentence_labels")
    ),
    taps=tuple(tap for tap in TAPS if tap.name not in ("pooled", "mlm.logits", "nsp.logits", "mlm.loss", "nsp.loss")),
    dialects={"pytorch": "hf", "tensorflow": "kit_tf", "mindspore": "kit_ms"},
    traps=ROBERTA_TRAPS,
    bounds=bounds,
    sites=sites,
    symmetry=symmetry,
    probe=probe,
    mistakes=mistakes,
)
