"""Other people's rules, with their own numbers and where those come from, for those who must report against them.

A rule stands beside the calibrated verdict and never in its place: a LayerNorm epsilon of 1e-7 for 1e-5 is within all
of them. Two captures hold one run on each side, so a rule on a trajectory is at most CONDITIONAL here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from porting.parity.state import Level

Series = Literal["loss", "grad_norm"]
Measure = Literal["first abs", "first rel", "mean abs", "mean rel", "cosine", "max abs", "ratio"]


@dataclass(frozen=True, slots=True)
class Bound:
    """A measure with its limit: at most, but of a cosine at least."""

    measure: Measure
    limit: float


_LEVELS = {
    "taps": Level.FORWARD,
    "gradients": Level.BACKWARD,
    "task": Level.TASK,
    "step_time": Level.SPEED,
    "memory": Level.SPEED,
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a rule: any of its bounds is enough.

    on: `taps` (forward), `gradients`, a series of the steps, `task`, or `step_time` and `memory`, whose ratio target /
    source is held to a limit. steps: what the rule wants at least. not_judged: what else the rule says that two
    captures cannot tell.
    """

    on: Literal["taps", "gradients", "loss", "grad_norm", "task", "step_time", "memory"]
    bounds: tuple[Bound, ...]
    source: str
    steps: int = 0
    not_judged: str = ""

    @property
    def level(self) -> Level:
        """The level that it belongs to."""
        return _LEVELS.get(self.on, Level.TRAJECTORY)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule by name."""

    name: str
    checks: tuple[Check, ...]


_MINDFORMERS = "MindFormers precision guide"
_MSPROBE = "msprobe guide"
_OPERATORS = "msprobe, operator level"
_VERL = "verl and OpenRLHF on Ascend"
_MINDSPEED = "MindSpeed-LLM CI"
_ZOO = "ModelZoo-PyTorch READMEs"

RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "mindformers",
            (
                Check("loss", (Bound("first abs", 0.005), Bound("first rel", 0.005)), f"{_MINDFORMERS}: first loss"),
                Check("loss", (Bound("mean abs", 0.01), Bound("mean rel", 0.01)), f"{_MINDFORMERS}: mean", 1000),
                Check("grad_norm", (Bound("mean rel", 0.1),), f"{_MINDFORMERS}: global norm", 1000),
            ),
        ),
        Rule(
            "msprobe",
            (
                Check("loss", (Bound("mean rel", 0.01),), f"{_MSPROBE}: misaligned above 1 %"),
                Check("taps", (Bound("cosine", 0.99),), f"{_OPERATORS}: cosine"),
                Check(
                    "taps",
                    (Bound("max abs", 0.001),),
                    f"{_OPERATORS}: absolute",
                    not_judged="shares of elements over 1 %, 0.1 % and 0.01 %",
                ),
            ),
        ),
        Rule("verl", (Check("loss", (Bound("mean rel", 0.02),), f"{_VERL}: mean loss error"),)),
        Rule(
            "mindspeed",
            (
                Check("loss", (Bound("mean rel", 0.02),), f"{_MINDSPEED}: loss"),
                Check("grad_norm", (Bound("mean rel", 0.1),), f"{_MINDSPEED}: gradient norm"),
                Check("step_time", (Bound("ratio", 1.05),), f"{_MINDSPEED}: time"),
                Check("memory", (Bound("ratio", 1.1),), f"{_MINDSPEED}: memory"),
            ),
        ),
        Rule("modelzoo", (Check("task", (), f"{_ZOO}: accuracy at least 99 % of the GPU's"),)),
    )
}

CALIBRATED = "calibrated"


def names() -> Iterable[str]:
    """All that `--criteria` takes, beside a file."""
    return (CALIBRATED, *RULES)
