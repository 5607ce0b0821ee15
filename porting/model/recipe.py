"""A recipe: optimizer, schedule, decay, clipping and loss scale as one value.

Two runs train alike only if every field is alike, so a recipe can be hashed, written into a capture,
and diffed. The frameworks' implementations take nothing else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from porting.errors import UsageError


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate of a step, counted from 0.

    kind: constant; `bert` (linear warm-up, then polynomial decay over all steps, google-research/bert
    optimization.py); `xlnet` (warm-up, then polynomial decay over the steps after it, zihangdai/xlnet
    model_utils.py); `mindspore` (BertLearningRate of ModelZoo's BERT and TinyBERT);
    `bert_adam` (warmup_linear of the original PyTorch BertAdam, warm-up as a share of the steps).
    peak: the rate that warm-up leads to. end: the rate that decay leads to. steps: of the whole run.
    decay: of kind `xlnet`, whose decay_method is poly or cos; the others know polynomials only.
    """

    kind: Literal["constant", "bert", "xlnet", "mindspore", "bert_adam"]
    peak: float
    steps: int = 0
    warmup: float = 0
    end: float = 0.0
    power: float = 1.0
    decay: Literal["polynomial", "cosine"] = "polynomial"

    def __post_init__(self) -> None:
        """Raises: UsageError naming the field that makes no sense."""
        _require(self.peak >= 0, "schedule.peak", "at least 0", self.peak)
        if self.kind == "constant":
            return
        _require(self.steps >= 1, "schedule.steps", "at least 1", self.steps)
        end = {"bert_adam": 1, "xlnet": self.steps}.get(self.kind, float("inf"))
        _require(0 <= self.warmup < end, "schedule.warmup", f"0 to less than {end} for {self.kind}", self.warmup)
        fits = self.decay == "polynomial" or self.kind == "xlnet"
        _require(fits, "schedule.decay", f"polynomial for {self.kind}", self.decay)


def _require(holds: bool, field: str, wanted: str, got: Any) -> None:  # noqa: FBT001 - an assertion's condition
    if not holds:
        raise UsageError(f"recipe: {field}: wanted {wanted}, got {got}")


@dataclass(frozen=True, slots=True)
class Clip:
    """Clipping of gradients to a norm.

    kind: none, global_norm (one norm over all), per_tensor (each its own).
    rows: how a gathered embedding counts in the global norm: `summed` (the dense gradient) or `apart`
        (every gathered row for itself, as TensorFlow's IndexedSlices are not summed).
    epsilon: added to the norm that divides: 1e-6 in torch.nn.utils.clip_grad_norm_, 0 in TensorFlow and MindSpore.
    """

    kind: Literal["none", "global_norm", "per_tensor"] = "none"
    norm: float = 1.0
    rows: Literal["summed", "apart"] = "summed"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        """Raises: UsageError for a norm that is not positive."""
        _require(self.norm > 0, "clip.norm", "more than 0", self.norm)


@dataclass(frozen=True, slots=True)
class LossScale:
    """The factor of the loss in its gradients, which keeps half precision's small gradients from vanishing.

    kind: none; static; dynamic (divided by `factor` on overflow, down to 1, multiplied by it after `window` good
        steps: mindspore.nn.DynamicLossScaleUpdateCell, and torch.amp.GradScaler but for its lower bound).
        Both scales skip the update where a gradient is not finite; without one it is made.
    """

    kind: Literal["none", "static", "dynamic"] = "none"
    scale: float = 1.0
    factor: float = 2.0
    window: int = 1000

    def __post_init__(self) -> None:
        """Raises: UsageError naming the field that makes no sense."""
        _require(self.scale > 0, "loss_scale.scale", "more than 0", self.scale)
        _require(self.factor > 1, "loss_scale.factor", "more than 1", self.factor)
        _require(self.window >= 1, "loss_scale.window", "at least 1", self.window)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything between a gradient and a changed weight.

    bias_correction: of Adam's moments. epsilon_with: `corrected` adds epsilon to the root of the corrected second
        moment (torch, Keras), `raw` to that of the moment itself (tf.train.AdamOptimizer's "epsilon hat").
    decay_form: `decoupled` adds decay * w to the update before it is multiplied by the rate (BERT, MindSpore,
        XLNet); `adamw` multiplies w by 1 - lr * decay first (torch).
    excludes: parts of names that are not decayed, includes: parts of names that are even so; matched (case counts)
        against the parameter's name in dialect `names_of`, so that every framework excludes the same parameters.
    unused: whether parameters that the loss does not reach are `kept` as they are (TensorFlow and PyTorch skip
        what has no gradient) or `decayed` (MindSpore gives them a gradient of zeros).
    layer_decay: per layer from the top, 1 for none; `layer_decay_of`: scales clipped gradients (XLNet's own) or the
        rate. Layers are those of the names in `names_of`; what belongs to none is not scaled.
    complement: how 1 - beta1 and 1 - beta2 are rounded: MindSpore's fused operator subtracts float32 numbers, which for
        beta2 0.999 is 1.3e-5 off.
    """

    name: str
    schedule: Schedule
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    epsilon_with: Literal["corrected", "raw"] = "corrected"
    weight_decay: float = 0.01
    decay_form: Literal["decoupled", "adamw"] = "decoupled"
    bias_correction: bool = False
    excludes: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    names_of: str = "google"
    unused: Literal["kept", "decayed"] = "kept"
    clip: Clip = Clip()
    loss_scale: LossScale = LossScale()
    layer_decay: float = 1.0
    layer_decay_of: Literal["gradient", "rate"] = "gradient"
    complement: Literal["float64", "float32"] = "float64"

    def __post_init__(self) -> None:
        """Raises: UsageError naming the field that makes no sense."""
        _require(0 <= self.beta1 < 1, "beta1", "0 to less than 1", self.beta1)
        _require(0 <= self.beta2 < 1, "beta2", "0 to less than 1", self.beta2)
        _require(self.epsilon >= 0, "epsilon", "at least 0", self.epsilon)
        _require(self.weight_decay >= 0, "weight_decay", "at least 0", self.weight_decay)
        _require(self.layer_decay > 0, "layer_decay", "more than 0", self.layer_decay)

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
