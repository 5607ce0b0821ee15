"""Makes PyTorch ready on a device. See porting.backends.device."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

from porting.backends.device import Device, processor


def prepare(device: str) -> Device:
    """Make cpu, cuda or npu ready. Raises: ImportError, OSError, RuntimeError with the framework's text."""
    if device == "cuda":
        return _cuda()
    if device == "npu":
        return _npu()
    versions = {"torch": torch.__version__}
    return Device(processor(), 1, versions, {**common_switches(), "mkldnn": str(torch.backends.mkldnn.enabled)})


def peak_memory(device: str) -> int | None:
    """Bytes of tensors at most, as the allocator of cuda or npu has counted; None of another device."""
    allocator: Any = getattr(torch, device, None)
    counted = getattr(allocator, "max_memory_allocated", None)
    return None if counted is None else int(counted())


def common_switches() -> dict[str, str]:
    """Those that every device has, as they are now."""
    return {
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "threads": str(torch.get_num_threads()),
    }


def _cuda() -> Device:
    if torch.version.cuda is None and torch.version.hip is None:
        raise RuntimeError(f"PyTorch {torch.__version__} is built without CUDA")
    torch.empty(1, device="cuda")  # says in words why it cannot, which is_available() does not
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    versions = {
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda or torch.version.hip),
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
    }
    switches = {**common_switches(), "cudnn.allow_tf32": "False", "cudnn.benchmark": "False"}
    return Device(torch.cuda.get_device_name(0), torch.cuda.device_count(), versions, switches)


def _npu() -> Device:
    # Found at run time: torch_npu is installed on machines with an Ascend only.
    torch_npu: Any = import_module("torch_npu")
    npu: Any = torch.npu  # type: ignore[attr-defined]
    if npu.device_count() == 0:
        raise RuntimeError("torch_npu sees no device")
    torch.empty(1, device="npu")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    npu.matmul.allow_hf32 = False
    npu.conv.allow_hf32 = False
    versions = {"torch": torch.__version__, "torch_npu": str(torch_npu.__version__)}
    switches = {**common_switches(), "matmul.allow_hf32": "False", "conv.allow_hf32": "False"}
    return Device(npu.get_device_name(0), npu.device_count(), versions, switches)
