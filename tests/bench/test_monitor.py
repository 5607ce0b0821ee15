"""The monitor: what devices say, at absolute moments, whatever becomes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from io import StringIO
from threading import Thread
from types import SimpleNamespace

import pytest

from porting.backends.system import System
from porting.bench.meters import Meter, ascend, meters, nvidia
from porting.bench.monitor import Monitor
from porting.bench.reading import Reading, encode, read_readings, usages
from porting.bench.sampler import Sampler
from porting.errors import FormatError, UsageError

pytest.importorskip("psutil")

MAP = """\
        NPU ID                         Chip ID                        Chip Logic ID                  Chip Name
        0                              0                              0                              Ascend 910B2
        1                              0                              1                              Ascend 910B2
        1                              1                              -                              Mcu
"""
POWER = "\tNPU ID : {card}\n\tChip Count : 1\n\n\tNPU Real-time Power(W) : {power}\n\tChip ID : 0\n"
USAGES = (
    "\tNPU ID : {card}\n\tChip Count : 1\n\n\tHBM Capacity(MB) : 65536\n\tHBM Usage Rate(%) : {hbm}\n"
    "\tAicore Usage Rate(%) : {core}\n\tChip ID : 0\n"
)


def machine(answers, **changes):
    """A machine whose npu-smi answers by the topic asked for."""

    def command(words):
        return answers["map"] if "-m" in words else answers.get(words[3], "").format(card=words[5], **changes)

    def which(name):
        return "/bin/npu-smi" if answers else None

    return System({}, which, lambda _: (), lambda _: "", lambda _: None, command, None)


def test_means_are_over_time_and_peaks_are_peaks():
    readings = [
        Reading(0.0, "nvidia:0", 100.0, 0.0, 500.0),
        Reading(1.0, "nvidia:0", 100.0, 100.0, 800.0),
        Reading(4.0, "nvidia:0", 400.0, 100.0, None),  # two samples were missed
        Reading(9.0, "nvidia:0", 999.0, 0.0, 9999.0),  # after the phase
    ]
    (one,) = usages(reversed(readings), 0.0, 5.0).values()
    assert one.power == pytest.approx((100 + 3 * 250) / 4)
    assert one.energy == pytest.approx(one.power * 5)
    assert one.utilization == pytest.approx((50 + 300) / 4)
    assert (one.memory, one.samples, one.longest) == (800.0, 3, 3.0)


def test_what_was_not_told_is_none_and_no_zero():
    (one,) = usages([Reading(1.0, "host", None, 30.0, None)], 0.0, 2.0).values()
    assert (one.power, one.energy, one.utilization, one.memory) == (None, None, 30.0, None)
    assert usages([], 0.0, 1.0) == {}


def test_samples_come_back_from_the_disk_but_for_a_torn_last_line(tmp_path):
    samples = [Reading(1.5, "ascend:0", 69.0, None, 3.25), Reading(2.0, "host")]
    text = "".join(f"{encode(one)}\n" for one in samples)
    (tmp_path / "r").write_text(text + '{"time": 3.0, "dev')
    assert list(read_readings(tmp_path / "r")) == samples
    for wrong in ("[]\n", '{"time": "x", "device": "host"}\n', '{"device": "host", "volts": 1}\n', '{"time": 1}\n'):
        (tmp_path / "r").write_text(text + wrong)
        with pytest.raises(FormatError, match="line 3: wanted a sample"):
            list(read_readings(tmp_path / "r"))


def test_an_ascend_tells_power_cores_and_memory():
    read = ascend(machine({"map": MAP, "power": POWER, "usages": USAGES}, power="69.0", hbm="25", core="40"))
    first, second = read()
    assert [one.device for one in (first, second)] == ["ascend:0", "ascend:1"]
    assert (first.power, first.utilization, first.memory) == (69.0, 40.0, 16384.0)


@pytest.mark.parametrize("nothing", ["NA", "-", "", "nan", "This device does not support querying"])
def test_an_ascend_that_does_not_tell_gives_none(nothing):
    read = ascend(machine({"map": MAP, "power": POWER, "usages": USAGES}, power=nothing, hbm=nothing, core=nothing))
    for one in read():
        assert (one.power, one.utilization, one.memory) == (None, None, None)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({}, "there is no npu-smi"),
        ({"map": "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"}, "DrvMngGetConsoleLogLevel failed"),
        ({"map": "npu-smi: Permission denied"}, "Permission denied"),
    ],
)
def test_why_there_is_no_ascend(answers, reason):
    found, missing = meters([], machine(answers))
    assert "ascend" not in [meter.name for meter in found]
    assert any(text.startswith("ascend: ") and reason in text for text in missing)


class _UnsupportedError(Exception):
    pass


def test_an_nvidia_device_that_tells_some_things_only(monkeypatch):
    def refuse(handle):
        raise _UnsupportedError

    fake = SimpleNamespace(
        NVMLError_NotSupported=_UnsupportedError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetPowerUsage=lambda _: 61_500,
        nvmlDeviceGetUtilizationRates=refuse,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=(handle + 1) << 20),
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    first, second = nvidia()()
    assert (first.device, first.power, first.utilization, first.memory) == ("nvidia:0", 61.5, None, 1.0)
    assert (second.device, second.memory) == ("nvidia:1", 2.0)


def sampled(asked, period, lines):
    """The sampler and what it wrote until there were so many lines."""
    file = StringIO()
    sampler = Sampler(period, file)
    thread = Thread(target=sampler.run, args=[asked])
    thread.start()
    for _ in range(1000):
        if file.getvalue().count("\n") >= lines:
            break
        time.sleep(0.02)
    sampler.ended.set()
    thread.join(5)
    assert not thread.is_alive()
    return sampler, [json.loads(line) for line in file.getvalue().splitlines()]


def test_moments_are_absolute_however_long_a_device_takes():
    def slow():
        now = time.monotonic()
        time.sleep(0.03)
        return [Reading(now, "slow")]

    sampler, lines = sampled([Meter("slow", slow)], 0.02, 25)
    # Asked every 0.02 s, answering in 0.03, it is asked at each second moment: no sum of 0.02 + 0.03 builds up.
    phases = [((line["time"] - lines[0]["time"]) / 0.02) for line in lines]
    on_time = [phase for phase in phases if abs(phase - round(phase)) < 0.4]
    assert len(on_time) >= 0.8 * len(phases)
    assert sampler.missed["slow"] >= len(lines) // 2


def test_a_device_that_goes_and_comes_back_is_noted_once_and_hinders_no_other():
    turns = iter(range(1000))

    def flaky():
        turn = next(turns)
        if 2 <= turn < 8:
            raise OSError("GPU is lost")
        return [Reading(time.monotonic(), "flaky")]

    sampler, lines = sampled(
        [Meter("flaky", flaky), Meter("steady", lambda: [Reading(time.monotonic(), "steady")])], 0.01, 60
    )
    assert sampler.problems == ["flaky: OSError: GPU is lost"]
    devices = [line["device"] for line in lines]
    assert devices.count("flaky") > 2
    assert devices.count("steady") > 20


def test_a_driver_that_hangs_does_not_hold_up_the_end():
    started = time.monotonic()
    _, lines = sampled(
        [Meter("hangs", lambda: time.sleep(60)), Meter("steady", lambda: [Reading(time.monotonic(), "steady")])],
        0.02,
        10,
    )
    assert time.monotonic() - started < 5
    assert {line["device"] for line in lines} == {"steady"}


def test_memory_is_that_of_the_watched_process_and_its_children():
    child = "import time; x = b'x' * (64 << 20); time.sleep(0.8)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with Monitor(0.05) as monitor, subprocess.Popen([sys.executable, "-c", code]) as process:
        monitor.watch(process.pid)
    assert 64 < monitor.usages()["host"].memory < 400
    assert monitor.usages()["host"].power is None
    assert monitor.usages(monitor.end + 1, monitor.end + 2) == {}


def test_a_sampler_that_is_killed_says_so_and_what_it_had_is_kept():
    with Monitor(0.02) as monitor:
        time.sleep(0.3)
        os.kill(monitor._process.pid, signal.SIGKILL)
        time.sleep(0.1)
        monitor.watch(1)
    (problem,) = monitor.problems
    assert problem.startswith("the sampler ended early")
    assert monitor.readings


@pytest.mark.parametrize("period", [0.0, -1.0, float("nan"), 1e9])
def test_a_period_that_makes_no_sense_is_refused(period):
    with pytest.raises(UsageError, match=r"period: wanted 0.001 to 3600 seconds"), Monitor(period):
        pass
