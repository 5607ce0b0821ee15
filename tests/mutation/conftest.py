"""What the mutation tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def room(tmp_path_factory):
    """Where plants and captures lie: sources are made once and judged by often."""
    return tmp_path_factory.mktemp("mutation")
