"""What tests of comparisons share."""

from __future__ import annotations

import pytest
from compare_support import floor_for, save, tensors

from porting.parity.floor import Floor
from porting.parity.reader import Capture


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    """A capture of a small model, made by hand."""
    return save(tmp_path_factory.mktemp("source") / "c", tensors())


@pytest.fixture(scope="session")
def floor(source: Capture, tmp_path_factory: pytest.TempPathFactory) -> Floor:
    """Its noise floor."""
    return floor_for(tmp_path_factory.mktemp("floor"), source, tensors())
