"""Powers of Adam's betas, as optimizers keep them: float32, multiplied once a step.

TensorFlow and MindSpore store beta^n in place of beta, one of them a factor ahead of the other, and
rounding makes the product of n factors differ from a power computed at once. So a power is taken
apart into the beta and the count that give it bit for bit, and made again by the same
multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BLOCK = 1 << 16
_DIGITS = 7


@dataclass(frozen=True, slots=True)
class Power:
    """beta^count in float32. beta: None if no decimal number of 7 digits gives this value."""

    value: float
    count: int
    beta: float | None

    def at(self, count: int) -> float | None:
        """The power with another count; None if the value does not tell it.

        Where beta is not known exactly, the result is as exact as float32's logarithm of the value.
        """
        if self.beta is not None:
            return product(self.beta, count)
        if count == self.count or self.value == 0:
            return self.value
        return float(np.float32(self.value ** (count / self.count))) if self.count else None

    @property
    def base(self) -> float | None:
        """beta, rounded to 7 digits if it is not known exactly; None if the value does not tell it."""
        if self.beta is not None or not self.count or self.value == 0:
            return self.beta
        return float(round(self.value ** (1 / self.count), _DIGITS))


def product(beta: float, count: int) -> float:
    """Beta multiplied with itself in float32, `count` factors.

    >>> product(0.9, 2) == 0.9 * 0.9, round(product(0.9, 2), 6)
    (False, 0.81)
    """
    factor, value = np.float32(beta), np.float32(1)
    while count > 0:
        block = np.full(min(count, _BLOCK) + 1, factor, np.float32)
        block[0] = value
        steps = np.multiply.accumulate(block, dtype=np.float32)
        count -= len(block) - 1
        value = steps[-1]
        if value == steps[-2]:  # underflowed, or stuck at a denormal that rounds to itself
            break
    return float(value)


def take_apart(value: float, count: int) -> Power:
    """The beta of the fewest digits whose product over `count` factors is the value, bit for bit."""
    if count > 0 and 0 < value < 1:
        near = value ** (1 / count)
        for digits in range(1, _DIGITS + 1):
            beta = round(near, digits)
            if 0 < beta < 1 and product(beta, count) == value:
                return Power(value, count, beta)
    return Power(value, count, None)
