"""The names of backends: `torch:cpu`, `mindspore:ascend`, `tensorflow:npu@/opt/tf/bin/python`.

    FRAMEWORK:DEVICE[,OPTION=VALUE …][@INTERPRETER]

`cpu`, `gpu` and `npu` alone are aliases: porting.backends.found resolves them to what is on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, get_args

from porting.errors import UsageError
from porting.model.spec import Framework as Port

Framework = Literal["torch", "tensorflow", "mindspore", "onnxruntime"]
Kind = Literal["cpu", "gpu", "npu"]

DEVICES: Mapping[Framework, Mapping[str, Kind]] = {
    "torch": {"cpu": "cpu", "cuda": "gpu", "npu": "npu"},
    "tensorflow": {"cpu": "cpu", "gpu": "gpu", "npu": "npu"},
    "mindspore": {"cpu": "cpu", "gpu": "gpu", "ascend": "npu"},
    "onnxruntime": {"cpu": "cpu", "cuda": "gpu", "cann": "npu"},
}
"""Devices by the name that users of the framework know them by, and what kind each is."""

ALIASES: tuple[Kind, ...] = get_args(Kind)

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "cube": ("float16", "hf32", "bfloat16"),
    "overflow": ("saturate", "infnan"),
}
"""Of the emulated NPU; the first value is the default. See porting.backends.torch.emulate."""

_PORTS: Mapping[Framework, Port] = {
    "torch": "pytorch",
    "tensorflow": "tensorflow",
    "mindspore": "mindspore",
    "onnxruntime": "pytorch",
}


@dataclass(frozen=True, slots=True)
class BackendName:
    """A framework on a device.

    framework: None in an alias, whose device is then a kind: cpu, gpu or npu.
    interpreter: the Python that runs it, where it is not this one. options: of the emulated NPU.

    >>> str(BackendName.parse("tensorflow:npu@/opt/tf/bin/python"))
    'tensorflow:npu@/opt/tf/bin/python'
    """

    framework: Framework | None
    device: str
    interpreter: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises: UsageError listing all names if it is none, or naming what contradicts itself."""
        name, at, interpreter = text.partition("@")
        name, *given = name.split(",")
        framework, device = _split(name, text)
        if at and not interpreter:
            raise UsageError(f"backend {text}: wanted an interpreter after @, got nothing")
        if at and framework is None:
            raise UsageError(f"backend {text}: an interpreter wants its framework named: torch:{device}@{interpreter}")
        options = tuple(_option(each, text) for each in given)
        if options and (framework not in {None, "torch"} or device != "npu"):
            raise UsageError(f"backend {text}: {', '.join(OPTIONS)} are options of npu and torch:npu, emulated")
        if len(dict(options)) < len(options):
            raise UsageError(f"backend {text}: an option is given twice")
        return cls(framework, device, interpreter, options)

    def __str__(self) -> str:
        name = self.device if self.framework is None else f"{self.framework}:{self.device}"
        options = "".join(f",{key}={value}" for key, value in self.options)
        return name + options + (f"@{self.interpreter}" if self.interpreter else "")

    @property
    def kind(self) -> Kind:
        """What the device is, whatever its framework calls it."""
        if self.framework is None:
            return next(kind for kind in ALIASES if kind == self.device)
        return DEVICES[self.framework][self.device]

    @property
    def port(self) -> Port:
        """Whose port runs on it: onnxruntime runs PyTorch's, exported. Raises: UsageError for an alias."""
        return _PORTS[self.known]

    @property
    def known(self) -> Framework:
        """The framework. Raises: UsageError for an alias."""
        if self.framework is None:
            raise UsageError(f"backend {self}: is an alias; porting.backends.found.resolve says what it stands for")
        return self.framework

    @property
    def session_device(self) -> str:
        """What Build.device calls it: MindSpore's Ascend is `npu` there."""
        return "npu" if self.device == "ascend" else self.device


def names() -> tuple[str, ...]:
    """Every backend there can be, without aliases."""
    return tuple(f"{framework}:{device}" for framework, devices in DEVICES.items() for device in devices)


def _split(name: str, text: str) -> tuple[Framework | None, str]:
    if name in ALIASES:
        return None, name
    for framework, devices in DEVICES.items():
        for device in devices:
            if name == f"{framework}:{device}":
                return framework, device
    if any(name.startswith(f"{known}:") for known in names()):
        raise UsageError(
            f"backend {text}: takes no device number; "
            "CUDA_VISIBLE_DEVICES or ASCEND_RT_VISIBLE_DEVICES choose among several"
        )
    raise UsageError(f"backend {text}: not known; there are {', '.join(names())}, and {', '.join(ALIASES)}")


def _option(text: str, whole: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if key not in OPTIONS:
        raise UsageError(f"backend {whole}: no option {text}; there are {', '.join(OPTIONS)}")
    if value not in OPTIONS[key]:
        raise UsageError(f"backend {whole}: {key}: wanted one of {', '.join(OPTIONS[key])}, got {value or 'nothing'}")
    return key, value
