"""`port doctor`: what it finds on planted machines, and what it tells to do."""

from __future__ import annotations

import json

import pytest
from machines import CANN, DEAD, DEVICE, FRAMEWORKS, MAPPING, ascend, crashed, machine, npu_smi, says

from porting.backends.ascend import look, signs
from porting.backends.doctor import examine
from porting.backends.doctor_text import examination_lines
from porting.backends.names import names
from porting.backends.npu_smi import chips, mapping, of_chip, sections


def shown(system):
    return "\n".join(examination_lines(examine(system)))


# npu-smi: outputs as its reference (support.huawei.com, "npu-smi Command Reference") and users' reports show them.

POWER = """
        NPU ID                         : 0
        Chip Count                     : 1

        NPU Real-time Power(W)         : 103.5
        Chip ID                        : 0
"""
TWO_CHIPS = """NPU ID                         : 2944
Chip Count                     : 2

Chip ID                        : 0
Aicore Usage Rate(%)           : 11
Temperature(C)                 : 45

Chip ID                        : 1
Aicore Usage Rate(%)           : 22
Temperature(C)                 : 47

Chip Name                      : mcu
Temperature(C)                 : 48
NPU Real-time Power(W)         : 42.8"""
MAPPING_950 = """\
NPU ID  Slot ID  Chip ID  Chip Phy-ID  Chip Name
0       1        0        0            Ascend950PR
1       2        0        1            Ascend950PR
"""
MAPPING_TWO_DIES = """\
NPU ID                         Chip ID                        Chip Logic ID                  Chip Name
0                              0                              0                              Ascend910
0                              1                              1                              Ascend910
0                              2                              -                              Mcu
"""


def test_values_of_a_chip_whose_number_comes_last():
    assert of_chip(POWER, 0)["NPU Real-time Power(W)"] == "103.5"
    assert "NPU Real-time Power(W)" not in of_chip(POWER, 1)


def test_chips_of_one_card_and_its_controller_are_kept_apart():
    assert of_chip(TWO_CHIPS, 0)["Temperature(C)"] == "45"
    assert of_chip(TWO_CHIPS, 1)["Aicore Usage Rate(%)"] == "22"
    assert "NPU Real-time Power(W)" not in of_chip(TWO_CHIPS, 1)
    assert of_chip(TWO_CHIPS, 1)["NPU ID"] == "2944"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (MAPPING, [(4, 0, 0, "Ascend 910B3"), (5, 0, 1, "Ascend 910B3")]),
        (MAPPING_950, [(0, 0, 0, "Ascend950PR"), (1, 0, 1, "Ascend950PR")]),
        (MAPPING_TWO_DIES, [(0, 0, 0, "Ascend910"), (0, 1, 1, "Ascend910")]),
        (DEAD, []),
        ("", []),
        ("Error parameter of -m\n", []),
    ],
)
def test_the_mapping_of_cards_to_devices(text, found):
    assert mapping(text) == found


@pytest.mark.parametrize("text", ["", "\n\n", "no colon at all", " : value without key"])
def test_what_has_no_keys_has_no_sections(text):
    assert sections(text) == []


def test_a_value_may_hold_colons():
    assert sections("PCIe Bus Info                  : 0000:C1:00.0") == [{"PCIe Bus Info": "0000:C1:00.0"}]


def test_the_chips_of_a_machine():
    found, said = chips(ascend())
    assert said == ""
    assert [(chip.card, chip.chip, chip.logic, chip.name, chip.health) for chip in found] == [
        (4, 0, 0, "Ascend 910B3", "OK"),
        (5, 0, 1, "Ascend 910B3", "OK"),
    ]
    assert found[1].memory_mb == 65536
    assert found[1].values["NPU Real-time Power(W)"] == "69.0"
    assert found[1].values["Aicore Usage Rate(%)"] == "37"


# The machine


def test_an_ascend_in_order_has_no_problems():
    found = look(ascend())
    assert found.problems == ()
    assert found.devices == ("/dev/davinci0", "/dev/davinci1")
    assert found.versions == {
        "driver": "25.5.1",
        "firmware": "7.8.0.6.201",
        "cann": "8.3.RC2",
        "torch_npu": "2.13.0.post1",
    }


def test_a_bare_machine_has_no_sign_and_nothing_is_run():
    def command(words):
        raise AssertionError(words)

    assert signs(machine(command=command)) == ()
    assert look(machine(command=command)).problems == ()


PROBLEMS = {
    "no nodes": ({"files": ["/usr/local/Ascend"]}, "docker run --device /dev/davinci0"),
    "dead driver": (
        {"command": says(DEAD)},
        "dcmi module initialize failed. ret is -8005: the driver does not",
    ),
    "silent npu-smi": ({"command": says("")}, "npu-smi shows no NPU, but says: npu-smi said nothing"),
    "hanging npu-smi": (
        {"command": says("npu-smi did not answer within 20 s")},
        "npu-smi shows no NPU, but says: npu-smi did not answer within 20 s",
    ),
    "ill chip": ({"command": npu_smi("Alarm")}, "NPU 1 (Ascend 910B3): health is Alarm: npu-smi info -t health -i 5"),
    "CANN not sourced": (
        {"environ": {}, "files": ["/dev/davinci0", CANN]},
        "source /usr/local/Ascend/ascend-toolkit/set_env",
    ),
    "no CANN": ({"environ": {}, "texts": {}}, "no CANN: ASCEND_HOME_PATH is not set"),
    "descending": (
        {"environ": {"ASCEND_HOME_PATH": CANN, "ASCEND_RT_VISIBLE_DEVICES": "1,0"}},
        "ASCEND_RT_VISIBLE_DEVICES=1,0: must be strictly ascending, or no device is seen: 0,1",
    ),
    "twice": (
        {"environ": {"ASCEND_HOME_PATH": CANN, "ASCEND_RT_VISIBLE_DEVICES": "1,1"}},
        "must be strictly ascending, or no device is seen: 1",
    ),
    "no numbers": (
        {"environ": {"ASCEND_HOME_PATH": CANN, "ASCEND_RT_VISIBLE_DEVICES": ""}},
        "ASCEND_RT_VISIBLE_DEVICES=: wanted numbers of devices",
    ),
    "other torch": (
        {"modules": {**FRAMEWORKS, "torch": "2.9.1+cpu", "torch_npu": "2.13.0"}},
        "torch_npu 2.13.0 wants torch 2.13.0, and 2.9.1+cpu is installed: pip install torch==2.13.0",
    ),
    "no torch": ({"modules": {"torch_npu": "2.13.0"}}, "torch_npu 2.13.0 is installed, and torch is not"),
}


@pytest.mark.parametrize("what", PROBLEMS)
def test_a_problem_is_told_with_what_to_do(what):
    changes, text = PROBLEMS[what]
    found = look(ascend(**changes))
    assert any(text in problem for problem in found.problems), found.problems
    assert text in shown(ascend(**changes))


@pytest.mark.parametrize("value", ["0", "0,1", "1, 3,10"])
def test_visible_devices_in_order_are_no_problem(value):
    assert look(ascend(environ={"ASCEND_HOME_PATH": CANN, "ASCEND_RT_VISIBLE_DEVICES": value})).problems == ()


# The examination


def test_every_backend_is_examined_once():
    system = ascend(programs=["npu-smi", "nvidia-smi"])
    found = examine(system)
    assert [str(each.backend) for each in found.backends] == list(names())
    assert sorted(system.probe.asked) == sorted(names())  # and none again for the aliases
    assert {name: str(each.backend) for name, each in found.aliases.items()} == {
        "cpu": "torch:cpu",
        "gpu": "torch:cuda",
        "npu": "torch:npu",
    }


def test_a_bare_machine_in_words():
    text = shown(machine(modules={"torch": "2.13.0+cpu"}))
    assert "  torch:cpu          planted, torch 2.13.0\n                     deterministic=True\n" in text
    assert "tensorflow:cpu     not available: tensorflow not installed\n" in text
    assert "pip install 'porting-kit[tensorflow]'" in text
    assert "npu                torch:npu,cube=float16,overflow=saturate, EMULATED: no sign of an Ascend" in text
    assert "gpu                backend gpu: there is none here that can be used" in text
    assert "Ascend\n  no sign of one: no torch_npu, no npu-smi, no /dev/davinci*" in text
    assert "NVIDIA\n  no nvidia-smi" in text


def test_an_ascend_in_words():
    text = shown(ascend(plan={"torch:npu": {**DEVICE, "name": "Ascend910B3", "count": 2}}))
    assert "torch:npu          2 x Ascend910B3, torch 2.13.0" in text
    assert "  npu                torch:npu\n" in text
    assert "EMULATED" not in text
    assert "NPU 1              Ascend 910B3, health OK, 65536 MB, 69.0 W, 37 % in use" in text
    assert "cann               8.3.RC2" in text


def test_a_crash_is_told_with_its_reason_and_what_helps():
    plan = {
        "onnxruntime:cann": crashed("onnxruntime 1.24.4 fell back from CANNExecutionProvider to CPUExecutionProvider"),
        "mindspore:ascend": crashed("did not end within 120 s and was killed"),
        "torch:npu": crashed("OSError: libascend_hal.so: cannot open shared object file: No such file or directory"),
    }
    text = shown(ascend(plan=plan))
    assert (
        "fell back from CANNExecutionProvider to CPUExecutionProvider\n                     CANN is not found" in text
    )
    assert "was killed\n                     the device or its driver hangs" in text
    assert "LD_LIBRARY_PATH wants /usr/local/Ascend/driver/lib64/driver" in text


def test_gpus_and_the_environment_are_shown():
    system = machine(
        programs=["nvidia-smi"],
        command=says("NVIDIA A100-SXM4-80GB, 550.54.15, 81920 MiB, 8.0\n"),
        environ={"NVIDIA_TF32_OVERRIDE": "1", "HOME": "/root"},
    )
    text = shown(system)
    assert "  NVIDIA A100-SXM4-80GB, 550.54.15, 81920 MiB, 8.0" in text
    assert "environment\n  NVIDIA_TF32_OVERRIDE 1" in text
    assert "HOME" not in text


@pytest.mark.parametrize("system", [machine(), ascend(), machine(modules={})], ids=["bare", "ascend", "nothing"])
def test_json_has_what_the_words_have(system):
    found = json.loads(json.dumps(examine(system).to_json()))
    assert [each["backend"] for each in found["backends"]] == list(names())
    assert set(found["aliases"]) == {"cpu", "gpu", "npu"}
    assert found["machine"]["porting"]


def test_the_command(port):
    ran = port("doctor", "--json")
    assert ran.code == 0
    assert {each["backend"] for each in json.loads(ran.out)["backends"]} == set(names())
    ran = port("doctor")
    assert ran.code == 0
    assert ran.out.startswith("porting kit ")
    assert "\nbackends\n  torch:cpu " in ran.out
