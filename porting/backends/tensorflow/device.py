"""Makes TensorFlow ready on a device. See porting.backends.device."""

from __future__ import annotations

import os
from importlib import import_module

import tensorflow as tf

from porting.backends.device import Device, processor

PRECISION_MODE = "must_keep_origin_dtype"
"""What Ascend's TensorFlow adapter is told, whose default would compute float32 in float16 (allow_fp32_to_fp16)."""


def prepare(device: str) -> Device:
    """Make cpu, gpu or npu ready. Raises: ImportError, RuntimeError with the framework's text."""
    if device == "npu":
        return _npu()
    if device == "gpu":
        return _gpu()
    versions = {"tensorflow": tf.__version__}
    switches = {"onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")}
    return Device(processor(), len(tf.config.list_logical_devices("CPU")), versions, switches)


def peak_memory(device: str) -> int | None:
    """Bytes of tensors at most, as the allocator of a GPU has counted; None of an NPU, of which nothing is told."""
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"]) if device == "gpu" else None


def _gpu() -> Device:
    if not tf.test.is_built_with_gpu_support():
        raise RuntimeError(f"TensorFlow {tf.__version__} is built without GPU support")
    there = tf.config.list_physical_devices("GPU")
    if not there:
        raise RuntimeError("TensorFlow sees no GPU: its log above says which library it could not load")
    tf.config.experimental.enable_tensor_float_32_execution(False)
    tf.config.experimental.enable_op_determinism()
    build = tf.sysconfig.get_build_info()
    versions = {
        "tensorflow": tf.__version__,
        "cuda": str(build.get("cuda_version", "")),
        "cudnn": str(build.get("cudnn_version", "")),
    }
    name = tf.config.experimental.get_device_details(there[0]).get("device_name", "GPU")
    return Device(name, len(there), versions, {"tensor_float_32": "False", "op_determinism": "True"})


def _npu() -> Device:
    npu = import_module("npu_device")
    options = npu.global_options()
    options.precision_mode = PRECISION_MODE
    options.deterministic = 1
    npu.open().as_default()
    there = tf.config.list_logical_devices("NPU")
    if not there:
        raise RuntimeError("npu_device is open, and TensorFlow sees no NPU")
    versions = {"tensorflow": tf.__version__, "npu_device": str(getattr(npu, "__version__", ""))}
    return Device("NPU", len(there), versions, {"precision_mode": PRECISION_MODE, "deterministic": "1"})
