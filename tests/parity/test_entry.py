"""A capture through an entry in another interpreter: it compares with others, and a crash is one that says so."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from porting.backends.names import BackendName
from porting.errors import UsageError
from porting.parity.entry import capture_entry
from porting.parity.reader import read_capture

BATCH = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "ids": np.array([1, 2], np.int32)}
MODEL = """
import numpy as np

WEIGHT = np.full((3, 2), 0.5, np.float32)

def run(batch):
    yield "weights/dense.kernel", WEIGHT
    hidden = batch["x"] @ WEIGHT
    yield "hidden", hidden
    yield "bert/encoder/output", np.tanh(hidden)
    yield "gradients/dense.kernel", batch["x"].T @ np.ones_like(hidden)
    yield "loss", hidden.sum()
"""


@pytest.fixture
def captured(tmp_path):
    """Captures an entry written as text."""

    def run(text=MODEL, *, backend=f"tensorflow:npu@{sys.executable}", name="mine", timeout=60.0, **options):
        (tmp_path / "model.py").write_text(text)
        output = tmp_path / "captures" / name
        entry = f"{tmp_path / 'model.py'}:run"
        made = capture_entry(BackendName.parse(backend), entry, BATCH, output=output, timeout=timeout, **options)
        assert made == output
        assert [path.name for path in output.parent.iterdir()] == [name]  # nothing is left beside it
        return read_capture(made)

    return run


def test_taps_weights_and_gradients_are_captured_in_order(captured):
    found = captured()
    assert found.manifest.state == "whole"
    assert found.manifest.taps == ("input.x", "input.ids", "hidden", "bert/encoder/output", "loss")
    assert (found.manifest.framework, found.manifest.device) == ("tensorflow", "npu")
    assert found.manifest.backend == f"tensorflow:npu@{sys.executable}"
    assert found.manifest.versions["numpy"] == np.__version__
    assert found.manifest.weights
    np.testing.assert_array_equal(found.tensor("forward", "hidden"), BATCH["x"] @ np.full((3, 2), 0.5, np.float32))
    np.testing.assert_array_equal(found.tensor("weights", "dense.kernel"), np.full((3, 2), 0.5, np.float32))
    assert found.tensor("gradients", "dense.kernel").shape == (3, 2)
    assert found.tensor("forward", "loss").shape == ()


def test_two_runs_agree_on_their_hashes_and_another_batch_does_not(captured, monkeypatch):
    one, two = captured(), captured(overwrite=True)
    assert (one.manifest.batch, one.manifest.weights) == (two.manifest.batch, two.manifest.weights)
    monkeypatch.setitem(BATCH, "x", BATCH["x"] + 1)
    assert captured(overwrite=True).manifest.batch != one.manifest.batch


def test_summaries_only(captured):
    found = captured(whole=False)
    assert found.tensor("forward", "hidden") is None
    assert ("forward", "hidden") in found.summaries


CRASHES = {
    "exception": ("    yield 'a', [1.0]\n    raise KeyError('lost')", 60, "KeyError: 'lost': KeyError: 'lost'"),
    "exit": ("    import os; print('bye'); os._exit(3)", 60, "ended with exit code 3 and without a result: bye"),
    "hang": ("    import time; time.sleep(600)", 4, "did not end within 4 s and was killed"),
}


@pytest.mark.parametrize("what", CRASHES)
def test_a_crash_is_a_capture_that_says_so(what, captured):
    body, timeout, reason = CRASHES[what]
    found = captured(f"def run(batch):\n{body}\n", timeout=timeout)
    assert found.manifest.state == "crashed"
    assert found.manifest.reason.startswith(reason)
    assert found.manifest.taps == ("input.x", "input.ids")


@pytest.mark.parametrize(
    ("text", "problem"),
    [("def run(batch):\n    return {}\n", "returned no tap"), ("walk = 1\n", "there is no function run")],
)
def test_an_entry_that_does_not_fit_is_refused_and_leaves_nothing(text, problem, captured, tmp_path):
    with pytest.raises(UsageError, match=problem):
        captured(text)
    assert list((tmp_path / "captures").iterdir()) == []


def test_an_entry_wants_an_interpreter(captured):
    with pytest.raises(UsageError, match="backend torch:cpu: an entry wants the interpreter to run it in named"):
        captured(backend="torch:cpu")
