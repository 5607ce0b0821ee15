"""What the mutation tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def room(tmp_path_factory):
    """Where plants and captures lie: sources are made once and judged by often."""
    return tmp_path_factory.mktemp("mutation")


@pytest.fixture(autouse=True)
def one_thread():
    """Nets this small are no work for two, which wait for each other where other processes run."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
