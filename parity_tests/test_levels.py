"""Every model and task on the target, level by level."""

from __future__ import annotations

import pytest

from porting.parity.state import Verdict
from porting.testing.suite.choice import FORWARD_ONLY, TRAINED, Target
from porting.testing.suite.judge import judge
from porting.testing.suite.ledger import Expected


def test_level(
    request: pytest.FixtureRequest,
    parity_target: Target,
    parity_level: str,
    parity_expected: Expected | None,
) -> None:
    """The target agrees with the source, or fails as is expected of it."""
    if parity_target.resolved.backend.known == FORWARD_ONLY and parity_level in (*TRAINED, "L2 forced"):
        what = "has no gradients and trains nothing" if parity_level in TRAINED else "cannot be given taps"
        pytest.skip(f"NOT_RUN: an ONNX graph is run forward only: it {what}")
    verdict: Verdict = request.getfixturevalue("parity_verdict")
    if parity_level in TRAINED and not verdict.findings:
        pytest.skip("NOT_RUN: neither side has a gradient: the task has no loss")
    judge(verdict, parity_expected)
