"""The peak of memory: of the process on a CPU, of the allocator on a device, none where nobody counts."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from porting.backends.device import peak_memory, resident_peak
from porting.backends.names import BackendName


@pytest.mark.parametrize("name", ["torch:cpu", "tensorflow:cpu", "mindspore:cpu"])
def test_on_a_cpu_it_is_that_of_the_process(name):
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    most = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
    assert peak_memory(BackendName.parse(name)) == pytest.approx(most, rel=0.05)


def test_it_is_not_that_of_the_process_that_started_this_one():
    fat = b"x" * (512 << 20)
    program = "from porting.backends.device import resident_peak; print(resident_peak())"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert len(fat) <= resident_peak()
    assert 4 << 20 < int(ran.stdout) < 256 << 20


def test_without_proc_the_system_tells_it(monkeypatch):
    monkeypatch.setattr("builtins.open", Mock(side_effect=FileNotFoundError))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resident_peak() == pytest.approx(most if sys.platform == "darwin" else most << 10, rel=0.05)


def test_an_emulated_device_has_none():
    assert peak_memory(BackendName.parse("torch:npu,cube=float16")) is None


@pytest.mark.torch
def test_torch_asks_the_allocator_of_the_device(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch, "npu", SimpleNamespace(max_memory_allocated=lambda: 3 << 20), raising=False)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5 << 20)
    assert peak_memory(BackendName.parse("torch:npu")) == 3
    assert peak_memory(BackendName.parse("torch:cuda")) == 5
    monkeypatch.setattr(torch, "npu", SimpleNamespace(), raising=False)
    assert peak_memory(BackendName.parse("torch:npu")) is None


@pytest.mark.tensorflow
def test_tensorflow_knows_that_of_gpus(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    monkeypatch.setattr(tf.config.experimental, "get_memory_info", {"GPU:0": {"peak": 7 << 20}}.get)
    assert peak_memory(BackendName.parse("tensorflow:gpu")) == 7
    assert peak_memory(BackendName.parse("tensorflow:npu")) is None


@pytest.mark.mindspore
def test_mindspore_asks_its_memory_pool(monkeypatch):
    ms = pytest.importorskip("mindspore")
    assert peak_memory(BackendName.parse("mindspore:ascend")) is None, "on this machine it counts none"
    monkeypatch.setattr(ms.runtime, "max_memory_allocated", lambda: 9 << 20)
    assert peak_memory(BackendName.parse("mindspore:ascend")) == 9
