"""A recipe: optimizer, schedule, decay, clipping and loss scale as one value.

Two runs train alike only if every field is alike, so a recipe can be hashed, written into a capture,
and diffed. The frameworks' implementations take nothing else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate of a step, counted from 0.

    kind: constant; `bert` (linear warm-up, then polynomial decay over all steps, google-research/bert
    optimization.py); `xlnet` (warm-up, then polynomial decay over the steps after it, zihangdai/xlnet
    model_utils.py); `mindspore` (BertLearningRate of ModelZoo's BERT and TinyBERT);
    `bert_adam` (warmup_linear of the original PyTorch BertAdam, warm-up as a share of the steps).
    """

    kind: Literal["constant", "bert", "xlnet", "mindspore", "bert_adam"]
    peak: float
    steps: int = 0
    warmup: float = 0
    end: float = 0.0
    power: float = 1.0


@dataclass(frozen=True, slots=True)
class Clip:
    """Clipping of gradients to a norm.

    kind: none, global_norm (one norm over all), per_tensor (each its own).
    rows: how a gathered embedding counts in the global norm: `summed` (the dense gradient) or `apart`
        (every gathered row for itself, as TensorFlow's IndexedSlices are not summed).
    """

    kind: Literal["none", "global_norm", "per_tensor"] = "none"
    norm: float = 1.0
    rows: Literal["summed", "apart"] = "summed"


@dataclass(frozen=True, slots=True)
class LossScale:
    """kind: none, static, or dynamic (halved on overflow, doubled after `window` good steps)."""

    kind: Literal["none", "static", "dynamic"] = "none"
    scale: float = 1.0
    factor: float = 2.0
    window: int = 1000


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything between a gradient and a changed weight.

    bias_correction: of Adam's moments. decay_form: `decoupled` adds decay * w to the update before it
        is multiplied by the rate (BERT, MindSpore, XLNet); `adamw` multiplies w by 1 - lr * decay first (torch).
    excludes: parts of names that are not decayed, matched (case counts) against the parameter's name in
        dialect `names_of` - so that every framework excludes the same parameters.
    layer_decay: per layer from the top, 1 for none; `layer_decay_of`: scales clipped gradients (XLNet's own) or the rate.
    beta2_complement: how 1 - beta2 is rounded: MindSpore's fused operator computes it in float32.
    """

    name: str
    schedule: Schedule
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    weight_decay: float = 0.01
    decay_form: Literal["decoupled", "adamw"] = "decoupled"
    bias_correction: bool = False
    excludes: tuple[str, ...] = ()
    names_of: str = "google"
    clip: Clip = Clip()
    loss_scale: LossScale = LossScale()
    layer_decay: float = 1.0
    layer_decay_of: Literal["gradient", "rate"] = "gradient"
    beta2_complement: Literal["float64", "float32"] = "float64"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @property
    def hash(self) -> str:
        """Equal for equal recipes, whatever made them."""
        return "sha256:" + hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def diff(self, other: Recipe) -> tuple[str, ...]:
        """One line per field that differs: `clip.kind: global_norm, per_tensor`."""
        return tuple(f"{path}: {a}, {b}" for path, a, b in _differences(self, other, ""))


def _differences(one: Any, two: Any, prefix: str) -> list[tuple[str, Any, Any]]:
    lines: list[tuple[str, Any, Any]] = []
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(two, field.name)
        if hasattr(a, "__dataclass_fields__"):
            lines += _differences(a, b, f"{prefix}{field.name}.")
        elif a != b:
            lines.append((prefix + field.name, a, b))
    return lines
