"""Makes onnxruntime ready on a device. See porting.backends.device."""

from __future__ import annotations

from typing import Any

import onnx
import onnxruntime
from onnx import TensorProto, helper

from porting.backends.device import Device, processor
from porting.errors import UsageError

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "cann": "CANNExecutionProvider"}

SWITCHES: dict[str, dict[str, Any]] = {
    "cpu": {},
    "cuda": {"use_tf32": 0},
    "cann": {"precision_mode": "must_keep_origin_dtype"},
}
"""Options of a provider: onnxruntime.ai/docs/execution-providers."""


def prepare(device: str) -> Device:
    """Make cpu, cuda or cann ready. Raises: UsageError where onnxruntime would run on another provider."""
    session = open_session(_nothing(), device)
    versions = {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}
    switches = {"providers": ", ".join(session.get_providers()), **{k: str(v) for k, v in SWITCHES[device].items()}}
    return Device(processor() if device == "cpu" else device.upper(), 1, versions, switches)


def open_session(model: bytes | str, device: str) -> Any:
    """An InferenceSession on a device.

    onnxruntime lists a provider that it was built with, and falls back to the CPU in silence where its libraries cannot
    be loaded; so the session itself is asked. Raises: UsageError with what it is running on.
    """
    wanted = PROVIDERS[device]
    built = onnxruntime.get_available_providers()
    if wanted not in built:
        raise UsageError(f"onnxruntime {onnxruntime.__version__} is built without {wanted}; it has {', '.join(built)}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    providers: list[Any] = [(wanted, SWITCHES[device])]
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    if session.get_providers()[0] != wanted:
        running = ", ".join(session.get_providers())
        raise UsageError(f"onnxruntime {onnxruntime.__version__} fell back from {wanted} to {running}")
    return session


def _nothing() -> bytes:
    """A model that returns what it is given."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "nothing", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())
