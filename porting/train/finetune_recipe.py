"""The recipes of `port finetune` by name, with the defaults of the scripts that they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from porting.convert.registry import family_named
from porting.errors import UsageError
from porting.model import recipes
from porting.model.recipe import LossScale, Recipe, Schedule
from porting.model.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Original:
    """What a script trains with. make: a recipe of peak, steps, and steps of warm-up. warmup: a share of all steps."""

    make: Callable[[float, int, int], Recipe]
    learning_rate: float
    warmup: float
    batch_size: int
    epochs: float


def _tinybert(peak: float, steps: int, warmup: int) -> Recipe:
    return recipes.tinybert_bert_adam(peak, steps, warmup=warmup / steps)


ORIGINALS: Mapping[str, Original] = MappingProxyType({
    "bert": Original(recipes.bert_finetune, 5e-5, 0.1, 32, 3),
    "roberta": Original(recipes.roberta_finetune, 1e-5, 0.06, 16, 10),
    "xlnet": Original(recipes.xlnet_finetune, 1e-5, 0, 8, 3),
    "tinybert": Original(_tinybert, 3e-5, 0.1, 32, 3),
    "tinybert-mindspore": Original(recipes.tinybert_mindspore, 3e-5, 0.1, 32, 3),
    "adamw": Original(recipes.adamw, 5e-5, 0, 8, 3),
})  # fmt: skip
"""Sources of the defaults: the flags of run_classifier.py (google-research/bert at eedf571; zihangdai/xlnet at bbaa3a6,
which counts steps, not epochs), fairseq's examples/roberta/README.glue.md, TinyBERT's task_distill.py; those of
transformers' TrainingArguments for adamw. ModelZoo's distills with rates of its own, so its recipe has TinyBERT's."""

START, WINDOW = 65536.0, 1000
"""Of a dynamic loss scale: torch.amp.GradScaler's first scale, mindspore.nn.DynamicLossScaleUpdateCell's window."""


def original_of(spec: ModelSpec, name: str | None) -> Original | None:
    """The recipe by its name, that of the model if there is none; None for a name that is a file's.

    Raises: UsageError for a name that is neither.
    """
    if name is None:
        return ORIGINALS.get(spec.name, ORIGINALS["adamw"])
    if name in ORIGINALS:
        return ORIGINALS[name]
    if Path(name).suffix == ".json":
        return None
    raise UsageError(f"--recipe {name}: wanted {', '.join(ORIGINALS)}, or a JSON file of a recipe")


def recipe_for(
    spec: ModelSpec,
    name: str | None,
    *,
    steps: int,
    learning_rate: float | None = None,
    warmup: float | None = None,
    weight_decay: float | None = None,
    loss_scale: str = "none",
) -> Recipe:
    """The recipe of a run of so many steps.

    warmup: steps; below 1 the share of all. What is None is the original's. Raises: UsageError, FormatError.
    """
    original = original_of(spec, name)
    if original is None:
        if learning_rate is not None or warmup is not None:
            raise UsageError(f"--recipe {name}: has its own rate and warm-up: --learning-rate, --warmup mean nothing")
        recipe = _of_file(spec, str(name), steps)
    else:
        rise = original.warmup if warmup is None else warmup
        rise = int(steps * rise) if rise < 1 else int(rise)
        if not 0 <= rise < steps:
            raise UsageError(f"--warmup {warmup}: wanted 0 to less than the {steps} steps of the run")
        recipe = original.make(original.learning_rate if learning_rate is None else learning_rate, steps, rise)
        known = [dialect.name for dialect in family_named(spec.family).dialects]
        recipe = recipe if recipe.names_of in known else replace(recipe, names_of=known[0])
    if weight_decay is not None:
        corrects = (
            recipe.bias_correction if recipe.name != "xlnet_finetune" else weight_decay == 0
        )  # as the script has it
        recipe = replace(recipe, weight_decay=weight_decay, bias_correction=corrects)
    return recipe if loss_scale == "none" else replace(recipe, loss_scale=scale_of(loss_scale))


def scale_of(text: str) -> LossScale:
    """A loss scale: `none`, a number, `dynamic`, or `dynamic:START`. Raises: UsageError."""
    kind, _, start = text.partition(":")
    try:
        if kind == "none":
            return LossScale()
        if kind == "dynamic":
            return LossScale("dynamic", float(start or START), window=WINDOW)
        return LossScale("static", float(text))
    except ValueError:
        raise UsageError(f"--loss-scale {text}: wanted none, a number, dynamic, or dynamic:START") from None


def _of_file(spec: ModelSpec, name: str, steps: int) -> Recipe:
    from porting.parity.options import recipe_named

    recipe = recipe_named(spec, name)
    schedule: Schedule = recipe.schedule
    if schedule.kind != "constant" and schedule.steps != steps:
        raise UsageError(f"{name}: its schedule is of {schedule.steps} steps, the run of {steps}")
    return recipe
