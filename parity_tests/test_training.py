"""L5 and L6: one model is trained on the target and on the source, replicas on both sides."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from porting.acceptance.judge import equivalent
from porting.parity.state import State, Verdict
from porting.testing.suite.choice import FORWARD_ONLY, Choice, Target
from porting.testing.suite.judge import judge
from porting.testing.suite.ledger import Expected


def test_training(
    parity_choice: Choice,
    parity_target: Target,
    parity_level: str,
    parity_expected: Expected | None,
    parity_trained: Callable[[], Verdict],
) -> None:
    """The target trains as the source does, and at a speed of its kind, or fails as is expected of it.

    One honest port in twenty differs by more than noise by chance, and one whose sums are ordered unlike any replica's
    does always: that the difference is within the margin, which the test of equivalence shows, is enough here.
    """
    if parity_target.resolved.backend.known == FORWARD_ONLY:
        pytest.skip("NOT_RUN: an ONNX graph is run forward only: it trains nothing")
    if parity_choice.source is None:
        pytest.skip("NOT_RUN: the source was recorded on another machine, and its training was not")
    verdict = parity_trained()
    if parity_level == "L6" and verdict.state is State.NOT_RUN:
        pytest.skip(f"NOT_RUN: {verdict.reason}")
    if parity_expected is None and equivalent(verdict):
        return
    judge(verdict, parity_expected)
