"""The page about logs names every dialect, with its example as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from porting.logs.dialects import DIALECTS

PAGE = Path(__file__).parents[2] / "docs" / "logs.md"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_row_for_each_dialect(dialect):
    example = dialect.example.replace("|", "\\|")
    assert f"| {dialect.title} | `{example}` |" in PAGE.read_text()
