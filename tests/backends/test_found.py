"""What names come to: on a bare machine, on one with an Ascend, and on every machine between the two."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from machines import DEAD, FRAMEWORKS, ascend, crashed, machine, says

from porting.backends.found import NO_GPU, find, resolve, usable
from porting.backends.names import BackendName, names
from porting.backends.system import this_machine
from porting.errors import UsageError

parse = BackendName.parse


def test_npu_on_a_bare_machine_is_emulated_by_torch_and_says_so():
    system = machine()
    found = resolve(parse("npu"), system)
    assert str(found.backend) == "torch:npu,cube=float16,overflow=saturate"
    assert found.emulated == "float16 saturate"
    assert found.reason == "EMULATED: no sign of an Ascend (no torch_npu, no npu-smi, no /dev/davinci*)"
    assert found.device is None
    assert system.probe.asked == []
    assert resolve(found.backend, system) == replace(found, backend=found.backend)


@pytest.mark.parametrize(
    ("name", "emulated"),
    [("npu,cube=hf32", "hf32 saturate"), ("torch:npu,overflow=infnan,cube=bfloat16", "bfloat16 infnan")],
)
def test_what_is_emulated_can_be_chosen(name, emulated):
    assert resolve(parse(name), machine()).emulated == emulated


def test_mindspores_port_of_the_embedded_default_runs_on_the_cpu():
    found = resolve(parse("npu"), machine(), framework="mindspore")
    assert (str(found.backend), found.emulated) == ("mindspore:cpu", "cpu")
    assert found.reason.startswith("EMULATED")


@pytest.mark.parametrize("framework", ["tensorflow", "onnxruntime"])
def test_what_has_no_emulation_says_so(framework):
    with pytest.raises(UsageError, match=f"{framework} has no emulated NPU"):
        resolve(parse("npu"), machine(), framework=framework)


def test_the_emulation_wants_torch():
    with pytest.raises(UsageError, match=r"torch not installed, which stands in .* pip install 'porting-kit\[torch\]'"):
        resolve(parse("npu"), machine(modules={"mindspore": "2.10.0"}))


@pytest.mark.parametrize("name", ["npu", "torch:npu,cube=hf32"])
def test_a_required_device_is_never_emulated(name):
    with pytest.raises(UsageError, match="a device is required, and there is no sign of an Ascend"):
        resolve(parse(name), machine(), require_device=True)


def test_a_required_device_is_no_cpu():
    with pytest.raises(UsageError, match="a device is required, and a CPU is none"):
        resolve(parse("mindspore:cpu"), machine(), require_device=True)


@pytest.mark.parametrize("name", ["torch:npu", "mindspore:ascend", "tensorflow:npu", "onnxruntime:cann"])
def test_hardware_that_is_named_is_not_replaced(name):
    with pytest.raises(UsageError, match=f"backend {name}: cannot be used here: no sign of an Ascend"):
        resolve(parse(name), machine())


SIGNS = {
    "torch_npu": {"modules": {**FRAMEWORKS, "torch_npu": "2.13.0"}},
    "an adapter of TensorFlow": {"modules": {**FRAMEWORKS, "npu_device": ""}},
    "npu-smi": {"programs": ["npu-smi"], "command": says(DEAD)},
    "a device node": {"files": ["/dev/davinci3"]},
    "only the manager's node": {"files": ["/dev/davinci_manager"]},
    "CANN": {"environ": {"ASCEND_HOME_PATH": "/usr/local/Ascend/cann"}},
    "files of a driver": {"files": ["/usr/local/Ascend"]},
}


@pytest.mark.parametrize("sign", SIGNS)
def test_any_sign_of_an_ascend_that_cannot_be_used_is_an_error_never_a_fallback(sign):
    broken = crashed("ImportError: libhccl.so: cannot open shared object file: No such file or directory")
    ascends = ("torch:npu", "tensorflow:npu", "mindspore:ascend", "onnxruntime:cann")
    system = machine(**SIGNS[sign], plan=dict.fromkeys(ascends, broken))
    with pytest.raises(UsageError) as refused:
        resolve(parse("npu"), system)
    first, *rest = str(refused.value).splitlines()
    assert first.startswith("backend npu: there are signs of an Ascend (")
    assert first.endswith("that cannot be used, so nothing is emulated")
    assert any("torch:npu: ImportError: libhccl.so" in line and "set_env.sh" in line for line in rest)
    assert any("no CANN" in line or "no /dev/davinci0" in line for line in rest)
    assert system.probe.asked == list(ascends)


def test_the_emulation_cannot_be_asked_for_where_there_is_an_ascend():
    with pytest.raises(UsageError, match=r"cube, overflow are of the emulated NPU; here are signs of one: torch_npu"):
        resolve(parse("npu,cube=hf32"), ascend())


def test_npu_is_the_hardware_where_there_is_one():
    found = resolve(parse("npu"), ascend(), require_device=True)
    assert (str(found.backend), found.emulated, found.reason) == ("torch:npu", "", "planted")


def test_npu_is_another_framework_where_torch_cannot():
    system = ascend(plan={"torch:npu": crashed("OSError: undefined symbol: _ZN2at")})
    assert str(resolve(parse("npu"), system).backend) == "tensorflow:npu"
    assert str(resolve(parse("npu"), system, framework="mindspore").backend) == "mindspore:ascend"
    with pytest.raises(UsageError, match="undefined symbol: _ZN2at: the versions do not fit one another"):
        resolve(parse("npu"), system, framework="torch")


def test_cpu_is_the_first_that_works():
    assert str(resolve(parse("cpu"), machine()).backend) == "torch:cpu"
    assert str(resolve(parse("cpu"), machine(), framework="tensorflow").backend) == "tensorflow:cpu"
    without = machine(modules={"mindspore": "2.10.0"})
    assert str(resolve(parse("cpu"), without).backend) == "mindspore:cpu"
    broken = machine(plan={"torch:cpu": crashed("killed by SIGILL (illegal instruction)")})
    assert str(resolve(parse("cpu"), broken).backend) == "tensorflow:cpu"


def test_gpu_without_one_says_of_every_backend_why_not():
    system = machine(modules={"torch": "2.13.0+cpu"}, programs=["nvidia-smi"], plan={
        "torch:cuda": crashed("RuntimeError: PyTorch 2.13.0+cpu is built without CUDA"),
    })  # fmt: skip
    with pytest.raises(UsageError) as refused:
        resolve(parse("gpu"), system)
    lines = str(refused.value).splitlines()
    assert lines[0] == "backend gpu: there is none here that can be used"
    assert "built without CUDA: install a build with CUDA" in lines[1]
    assert lines[2] == "  tensorflow:gpu: tensorflow not installed: pip install 'porting-kit[tensorflow]'"
    assert system.probe.asked == ["torch:cuda"]


def test_a_cpu_is_used_without_a_try_and_nothing_else_is():
    system = machine(files=["/dev/nvidia0"])
    assert str(usable(parse("tensorflow:cpu"), system).backend) == "tensorflow:cpu"
    assert str(usable(parse("cpu"), system, framework="mindspore").backend) == "mindspore:cpu"
    assert system.probe.asked == []
    assert str(usable(parse("gpu"), system).backend) == "torch:cuda"
    assert system.probe.asked == ["torch:cuda"]
    with pytest.raises(UsageError, match="a device is required, and a CPU is none"):
        usable(parse("cpu"), system, require_device=True)


@pytest.mark.parametrize("sign", ["/dev/nvidia0", "/dev/kfd", "/dev/dxg"])
def test_a_gpu_is_tried_where_there_is_a_sign_of_one(sign):
    assert find(parse("torch:cuda"), machine()).problem == NO_GPU
    assert find(parse("torch:cuda"), machine(files=[sign])).device is not None


@pytest.mark.parametrize("name", names())
def test_what_is_not_installed_says_how_to_install_it(name):
    found = find(parse(name), machine(modules={}))
    assert found.device is None
    assert "not installed: pip install 'porting-kit[" in found.line


def test_a_named_interpreter_is_tried_whatever_is_installed_here():
    system = machine(
        modules={}, plan={"tensorflow:npu@/opt/py": crashed("ModuleNotFoundError: No module named 'npu_device'")}
    )
    with pytest.raises(
        UsageError, match=r"cannot be used here: ModuleNotFoundError.*the TensorFlow adapter that comes"
    ):
        resolve(parse("tensorflow:npu@/opt/py"), system)
    assert resolve(parse("tensorflow:npu@/opt/other"), system).emulated == ""


@pytest.mark.torch
def test_this_machine_has_torch_on_its_cpu():
    pytest.importorskip("torch")
    found = resolve(parse("torch:cpu"))
    assert found.device["versions"]["torch"]
    assert found.device["switches"]["threads"].isdigit()


@pytest.fixture
def planted_torch_npu(tmp_path):
    """A torch_npu as it is without CANN: installed, registered for autoload, and not to be imported."""
    (tmp_path / "torch_npu").mkdir()
    text = "raise ImportError('libhccl.so: cannot open shared object file: No such file or directory')\n"
    (tmp_path / "torch_npu" / "__init__.py").write_text(text)
    info = tmp_path / "torch_npu-2.13.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch_npu\nVersion: 2.13.0\n")
    (info / "entry_points.txt").write_text("[torch.backends]\ntorch_npu = torch_npu:_autoload\n")
    return tmp_path


@pytest.mark.torch
def test_a_torch_npu_that_cannot_be_imported_is_found_and_the_cpu_still_works(planted_torch_npu, monkeypatch):
    pytest.importorskip("torch")
    path = os.pathsep.join([str(planted_torch_npu), os.environ.get("PYTHONPATH", "")])
    plain = subprocess.run(
        [sys.executable, "-c", "import torch"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Failed to load the backend extension: torch_npu" in plain.stderr  # what the kit has to work around
    monkeypatch.syspath_prepend(str(planted_torch_npu))
    system = this_machine()
    assert find(parse("torch:cpu"), system).device is not None
    with pytest.raises(UsageError) as refused:
        resolve(parse("npu"), replace(system, environ={}), framework="torch")
    text = str(refused.value)
    assert "there are signs of an Ascend (torch_npu 2.13.0)" in text
    assert "libhccl.so: cannot open shared object file: No such file or directory: CANN is not found: source" in text


@pytest.mark.torch
def test_an_emulated_npu_is_prepared_as_the_cpu_it_is():
    pytest.importorskip("torch")
    outcome = this_machine().probe(resolve(parse("npu"), machine()).backend)
    assert outcome.state == "done"
    assert "HCCL_DETERMINISTIC" not in outcome.result["switches"]
