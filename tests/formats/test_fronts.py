"""The fronts: what they promise without importing anything is what the formats do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from porting.checkpoint.registry import formats


@pytest.mark.parametrize("name", sorted(formats()))
def test_a_front_names_functions_that_exist(name: str, tmp_path) -> None:
    front = formats()[name]
    for call in (front.read, front.plan, front.verify, front.adapt):
        if call is not None:
            target = call.__closure__
            module, function = (cell.cell_contents for cell in target if isinstance(cell.cell_contents, str))
            names = {module, function}
            path = next(text for text in names if text.startswith("porting."))
            attribute = next(text for text in names if not text.startswith("porting."))
            assert callable(getattr(__import__(path, fromlist=[attribute]), attribute))
    assert front.locate(tmp_path / "nothing") is None


def test_finding_formats_imports_none_of_them() -> None:
    code = (
        "import sys; from porting.checkpoint.registry import formats; formats()\n"
        "print([name for name in sys.modules if name.startswith('porting.checkpoint.') and name.count('.') > 2])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
