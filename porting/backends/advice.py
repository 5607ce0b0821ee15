"""What to do about what a framework said when its device could not be used."""

from __future__ import annotations

import re
from collections.abc import Sequence

from porting.backends.names import BackendName

_CANN = "source CANN's set_env.sh (/usr/local/Ascend/cann/set_env.sh, before 8.5 ascend-toolkit/set_env.sh)"
_DRIVER = "the driver's libraries are not found: LD_LIBRARY_PATH wants /usr/local/Ascend/driver/lib64/driver"

_KNOWN: Sequence[tuple[str, str]] = (
    (r"libascend_hal|libdrvdsmi|libc_sec\.so", _DRIVER),
    (r"(libhccl|libascendcl|libge_runner|libmsprofiler|libruntime)\S*: cannot open", f"CANN is not found: {_CANN}"),
    (
        r"undefined symbol",
        "the versions do not fit one another: torch_npu, torch and CANN come as a set (gitcode.com/Ascend/pytorch)",
    ),
    (r"ERR00007", "torch_npu refuses npu and cuda in one process: install a torch without CUDA beside it"),
    (r"No module named 'torch_npu'", "pip install torch_npu, in the version of the installed torch"),
    (r"No module named 'npu_device'", "install the TensorFlow adapter that comes with CANN, in its own Python"),
    (
        r"torch_npu sees no device",
        "ASCEND_RT_VISIBLE_DEVICES must be strictly ascending; npu-smi info shows the devices",
    ),
    (r"(libcuda|libcudnn|libcublas)\S* .*not found", "install the NVIDIA driver, CUDA and cuDNN that it was built for"),
    (r"built without CUDA\w+Provider", "pip install onnxruntime-gpu in place of onnxruntime"),
    (r"built without CANN\w+Provider", "pip install onnxruntime-cann in place of onnxruntime"),
    (r"fell back from CUDA", "CUDA or cuDNN in the version that onnxruntime-gpu wants are not on the library path"),
    (r"fell back from CANN", f"CANN is not found: {_CANN}"),
    (r"built without (CUDA|GPU)", "install a build with CUDA: pytorch.org/get-started, tensorflow.org/install"),
    (r"Unsupported device target Ascend", f"MindSpore does not find CANN: {_CANN}"),
    (r"Unsupported device target GPU", "this build of MindSpore has no GPU: 2.4 was the last with one"),
    (r"Found no NVIDIA driver|cuInit|no CUDA-capable device", "no NVIDIA driver answers: nvidia-smi says more"),
    (r"sees no GPU", "the CUDA libraries are missing: pip install 'tensorflow[and-cuda]'"),
    (r"numpy\.core|numpy 2|compiled using NumPy 1", "MindSpore wants numpy below 2: pip install 'numpy<2'"),
    (r"Permission denied.*davinci", "add the user to the group of /dev/davinci* (HwHiAiUser)"),
    (r"did not end within", "the device or its driver hangs: npu-smi info, or nvidia-smi, shows whether it answers"),
)
"""Patterns of texts, and what helps. The first that is found is given."""

_INSTALLED = {
    "torch": "pip install 'porting-kit[torch]'",
    "tensorflow": "pip install 'porting-kit[tensorflow]'",
    "mindspore": "pip install 'porting-kit[mindspore]'",
    "onnxruntime": "pip install 'porting-kit[torch,onnx]'",
}


def advice(*texts: str) -> str:
    """What to do, or `` where nothing is known of it.

    >>> advice("ImportError: libhccl.so: cannot open shared object file")[:17]
    'CANN is not found'
    """
    text = "\n".join(texts)
    return next((what for pattern, what in _KNOWN if re.search(pattern, text)), "")


def install(backend: BackendName) -> str:
    """How to install a backend's framework."""
    return _INSTALLED[backend.known]
