"""What holds of XLNet in every framework: tasks, features, taps, dropout sites, traps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from porting.errors import UsageError
from porting.model.spec import Feature, Mean, ModelSpec, Site, Tap, Task
from porting_xlnet.config import SIZES, XLNetConfig, configure
from porting_xlnet.mistakes import mistakes
from porting_xlnet.probe import probe
from porting_xlnet.symmetry import symmetry

if TYPE_CHECKING:
    from porting.backends.protocol import Build

RUN_FLAGS = (
    "attn_type",
    "dropout",
    "dropatt",
    "mem_len",
    "reuse_len",
    "clamp_len",
    "bi_data",
    "same_length",
    "summary_type",
    "use_summ_proj",
    "start_n_top",
    "end_n_top",
)
"""Flags of a run that `Build.extra` may give, in place of the config's values: the original keeps them apart too."""

_TEXT = ("input_ids", "segment_ids", "input_mask")

FEATURES = (
    Feature("input_ids", "batch seq", "int32", below="n_token"),
    Feature("segment_ids", "batch seq", "int32", optional=True),
    Feature("input_mask", "batch seq", "float32", optional=True),
    Feature("input_k", "batch seq", "int32", below="n_token"),
    Feature("input_q", "batch seq", "float32", optional=True),
    Feature("seg_id", "batch seq", "int32", optional=True),
    Feature("perm_mask", "batch seq seq'", "float32", optional=True),
    Feature("target_mapping", "batch predict seq", "float32", optional=True),
    Feature("target", "batch predict", "int32", optional=True, below="n_token"),
    Feature("target_mask", "batch predict", "float32", optional=True),
    Feature("mems", "layer mem batch hidden", "float32", optional=True),
    Feature("label_ids", "batch", "int32", optional=True, below="labels"),
    Feature("label_values", "batch", "float32", optional=True),
    Feature("p_mask", "batch seq", "float32"),
    Feature("cls_index", "batch", "int32", below="seq"),
    Feature("start_positions", "batch", "int32", optional=True, below="seq"),
    Feature("end_positions", "batch", "int32", optional=True, below="seq"),
    Feature("is_impossible", "batch", "float32", optional=True),
)
"""input_mask and p_mask are 1 for padding and for what no answer may touch; perm_mask is 1 where i may not see j."""

TASKS = (
    Task("encoder", (*_TEXT, "perm_mask", "mems"), ("sequence", "new_mems")),
    Task(
        "pretraining",
        (
            "input_k",
            "input_q",
            "seg_id",
            "input_mask",
            "perm_mask",
            "target_mapping",
            "mems",
            "target",
            "target_mask",
        ),
        ("sequence", "logits", "new_mems"),
        (Mean("loss", "target_mask"),),
    ),
    Task("classification", (*_TEXT, "label_ids"), ("pooled", "logits")),
    Task("regression", (*_TEXT, "label_values"), ("pooled", "logits")),
    Task(
        "question_answering",
        (*_TEXT, "p_mask", "cls_index", "start_positions", "end_positions", "is_impossible"),
        (
            "start_log_probs",
            "end_log_probs",
            "start_top_log_probs",
            "start_top_index",
            "end_top_log_probs",
            "end_top_index",
            "cls_logits",
        ),
    ),
)

TAPS = (
    Tap("embeddings", "batch seq hidden", "word embeddings after dropout: the content stream's beginning"),
    Tap("query.embeddings", "batch predict hidden", "the query stream's beginning, after dropout"),
    Tap("positions", "batch position hidden", "sines, then cosines, of klen ... -qlen + 1 (uni: ... 0), after dropout"),
    Tap("layer.{layer}.attention.scores", "batch head query key", "scaled, 1e30 subtracted where masked; float32"),
    Tap("layer.{layer}.attention.output", "batch seq hidden", "after the residual and LayerNorm"),
    Tap(
        "layer.{layer}.query.attention.scores", "batch head query key", "of the query stream, queries mapped to places"
    ),
    Tap("layer.{layer}.query.attention.output", "batch predict hidden", "of the query stream"),
    Tap("layer.{layer}.query.ffn.output", "batch predict hidden", "of the query stream"),
    Tap("layer.{layer}.query.output", "batch predict hidden", "of the query stream"),
    Tap("layer.{layer}.ffn.output", "batch seq hidden", "after the second dense, before dropout and the residual"),
    Tap("layer.{layer}.output", "batch seq hidden", "after the residual and LayerNorm"),
    Tap("sequence", "batch seq hidden", "the last layer after dropout; of the query stream where there is one"),
    Tap("new_mems", "layer mem batch hidden", "time-major, as the original keeps them; none if mem_len is 0"),
    Tap("pooled", "batch hidden", "the summary after tanh and dropout"),
    Tap("logits", "batch label | batch | batch predict vocab", "of classes, of a score, of tokens"),
    Tap("start_log_probs", "batch seq", "log softmax of the start logits where p_mask is 0"),
    Tap("end_log_probs", "batch seq", "given start_positions, which only training has"),
    Tap("start_top_log_probs", "batch start", "of the beam: the start_n_top best; where start_positions are not given"),
    Tap("start_top_index", "batch start", "positions of these"),
    Tap("end_top_log_probs", "batch beam", "the end_n_top best of each start, start by start"),
    Tap("end_top_index", "batch beam", "positions of these"),
    Tap("cls_logits", "batch", "that there is no answer"),
    Tap("per_example_loss", "batch | batch predict", "before the mean"),
    Tap("loss", "", "mean; in pretraining over the targets that target_mask counts"),
)

TRAPS = (
    "a masked score has 1e30 subtracted: a fully masked row is uniform, NaN with -inf, 0.5 to 0.9 off with 65500",
    "the content stream may always attend to itself, whatever perm_mask and input_mask say; the query stream may not",
    "mems are always visible, and of segment 0",
    "mems are inputs of layers, after the embedding's dropout; the present's first reuse_len are cached",
    "relative positions run from klen to -qlen + 1; clamp_len acts only if it is positive",
    "kernels are [hidden, head, d], that of the output too; none of q, k, v, o and r has a bias",
    "gelu is the tanh form; transformers' config calls that gelu_new",
    "without untie_r the three biases are one for all layers; transformers has one per layer and trains them apart",
    "the mean, first and last summaries count padding; the original pads on the left",
    "transformers lists the beams end by end, the original start by start",
    "the parameter of the original's summary is spelled sequnece_summary",
)


def settled(config: XLNetConfig, build: Build) -> XLNetConfig:
    """The config with the flags of the run. Raises: UsageError for a flag or a label count that makes no sense."""
    if build.task == "classification" and build.labels < 1:
        raise UsageError(f"xlnet classification: labels: wanted 1 or more, got {build.labels}")
    return replace(config, **{name: build.extra[name] for name in RUN_FLAGS if name in build.extra})


def task_name(build: Build) -> str:
    """What a head of classification or regression is called in the original's names."""
    return str(build.extra.get("task_name", "task"))


def sites(config: XLNetConfig, build: Build, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Site]:
    """Where dropout acts in one batch of these shapes, in the order of computation.

    `query.` names the query stream. `positions` has a mask for each example, as the original repeats the positions.
    """
    config = settled(config, build)
    return {name: site for name, site in _sites(config, build, shapes) if site.rate > 0}


def _sites(config: XLNetConfig, build: Build, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, Site]]:
    batch, qlen = shapes["input_k" if build.task == "pretraining" else "input_ids"]
    klen = qlen + (shapes["mems"][1] if "mems" in shapes else 0)
    predicted = shapes["target_mapping"][1] if "target_mapping" in shapes else qlen
    two_streams = build.task == "pretraining" and "input_q" in shapes
    last = predicted if two_streams else qlen
    rate = config.dropout
    yield "embeddings", Site((batch, qlen, config.d_model), rate)
    if two_streams:
        yield "query.embeddings", Site((batch, predicted, config.d_model), rate)
    yield "positions", Site((batch, config.positions(qlen, klen), config.d_model), rate)
    for layer in range(config.n_layer):
        streams = {"": qlen, ".query": predicted} if two_streams else {"": qlen}
        for stream, length in streams.items():
            prefix = f"layer.{layer}{stream}"
            yield f"{prefix}.attention.probs", Site((batch, config.n_head, qlen, klen), config.dropatt)
            yield f"{prefix}.attention.output", Site((batch, length, config.d_model), rate)
            yield f"{prefix}.ffn.inner", Site((batch, length, config.d_inner), rate)
            yield f"{prefix}.ffn.output", Site((batch, length, config.d_model), rate)
    yield "sequence", Site((batch, last, config.d_model), rate)
    yield from _head_sites(config, build, batch, qlen)


def _head_sites(config: XLNetConfig, build: Build, batch: int, qlen: int) -> Iterator[tuple[str, Site]]:
    if build.task in ("classification", "regression"):
        if config.summary_type == "attn":
            yield "summary.probs", Site((batch, config.n_head, 1, qlen), config.dropatt)
            yield "summary.output", Site((batch, 1, config.d_model), config.dropout)
        yield "pooled", Site((batch, config.d_model), config.dropout)
    elif build.task == "question_answering":
        yield "answer_class", Site((batch, config.d_model), config.dropout)


SPEC = ModelSpec(
    name="xlnet",
    family="xlnet",
    package="porting_xlnet",
    sizes=SIZES,
    configure=configure,
    tasks=TASKS,
    features=FEATURES,
    taps=TAPS,
    dialects={"pytorch": "kit_pt", "tensorflow": "google", "mindspore": "kit_ms"},
    traps=TRAPS,
    bounds=lambda config: {"n_token": config.n_token, "layer": config.n_layer, "hidden": config.d_model},
    sites=sites,
    symmetry=symmetry,
    probe=probe,
    mistakes=mistakes,
)
