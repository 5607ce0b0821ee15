"""Contexts in which PyTorch computes as ports do by mistake: what the catalogue makes of the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Of = Literal["all", "attention", "dense"]

_FIRST = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}
"""Position of the first operand of a product, by operator: what stands before it is added."""

_PIECE = 16
"""Terms of a product that are summed before the sum is rounded: a unit of half precision adds a few at a time."""


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

    of: `attention`, batched ones of four axes; `dense`, those with a weight. arithmetic: `float16 result`, operands and
    result rounded; `float16 operands`; `float16 sums`, the running sum rounded every few terms; `bfloat16 result`.
    """

    def __init__(self, of: Of, arithmetic: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = {"all": set(_FIRST), "attention": {"bmm", "baddbmm"}, "dense": {"mm", "addmm"}}[of]
        self._dtype = torch.bfloat16 if arithmetic.startswith("bfloat16") else torch.float16
        self._way = arithmetic.split()[1]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        name = func.overloadpacket.__name__
        if name not in self._names or args[_FIRST[name]].dtype != torch.float32:
            return func(*args, **(kwargs or {}))
        at = _FIRST[name]
        one, two = (args[at + i].to(self._dtype).float() for i in (0, 1))
        product: Callable[..., torch.Tensor] = torch.bmm if one.ndim == 3 else torch.mm
        made = self._summed(product, one, two) if self._way == "sums" else product(one, two)
        if at:
            made = made + args[0].to(self._dtype).float()
        return made if self._way == "operands" else made.to(self._dtype).float()

    def _summed(self, product: Callable[..., torch.Tensor], one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        total = product(one[..., :0], two[..., :0, :])
        for start in range(0, one.shape[-1], _PIECE):
            part = slice(start, start + _PIECE)
            total = (total + product(one[..., part], two[..., part, :])).to(self._dtype).float()
        return total
