"""Machines to plant: what `porting.backends.system.System` sees of them."""

from __future__ import annotations

from fnmatch import fnmatch

from porting.backends.process import Outcome
from porting.backends.system import System

FRAMEWORKS = {
    "torch": "2.13.0+cpu",
    "tensorflow": "2.21.0",
    "mindspore": "2.10.0",
    "onnxruntime": "1.31.1",
    "onnx": "1.23",
}
CANN = "/usr/local/Ascend/ascend-toolkit/latest"
TOOLKIT = "package_name=Ascend-cann-toolkit\nversion=8.3.RC2\ninnerversion=V100R001C23SPC002B210\narch=aarch64\n"

MAPPING = """\
\tNPU ID                         Chip ID                        Chip Logic ID                  Chip Name
\t4                              0                              0                              Ascend 910B3
\t4                              1                              -                              Mcu
\t5                              0                              1                              Ascend 910B3
\t5                              1                              -                              Mcu
"""
COMMON = """\
        NPU ID                         : {card}
        Chip Count                     : 1

        Chip ID                        : 0
        Memory Usage Rate(%)           : 6
        HBM Usage Rate(%)              : 0
        Aicore Usage Rate(%)           : 37
        Aicore Freq(MHZ)               : 1000
        Aicore Count                   : 32
        Temperature(C)                 : 46
        NPU Real-time Power(W)         : 69.0

        Chip Name                      : mcu
        Temperature(C)                 : 48
        NPU Real-time Power(W)         : 45.2
"""
USAGES = """\
        NPU ID                         : {card}
        Chip Count                     : 1

        DDR Capacity(MB)               : 0
        HBM Capacity(MB)               : 65536
        HBM Usage Rate(%)              : 5
        Chip ID                        : 0
"""
HEALTH = "\tHealth                         : {health}\n\tNPU ID : {card}\n"
DEAD = "dcmi module initialize failed. ret is -8005\n"

DEVICE = {"name": "planted", "count": 1, "versions": {"torch": "2.13.0"}, "switches": {"deterministic": "True"}}


class Tried:
    """A probe that answers from a plan, and remembers what was asked."""

    def __init__(self, plan):
        self.plan, self.asked = plan, []

    def __call__(self, backend):
        self.asked.append(str(backend))
        answer = self.plan.get(str(backend), DEVICE)
        return answer if isinstance(answer, Outcome) else Outcome("done", answer)


def crashed(reason, *tail):
    return Outcome("crashed", reason=reason, tail=tail)


def says(text):
    """A program that always says the same."""

    def command(_words):
        return text

    return command


def machine(*, modules=FRAMEWORKS, programs=(), files=(), texts=None, environ=None, command=None, plan=None):
    """A machine that has what is given and nothing else."""
    texts = texts or {}
    paths = [*files, *texts]
    return System(
        environ=environ or {},
        which=lambda name: f"/usr/bin/{name}" if name in programs else None,
        glob=lambda pattern: sorted(path for path in paths if fnmatch(path, pattern)),
        read=lambda path: texts.get(path, ""),
        version=modules.get,
        command=command or says(""),
        probe=Tried(plan or {}),
    )


def npu_smi(health="OK"):
    """What npu-smi says on a machine with two cards."""

    def command(words):
        if words[0].endswith("nvidia-smi"):
            return ""
        if words[2] == "-m":
            return MAPPING
        text = {"common": COMMON, "usages": USAGES, "memory": "", "health": HEALTH}[words[3]]
        return text.format(card=words[5], health=health)

    return command


def ascend(**changes):
    """A machine with two Ascend 910B3, all in order."""
    wanted = {
        "modules": {**FRAMEWORKS, "torch": "2.13.0", "torch_npu": "2.13.0.post1"},
        "programs": ["npu-smi"],
        "files": ["/dev/davinci0", "/dev/davinci1", "/dev/davinci_manager", "/usr/local/Ascend"],
        "texts": {
            f"{CANN}/aarch64-linux/ascend_toolkit_install.info": TOOLKIT,
            "/usr/local/Ascend/driver/version.info": "Version=25.5.1\nascendhal_version=7.35.23\n",
            "/usr/local/Ascend/firmware/version.info": "Version=7.8.0.6.201\n",
        },
        "environ": {"ASCEND_HOME_PATH": CANN},
        "command": npu_smi(),
    }
    return machine(**{**wanted, **changes})
