"""From the options of `port distill` to a recipe, and what of them means nothing in a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from porting.errors import UsageError
from porting.model.recipe import LossScale, Recipe
from porting.model.recipes import tinybert_bert_adam, tinybert_mindspore

Stage = Literal["general", "1", "2"]
"""General distillation, or a phase of task distillation."""

_RATE = {"modelzoo": {"general": 5e-5, "1": 5e-5, "2": 2e-5}, "huawei": {"general": 5e-5, "1": 5e-5, "2": 3e-5}}
_DECAY = {"modelzoo": 1e-4, "huawei": 0.01}
_SCALE = {"general": 65536.0, "1": 256.0, "2": 65536.0}
_WINDOW = {"general": 1000, "1": 50, "2": 50}


def recipe_for(options: Mapping[str, Any], stage: Stage, steps: int, per_epoch: int) -> Recipe:
    """The recipe of a run of so many steps, with the clipping and the weight decay of the code it is named after.

    Sources: mindspore-ai/mindspore model_zoo/official/nlp/tinybert: src/gd_config.py at 6c412a9, src/td_config.py at
    7af8e0a, run_general_distill.py at 07117e4 and run_task_distill.py at 0a203c6, whose phase 1 warms up for a tenth of
    an epoch, all else for a tenth of the run; huawei-noah/Pretrained-Language-Model TinyBERT general_distill.py,
    task_distill.py at 0598f02, where phase 1 has a constant rate. Raises: UsageError naming what makes no sense.
    """
    kind = options["recipe"]
    peak = _given(options["learning_rate"], _RATE[kind][stage])
    decay = _given(options["weight_decay"], _DECAY[kind])
    whole = options["decay_steps"] or steps
    tenth = (per_epoch if stage == "1" else whole) // 10 if kind == "modelzoo" else whole * 0.1
    warmup = _given(options["warmup_steps"], tenth)
    if kind == "modelzoo":
        made = tinybert_mindspore(
            peak, whole, warmup, end=options["end_learning_rate"], power=options["power"], weight_decay=decay
        )
    else:
        if warmup >= whole:
            raise UsageError(f"warmup_steps: wanted less than the {whole} steps of the schedule, got {warmup}")
        made = tinybert_bert_adam(peak, whole, warmup=warmup / whole, constant=stage == "1", weight_decay=decay)
    return replace(made, loss_scale=_loss_scale(options, stage))


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _loss_scale(options: Mapping[str, Any], stage: Stage) -> LossScale:
    wanted = options["dtype"] == "float16" or options["loss_scale_value"] is not None
    kind: Any = options["loss_scale"] or ("dynamic" if wanted else "none")
    if kind == "none":
        return LossScale()
    value = _given(options["loss_scale_value"], _SCALE[stage])
    return LossScale(kind, value, options["scale_factor"], _given(options["scale_window"], _WINDOW[stage]))


def idle(options: Mapping[str, Any], stage: Stage, recipe: Recipe, framework: str) -> Iterator[str]:
    """A line for every option that was given and means nothing in this run."""
    huawei, scale = options["recipe"] == "huawei", recipe.loss_scale.kind
    cases = (
        (
            options["enable_data_sink"],
            ("enable_data_sink",),
            f"{framework} is fed batch by batch and sinks nothing; data_sink_steps spaces the lines of the log",
        ),
        (
            not options["enable_data_sink"],
            ("data_sink_steps",),
            "means nothing without enable_data_sink: the log has every step",
        ),
        (huawei, ("end_learning_rate", "power"), "means nothing to BertAdam, whose rate falls linearly to 0"),
        (
            huawei and stage == "1",
            ("warmup_steps", "decay_steps"),
            "means nothing in phase 1 of huawei, whose rate is constant",
        ),
        (
            scale == "none",
            ("loss_scale_value", "scale_factor", "scale_window"),
            "means nothing without a loss scale (--loss-scale dynamic)",
        ),
        (scale == "static", ("scale_factor", "scale_window"), "means nothing to a static loss scale"),
        (
            options["dataset_type"] == "mindrecord",
            ("schema_dir",),
            "means nothing to MindRecord, whose files say what they hold",
        ),
        (
            True,
            ("device_id",),
            "the first visible device is taken: CUDA_VISIBLE_DEVICES or ASCEND_RT_VISIBLE_DEVICES choose it",
        ),
        (
            stage == "1" and options["phase"] == "1",
            ("eval_data_dir", "eval_steps", "temperature", "assessment_method"),
            "is of phase 2",
        ),
    )
    for applies, names, reason in cases:
        if applies:
            yield from (f"{name}: {reason}" for name in names if name in options["given"])
