"""An emulated NPU: PyTorch on the CPU, with the arithmetic of an Ascend's cube unit in every matrix product.

The cube multiplies float16 and accumulates in float32; float32 operands are rounded before they enter it. Products
of the forward and of the backward pass are treated alike, as long as both run within `Emulation.active`. What is
emulated is the rounding, not the order of sums, the fused operators or the speed of a device: evidence, never a
verdict on an NPU.

cube: what float32 operands are rounded to, to the nearest, ties to even.
    float16   precision_mode allow_fp32_to_fp16
    hf32      float32's range, 11 bits of mantissa: A2 and A3, on for convolutions by default and off for products
              (hiascend.com, ENABLE_HF32_EXECUTION; SetHF32TransMode for the rounding)
    bfloat16  from 910B1 on
    Operands that are float16 or bfloat16 already enter as they are; the sum is float32, and rounded to their dtype.

overflow: what becomes of a value that is out of range.
    saturate  910A and 310P: the dtype's largest number, and NaN becomes 0; in every product, and in every
              float16 result of any operator (hiascend.com, INF_NAN_MODE_ENABLE)
    infnan    A2 and A3: infinity and NaN, as IEEE 754 has it

Anything that looks like a matrix product and is not covered raises: a fused attention, a fused recurrent network, a
quantised or sparse product, an operator of an extension. Scaled dot product attention runs as PyTorch's math kernel.

Time against the same without emulation, forward and backward (benchmarks/emulation.py: BERT of 2 layers, batch 8 of 64
tokens, medians of 21 rounds in turns; PyTorch 2.13 on 2 threads of an AMD EPYC that others used too):

                  float16   bfloat16       hf32     saturate, infnan
    hidden 128   1.7, 1.6   1.7, 1.6   2.1, 2.0     of 17 ms
    hidden 768   1.2, 1.2   1.2, 1.2   1.3, 1.3     of 290 ms
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from porting.backends.names import OPTIONS
from porting.errors import UsageError

Cube = Literal["float16", "hf32", "bfloat16"]
Overflow = Literal["saturate", "infnan"]

OPERANDS: Mapping[str, tuple[int, ...]] = {
    "mm": (0, 1),
    "bmm": (0, 1),
    "mv": (0, 1),
    "linear": (0, 1),
    "addmm": (1, 2),
    "_addmm_activation": (1, 2),
    "baddbmm": (1, 2),
    "addbmm": (1, 2),
    "addmv": (1, 2),
    "convolution": (0, 1),
    "_convolution": (0, 1),
    "convolution_backward": (0, 1, 2),
}
"""Positions of what enters the cube, by operator; what is added to the product (a bias) does not."""

_PRODUCT = re.compile(
    r"(^|_)(\w*mm|\w*gemm|\w*matmul|mv|addmv|\w*dot|inner|outer|ger|addr|kron|einsum|\w*linear|\w*conv(olution|\dd)?|"
    r"\w*attention|\w*rnn|\w*lstm|\w*gru|cdist|pdist|euclidean|linalg|transformer|\w*bilinear|cov|corrcoef|"
    r"cholesky|lu|qr|svd|\w*solve|p?inverse|matrix)(_|\d|$)"
)
"""Names of operators that may multiply matrices."""

_NOT_A_PRODUCT = re.compile(
    r"_?upsample_|_?linalg_(vector_norm|_powsum|cross|check_errors)|_thnn_fused_|_convert_indices_|_standard_gamma"
)
"""Interpolations, norms, and the gates of a recurrent cell, whose products come before: these are the vector unit's."""

_PLAIN = frozenset({"aten", "prim", "prims", "rngprims", "profiler", "c10d", "_c10d_functional"})
"""Namespaces whose operators are known by name. Those of others (mkldnn, quantized, an extension) may do anything."""

_HALVES = (torch.float16, torch.bfloat16)
_HF32_DROPPED = 12
"""Of float32's 23 bits of mantissa, those that HF32 does not have."""


@dataclass(frozen=True, slots=True)
class Emulation:
    """The arithmetic of an emulated NPU. See the module."""

    cube: Cube = "float16"
    overflow: Overflow = "saturate"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of words in any order; what is left out is the default.

        >>> Emulation.parse("infnan hf32")
        Emulation(cube='hf32', overflow='infnan')

        Raises: UsageError for a word that is none.
        """
        chosen: dict[str, Any] = {}
        for word in text.split():
            option = next((name for name, values in OPTIONS.items() if word in values), None)
            if option is None or option in chosen:
                known = "; ".join(f"{name}: {', '.join(values)}" for name, values in OPTIONS.items())
                raise UsageError(f"emulation {text}: {word}: wanted one each of {known}")
            chosen[option] = word
        return cls(**chosen)

    def __str__(self) -> str:
        return f"{self.cube} {self.overflow}"

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within it, this thread's operators run on the emulated NPU, those of its backward passes too.

        Raises, from within: UsageError naming an operator that may be a product and is not covered.
        """
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # a fused encoder layer, of which nothing would be seen
        try:
            with sdpa_kernel(SDPBackend.MATH), _Npu(self):
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


class _Npu(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator below autograd, and so those of the backward pass."""

    def __init__(self, emulation: Emulation) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._saturating = emulation.overflow == "saturate"
        self._round = _rounding(emulation)

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        del types
        operands, given = _operands(func), kwargs or {}
        if operands == () or (operands is None and torch.is_inference_mode_enabled()):
            with self:  # what is made of others is taken apart: autograd does that, and inference mode does not
                found = func.decompose(*args, **given)
            if found is not NotImplemented:
                return found
        if operands == ():
            raise UsageError(f"the emulated NPU does not cover {func}, which may multiply matrices in a way of its own")
        if operands:
            return self._product(func, operands, list(args), given)
        found = func(*args, **given)
        return self._stored(func, found) if self._saturating else found

    def _product(self, func: Any, operands: tuple[int, ...], args: list[Any], kwargs: Mapping[str, Any]) -> Any:
        """A product with its operands rounded. Half dtypes are multiplied and summed in float32, and rounded after."""
        dtype = args[operands[0]].dtype
        if dtype == torch.float32:
            for i in operands:
                args[i] = self._round(args[i])
            return self._finite(func(*args, **kwargs))
        if dtype in _HALVES:
            return self._half_product(func, dtype, args, kwargs)
        if dtype.is_floating_point or dtype.is_complex:
            raise UsageError(f"the emulated NPU has no {dtype} in its cube, and {func} was given it")
        return func(*args, **kwargs)

    def _half_product(self, func: Any, dtype: torch.dtype, args: list[Any], kwargs: Mapping[str, Any]) -> Any:
        if func._schema.is_mutable:  # noqa: SLF001 - there is no public name for a schema
            raise UsageError(f"the emulated NPU does not cover {func} in {dtype}: it writes its sum in place")
        wide = [arg.float() if isinstance(arg, torch.Tensor) else arg for arg in args]
        found = func(*wide, **kwargs)
        if isinstance(found, torch.Tensor):
            return self._finite(found.to(dtype))
        return tuple(None if each is None else self._finite(each.to(dtype)) for each in found)

    def _stored(self, func: Any, found: Any) -> Any:
        """A result of an operator of the vector unit: float16 saturates. A view shows what was stored before."""
        for each in found if isinstance(found, tuple | list) else (found,):
            if isinstance(each, torch.Tensor) and each.dtype is torch.float16 and not func.is_view:
                self._finite(each)
        return found

    def _finite(self, found: Any) -> Any:
        """A result as the overflow mode stores it."""
        if not self._saturating:
            return found
        for each in found if isinstance(found, tuple | list) else (found,):
            if isinstance(each, torch.Tensor) and each.is_floating_point():
                torch.nan_to_num_(each, nan=0.0)
        return found


@cache
def _operands(func: Any) -> tuple[int, ...] | None:
    """Positions of what enters the cube; None for an operator that is no product; nothing where that is not known."""
    namespace, _, name = func.name().partition(".")[0].partition("::")
    plain = name.removesuffix("_")
    if namespace == "aten" and plain in OPERANDS:
        return OPERANDS[plain]
    if namespace not in _PLAIN:
        return ()
    return () if _PRODUCT.search(plain) and not _NOT_A_PRODUCT.match(plain) else None


def _rounding(emulation: Emulation) -> Callable[[torch.Tensor], torch.Tensor]:
    """What happens to a float32 operand on its way into the cube."""
    dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(emulation.cube)
    saturating = emulation.overflow == "saturate"
    if dtype is None:
        return _saturated_hf32 if saturating else _hf32

    def through(operand: torch.Tensor) -> torch.Tensor:
        half = operand.to(dtype)
        return (torch.nan_to_num_(half, nan=0.0) if saturating else half).float()

    return through


def _hf32(operand: torch.Tensor) -> torch.Tensor:
    """float32 rounded to 11 bits of mantissa: half of the last kept bit is added, less one unit where that is even."""
    bits = operand.contiguous().view(torch.int32)
    rounded = (bits >> _HF32_DROPPED).bitwise_and_(1).add_(bits).add_((1 << (_HF32_DROPPED - 1)) - 1)
    found = rounded.bitwise_and_(-(1 << _HF32_DROPPED)).view(torch.float32)
    if operand.sum().isnan():  # one pass to see whether there may be any, for a NaN's bits may run over into a number
        found = torch.where(operand.isnan(), operand, found)
    return found


def _saturated_hf32(operand: torch.Tensor) -> torch.Tensor:
    largest = torch.finfo(torch.float32).max * (1 - 2.0**-_HF32_DROPPED) / (1 - 2.0**-24)
    return torch.nan_to_num_(_hf32(operand), nan=0.0, posinf=largest, neginf=-largest)
