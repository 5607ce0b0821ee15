"""What the PyTorch port's layers are made of, and the state of one pass through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from porting.errors import UsageError
from porting_bert.config import Activation, BertConfig

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


def wide(value: Tensor) -> Tensor:
    """In float32, or in float64 if it is."""
    return value if value.dtype == torch.float64 else value.float()


class Dense(nn.Linear):
    """A linear layer whose float32 parameters are rounded to the dtype of what comes in."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in nn.Linear
        return F.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))


class LayerNorm(nn.LayerNorm):
    """LayerNorm in float32, whatever comes in; it goes out as it came."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in nn.LayerNorm
        return F.layer_norm(wide(input), self.normalized_shape, self.weight, self.bias, self.eps).to(input.dtype)


def activation(name: Activation) -> Callable[[Tensor], Tensor]:
    """The function of an explicit name."""
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "gelu_tanh": partial(F.gelu, approximate="tanh"),
        "gelu_erf": F.gelu,
        "relu": F.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "silu": F.silu,
        "linear": _same,
    }
    return functions[name]


def _same(tensor: Tensor) -> Tensor:
    return tensor


def replaced(name: str, value: Tensor, given: Tensor) -> Tensor:
    """What is given for a tap, in the dtype of what was computed. Raises: UsageError if it has another shape."""
    if given.shape != value.shape:
        raise UsageError(f"tap {name}: wanted {tuple(value.shape)}, got {tuple(given.shape)}")
    return given.to(value.dtype)


class Pass:
    """One pass: the taps asked for and what they gave, and how dropout is done in it.

    batch: holds the shared masks (`mask.<site>`) and the zeros added to gathered rows (`rows.<parameter>`).
    """

    def __init__(self, batch: Mapping[str, Tensor], taps: frozenset[str], mode: str, dtype: torch.dtype) -> None:
        self.batch, self.taps, self.mode, self.dtype = batch, taps, mode, dtype
        self.found: dict[str, Tensor] = {}

    @property
    def dropping(self) -> bool:
        """Whether the framework's own dropout acts."""
        return self.mode == "own"

    def given(self, name: str) -> Tensor | None:
        """What takes the place of a tap."""
        return self.batch.get(f"given.{name}")

    def tap(self, name: str, value: Tensor) -> Tensor:
        """The same value, kept in float32 if it is asked for; what is given in its place goes on."""
        given = self.given(name)
        if name in self.taps or given is not None:
            self.found[name] = wide(value)
        return value if given is None else replaced(name, value, given)

    def emit(self, name: str, value: Tensor) -> Tensor:
        """The same for an output of the task, which is asked for always."""
        given = self.given(name)
        self.found.setdefault(name, value)
        return value if given is None else replaced(name, value, given)

    def refuse(self, name: str) -> None:
        """Raises: UsageError if a value is asked for that a fused kernel never shows."""
        if name in self.taps:
            raise UsageError(f"tap {name}: attention sdpa has no scores; build with attention eager")

    def drop(self, site: str, value: Tensor, rate: float) -> Tensor:
        """Dropout at a site."""
        if self.mode == "own":
            return F.dropout(value, rate)
        mask = self.batch.get(f"mask.{site}")
        return value if mask is None else value * mask.to(value.dtype)

    def rows(self, gathered: Tensor, parameter: str) -> Tensor:
        """What a gather gave, plus the zeros whose gradient is that of its rows."""
        zeros = self.batch.get(f"rows.{parameter}")
        return gathered if zeros is None else gathered + zeros


def initialise(model: nn.Module, config: BertConfig) -> None:
    """Weights from a truncated normal, biases 0, LayerNorm 1: modeling.py:create_initializer."""
    for name, parameter in model.named_parameters():
        if name.endswith(".weight") and parameter.ndim > 1:
            deviation = config.initializer_range
            nn.init.trunc_normal_(parameter, std=deviation, a=-2 * deviation, b=2 * deviation)
        elif not name.endswith("LayerNorm.weight") and not name.endswith("layer_norm.weight"):
            nn.init.zeros_(parameter)
