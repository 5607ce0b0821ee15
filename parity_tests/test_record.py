"""With --record DIR: the source of every model and task, for a target on another machine."""

from __future__ import annotations

import pytest

from porting.errors import PortError
from porting.parity.reader import read_capture
from porting.testing.suite.choice import Case
from porting.testing.suite.evidence import Evidence


def test_record(parity_evidence: Evidence, parity_case: Case) -> None:
    """The source's capture is whole, and its noise floor was measured."""
    try:
        folder = parity_evidence.recorded(parity_case)
    except PortError as error:
        pytest.fail(str(error), pytrace=False)
    assert read_capture(folder / "source").manifest.state == "whole"
    assert (folder / "floor.json").is_file()
