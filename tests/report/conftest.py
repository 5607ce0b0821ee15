"""A browser for all tests of one run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from chromium import NAMES, Page, chromium, found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab of a headless Chromium. Where it is not installed the test is skipped, and in a CI it fails."""
    binary = found()
    if binary is None:
        reason = f"no {' or '.join(NAMES)} is installed (Debian: apt-get install chromium)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with chromium(binary, tmp_path_factory.mktemp("profile")) as tab:
        yield tab
