"""What a verdict comes to in the suite: a pass, a failure, or one that is expected."""

from __future__ import annotations

import pytest

from porting.parity.state import State, Verdict
from porting.testing.parity import told
from porting.testing.suite.ledger import Expected


def judge(verdict: Verdict, expected: Expected | None) -> None:
    """Fail unless a verdict is a PASS, or what a line expects; a line that is not borne out fails too."""
    __tracebackhide__ = True
    if expected is None:
        if verdict.state is not State.PASS:
            pytest.fail(told(verdict), pytrace=False)
    elif verdict.state != expected.state:
        pytest.fail(f"stale: {expected.place} expects {expected.state}, and it is {told(verdict)}", pytrace=False)
    else:
        pytest.xfail(f"{expected.reason} ({expected.place})")
