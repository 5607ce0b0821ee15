"""What is on this machine: which backends can be used, and what `cpu`, `gpu` and `npu` stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from porting.backends import ascend
from porting.backends.advice import advice, install
from porting.backends.names import DEVICES, OPTIONS, BackendName, Framework, Kind
from porting.backends.system import System, this_machine
from porting.errors import UsageError

MODULES: Mapping[Framework, tuple[str, ...]] = {
    "torch": ("torch",),
    "tensorflow": ("tensorflow",),
    "mindspore": ("mindspore",),
    "onnxruntime": ("onnxruntime", "onnx", "torch"),  # which exports the port
}
"""What has to be installed for a framework's backends."""

NO_GPU = "no sign of a GPU: no nvidia-smi, no /dev/nvidia*, /dev/kfd or /dev/dxg"


@dataclass(frozen=True, slots=True)
class Found:
    """A backend on this machine.

    device: a porting.backends.device.Device as JSON values, or what the recorder of a named interpreter says; None
    where the backend cannot be used. problem: why it cannot. todo: what to do about it, where that is known. log: the
    last lines of the try.
    """

    backend: BackendName
    device: Mapping[str, Any] | None = None
    problem: str = ""
    todo: str = ""
    log: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """Why it cannot be used, and what to do, in one line."""
        return f"{self.problem}: {self.todo}" if self.todo else self.problem


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name comes to here.

    backend: never an alias. emulated: empty, or what stands in for an Ascend that is not there: the arithmetic
    (`float16 saturate`), or `cpu` of MindSpore's port, which is run as it is. reason: why this one, in a line.
    device: as in Found; None where nothing was tried, because the device is emulated.
    """

    backend: BackendName
    emulated: str = ""
    reason: str = ""
    device: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "backend": str(self.backend)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Resolved:
        """From what `to_json` gave."""
        return cls(**{**values, "backend": BackendName.parse(values["backend"])})


def find(backend: BackendName, system: System) -> Found:
    """Try a backend, in a process of its own unless it is plain without trying that it cannot be used."""
    if not backend.interpreter:
        if missing := _missing(backend.known, system):
            return Found(backend, problem=f"{missing} not installed", todo=install(backend))
        if backend.kind == "npu" and not ascend.signs(system):
            return Found(backend, problem=f"no sign of an Ascend: {ascend.NONE}")
        if backend.kind == "gpu" and not _gpu_signs(system):
            return Found(backend, problem=NO_GPU)
    outcome = system.probe(backend)
    if outcome.state == "done":
        return Found(backend, outcome.result)
    return Found(backend, None, outcome.reason, advice(outcome.reason, *outcome.tail), outcome.tail)


def resolve(
    name: BackendName,
    system: System | None = None,
    *,
    framework: Framework | None = None,
    require_device: bool = False,
) -> Resolved:
    """What a name stands for here. An alias is the best that can be used: of all frameworks, or of the one given.

    `npu` on a machine without any sign of an Ascend, and a name with options of the emulation, are emulated. Any sign
    of an Ascend that cannot be used is an error with all that was found, never a fallback.

    require_device: refuse to emulate. Raises: UsageError saying what was found and what to do.
    """
    system = system or this_machine()
    if require_device and name.kind == "cpu":
        raise UsageError(f"backend {name}: a device is required, and a CPU is none")
    candidates = [name] if name.framework else _candidates(name.kind, framework)
    if name.framework and not name.options:
        return _first(candidates, system, f"backend {name}: cannot be used here")
    if name.kind != "npu":
        return _first(candidates, system, f"backend {name}: there is none here that can be used")
    seen = ascend.signs(system)
    if not seen:
        return _emulated(name, name.framework or framework or "torch", system, require_device=require_device)
    shown = ", ".join(seen)
    if name.options:
        raise UsageError(
            f"backend {name}: {', '.join(OPTIONS)} are of the emulated NPU; here are signs of one: {shown}"
        )
    title = f"backend {name}: there are signs of an Ascend ({shown}) that cannot be used, so nothing is emulated"
    return _first(candidates, system, title, ascend.look(system).problems)


def usable(
    name: BackendName,
    system: System | None = None,
    *,
    framework: Framework | None = None,
    require_device: bool = False,
) -> Resolved:
    """As `resolve`, but a CPU is not tried: what is to run on it tries it soon enough. Raises: UsageError."""
    known = None if require_device else installed(name, system, framework=framework)
    return known or resolve(name, system, framework=framework, require_device=require_device)


def installed(
    name: BackendName, system: System | None = None, *, framework: Framework | None = None
) -> Resolved | None:
    """A CPU's backend, without trying it: its modules are installed, and a CPU is always there. None for any other."""
    system = system or this_machine()
    if name.kind != "cpu" or name.interpreter:
        return None
    candidates = [name] if name.framework else _candidates("cpu", framework)
    found = (candidate for candidate in candidates if not _missing(candidate.known, system))
    return next((Resolved(candidate, reason="installed") for candidate in found), None)


def _candidates(kind: Kind, framework: Framework | None) -> list[BackendName]:
    return [
        BackendName(each, device)
        for each, devices in DEVICES.items()
        for device, its in devices.items()
        if its == kind and framework in {None, each}
    ]


def _first(candidates: Sequence[BackendName], system: System, title: str, problems: Sequence[str] = ()) -> Resolved:
    """The first that can be used. Raises: UsageError saying of each why not."""
    tried = []
    for candidate in candidates:
        found = find(candidate, system)
        if found.device is not None:
            return Resolved(candidate, reason=str(found.device.get("name", "")), device=found.device)
        tried.append(found)
    if len(tried) == 1:
        title = f"{title}: {tried[0].line}"
        tried = []
    raise UsageError(title, *(f"  {each.backend}: {each.line}" for each in tried), *(f"  {line}" for line in problems))


def _emulated(name: BackendName, framework: Framework, system: System, *, require_device: bool) -> Resolved:
    """What stands in for an Ascend. Raises: UsageError where a device is required, or nothing can stand in."""
    if require_device:
        raise UsageError(f"backend {name}: a device is required, and there is no sign of an Ascend: {ascend.NONE}")
    if framework == "torch":
        chosen = {key: values[0] for key, values in OPTIONS.items()} | dict(name.options)
        backend = replace(name, framework="torch", options=tuple(chosen.items()))
        emulated = " ".join(chosen.values())
    elif framework == "mindspore":
        backend, emulated = BackendName("mindspore", "cpu"), "cpu"
    else:
        raise UsageError(f"backend {name}: {framework} has no emulated NPU: torch has, and mindspore runs on the CPU")
    if missing := _missing(framework, system):
        raise UsageError(f"backend {name}: {missing} not installed, which stands in for the NPU: {install(backend)}")
    return Resolved(backend, emulated, f"EMULATED: no sign of an Ascend ({ascend.NONE})")


def _missing(framework: Framework, system: System) -> str:
    return ", ".join(module for module in MODULES[framework] if system.version(module) is None)


def _gpu_signs(system: System) -> bool:
    """Whether a GPU may be there: NVIDIA's, AMD's, or one seen through WSL."""
    return bool(system.which("nvidia-smi")) or any(
        system.glob(pattern) for pattern in ("/dev/nvidia[0-9]*", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    )
