"""Whether there is an Ascend, and what of it: the facts that `npu` is decided by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from porting.backends.npu_smi import HEALTHY, Chip, chips
from porting.backends.system import System

NONE = "no torch_npu, no npu-smi, no /dev/davinci*"
"""What a machine without any sign of an Ascend has."""

_ADAPTERS = ("torch_npu", "npu_device", "npu_bridge")
"""Packages that are installed for an Ascend only: of PyTorch, TensorFlow 2 and TensorFlow 1."""

_HOMES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
"""Set by CANN's set_env.sh."""

_PLACES = ("/usr/local/Ascend/cann", "/usr/local/Ascend/ascend-toolkit/latest")
"""Where CANN is by default, from 8.5 on and before."""

_VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Ascend:
    """What there is.

    signs: whatever says that this is meant to be a machine with an Ascend. devices: nodes, without the manager's.
    chips: as npu-smi shows them; said: what it said where it shows none. versions: of driver, firmware and CANN.
    problems: what keeps it from being used, as far as that shows without trying; each says what to do.
    """

    signs: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    chips: tuple[Chip, ...] = ()
    said: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def signs(system: System) -> tuple[str, ...]:
    """Every sign of an Ascend; none on a bare machine. Fast: nothing is imported or run."""
    found = [f"{module} {version}".strip() for module in _ADAPTERS if (version := system.version(module)) is not None]
    found += [program] if (program := system.which("npu-smi")) else []
    found += system.glob("/dev/davinci*")
    found += [f"{name}={system.environ[name]}" for name in _HOMES if system.environ.get(name)]
    found += ["/usr/local/Ascend"] if system.glob("/usr/local/Ascend") else []
    return tuple(found)


def look(system: System) -> Ascend:
    """All that can be found without importing a framework. Nothing is run on a machine without a sign."""
    seen = signs(system)
    if not seen:
        return Ascend()
    devices = tuple(node for node in system.glob("/dev/davinci*") if re.fullmatch(r"/dev/davinci\d+", node))
    shown, said = chips(system)
    return Ascend(seen, devices, tuple(shown), said, _versions(system), tuple(_problems(system, devices, shown, said)))


def _versions(system: System) -> dict[str, str]:
    found = {
        "driver": _stated(system.read("/usr/local/Ascend/driver/version.info"), "Version"),
        "firmware": _stated(system.read("/usr/local/Ascend/firmware/version.info"), "Version"),
        "cann": _cann(system),
        **{module: version for module in _ADAPTERS if (version := system.version(module))},
    }
    return {name: version for name, version in found.items() if version}


def _cann(system: System) -> str:
    """Of the toolkit that the environment names, else of the one in the usual place."""
    for home in (*(system.environ[name] for name in _HOMES if system.environ.get(name)), *_PLACES):
        for file in system.glob(f"{home}/*-linux/ascend_toolkit_install.info"):
            if version := _stated(system.read(file), "version"):
                return version
    return ""


def _stated(text: str, key: str) -> str:
    """The value of a line KEY=VALUE."""
    found = re.search(rf"^{key}\s*=\s*(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def _problems(system: System, devices: tuple[str, ...], shown: list[Chip], said: str) -> list[str]:
    found = []
    if not devices:
        found.append(
            "no /dev/davinci0 and so on: no driver is loaded, or the container was started without its devices "
            "(docker run --device /dev/davinci0 --device /dev/davinci_manager --device /dev/devmm_svm "
            "--device /dev/hisi_hdc)"
        )
    if system.which("npu-smi") and not shown:
        found.append(f"npu-smi shows no NPU, but says: {said}{_after(said)}")
    found += [
        f"NPU {chip.logic} ({chip.name}): health is {chip.health}: npu-smi info -t health -i {chip.card} says more"
        for chip in shown
        if chip.health not in {HEALTHY, ""}
    ]
    if not any(system.environ.get(name) for name in _HOMES):
        place = next((place for place in _PLACES if system.glob(place)), "")
        found.append(
            f"CANN is at {place}, and its environment is not set: source {place.removesuffix('/latest')}/set_env.sh"
            if place
            else "no CANN: ASCEND_HOME_PATH is not set, and there is nothing in /usr/local/Ascend: install the toolkit "
            "and the kernels, and source their set_env.sh"
        )
    return [*found, *_visible(system.environ.get(_VISIBLE)), *_mismatch(system)]


def _after(said: str) -> str:
    """What to do after what npu-smi says."""
    if "-8005" in said or "dcmi" in said:
        return (
            ": the driver does not answer: reboot after an upgrade of driver or firmware; "
            "as another user than root, be in the group that the driver was installed for (HwHiAiUser)"
        )
    return ""


def _visible(value: str | None) -> list[str]:
    """What is wrong with ASCEND_RT_VISIBLE_DEVICES: numbers, strictly ascending, or no device is counted at all."""
    if value is None:
        return []
    numbers = [part.strip() for part in value.split(",")]
    if not all(number.isdigit() for number in numbers):
        return [f"{_VISIBLE}={value}: wanted numbers of devices, like 0,1: no device is seen so"]
    wanted = sorted({int(number) for number in numbers})
    if [int(number) for number in numbers] != wanted:
        return [f"{_VISIBLE}={value}: must be strictly ascending, or no device is seen: {','.join(map(str, wanted))}"]
    return []


def _mismatch(system: System) -> list[str]:
    """torch_npu loads beside the torch of its own version only: 2.13.0 and 2.13.0.post1 beside 2.13.0."""
    torch, adapter = system.version("torch"), system.version("torch_npu")
    if adapter is None:
        return []
    if torch is None:
        return [f"torch_npu {adapter} is installed, and torch is not: pip install torch=={_release(adapter)}"]
    if torch and adapter and _release(torch) != _release(adapter):
        wanted = _release(adapter)
        return [f"torch_npu {adapter} wants torch {wanted}, and {torch} is installed: pip install torch=={wanted}"]
    return []


def _release(version: str) -> str:
    """The release of a version: 2.13.0 of 2.13.0.post1+cpu."""
    found = re.match(r"\d+(\.\d+)*", version)
    return found[0] if found else version
