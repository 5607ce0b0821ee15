"""MindSpore made ready in a process where it has run something already."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import mindspore as ms
import numpy as np
ms.Tensor(np.ones((2, 3), np.float32)).permute(1, 0).asnumpy()
from porting.backends.mindspore.device import prepare
print(prepare("cpu").count)
try:
    prepare("gpu")
except (RuntimeError, ValueError):
    print("refused")
print(prepare("cpu").count)
"""


@pytest.mark.mindspore
def test_the_device_that_it_runs_on_is_taken_and_another_is_not() -> None:
    pytest.importorskip("mindspore")
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == ["1", "refused", "1"], ran.stderr
