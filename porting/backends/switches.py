"""The environment that a backend is started in: what frameworks read when they are imported, or before.

Switches that can be set later are set by porting/backends/<framework>/device.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from porting.backends.names import BackendName

ASCEND = {
    "HCCL_DETERMINISTIC": "true",  # reductions between devices in one order
    "CLOSE_MATMUL_K_SHIFT": "1",  # cores of a product start at one place of the summed axis
    "ATB_MATMUL_SHUFFLE_K_ENABLE": "0",  # likewise in the transformer library
}
"""Determinism on an Ascend: hiascend.com, Ascend Extension for PyTorch, "deterministic computing"."""

CUDA = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""Determinism of cuBLAS: docs.nvidia.com/cuda/cublas, "Results reproducibility"."""

RECORDED = (
    *ASCEND,
    *CUDA,
    "CUDA_VISIBLE_DEVICES",
    "ASCEND_RT_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "TF_ENABLE_ONEDNN_OPTS",
    "OMP_NUM_THREADS",
    "INF_NAN_MODE_ENABLE",
)
"""Variables that change what is computed, and belong into a capture where they are set."""


def environment(backend: BackendName, base: Mapping[str, str]) -> dict[str, str]:
    """The variables to start a backend with. What the user has set stays, but for what would load a second device."""
    found = dict(base)
    if backend.framework == "torch":
        # A torch_npu that cannot be loaded makes `import torch` fail, on a CPU too: it is imported where it is wanted.
        found["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
    if backend.framework == "tensorflow":
        found.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
        if backend.kind == "cpu":
            found["CUDA_VISIBLE_DEVICES"] = "-1"  # TensorFlow takes all memory of every GPU it sees
    if backend.kind != "cpu" and not backend.options:
        for name, value in (CUDA if backend.kind == "gpu" else ASCEND).items():
            found.setdefault(name, value)
    return found


def recorded(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of the environment that belong into a capture."""
    return {name: variables[name] for name in RECORDED if name in variables}
