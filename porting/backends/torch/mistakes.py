"""Contexts in which PyTorch computes as ports do by mistake: what the catalogue makes of the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Of = Literal["all", "attention", "dense", "score", "position", "context"]

_FIRST = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}
"""Position of the first operand of a product, by operator: what stands before it is added."""

_PIECE = 16
"""Terms of a product that are summed before the sum is rounded: a unit of half precision adds a few at a time."""


class _Instead(TorchFunctionMode):
    """Functions of torch, by name, with others in their place."""

    def __init__(self, others: Mapping[str, Callable[..., torch.Tensor]]) -> None:
        super().__init__()
        self._others = others

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        return self._others.get(getattr(func, "__name__", ""), func)(*args, **(kwargs or {}))


def beside_root(epsilon: float) -> TorchFunctionMode:
    """LayerNorm that divides by the standard deviation plus epsilon."""

    def normed(value: torch.Tensor, shape: Any, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
        del shape, eps
        apart = value - value.mean(-1, keepdim=True)
        return apart / (apart.square().mean(-1, keepdim=True).sqrt() + epsilon) * weight + bias

    return _Instead({"layer_norm": normed})


def unbiased() -> TorchFunctionMode:
    """LayerNorm by the unbiased variance."""

    def normed(value: torch.Tensor, shape: Any, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
        del shape
        return (value - value.mean(-1, keepdim=True)) / (value.var(-1, keepdim=True) + eps).sqrt() * weight + bias

    return _Instead({"layer_norm": normed})


def function_in_half(
    name: Literal["layer_norm", "softmax"], dtype: Literal["float16", "bfloat16"]
) -> TorchFunctionMode:
    """A function of float32 in half precision, its result too."""
    half: torch.dtype = getattr(torch, dtype)
    original: Callable[..., torch.Tensor] = getattr(torch.nn.functional, name)

    def rounded(*args: Any, **kwargs: Any) -> torch.Tensor:
        narrow = [one.to(half) if isinstance(one, torch.Tensor) else one for one in args]
        named = {key: one.to(half) if isinstance(one, torch.Tensor) else one for key, one in kwargs.items()}
        return original(*narrow, **named).float()

    return _Instead({name: rounded})


def masks_filled(beyond: float) -> TorchFunctionMode:
    """What is below -beyond takes the place of what it is added to, which gets no gradient there."""

    def add(one: Any, two: Any, **kwargs: Any) -> torch.Tensor:
        if isinstance(two, torch.Tensor) and two.ndim == 4 and bool((two < -beyond).any()):
            return torch.where(two < -beyond, two, one)
        return torch.add(one, two, **kwargs)

    return _Instead({"add": add})


def gelu_by_sigmoid() -> TorchFunctionMode:
    """X sigmoid(1.702 x) for gelu: Hendrycks and Gimpel 2016, section 2."""
    return _Instead({"gelu": lambda value, **_: value * torch.sigmoid(1.702 * value)})


def without_tanh() -> TorchFunctionMode:
    """The identity for tanh, where it is called as such."""
    return _Instead({"tanh": lambda value: value})


@contextmanager
def lookups_detached(rows: int) -> Iterator[None]:
    """No gradient reaches the tables of so many rows by lookup."""
    original = torch.nn.Embedding.forward

    def forward(self: torch.nn.Embedding, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's own
        found = original(self, input)
        return found.detach() if self.num_embeddings == rows else found

    torch.nn.Embedding.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Embedding.forward = original  # type: ignore[method-assign]


@contextmanager
def training() -> Iterator[None]:
    """Every module stays in training mode, whatever it is told."""
    original = torch.nn.Module.train

    def train(self: torch.nn.Module, mode: bool = True) -> torch.nn.Module:  # noqa: FBT001, FBT002 - torch's own
        del mode
        return original(self, True)

    torch.nn.Module.train = train  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.nn.Module.train = original  # type: ignore[method-assign]


class products(TorchDispatchMode):  # type: ignore[no-untyped-call] # noqa: N801 - a context, named as the others
    """Matrix products of float32 in another arithmetic.

    of: `attention`, batched ones of four axes; of these `score`, over the units of a head to keys, `position`, over the
    units to anything else, `context`, over anything else; `dense`, those with a weight. arithmetic: `float16 result`,
    operands and result rounded; `float16 operands`; `float16 sums`, the running sum rounded every few terms;
    `bfloat16 result`. size: units of a head. keys: how many.
    """

    def __init__(self, of: Of, arithmetic: str, size: int = 0, keys: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        batched = {"bmm", "baddbmm"}
        self._names = {"all": set(_FIRST), "dense": {"mm", "addmm"}}.get(of, batched)
        self._of, self._size, self._keys = of, size, keys
        self._dtype = torch.bfloat16 if arithmetic.startswith("bfloat16") else torch.float16
        self._way = arithmetic.split()[1]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        name = func.overloadpacket.__name__
        at = _FIRST.get(name, 0)
        if name not in self._names or args[at].dtype != torch.float32 or not self._meant(*args[at : at + 2]):
            return func(*args, **(kwargs or {}))
        one, two = (args[at + i].to(self._dtype).float() for i in (0, 1))
        product: Callable[..., torch.Tensor] = torch.bmm if one.ndim == 3 else torch.mm
        made = self._summed(product, one, two) if self._way == "sums" else product(one, two)
        if at:
            made = made + args[0].to(self._dtype).float()
        return made if self._way == "operands" else made.to(self._dtype).float()

    def _meant(self, one: torch.Tensor, two: torch.Tensor) -> bool:
        if self._of == "context":
            return one.shape[-1] != self._size
        of_keys = two.shape[-1] == self._keys
        inner = one.shape[-1] == self._size
        return {"score": inner and of_keys, "position": inner and not of_keys}.get(self._of, True)

    def _summed(self, product: Callable[..., torch.Tensor], one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        total = product(one[..., :0], two[..., :0, :])
        for start in range(0, one.shape[-1], _PIECE):
            part = slice(start, start + _PIECE)
            total = (total + product(one[..., part], two[..., part, :])).to(self._dtype).float()
        return total
