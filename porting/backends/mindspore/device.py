"""Makes MindSpore ready on a device. See porting.backends.device."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore.communication import GlobalComm

from porting.backends.device import Device, processor

TARGETS = {"cpu": "CPU", "gpu": "GPU", "ascend": "Ascend"}
PRECISION_MODE = "must_keep_origin_dtype"
"""Of graph mode on an Ascend: no default holds for all versions."""


def prepare(device: str) -> Device:
    """Make cpu, gpu or ascend ready. Raises: RuntimeError, ValueError with the framework's text."""
    target = TARGETS[device]
    if not GlobalComm.INITED:  # among several ranks the device was chosen before they met, and cannot be changed
        _choose(target)
    # MindSpore 2.10 imports beside numpy 2, and fails at the first permute.
    ms.Tensor(np.zeros((1, 2), np.float32)).permute(1, 0).asnumpy()
    if target == "CPU":
        return Device(processor(), 1, {"mindspore": ms.__version__}, {"deterministic": _deterministic()})
    ms.set_deterministic(True)
    switches = {"deterministic": _deterministic()}
    if target == "Ascend":
        precision = ms.device_context.ascend.op_precision
        precision.precision_mode(PRECISION_MODE)
        precision.matmul_allow_hf32(False)
        precision.conv_allow_hf32(False)
        switches |= {"precision_mode": PRECISION_MODE, "matmul_allow_hf32": "False", "conv_allow_hf32": "False"}
    name = ms.hal.get_device_name(0, target)
    return Device(name, ms.hal.device_count(target), {"mindspore": ms.__version__}, switches)


def _choose(target: str) -> None:
    """Set the device. Where MindSpore has run something already it is refused, which is well if it ran on this one."""
    current = ms.get_context("device_target")
    try:
        ms.set_device(target)
    except RuntimeError:
        if current != target:
            raise


def peak_memory(device: str) -> int | None:
    """Bytes of tensors at most, as the memory pool of the device has counted; None where it counts none."""
    del device  # the process has one
    return int(ms.runtime.max_memory_allocated()) or None


def _deterministic() -> str:
    return str(ms.get_context("deterministic"))
